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

from rules.columns import FOREVER, NEVER, Columns, Flags, Floats, Integers, begins, lengths

SLOTS = 2
EMPTY = NEVER

STATE = ("count", "mean", "deviation", "min", "max", "first", "last", "first_ms", "last_ms")
"""What is known of an open window; `deviation` is the sum of squared deviations from the mean. Durable: grows at its end only."""

COUNT, MEAN, DEVIATION, MIN, MAX, FIRST, LAST, FIRST_MS, LAST_MS = range(len(STATE))


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

    def take(self, index: Integers | Flags) -> "Groups":
        return Groups(self.rows[index], self.windows[index], self.starts[index], self.counts[index])


class WindowTable(Columns):
    """The open windows of one size for all series of a shard."""

    spec = {
        "window": (np.int64, EMPTY),  # window number: start / size
        "due_ms": (np.int64, FOREVER),  # journal time
        "state": (np.float64, 0.0),  # in the order of STATE; counts and times are exact below 2**53
        "closed": (np.int64, EMPTY),  # the newest window that was closed
    }
    width = {"window": (SLOTS,), "due_ms": (SLOTS,), "state": (SLOTS, len(STATE))}
    window: Integers
    due_ms: Integers
    state: Floats
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
        again = ~begins(groups.rows)
        if not again.any():
            return self._add(groups, times_ms, values, before_ms)
        made_room: list[Closed] = []
        late = 0
        rank = _rank(again)
        for step in range(int(rank.max()) + 1):
            closed, behind = self._add(groups.take(np.flatnonzero(rank == step)), times_ms, values, before_ms)
            made_room += closed
            late += behind
        return made_room, late

    def _add(self, groups: Groups, times_ms: Integers, values: Floats, before_ms: Integers) -> tuple[list[Closed], int]:
        """Take groups of different series."""
        slots = groups.windows % SLOTS
        current = self.window[groups.rows, slots]
        ends = (groups.windows + 1) * self.size_ms + self.grace_ms
        is_open = (groups.windows > self.closed[groups.rows]) & (current <= groups.windows) & (ends > before_ms[groups.rows])
        late = 0
        if not is_open.all():
            late = int(groups.counts[~is_open].sum())
            groups, slots, current = groups.take(is_open), slots[is_open], current[is_open]
        made_room = []
        fresh = current != groups.windows
        older = fresh & (current != EMPTY)
        if older.any():
            made_room.append(self._make_room(groups.rows[older], slots[older]))
        if len(groups.rows):
            self._merge(groups, slots, fresh, _summary(groups, times_ms, values))
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
        starts = np.flatnonzero(begins(rows) | begins(windows))
        return Groups(rows[starts], windows[starts], starts, lengths(starts, len(rows)))

    def _make_room(self, rows: Integers, slots: Integers) -> Closed:
        """Close the windows in these slots, and before each the one before it, so that a series' windows close in order."""
        other = 1 - slots
        before = self.window[rows, other]
        too = (before != EMPTY) & (before < self.window[rows, slots])
        rows, slots = np.concatenate([rows, rows[too]]), np.concatenate([slots, other[too]])
        order = np.lexsort((self.window[rows, slots], rows))
        return self._close(rows[order], slots[order])

    def _merge(self, groups: Groups, slots: Integers, fresh: Flags, new: Floats) -> None:
        """Put summaries into their slots: as they are where the window is fresh, merged with what is there where not."""
        if not fresh.all():
            old = self.state[groups.rows, slots]
            merged = new.copy()
            merged[:, COUNT] += old[:, COUNT]
            apart, share = new[:, MEAN] - old[:, MEAN], new[:, COUNT] / merged[:, COUNT]
            merged[:, MEAN] = old[:, MEAN] + apart * share
            merged[:, DEVIATION] += old[:, DEVIATION] + apart * apart * old[:, COUNT] * share
            np.minimum(old[:, MIN], new[:, MIN], out=merged[:, MIN])
            np.maximum(old[:, MAX], new[:, MAX], out=merged[:, MAX])
            later_first, earlier_last = new[:, FIRST_MS] >= old[:, FIRST_MS], new[:, LAST_MS] < old[:, LAST_MS]
            for kept, columns in ((later_first, (FIRST, FIRST_MS)), (earlier_last, (LAST, LAST_MS))):
                for column in columns:
                    np.copyto(merged[:, column], old[:, column], where=kept)
            new = np.where(fresh[:, None], new, merged)
        self.state[groups.rows, slots] = new
        self.window[groups.rows, slots] = groups.windows

    def _close(self, rows: Integers, slots: Integers) -> Closed:
        at = rows, slots
        window, state = self.window[at], self.state[at]
        values = {name: state[:, number] for number, name in enumerate(STATE[: LAST + 1]) if number != DEVIATION}
        values["stddev"] = np.sqrt(state[:, DEVIATION] / state[:, COUNT])
        closed = Closed(rows, window * self.size_ms, (window + 1) * self.size_ms, values)
        np.maximum.at(self.closed, rows, window)
        self.window[at] = EMPTY
        self.due_ms[at] = FOREVER
        return closed


def _rank(again: Flags) -> Integers:
    """Return for each group how many groups of the same series stand before it; `again` marks those that have one before them."""
    starts = np.flatnonzero(~again)
    return np.arange(len(again)) - np.repeat(starts, lengths(starts, len(again)))


def _summary(groups: Groups, times_ms: Integers, values: Floats) -> Floats:
    """Return the state of each group's readings alone, shape (groups, STATE)."""
    new = np.empty((len(groups.rows), len(STATE)))
    last = groups.starts + groups.counts - 1
    new[:, COUNT], new[:, FIRST], new[:, LAST] = groups.counts, values[groups.starts], values[last]
    new[:, FIRST_MS], new[:, LAST_MS] = times_ms[groups.starts], times_ms[last]
    if len(groups.rows) == int(groups.counts.sum()):
        new[:, MEAN] = new[:, MIN] = new[:, MAX] = new[:, FIRST]
        new[:, DEVIATION] = 0.0
        return new
    first = np.cumsum(groups.counts) - groups.counts  # of each group, among the readings that are taken
    taken = values[np.repeat(groups.starts - first, groups.counts) + np.arange(groups.counts.sum())]
    new[:, MEAN] = np.add.reduceat(taken, first) / groups.counts
    new[:, DEVIATION] = np.add.reduceat((taken - np.repeat(new[:, MEAN], groups.counts)) ** 2, first)
    new[:, MIN], new[:, MAX] = np.minimum.reduceat(taken, first), np.maximum.reduceat(taken, first)
    return new
