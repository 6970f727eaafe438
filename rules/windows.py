"""Tumbling windows in event time, aligned to the epoch, `[start, end)`, columnar.

Theory of operation. A series has two slots, for its current window and the one before it, which stays open for `grace` after its end, so
that readings that are a little late still count. A series' watermark is its latest event time, and runs on with the journal's clock while
nothing comes: a window closes when the watermark reaches its end plus grace. `due_ms` is the journal time at which that will be. Each
window is closed, and told, once; what comes for it afterwards is counted as late. Mean and spread are kept as (count, mean, sum of squared
deviations) and merged by the method of Chan, Golub and LeVeque (1979), which stays stable where sums of squares cancel.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.columns import FOREVER, NEVER, Columns, Floats, Integers

SLOTS = 2
EMPTY = NEVER


class Closed(NamedTuple):
    """Closed windows, ordered by series row and window."""

    rows: Integers
    opens_ms: Integers
    closes_ms: Integers
    values: dict[str, NDArray[Any]]  # by aggregate: count, mean, min, max, first, last, stddev


class Groups(NamedTuple):
    """Readings of one journal row, grouped by series and window; each array has one entry a group."""

    rows: Integers
    windows: Integers
    starts: Integers  # index of each group's first reading in the sorted readings
    counts: Integers


class WindowTable(Columns):
    """The open windows of one size for all series of a shard."""

    spec = {
        "window": (np.int64, EMPTY),  # window number: start / size
        "count": (np.int64, 0),
        "mean": (np.float64, 0.0),
        "deviation": (np.float64, 0.0),  # sum of squared deviations from the mean
        "low": (np.float64, 0.0),
        "high": (np.float64, 0.0),
        "first": (np.float64, 0.0),
        "last": (np.float64, 0.0),
        "first_ms": (np.int64, 0),
        "last_ms": (np.int64, 0),
        "due_ms": (np.int64, FOREVER),
        "closed": (np.int64, EMPTY),  # the newest window that was closed
    }
    width = dict.fromkeys((name for name in spec if name != "closed"), SLOTS)
    window: Integers
    count: Integers
    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats
    first: Floats
    last: Floats
    first_ms: Integers
    last_ms: Integers
    due_ms: Integers
    closed: Integers

    def __init__(self, size_ms: int, grace_ms: int) -> None:
        super().__init__()
        assert 0 <= grace_ms <= size_ms, "the slot of a window is needed again one size after its end"
        self.size_ms, self.grace_ms = size_ms, grace_ms
        self.next_due_ms = FOREVER  # no window is due before

    def add(self, rows: Integers, times_ms: Integers, values: Floats, before_ms: Integers) -> tuple[list[Closed], int]:
        """Take readings sorted by series row and time; `before_ms` is each series' latest event time before them, by row.

        Returns the windows that had to make room, and how many readings came after their window was closed. `schedule` must follow.
        """
        groups = self._groups(rows, times_ms)
        made_room: list[Closed] = []
        late = 0
        rank = _rank(groups.rows)
        for step in range(int(rank.max()) + 1 if len(rank) else 0):
            chosen = np.flatnonzero(rank == step)
            part = Groups(*(column[chosen] for column in groups))
            slot = part.windows % SLOTS
            current = self.window[part.rows, slot]
            ends = (part.windows + 1) * self.size_ms + self.grace_ms
            open_ = (part.windows > self.closed[part.rows]) & (current <= part.windows) & (ends > before_ms[part.rows])
            if not open_.all():
                late += int(part.counts[~open_].sum())
                part, slot, current = Groups(*(column[open_] for column in part)), slot[open_], current[open_]
            older = (current != part.windows) & (current != EMPTY)
            if older.any():
                made_room.append(self._make_room(part.rows[older], slot[older]))
            self._merge(part, slot, times_ms, values)
        return made_room, late

    def close_due(self, now_ms: int) -> Closed | None:
        """Close the windows whose watermark has passed their end and grace."""
        if now_ms < self.next_due_ms:
            return None
        due = self.due_ms[: self.length]
        rows, slots = np.nonzero(due <= now_ms)
        closed = None
        if len(rows):
            order = np.lexsort((self.window[rows, slots], rows))
            closed = self._close(rows[order], slots[order])
        self.next_due_ms = int(due.min()) if len(due) else FOREVER
        return closed

    def close_all(self) -> Closed | None:
        """Close every open window: the windows are about to be defined anew."""
        self.due_ms[: self.length][self.window[: self.length] != EMPTY] = NEVER
        self.next_due_ms = NEVER
        return self.close_due(0)

    def resume_clock(self, latest_ms: Integers, now_ms: int) -> None:
        """Let watermarks that run with the journal's clock run from now: nobody listened before."""
        self.next_due_ms = FOREVER
        self.schedule(np.arange(self.length), latest_ms, now_ms)

    def schedule(self, rows: Integers, latest_ms: Integers, now_ms: int) -> None:
        """Work out when the open windows of some series are due; `latest_ms` is by row."""
        window = self.window[rows]
        wait = (window + 1) * self.size_ms + self.grace_ms - latest_ms[rows][:, None]
        due = np.where(window == EMPTY, FOREVER, now_ms + np.maximum(wait, 0))
        self.due_ms[rows] = due
        if due.size:
            self.next_due_ms = min(self.next_due_ms, int(due.min()))

    def _groups(self, rows: Integers, times_ms: Integers) -> Groups:
        windows = times_ms // self.size_ms
        begins = np.empty(len(rows), np.bool_)
        begins[:1] = True
        begins[1:] = (rows[1:] != rows[:-1]) | (windows[1:] != windows[:-1])
        starts = np.flatnonzero(begins)
        counts = np.diff(starts, append=len(rows))
        return Groups(rows[starts], windows[starts], starts, counts)

    def _make_room(self, rows: Integers, slots: Integers) -> Closed:
        """Close the windows in these slots, and before each the one before it, so that a series' windows close in order."""
        other = 1 - slots
        before = self.window[rows, other]
        too = (before != EMPTY) & (before < self.window[rows, slots])
        rows, slots = np.concatenate([rows, rows[too]]), np.concatenate([slots, other[too]])
        order = np.lexsort((self.window[rows, slots], rows))
        return self._close(rows[order], slots[order])

    def _merge(self, part: Groups, slot: Integers, times_ms: Integers, values: Floats) -> None:
        if not len(part.rows):
            return
        one_each = int(part.counts.max()) == 1
        index = (
            part.starts
            if one_each
            else np.repeat(part.starts - np.cumsum(part.counts) + part.counts, part.counts) + np.arange(part.counts.sum())
        )
        taken = values[index]
        at = part.rows, slot
        if one_each:
            mean, deviation, low, high = taken, np.zeros(len(taken)), taken, taken
        else:
            begins = np.cumsum(part.counts) - part.counts
            mean = np.add.reduceat(taken, begins) / part.counts
            deviation = np.add.reduceat((taken - np.repeat(mean, part.counts)) ** 2, begins)
            low, high = np.minimum.reduceat(taken, begins), np.maximum.reduceat(taken, begins)
        first_ms, last_ms = times_ms[part.starts], times_ms[part.starts + part.counts - 1]
        first, last = values[part.starts], values[part.starts + part.counts - 1]
        fresh = self.window[at] != part.windows
        had = np.where(fresh, 0, self.count[at])
        count = had + part.counts
        apart = np.where(fresh, 0.0, mean - self.mean[at])
        self.mean[at] = np.where(fresh, mean, self.mean[at] + apart * part.counts / count)
        self.deviation[at] = np.where(fresh, deviation, self.deviation[at] + deviation + apart**2 * had * part.counts / count)
        self.low[at] = np.where(fresh, low, np.minimum(low, self.low[at]))
        self.high[at] = np.where(fresh, high, np.maximum(high, self.high[at]))
        earlier, later = fresh | (first_ms < self.first_ms[at]), fresh | (last_ms >= self.last_ms[at])
        self.first[at] = np.where(earlier, first, self.first[at])
        self.first_ms[at] = np.where(earlier, first_ms, self.first_ms[at])
        self.last[at] = np.where(later, last, self.last[at])
        self.last_ms[at] = np.where(later, last_ms, self.last_ms[at])
        self.count[at] = count
        self.window[at] = part.windows

    def _close(self, rows: Integers, slots: Integers) -> Closed:
        at = rows, slots
        window, count = self.window[at], self.count[at]
        closed = Closed(
            rows,
            window * self.size_ms,
            (window + 1) * self.size_ms,
            {
                "count": count.astype(np.float64),
                "mean": self.mean[at],
                "min": self.low[at],
                "max": self.high[at],
                "first": self.first[at],
                "last": self.last[at],
                "stddev": np.sqrt(self.deviation[at] / count),
            },
        )
        np.maximum.at(self.closed, rows, window)
        self.window[at] = EMPTY
        self.due_ms[at] = FOREVER
        return closed


def _rank(rows: Integers) -> Integers:
    """Return for each entry of a sorted array how many equal entries stand before it."""
    begins = np.empty(len(rows), np.bool_)
    begins[:1] = True
    begins[1:] = rows[1:] != rows[:-1]
    starts = np.flatnonzero(begins)
    return np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
