"""The scene of `vitalane demo`: a fleet at a multiple of real time, a ward at real time, three incidents and a few faults, laid out over
the demo's length. Deterministic for a seed, a length and a start.

Everything is placed in fractions of the length, so that fifteen seconds show what a minute does; only what a rule's duration demands of
the ward in real time has a floor in seconds.
"""

from typing import Any, NamedTuple

import numpy as np

from decoders.topics import READINGS, Topic, format_topic
from decoders.wire import encode_values
from simulators.faults import Fault, Message, Span, injected
from simulators.faults_device import ClockDayAhead, Spike
from simulators.faults_payload import Malformed
from simulators.faults_way import Duplicates
from simulators.feeds import Disturbed, Feed, WorldSource, start_for
from simulators.incidents import ABSENT, Incident, IncidentKind, Limit, strike
from simulators.patient import Patients
from simulators.shipment import Shipments
from simulators.truth import Truth
from simulators.world import Device, named, registry

TOO_WARM, DOOR_OPEN, DESATURATION, SILENT = "vaccine-too-warm", "door-open", "desaturation", "probe-silent"
"""The rules of the demo's pack that must find the incidents."""
WARM, SHORT_OF_AIR, UNPLUGGED = Limit("temperature", ">", 8.0), Limit("spo2", "<", 90.0), Limit("spo2", ABSENT)

LENGTH_S = 60.0
"""The length that incidents are laid out over where the demo has no end."""
SHORTEST_S = 15.0

FLEET_SPAN_S = 3600.0  # of event time, over the length: ten minutes pass in a sixth of it
FLEET_REPORT_MS = 30_000
DOOR_OPEN_MS = 20 * 60_000
CUFF_MS = 300_000
IMPLAUSIBLE_CELSIUS = 850.0  # an open thermocouple
DUPLICATES = 5
PRODUCTS = ("vaccine", "produce", "vaccine", "dairy")
DAY_MS = 86_400_000


class Scene(NamedTuple):
    """What is played, and what is known about it."""

    devices: list[Device]
    feeds: list[Feed]
    truth: Truth
    retained: list[Message]  # to be published before ingest subscribes, for only then are they delivered as retained
    faults: list[Fault]
    ahead: tuple[str, ...]  # devices whose clock is a day ahead: everything they say is quarantined

    def registry(self) -> list[dict[str, Any]]:
        """Return the devices as the registry document lists them."""
        return registry(self.devices)

    def dirt(self) -> dict[str, int]:
        """Return what has been injected so far, messages by kind."""
        return {**injected(self.faults), "retained": len(self.retained)}


def demo(*, seed: int = 1, duration_s: float | None = None, now_ms: int, trucks: int = 40, patients: int = 20) -> Scene:
    """Return the scene. Without a duration the incidents happen within the first minute, after which the fleet goes on in real time.

    Raises ValueError where it would be too short or too small to show its incidents.
    """
    length_s = LENGTH_S if duration_s is None else duration_s
    if length_s < SHORTEST_S or trucks < 4 or patients < 3:
        msg = f"the demo needs at least {SHORTEST_S:.0f} s, 4 trucks and 3 patients"
        raise ValueError(msg)
    random = np.random.default_rng(seed)
    speed = max(1.0, FLEET_SPAN_S / length_s)
    fleet_start = start_for(speed, length_s, now_ms)
    fleet = Shipments(
        trucks,
        seed=int(random.integers(2**31)),
        start_ms=fleet_start,
        report_ms=FLEET_REPORT_MS,
        tags=[{"product": PRODUCTS[index % len(PRODUCTS)], "fleet": "demo"} for index in range(trucks)],
    )
    beds = [{"ward": "west", "bed": name.removeprefix("bed-")} for name in named("bed", patients)]
    ward = Patients(patients, seed=int(random.integers(2**31)), start_ms=now_ms, cuff_ms=CUFF_MS, tags=beds)
    vaccine = [index for index, item in enumerate(fleet.devices) if item.tags["product"] == "vaccine"]
    warm = int(random.choice(vaccine))
    short_of_air, silent, clean_patient = (int(index) for index in random.permutation(patients)[:3])
    others = [int(index) for index in random.permutation(trucks) if index != warm]
    ahead, dirty = fleet.devices[others[0]].device, [fleet.devices[index].device for index in others[1:]]
    truth = Truth(
        [
            _door(fleet, warm, fleet_start, length_s, speed),
            _desaturation(ward, short_of_air, now_ms, length_s),
            _silence(ward, silent, now_ms, length_s),
        ]
    )
    fleet_faults = _fleet_faults(dirty, fleet_start, length_s, speed, seed)
    fleet_faults.append(ClockDayAhead([ahead], Span(), seed=seed))
    ward_faults = _ward_faults(ward.devices[clean_patient].device, now_ms, length_s, seed)
    return Scene(
        devices=[*fleet.devices, *ward.devices],
        feeds=[
            Feed(Disturbed(WorldSource(fleet, truth=truth), fleet_faults), speed),
            Feed(Disturbed(WorldSource(ward, truth=truth), ward_faults), 1.0),
        ],
        truth=truth,
        retained=[_retained(dirty[-1], fleet_start - DAY_MS)],
        faults=[*fleet_faults, *ward_faults],
        ahead=(ahead,),
    )


