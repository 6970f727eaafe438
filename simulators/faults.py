"""What goes wrong between a sensor and the broker, seeded: faults compose in any order, and each says what it did.

Their law: what a fault does to a message is a function of the seed, the fault, the device and the message as it was measured, so that
adding one fault does not change another's dice. A fault of the way acts on when a message is published and keeps its stamps, one of a clock
changes the stamps, one of a sensor the values, one of a payload the bytes. Messages are only ever put off, never sent before their time.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import blake2b
from statistics import NormalDist
from typing import ClassVar, NamedTuple
from zlib import crc32

from simulators.payloads import readings
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason

NORMAL = NormalDist()
FOREVER_MS = 2**62


class FaultKind(StrEnum):
    DROPOUT = "dropout"  # out of reach; what was measured meanwhile comes when it is back, or never
    DISCONNECT = "disconnect"  # a connection breaks in the middle of a message, again and again
    DUPLICATES = "duplicates"  # the same message again, as QoS 1 may
    REORDERING = "reordering"  # messages overtake each other
    LATENCY = "latency"  # messages are late by a distribution, in their order
    CLOCK_SKEW = "clock_skew"  # a clock that is off by a constant
    CLOCK_DRIFT = "clock_drift"  # a clock that runs too fast or too slow
    CLOCK_JUMP = "clock_jump"  # a clock that is set wrong by hours
    CLOCK_DAY_AHEAD = "clock_day_ahead"  # a clock that is set to tomorrow
    FROZEN = "frozen"  # a sensor that goes on saying what it said
    SPIKE = "spike"  # single values that cannot be
    UNIT_MIX_UP = "unit_mix_up"  # values in another unit than is said
    BATTERY_DEATH = "battery_death"  # the battery runs down, then nothing more comes
    TELEPORT = "teleport"  # single positions from elsewhere
    FLOOD = "flood"  # far more readings than there should be
    MALFORMED = "malformed"  # bytes that are no message
    SCHEMA_CHANGE = "schema_change"  # another form after an update
    GATEWAY_MERGE = "gateway_merge"  # a gateway publishes one device's readings as another's


WHOLE = frozenset({Reason.MALFORMED, Reason.WRONG_TYPE, Reason.UNSUPPORTED_VERSION, Reason.DEVICE_MISMATCH})
"""Reasons for which a message is refused whole, and counts once; for others, each of its readings does."""

BESIDE = frozenset({Reason.UNKNOWN_FIELD})
"""Reasons for which something is refused that is no reading: the rest of the message is read."""


MAX_SKEW_MS = 5 * 60_000
"""How far ahead of its receipt a reading may be stamped, where nothing else is set."""


class Message(NamedTuple):
    """What is to be published, and at which event time."""

    time_ms: int
    topic: str
    payload: bytes
    retain: bool = False
    cut: bool = False  # its connection breaks in the middle of it


class Parcel(NamedTuple):
    """A message on its way, and what is known of it besides."""

    message: Message
    device: str  # that measured it, whoever's topic it comes under
    measured_ms: int  # when it was measured in truth, which its stamp may not say
    number: int  # of the message as it was measured: dice are thrown by it; 0: no fault can touch its device
    copy: bool = False  # it has come before
    offset_ms: int = 0  # how far its stamps are ahead of when it was measured
    refused: tuple[tuple[str, int], ...] = ()  # for which reasons, and how often, the other end must quarantine it
    by: tuple["Fault", ...] = ()  # what touched it

    def put_off(self, time_ms: int) -> "Parcel":
        """Return it as it is when it is published at a time, if that is later."""
        return self if time_ms <= self.message.time_ms else self._replace(message=self.message._replace(time_ms=time_ms))

    def saying(self, payload: bytes) -> "Parcel":
        return self._replace(message=self.message._replace(payload=payload))


class Span(NamedTuple):
    """The time in which a fault acts, the end not included; event times."""

    start_ms: int = 0
    end_ms: int = FOREVER_MS


class Fault(ABC):
    """One fault of some devices. What it did is in `touched`, messages by device."""

    kind: ClassVar[FaultKind]
    on_the_way: ClassVar[bool] = False  # it acts on what is published in its span; the others on what is measured in it

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None) -> None:
        """`most` messages of each device are touched, all of them where it is None."""
        self.devices = tuple(devices)
        self.span = span
        self.touched: Counter[str] = Counter()
        self._seed = seed
        self._most = most

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose values it falsifies."""
        return ()

    @abstractmethod
    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        """Return what becomes of a message within the span: [parcel] where nothing does."""

    def pass_on(self, parcel: Parcel) -> Sequence[Parcel]:
        """Return what becomes of a message of one of its devices."""
        at_ms = parcel.message.time_ms if self.on_the_way else parcel.measured_ms
        if not self.span.start_ms <= at_ms < self.span.end_ms:
            return (parcel,)
        if self._most is not None and self.touched[parcel.device] >= self._most:
            return (parcel,)
        after = self.act(parcel)
        if len(after) == 1 and after[0] is parcel:
            return after
        self.touched[parcel.device] += 1
        return [item._replace(by=(*item.by, self)) for item in after]

    def dice(self, parcel: Parcel, throw: str = "") -> float:
        """Return a number in [0, 1): the same for the same seed, fault, device and message; `throw` tells several of one message apart."""
        return dice(self._seed, self.kind, parcel.device, parcel.number, throw)

    def device_dice(self, device: str, throw: str = "") -> float:
        """Return a number in [0, 1) for one device."""
        return dice(self._seed, self.kind, device, throw)


