"""Patients on monitors: vital signs that belong together. Heart and respiratory rate answer to the oxygen saturation with a lag, blood
pressure is what a cuff finds at its intervals (mean = diastolic + a third of the pulse pressure), and everything wanders about a personal,
circadian baseline. Numbers are rounded as a monitor shows them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simulators.world import DAY_S, Floats, Integers, Reports, TickedWorld, fleet, follow, named

KIND = "patient"
VITALS = ("heart_rate", "spo2", "respiratory_rate")
CUFF = ("sbp", "dbp", "map")
TEMPERATURE = ("body_temperature",)
TEMPERATURE_MS = 60_000
EFFORT_LAG_S = 12.0  # from hypoxaemia to the heart's and the lungs' answer


class Desaturation(NamedTuple):
    """Oxygen runs short from `start_ms`; help arrives at `end_ms`. Saturation follows both with a first-order lag."""

    patient: int
    start_ms: int
    end_ms: int
    nadir: float
    lag_s: float


class Silence(NamedTuple):
    """A probe that is off: its metric is not measured, the others are."""

    patient: int
    metric: str
    start_ms: int
    end_ms: int


class Patients(TickedWorld):
    """`count` monitors, each watching one patient."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        start_ms: int,
        tick_ms: int = 1_000,
        report_ms: int = 1_000,
        cuff_ms: int = 900_000,
        device_prefix: str = "monitor",
        subject_prefix: str = "patient",
        tags: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        devices = fleet(KIND, named(device_prefix, count), named(subject_prefix, count), tags)
        super().__init__(devices, seed=seed, start_ms=start_ms, tick_ms=tick_ms, report_ms=report_ms)
        self._count = count
        self._tick_s = tick_ms / 1000
        self._cuff_every = max(1, cuff_ms // report_ms)
        self._temperature_every = max(1, TEMPERATURE_MS // report_ms)
        self._desaturations: list[Desaturation] = []
        self._silences: list[Silence] = []
        self._draw_patients(count)

    def desaturate(self, index: int, start_ms: int, end_ms: int, *, nadir: float = 82.0, lag_s: float = 30.0) -> None:
        """Let patient `index` run short of oxygen from `start_ms` until `end_ms`, towards a saturation of `nadir`."""
        self._desaturations.append(Desaturation(index, start_ms, end_ms, nadir, lag_s))

    def silence(self, index: int, metric: str, start_ms: int, end_ms: int) -> None:
        """Let one metric of patient `index` not be measured from `start_ms` until `end_ms`. Raises ValueError for an unknown metric."""
        if metric not in VITALS + CUFF + TEMPERATURE:
            msg = f"a monitor does not measure {metric!r}"
            raise ValueError(msg)
        self._silences.append(Silence(index, metric, start_ms, end_ms))

    def _draw_patients(self, count: int) -> None:
        draw = self._random.uniform
        self._heart = draw(62, 92, count)
        self._breath = draw(12, 18, count)
        self._saturation = draw(95.8, 98.4, count)
        self._systolic = draw(106, 140, count)
        self._diastolic_share = draw(0.55, 0.65, count)
        self._core = draw(36.4, 37.2, count)
        self._wander = np.zeros((4, count))  # heart, breath, saturation, systolic: standard normal, correlated over time
        self._shortfall = np.zeros(count)  # % of saturation below the patient's own
        self._effort = np.zeros(count)  # the same, as heart and lungs feel it

    def _tick(self, time_ms: int) -> list[Reports]:
        reports = self._measure(time_ms)
        self._advance(time_ms)
        return reports

    def _advance(self, time_ms: int) -> None:
        keep = np.exp(-self._tick_s / np.array([[60.0], [40.0], [60.0], [300.0]]))
        self._wander = self._wander * keep + self._random.normal(0.0, 1.0, self._wander.shape) * np.sqrt(1 - keep**2)
        goal, lag_s = np.zeros(self._count), np.full(self._count, 30.0)
        for episode in self._desaturations:
            at = episode.patient
            if episode.start_ms <= time_ms:
                lag_s[at] = episode.lag_s
                if time_ms < episode.end_ms:
                    goal[at] = max(goal[at], self._saturation[at] - episode.nadir)
        self._shortfall = goal + (self._shortfall - goal) * np.exp(-self._tick_s / lag_s)
        self._effort = follow(self._effort, self._shortfall, self._tick_s, EFFORT_LAG_S)

    def _measure(self, time_ms: int) -> list[Reports]:
        seconds = time_ms / 1000
        reports = []
        for metrics, due, columns in (
            (VITALS, self._due(), self._vitals),
            (CUFF, self._due(self._cuff_every), self._cuff),
            (TEMPERATURE, self._due(self._temperature_every), self._temperature),
        ):
            if due.size:
                report = self._reports(metrics, due, time_ms, columns(due, seconds))
                self._unplug(report)
                reports.append(report)
        return reports

    def _unplug(self, report: Reports) -> None:
        for silence in self._silences:
            if silence.metric in report.metrics:
                off = (report.devices == silence.patient) & (report.times_ms >= silence.start_ms) & (report.times_ms < silence.end_ms)
                report.values[off, report.metrics.index(silence.metric)] = np.nan

    def _vitals(self, due: Integers, seconds: float) -> list[Floats]:
        heart = self._heart[due] + 3.0 * _circadian(seconds, 15.0) + 2.5 * self._wander[0, due] + 1.6 * self._effort[due]
        saturation = self._saturation[due] - self._shortfall[due] + 0.35 * self._wander[2, due]
        breath = self._breath[due] + 0.9 * self._wander[1, due] + 0.6 * self._effort[due]
        return [
            np.round(np.clip(heart, 20.0, 220.0)),
            np.round(np.clip(saturation, 40.0, 100.0)),
            np.round(np.clip(breath, 4.0, 60.0)),
        ]

    def _cuff(self, due: Integers, seconds: float) -> list[Floats]:
        systolic = self._systolic[due] + 4.0 * _circadian(seconds, 15.0) + 5.0 * self._wander[3, due] + 0.8 * self._effort[due]
        diastolic = systolic * self._diastolic_share[due]
        return [np.round(systolic), np.round(diastolic), np.round(diastolic + (systolic - diastolic) / 3)]

    def _temperature(self, due: Integers, seconds: float) -> list[Floats]:
        return [np.round(self._core[due] + 0.3 * _circadian(seconds, 18.0) + self._random.normal(0.0, 0.04, due.size), 1)]


def _circadian(seconds: float, peak_hour: float) -> float:
    return float(np.cos((seconds - peak_hour * 3600) * (2 * np.pi / DAY_S)))