def _door(fleet: Shipments, index: int, start_ms: int, length_s: float, speed: float) -> Incident:
    """From 8 % of the length for twenty minutes of event time: time to warm up, ten minutes to hold, and time to cool down again."""
    opens = start_ms + round(0.08 * length_s * speed * 1000)
    return strike(fleet, IncidentKind.DOOR_OPEN, index, opens, opens + DOOR_OPEN_MS, rule=TOO_WARM, also=(DOOR_OPEN,), limit=WARM)


def _desaturation(ward: Patients, index: int, start_ms: int, length_s: float) -> Incident:
    """The saturation stays below 90 % for more than ten seconds, whatever the length, and recovers before the end."""
    lag_s = min(max(length_s / 20, 0.8), 20.0)
    begins = start_ms + round(0.06 * length_s * 1000)
    lasts_ms = round(max(12.0, 0.4 * length_s) * 1000)
    return strike(ward, IncidentKind.DESATURATION, index, begins, begins + lasts_ms, rule=DESATURATION, limit=SHORT_OF_AIR, lag_s=lag_s)


def _silence(ward: Patients, index: int, start_ms: int, length_s: float) -> Incident:
    """Longer than the six seconds after which silence is noticed."""
    begins = start_ms + round(0.15 * length_s * 1000)
    ends = begins + round(max(9.0, length_s / 6) * 1000)
    return strike(ward, IncidentKind.PROBE_SILENT, index, begins, ends, rule=SILENT, limit=UNPLUGGED)


def _fleet_faults(trucks: list[str], start_ms: int, length_s: float, speed: float, seed: int) -> list[Fault]:
    """Return faults of trucks of which nothing else is expected, spread over the first half of the length."""

    def since(share: float) -> Span:
        return Span(start_ms + round(share * length_s * speed * 1000))

    faults: list[Fault] = [
        Duplicates([trucks[number % len(trucks)]], since(0.1 + 0.08 * number), seed=seed, most=1, probability=1.0, within_ms=0)
        for number in range(DUPLICATES - 1)
    ]
    faults.append(Spike([trucks[0]], since(0.25), seed=seed, most=1, metric="temperature", value=IMPLAUSIBLE_CELSIUS))
    return faults


def _ward_faults(monitor: str, start_ms: int, length_s: float, seed: int) -> list[Fault]:
    """Return faults of a monitor of which nothing else is expected."""

    def since(share: float) -> Span:
        return Span(start_ms + round(share * length_s * 1000))

    return [
        Duplicates([monitor], since(0.3), seed=seed, most=1, probability=1.0, within_ms=0),
        Malformed([monitor], since(0.35), seed=seed, most=1),
    ]


def _retained(device: str, time_ms: int) -> Message:
    """What somebody once left on the broker: yesterday's temperature, which is news to nobody."""
    topic = format_topic(Topic("shipment", device, READINGS))
    return Message(time_ms, topic, encode_values({"temperature": 5.0}, time_ms), retain=True)