class Tally:
    """What was let go at the end of the way, as the other end must count it."""

    def __init__(self, *, exact: bool = False) -> None:
        """`exact` counts readings that come twice too, also where a wrong clock makes them the same; it remembers all of them."""
        self.messages = 0
        self.copied = 0
        self.refused: Counter[str] = Counter()
        self._seen: set[tuple[str, str, int | None, float]] | None = set() if exact else None

    def note(self, parcel: Parcel) -> None:
        self.messages += 1
        for reason, count in parcel.refused:
            self.refused[reason] += count
        if self._seen is None or not parcel.number:
            return
        for reading in taken(parcel):
            key = (parcel.message.topic, *reading)
            self.copied += key in self._seen
            self._seen.add(key)


class Way:
    """Faults in the order in which messages pass them."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._of: dict[str, list[Fault]] = {}
        for fault in faults:
            for device in fault.devices:
                self._of.setdefault(device, []).append(fault)

    def apply(self, message: Message) -> Sequence[Parcel]:
        """Return what becomes of a message, not in order of time."""
        device = device_of(message.topic)
        faults = self._of.get(device)
        if not faults:
            return (Parcel(message, device, message.time_ms, 0),)
        parcels: Sequence[Parcel] = (Parcel(message, device, message.time_ms, message.time_ms << 32 | crc32(message.payload)),)
        for fault in faults:
            parcels = [after for parcel in parcels for after in fault.pass_on(parcel)]
        return parcels


def as_received(parcel: Parcel, received_ms: int) -> Parcel:
    """Return a message with what it is refused for when the receiver's clock is at an instant, which its stamps may be ahead of."""
    if not parcel.offset_ms or parcel.measured_ms + parcel.offset_ms <= received_ms + MAX_SKEW_MS:
        return parcel
    if any(reason in WHOLE for reason, _ in parcel.refused):
        return parcel
    kept = {reason: n for reason, n in parcel.refused if reason in {Reason.UNKNOWN_METRIC, *BESIDE}}  # what the decoder refuses
    ahead = len(readings(parcel.message.payload)) - kept.get(Reason.UNKNOWN_METRIC, 0)
    return parcel._replace(refused=(*kept.items(), *([(Reason.FUTURE_TIME, ahead)] if ahead else [])))


def taken(parcel: Parcel) -> list[tuple[str, int | None, float]]:
    """Return metric, stamp and value of every reading of a message that the other end can take."""
    if any(reason not in {Reason.IMPLAUSIBLE, *BESIDE} for reason, _ in parcel.refused):
        return []
    said = readings(parcel.message.payload)
    return [item for item in said if item[0] not in CATALOGUE or CATALOGUE[item[0]].low <= item[2] <= CATALOGUE[item[0]].high]


def device_of(topic: str) -> str:
    """Return the device of a topic of ours."""
    return topic.split("/", 4)[3]


def dice(seed: int, *names: str | int) -> float:
    """Return a number in [0, 1) that follows from a seed and names, and from nothing else."""
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def normal(uniform: float) -> float:
    """Return the standard normal number that belongs to a number in [0, 1)."""
    return NORMAL.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))


def injected(faults: Iterable[Fault]) -> dict[str, int]:
    """Return how many messages faults have touched, by kind."""
    counts: Counter[str] = Counter()
    for fault in faults:
        counts[fault.kind.value] += fault.touched.total()
    return dict(counts)
