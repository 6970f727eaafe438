"""Playing feeds against the wall clock: each message is published when its event time has come, never before it; who cannot keep up sends
the same messages later, and says by how much.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from threading import Event
from time import monotonic
from typing import NamedTuple

from simulators.faults import Message
from simulators.feeds import Feed
from simulators.publish import Counts, Publisher
from telemetry.clock import utc_now_ms

LOOK_S = 0.05
BREATH_S = 0.001
ROUND = 500  # messages of one feed before the others have their turn


class Progress(NamedTuple):
    elapsed_s: float
    counts: Counts
    event_ms: tuple[int, ...]  # of each feed: the time of the last message sent
    behind_ms: tuple[int, ...]  # of each feed: how late, in event time, what is to be sent next


def play(
    feeds: Sequence[Feed],
    publisher: Publisher,
    stop: Event,
    *,
    duration_s: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    progress_s: float = 1.0,
) -> Counts:
    """Publish until the feeds end, `duration_s` of the wall clock has been played, or `stop` is set; return the counts.

    What was due within the duration is sent, also where that takes longer. Acknowledgements are not waited for: `Publisher.flush` does.
    """
    tracks = [_Track(feed) for feed in feeds]
    began = reported = monotonic()
    publisher.stop = stop
    while not stop.is_set():
        now = monotonic()
        over = duration_s is not None and now - began >= duration_s
        elapsed_s = now - began if duration_s is None else min(now - began, duration_s)
        waits = [track.advance(elapsed_s, publisher, over) for track in tracks]
        if progress is not None and now - reported >= progress_s:
            reported = now
            progress(_progress(now - began, publisher, tracks))
        if all(track.ended for track in tracks) or (over and 0.0 not in waits):
            break
        pause_s = min(waits)
        if pause_s > 0:
            stop.wait(min(max(pause_s, BREATH_S), LOOK_S))
    if progress is not None:
        progress(_progress(monotonic() - began, publisher, tracks))
    return publisher.counts()


class _Track:
    """One feed and where it is."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._ready: deque[Message] = deque()
        self._start_ms = feed.source.next_ms or 0
        self.event_ms = self._start_ms
        self.behind_ms = 0

    @property
    def ended(self) -> bool:
        return not self._ready and self._feed.source.next_ms is None

    def advance(self, elapsed_s: float, publisher: Publisher, over: bool) -> float:
        """Send what is due, a round at most; return the seconds until something is due, 0 where more is due already."""
        target_ms = self._target_ms(elapsed_s, over)
        for _ in range(ROUND):
            head_ms = self._head_ms(target_ms)
            if head_ms is None or head_ms > target_ms:
                self.behind_ms = 0
                return inf if head_ms is None else (head_ms - target_ms) / 1000 / (self._feed.speed or 1.0)
            message = self._ready.popleft()
            if not publisher.send(message):
                self._ready.appendleft(message)
                return inf
            self.event_ms = message.time_ms
        self.behind_ms = 0 if target_ms == inf else max(0, round(target_ms) - self.event_ms)
        return 0.0

    def _head_ms(self, target_ms: float) -> int | None:
        """Return the event time of the next message, having fetched it where it can be due; None where nothing follows."""
        source = self._feed.source
        while not self._ready:
            next_ms = source.next_ms
            if next_ms is None or next_ms > target_ms:
                return next_ms
            self._ready.extend(source.take())
        return self._ready[0].time_ms

    def _target_ms(self, elapsed_s: float, over: bool) -> float:
        """Return the event time up to which everything is due; where there is no pace, that is everything until it is over."""
        pace = self._feed.speed
        target_ms = self._start_ms + elapsed_s * 1000 * pace if pace else -inf if over else inf
        return min(target_ms, utc_now_ms()) if self._feed.never_ahead else target_ms


def _progress(elapsed_s: float, publisher: Publisher, tracks: Sequence[_Track]) -> Progress:
    return Progress(elapsed_s, publisher.counts(), tuple(track.event_ms for track in tracks), tuple(track.behind_ms for track in tracks))
