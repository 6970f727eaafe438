"""From worlds to messages, and from event time to the wall clock: sources give messages in the order of their event times, a feed says how
fast those times run. Nothing here publishes.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np

from decoders.topics import READINGS, Topic, format_topic
from decoders.wire import encode_values
from simulators.faults import Fault, Message
from simulators.incidents import Truth
from simulators.world import Integers, Reports, World

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

    def __init__(
        self,
        world: World,
        *,
        truth: Truth | None = None,
        faults: Sequence[Fault] = (),
        skew_ms: Mapping[str, int] | None = None,
    ) -> None:
        """`skew_ms`: how far the clock of a device is ahead; its messages are sent when they are due and stamped as it believes."""
        self._world = world
        self._truth = truth
        self._faults = faults
        self._places = {item.device: index for index, item in enumerate(world.devices)}
        self._topics = [format_topic(Topic(item.kind, item.device, READINGS)) for item in world.devices]
        self._skew_ms = np.array([(skew_ms or {}).get(item.device, 0) for item in world.devices], dtype=np.int64)

    @property
    def next_ms(self) -> int:
        return self._world.next_ms

    def take(self) -> list[Message]:
        """Advance the world by one tick."""
        reports = self._world.step(self._world.next_ms)
        if self._truth is not None:
            for report in reports:
                self._truth.observe(self._places, report)
        messages = sorted(
            chain.from_iterable(encoded(report, self._topics, self._skew_ms) for report in reports), key=attrgetter("time_ms")
        )
        for fault in self._faults:
            messages = fault.apply(messages)
        return messages


def encoded(reports: Reports, topics: Sequence[str], skew_ms: Integers) -> Iterator[Message]:
    """Yield a message for each report. A report of which nothing was measured is none."""
    metrics = reports.metrics
    gaps = frozenset(np.flatnonzero(np.isnan(reports.values).any(axis=1)).tolist())
    stamps = (reports.times_ms + skew_ms[reports.devices]).tolist()
    rows = zip(reports.devices.tolist(), reports.times_ms.tolist(), stamps, reports.values.tolist(), strict=True)
    for number, (device, time_ms, stamp, row) in enumerate(rows):
        values = dict(zip(metrics, row, strict=True))
        if number in gaps:
            values = {metric: value for metric, value in values.items() if value == value}  # noqa: PLR0124 - NaN alone differs from itself
            if not values:
                continue
        yield Message(time_ms, topics[device], encode_values(values, stamp))


def start_for(speed: float, duration_s: float | None, now_ms: int) -> int:
    """Return where event time must start so that it never passes the wall clock: it meets it at the end of `duration_s`.

    Without a duration it catches up after ten minutes, and then runs with the wall clock.
    """
    lasts_s = CATCHES_UP_S if duration_s is None else duration_s
    return now_ms - round(max(speed - 1.0, 0.0) * lasts_s * 1000)
