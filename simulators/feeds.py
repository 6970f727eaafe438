"""From worlds to messages, and from event time to the wall clock: sources give messages in the order of their event times, a feed says how
fast those times run. Nothing here publishes.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import chain, count
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np

from decoders.topics import READINGS, Topic, format_topic
from decoders.wire import encode_values
from simulators.faults import Fault, Message, Parcel, Tally, Way, as_received
from simulators.truth import Truth
from simulators.world import Reports, World

CATCHES_UP_S = 600.0
"""How long a run without an end lasts, on the wall clock, before event time has caught up with it."""


class Source(Protocol):
    """Messages in their order."""

    @property
    def next_ms(self) -> int | None:
        """The event time from which `take` has messages; None where nothing follows."""

    def take(self) -> list[Message]:
        """Return the next few messages in order of time; they may be none."""


class Feed(NamedTuple):
    """A source and its pace: event time runs `speed` times as fast as the wall clock, 0 meaning as fast as possible."""

    source: Source
    speed: float
    never_ahead: bool = True  # event time waits where it would pass the wall clock


class WorldSource:
    """The reports of a world as messages, one message a report; without end."""

    def __init__(self, world: World, *, truth: Truth | None = None) -> None:
        self._world = world
        self._truth = truth
        self._places = {item.device: index for index, item in enumerate(world.devices)}
        self._topics = [format_topic(Topic(item.kind, item.device, READINGS)) for item in world.devices]

    @property
    def next_ms(self) -> int:
        return self._world.next_ms

    def take(self) -> list[Message]:
        """Advance the world by one tick."""
        reports = self._world.step(self._world.next_ms)
        if self._truth is not None:
            for report in reports:
                self._truth.observe(self._places, report)
        return sorted(chain.from_iterable(encoded(report, self._topics) for report in reports), key=attrgetter("time_ms"))


class Disturbed:
    """A source whose messages pass faults; what they put off waits here for its time. It may end at `end_ms`: what waits comes then."""

    def __init__(
        self,
        source: Source,
        faults: Sequence[Fault] = (),
        *,
        end_ms: int | None = None,
        seen: Callable[[Parcel], None] | None = None,
        received_ms: Callable[[int], int] | None = None,
        exact: bool = False,
    ) -> None:
        """`seen` is told of every message when it is let go; `received_ms` says what the receiver's clock is then, by default the time.

        `exact` is the tally's.
        """
        self.tally = Tally(exact=exact)
        self._way = Way(faults)
        self._source = source
        self._end_ms = end_ms
        self._seen = seen
        self._received_ms = received_ms
        self._waiting: list[tuple[int, int, Parcel]] = []
        self._numbers = count()

    @property
    def next_ms(self) -> int | None:
        next_ms = self._source_ms()
        return next_ms if next_ms is not None or not self._waiting else self._at_last(self._waiting[0][0])

    def take(self) -> list[Message]:
        """Return what is published before the source says the next thing."""
        if self._source_ms() is not None:
            for message in self._source.take():
                for parcel in self._way.apply(message):
                    heappush(self._waiting, (parcel.message.time_ms, next(self._numbers), parcel))
        next_ms = self._source_ms()
        let_go: list[Message] = []
        while self._waiting and (next_ms is None or self._waiting[0][0] < next_ms):
            let_go.append(self._let_go(heappop(self._waiting)[2]))
        return let_go

    def _let_go(self, parcel: Parcel) -> Message:
        message = parcel.message
        time_ms = self._at_last(message.time_ms)
        parcel = as_received(parcel, time_ms if self._received_ms is None else self._received_ms(time_ms))
        if time_ms != message.time_ms:
            parcel = parcel._replace(message=message._replace(time_ms=time_ms))
        self.tally.note(parcel)
        if self._seen is not None:
            self._seen(parcel)
        return parcel.message

    def _at_last(self, time_ms: int) -> int:
        return time_ms if self._end_ms is None else min(time_ms, self._end_ms)

    def _source_ms(self) -> int | None:
        next_ms = self._source.next_ms
        return None if next_ms is None or (self._end_ms is not None and next_ms >= self._end_ms) else next_ms


def encoded(reports: Reports, topics: Sequence[str]) -> Iterator[Message]:
    """Yield a message for each report. A report of which nothing was measured is none."""
    metrics = reports.metrics
    gaps = frozenset(np.flatnonzero(np.isnan(reports.values).any(axis=1)).tolist())
    rows = zip(reports.devices.tolist(), reports.times_ms.tolist(), reports.values.tolist(), strict=True)
    for number, (device, time_ms, row) in enumerate(rows):
        values = dict(zip(metrics, row, strict=True))
        if number in gaps:
            values = {metric: value for metric, value in values.items() if value == value}  # noqa: PLR0124 - NaN alone differs from itself
            if not values:
                continue
        yield Message(time_ms, topics[device], encode_values(values, time_ms))


def start_for(speed: float, duration_s: float | None, now_ms: int) -> int:
    """Return where event time must start so that it never passes the wall clock: it meets it at the end of `duration_s`.

    Without a duration it catches up after ten minutes, and then runs with the wall clock.
    """
    lasts_s = CATCHES_UP_S if duration_s is None else duration_s
    return now_ms - round(max(speed - 1.0, 0.0) * lasts_s * 1000)
