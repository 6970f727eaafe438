"""Faults of the way from a device to the broker: they act on when a message is published, on whether, and on how often; never on what it
says. What they put off keeps the stamps of when it was measured.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import ClassVar

from simulators.faults import Fault, FaultKind, Parcel, Span, normal

IN_FLIGHT_MS = 2_000
"""What was sent so long before a connection broke is not acknowledged yet."""

DRAIN_SHARE = 0.02
"""A backlog comes within this share of the time that it was collected in."""


class Backlog(StrEnum):
    OLDEST = "oldest"  # first in, first out
    NEWEST = "newest"  # what is newest is sent first
    NONE = "none"  # what was measured meanwhile is lost


class Distribution(StrEnum):
    FIXED = "fixed"
    UNIFORM = "uniform"  # from 0 to twice the mean
    EXPONENTIAL = "exponential"
    LOGNORMAL = "lognormal"  # with a sigma of 1: a long tail


class Dropout(Fault):
    """Out of reach for its span; what the device stored comes in a burst when it is back."""

    kind: ClassVar[FaultKind] = FaultKind.DROPOUT
    on_the_way = True

    def __init__(
        self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, backlog: Backlog = Backlog.OLDEST
    ) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.backlog = backlog

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        if self.backlog is Backlog.NONE:
            return ()
        start_ms, end_ms = self.span
        share = (parcel.message.time_ms - start_ms) / (end_ms - start_ms)
        place = share if self.backlog is Backlog.OLDEST else 1 - share
        return (parcel.put_off(end_ms + round(place * DRAIN_SHARE * (end_ms - start_ms))),)


class Disconnect(Fault):
    """A connection that breaks every so often for a while: what is in flight then comes after it, once more or at last."""

    kind: ClassVar[FaultKind] = FaultKind.DISCONNECT
    on_the_way = True

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, every_ms: int, lasts_ms: int) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.every_ms, self.lasts_ms = every_ms, lasts_ms
        self._cut_ms = 0

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        into_ms = (parcel.message.time_ms - self.span.start_ms) % self.every_ms
        back_ms = parcel.message.time_ms - into_ms + self.every_ms
        down_ms = self.every_ms - self.lasts_ms  # each period ends with the connection down
        if into_ms < down_ms - IN_FLIGHT_MS:
            return (parcel,)
        again = parcel.put_off(back_ms)
        if self._cut_ms != back_ms:  # one message is cut each time, over a real connection the connection with it
            self._cut_ms, again = back_ms, again._replace(message=again.message._replace(cut=True))
        if into_ms >= down_ms:
            return (again,)
        if self.dice(parcel) < 0.5:  # cut off in the middle: the broker never had it
            return (again,)
        return (parcel, again._replace(copy=True))  # the broker had it, its acknowledgement was lost


class Duplicates(Fault):
    """Some messages come again, after up to `within_ms`."""

    kind: ClassVar[FaultKind] = FaultKind.DUPLICATES

    def __init__(
        self,
        devices: Iterable[str],
        span: Span,
        *,
        seed: int,
        most: int | None = None,
        probability: float = 0.1,
        within_ms: int = 5_000,
    ) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.probability, self.within_ms = probability, within_ms

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        if self.dice(parcel) >= self.probability:
            return (parcel,)
        later_ms = parcel.message.time_ms + round(self.dice(parcel, "later") * self.within_ms)
        return (parcel, parcel.put_off(later_ms)._replace(copy=True))


class Reordering(Fault):
    """Each message takes its own way, of up to `within_ms`, so that later ones overtake it."""

    kind: ClassVar[FaultKind] = FaultKind.REORDERING

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, within_ms: int) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.within_ms = within_ms

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        return (parcel.put_off(parcel.message.time_ms + round(self.dice(parcel) * self.within_ms)),)


class Latency(Fault):
    """Each message is late by a number of a distribution; none overtakes another of its device."""

    kind: ClassVar[FaultKind] = FaultKind.LATENCY
    on_the_way = True

    def __init__(
        self,
        devices: Iterable[str],
        span: Span,
        *,
        seed: int,
        most: int | None = None,
        mean_ms: int,
        distribution: Distribution = Distribution.LOGNORMAL,
        longest_ms: int | None = None,
    ) -> None:
        """No message is late by more than `longest_ms`, by default ten times the mean."""
        super().__init__(devices, span, seed=seed, most=most)
        self.mean_ms, self.distribution = mean_ms, distribution
        self.longest_ms = 10 * mean_ms if longest_ms is None else longest_ms
        self._last_ms: dict[str, int] = {}

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        late_ms = min(round(self.mean_ms * self._factor(self.dice(parcel))), self.longest_ms)
        arrives_ms = max(parcel.message.time_ms + late_ms, self._last_ms.get(parcel.device, 0))
        self._last_ms[parcel.device] = arrives_ms
        return (parcel.put_off(arrives_ms),)

    def _factor(self, uniform: float) -> float:
        """Return a number of the distribution with the mean 1."""
        match self.distribution:
            case Distribution.FIXED:
                return 1.0
            case Distribution.UNIFORM:
                return 2 * uniform
            case Distribution.EXPONENTIAL:
                return -math.log(1 - uniform)
            case Distribution.LOGNORMAL:
                return math.exp(normal(uniform) - 0.5)
