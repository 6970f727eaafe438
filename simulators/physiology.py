"""Bodies: what strain does to the vital signs of many patients at once, by the same few relations for every illness.

Pressure is flow times resistance. Flow falls with the blood that is missing and rises with the heart rate, less than in proportion, for a
fast heart fills less. What is missing in pressure drives a reflex: heart and breath quicken and vessels narrow, until it is exhausted.

Orders of magnitude: blood loss as the ATLS classes tell it (15 % hardly shows; of 30 to 40 %: heart rate 120 to 140, respiration 30 to 40,
falling pressure, narrow pulse: doi 10.1186/s13054-016-1265-x, table 2); a kelvin of fever: 8.5 beats a minute (Karjalainen 1986),
1 to 2 breaths (doi 10.52964/amja.0766); shock index, heart rate over systolic pressure, 0.5 to 0.7 in health.
"""

from typing import NamedTuple

import numpy as np

from simulators.world import DAY_S, Floats, Integers, follow

ANSWER_LAG_S = 12.0  # from hypoxaemia or a low pressure to the heart's and the lungs' answer
WANDER_LAG_S = (60.0, 40.0, 60.0, 300.0)  # of heart, breath, saturation, pressure
ESCAPE_RATE = 34.0  # /min: of a heart whose own pacemaker is not heard


class Strain(NamedTuple):
    """What ails a body."""

    shortfall: float = 0.0  # % of oxygen saturation below the patient's own
    loss: float = 0.0  # share of the blood volume that is missing
    dilation: float = 0.0  # share of the vessels' resistance that is lost
    blunting: float = 0.0  # share of the reflex that fails
    fever: float = 0.0  # K
    block: float = 0.0  # share of the way from the heart's own rate to its escape rhythm


class Bodies:
    """`count` adults at rest. `strain` has a row for each field of Strain, a column a patient."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        draw = random.uniform
        self._random = random
        self._heart = draw(62, 92, count)
        self._breath = draw(12, 18, count)
        self._saturation = draw(95.8, 98.4, count)
        systolic, diastolic_share = draw(106, 138, count), draw(0.55, 0.65, count)
        self._pulse = systolic * (1 - diastolic_share)
        self._mean = systolic - self._pulse * (2 / 3)
        self._core = draw(36.4, 37.2, count)
        self._wander = np.zeros((4, count))  # standard normal, correlated over time
        self._effort = np.zeros(count)  # % of saturation that is missing, as heart and lungs feel it
        self._reflex = np.zeros(count)  # 0 to 1
        self.strain = np.zeros((len(Strain._fields), count))

    def own_saturation(self, index: int) -> float:
        """Return the saturation of a patient to whom nothing happens."""
        return float(self._saturation[index])

    def advance(self, tick_s: float) -> None:
        """Wander on for one tick, and let the answers follow the strain."""
        keep = np.exp(-tick_s / np.array(WANDER_LAG_S))[:, np.newaxis]
        self._wander = self._wander * keep + self._random.normal(0.0, 1.0, self._wander.shape) * np.sqrt(1 - keep**2)
        shortfall, loss, dilation, blunting, _, block = self.strain
        slow = 1 - block * (1 - ESCAPE_RATE / self._heart)
        missing = 1 - _filling(loss) * (1 - dilation) * slow**0.6
        self._effort = follow(self._effort, shortfall, tick_s, ANSWER_LAG_S)
        self._reflex = follow(self._reflex, np.clip(1.4 * missing * (1 - blunting), 0.0, 1.0), tick_s, ANSWER_LAG_S)

    def heart(self, which: Integers, seconds: float) -> Floats:
        """Return heart rates, /min."""
        _, _, _, _, fever, block = self.strain[:, which]
        own = self._heart[which] + 3.0 * circadian(seconds, 15.0) + 2.5 * self._wander[0, which]
        own += 1.6 * self._effort[which] + 62.0 * self._reflex[which] + 8.5 * fever
        rate: Floats = own + block * (ESCAPE_RATE + self._wander[0, which] - own)
        return rate

    def saturation(self, which: Integers) -> Floats:
        """Return oxygen saturations, %."""
        measured: Floats = self._saturation[which] - self.strain[0, which] + 0.35 * self._wander[2, which]
        return measured

    def breath(self, which: Integers) -> Floats:
        """Return respiratory rates, /min."""
        own = self._breath[which] + 0.9 * self._wander[1, which]
        answer: Floats = own + 0.8 * self._effort[which] + 18.0 * self._reflex[which] + 1.5 * self.strain[4, which]
        return answer

    def pressure(self, which: Integers, seconds: float) -> tuple[Floats, Floats]:
        """Return mean arterial and pulse pressures, mmHg."""
        _, loss, dilation, _, _, _ = self.strain[:, which]
        pace, filling = self.heart(which, seconds) / self._heart[which], _filling(loss)
        resistance = (1 - dilation) * (1 + 0.3 * self._reflex[which])
        drift = 3.0 * circadian(seconds, 15.0) + 3.5 * self._wander[3, which]
        return self._mean[which] * filling * pace**0.6 * resistance + drift, self._pulse[which] * filling * pace**-0.4

    def core(self, which: Integers, seconds: float) -> Floats:
        """Return body temperatures, degrees Celsius."""
        temperature: Floats = self._core[which] + 0.3 * circadian(seconds, 18.0) + self.strain[4, which]
        return temperature


def circadian(seconds: float, peak_hour: float) -> float:
    """Return where a rhythm of a day stands, -1 to 1."""
    return float(np.cos((seconds - peak_hour * 3600) * (2 * np.pi / DAY_S)))


def _filling(loss: Floats) -> Floats:
    """Return the share of a stroke that is left: the heart ejects what comes back to it."""
    left: Floats = np.maximum(1 - 1.6 * loss, 0.1)
    return left
