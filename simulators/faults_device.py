"""Faults of the device itself: its clock, which stamps what it sends, and its sensors, which say what is not so."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from simulators.faults import Fault, FaultKind, Parcel, Span
from simulators.payloads import restamped, revalued
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason

DAY_MS = 86_400_000


class Clock(Fault):
    """A clock that is wrong by what `offset_ms` says, for as long as the span lasts; then somebody sets it right."""

    @abstractmethod
    def offset_ms(self, parcel: Parcel) -> int:
        """Return how far it is ahead when a message is stamped."""

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        offset_ms = self.offset_ms(parcel)
        payload = restamped(parcel.message.payload, offset_ms)
        if payload == parcel.message.payload:
            return (parcel,)
        return (parcel.saying(payload)._replace(offset_ms=parcel.offset_ms + offset_ms),)


class ClockSkew(Clock):
    kind: ClassVar[FaultKind] = FaultKind.CLOCK_SKEW

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, offset_ms: int) -> None:
        """A positive offset is a clock that is ahead."""
        super().__init__(devices, span, seed=seed, most=most)
        self.by_ms = offset_ms

    def offset_ms(self, parcel: Parcel) -> int:  # noqa: ARG002 the same for every message
        return self.by_ms


class ClockJump(ClockSkew):
    """A clock that is set wrong, by hours: the same as skew but for its size, and told apart in the truth."""

    kind: ClassVar[FaultKind] = FaultKind.CLOCK_JUMP


class ClockDayAhead(ClockSkew):
    kind: ClassVar[FaultKind] = FaultKind.CLOCK_DAY_AHEAD

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None) -> None:
        super().__init__(devices, span, seed=seed, most=most, offset_ms=DAY_MS)


class ClockDrift(Clock):
    """A clock that runs too fast by so many parts in a million, and too slow where that is negative."""

    kind: ClassVar[FaultKind] = FaultKind.CLOCK_DRIFT

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, ppm: float) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.ppm = ppm

    def offset_ms(self, parcel: Parcel) -> int:
        return round((parcel.measured_ms - self.span.start_ms) * self.ppm / 1e6)


class Frozen(Fault):
    """A sensor that says again and again what it said first in the span."""

    kind: ClassVar[FaultKind] = FaultKind.FROZEN

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, metric: str) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.metric = metric
        self._held: dict[str, float] = {}

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        def hold(metric: str, value: float) -> float:
            return self._held.setdefault(parcel.device, value) if metric == self.metric else value

        return _revalued(parcel, hold)


class Spike(Fault):
    """Single values that are something else: an open thermocouple, a cable that is touched."""

    kind: ClassVar[FaultKind] = FaultKind.SPIKE

    def __init__(
        self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, metric: str, value: float, probability: float = 1.0
    ) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.metric, self.value, self.probability = metric, value, probability

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        if self.dice(parcel) >= self.probability:
            return (parcel,)
        return _revalued(parcel, lambda metric, value: self.value if metric == self.metric else value)


MIX_UPS: dict[str, Callable[[float], float]] = {
    "temperature": lambda celsius: celsius * 1.8 + 32,  # degrees Fahrenheit
    "body_temperature": lambda celsius: celsius * 1.8 + 32,
    "spo2": lambda percent: percent / 100,  # a fraction
    "sbp": lambda mmhg: mmhg * 0.133322,  # kPa
    "dbp": lambda mmhg: mmhg * 0.133322,
    "map": lambda mmhg: mmhg * 0.133322,
    "speed": lambda metres: metres * 3.6,  # km/h
}
"""What a value becomes in the unit that it is mistaken for."""


class UnitMixUp(Fault):
    """Values in another unit, and no word of it."""

    kind: ClassVar[FaultKind] = FaultKind.UNIT_MIX_UP

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, metric: str) -> None:
        """Raises ValueError for a metric that has no other unit."""
        super().__init__(devices, span, seed=seed, most=most)
        if metric not in MIX_UPS:
            msg = f"no unit that {metric!r} could be mistaken in: one of {', '.join(MIX_UPS)}"
            raise ValueError(msg)
        self.metric = metric

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        return _revalued(parcel, lambda metric, value: round(MIX_UPS[metric](value), 3) if metric == self.metric else value)


class BatteryDeath(Fault):
    """The battery runs down over the span's first half; then the device is silent until the span ends, when it is exchanged."""

    kind: ClassVar[FaultKind] = FaultKind.BATTERY_DEATH

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("battery",)

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        left = 1 - 2 * (parcel.measured_ms - self.span.start_ms) / (self.span.end_ms - self.span.start_ms)
        if left <= 0:
            return ()
        return _revalued(parcel, lambda metric, value: round(value * left, 1) if metric == "battery" else value)


class Teleport(Fault):
    """Single positions that are far away: a receiver that has lost its satellites."""

    kind: ClassVar[FaultKind] = FaultKind.TELEPORT

    def __init__(
        self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, probability: float = 1.0, degrees: float = 20.0
    ) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.probability, self.degrees = probability, degrees

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("latitude", "longitude")

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        if self.dice(parcel) >= self.probability:
            return (parcel,)

        def elsewhere(metric: str, value: float) -> float:
            away = value + self.degrees * (1 if value < 0 else -1)  # never out of the globe
            return round(away, 5) if metric in self.metrics else value

        return _revalued(parcel, elsewhere)


def _revalued(parcel: Parcel, change: Callable[[str, float], float]) -> Sequence[Parcel]:
    """Return a message with its values changed, and how many of those that are changed the other end must refuse."""
    if parcel.refused:
        return (parcel,)
    impossible = 0

    def counted(metric: str, value: float) -> float:
        nonlocal impossible
        after = change(metric, value)
        known = CATALOGUE.get(metric)
        impossible += known is not None and not known.low <= after <= known.high
        return after

    payload, changed = revalued(parcel.message.payload, counted)
    if not changed:
        return (parcel,)
    after = parcel.saying(payload)
    return (after._replace(refused=((Reason.IMPLAUSIBLE, impossible),)) if impossible else after,)
