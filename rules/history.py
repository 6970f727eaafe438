"""The readings that late ones are judged with: of each series what was accepted within its horizon, sorted by (time, value), in columns.

Theory of operation. All series share one pool of three arrays. A series owns a slab of it, a power of two long, and its readings stand
side by side in the slab, sorted; so whatever needs a series' past is a slice. A reading in order is put behind the last one, by array
operations for all series of a journal row at once; a late one is inserted by moving what is newer. A slab that is full is compacted when
half of it was dropped, and else moved into one of twice the size, so that a reading is moved about once in its life. `drop` forgets the
old end, by time; what is dropped is final. All readings of a series with a time at or before `floor_ms` are dropped, and none after it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.columns import NEVER, Columns, Flags, Floats, Integers, begins, lengths

FIRST_SLAB = 16
FIRST_POOL = 1024
READING_BYTES = 24  # a time, a value, a position


class HistoryChunk(NamedTuple):
    """Readings as they were accepted, one entry a reading: what makes the history again. Durable."""

    rows: NDArray[np.int32]  # series
    times_ms: Integers
    values: Floats
    positions: Integers  # of the message in the journal: partition << 48 | offset


def spans(starts: Integers, counts: Integers) -> Integers:
    """Return the indices `starts[i] .. starts[i] + counts[i] - 1` of all i, one after the other."""
    if not len(counts):
        return np.empty(0, np.int64)
    ends = np.cumsum(counts)
    return np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)


class History(Columns):
    """`first[row]` to `end[row]` (exclusive) are the indices of a series' readings in `times_ms`, `values` and `positions`."""

    spec = {
        "base": (np.int64, 0),  # where the slab begins
        "limit": (np.int64, 0),  # where it ends
        "first": (np.int64, 0),
        "end": (np.int64, 0),
        "floor_ms": (np.int64, NEVER),
    }
    derived = ("base", "limit", "first", "end")
    base: Integers
    limit: Integers
    first: Integers
    end: Integers
    floor_ms: Integers

    def __init__(self) -> None:
        super().__init__()
        self.times_ms: Integers = np.zeros(FIRST_POOL, np.int64)
        self.values: Floats = np.zeros(FIRST_POOL)
        self.positions: Integers = np.zeros(FIRST_POOL, np.int64)
        self.used = 0  # of the pool, from its beginning; of that, what free slabs take is `unused`
        self.unused = 0
        self._free: dict[int, list[int]] = {}  # bases of free slabs, by length
        self._new: list[HistoryChunk] = []

    # -- in -----------------------------------------------------------------------------------------------------------------------

    def take(self, rows: Integers, times_ms: Integers, values: Floats, positions: Integers, late: Flags) -> None:
        """Take readings sorted by (row, time, value), none of which is held yet; those that are `late` are not after what is held."""
        if not late.any():
            self.append(rows, times_ms, values, positions)
            return
        for chosen, put in ((~late, self.append), (late, self.insert)):
            put(rows[chosen], times_ms[chosen], values[chosen], positions[chosen])

    def append(self, rows: Integers, times_ms: Integers, values: Floats, positions: Integers) -> None:
        """Take readings sorted by (row, time, value), each later than, or at the time and above the value of, what its series holds."""
        if not len(rows):
            return
        self._new.append(HistoryChunk(rows.astype(np.int32), times_ms, values, positions))
        starts = np.flatnonzero(begins(rows))
        touched, counts = rows[starts], lengths(starts, len(rows))
        ends = self.end[touched]
        full = ends + counts > self.limit[touched]
        if full.any():
            self._make_room(touched[full], counts[full])
            ends = self.end[touched]
        at = ends if len(touched) == len(rows) else np.arange(len(rows)) + np.repeat(ends - starts, counts)
        self.times_ms[at], self.values[at], self.positions[at] = times_ms, values, positions
        self.end[touched] = ends + counts

    def insert(self, rows: Integers, times_ms: Integers, values: Floats, positions: Integers) -> None:
        """Take late readings sorted by (row, time, value), none of which is held yet."""
        self._new.append(HistoryChunk(rows.astype(np.int32), times_ms, values, positions))
        starts = np.flatnonzero(begins(rows))
        touched, counts = rows[starts], lengths(starts, len(rows))
        full = self.end[touched] + counts > self.limit[touched]
        if full.any():
            self._make_room(touched[full], counts[full])
        at, ends = self.at_or_after(touched, times_ms[starts]), self.end[touched]
        newer = spans(at, ends - at)
        which = np.concatenate([np.repeat(np.arange(len(touched)), ends - at), np.repeat(np.arange(len(touched)), counts)])
        moved = [np.concatenate([pool[newer], new]) for pool, new in zip(self._pools(), (times_ms, values, positions), strict=True)]
        order = np.lexsort((moved[1], moved[0], which))
        target = spans(at, ends - at + counts)
        for pool, column in zip(self._pools(), moved, strict=True):
            pool[target] = column[order]
        self.end[touched] = ends + counts

    def drop(self, rows: Integers, until_ms: Integers) -> None:
        """Forget what is at or before a time, for each of some series."""
        self.first[rows] = self.after(rows, until_ms)
        self.floor_ms[rows] = np.maximum(self.floor_ms[rows], until_ms)

    # -- out ----------------------------------------------------------------------------------------------------------------------

    def at_or_after(self, rows: Integers, times_ms: Integers) -> Integers:
        """Return for each series the index of its first reading at or after a time; `end` where there is none."""
        return self.after(rows, times_ms - 1)

    def after(self, rows: Integers, times_ms: Integers) -> Integers:
        """Return for each series the index of its first reading after a time: a binary search over all of them at once.

        What is asked is near the end, as a rule: the search begins there, in steps that double.
        """
        first, high, step, last = self.first[rows], self.end[rows], 1, len(self.times_ms) - 1
        low, back = high, (high > first) & (self.times_ms[np.maximum(high - 1, 0)] > times_ms)
        while back.any():
            low = np.where(back, np.maximum(high - step, first), low)
            back &= (low > first) & (self.times_ms[np.minimum(low, last)] > times_ms)
            high = np.where(back, low, high)
            step *= 4
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            right = (self.times_ms[np.minimum(middle, len(self.times_ms) - 1)] <= times_ms) & (middle < high)
            low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
        return low

    def holds(self, rows: Integers, times_ms: Integers, values: Floats) -> tuple[Flags, Flags]:
        """Return for each reading whether the very same one is held, and whether one of its series and time is."""
        at, end = self.at_or_after(rows, times_ms), self.end[rows]
        same, taken = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        look = np.flatnonzero(at < end)
        while len(look):
            look = look[self.times_ms[at[look]] == times_ms[look]]
            taken[look] = True
            same[look] |= self.values[at[look]] == values[look]
            at[look] += 1
            look = look[(at[look] < end[look]) & ~same[look]]
        return same, taken

    def counts(self) -> Integers:
        return self.end[: self.length] - self.first[: self.length]

    def size_bytes(self) -> int:
        """Return the memory that it takes, spare room left out."""
        return READING_BYTES * int(self.counts().sum()) + super().size_bytes()

    # -- state --------------------------------------------------------------------------------------------------------------------

    def take_new(self) -> HistoryChunk | None:
        """Return what was taken in since the last call."""
        new, self._new = self._new, []
        if not new:
            return None
        return HistoryChunk(*(np.concatenate(columns) for columns in zip(*new, strict=True)))

    def refill(self, chunks: Iterable[HistoryChunk]) -> None:
        """Take what `take_new` returned, all of it, in any order. `floor_ms` is set already: what is not after it is left out."""
        kept = []
        for chunk in chunks:
            rows = chunk.rows.astype(np.int64)
            if len(rows) and int(rows.max()) >= self.length:
                msg = "the history is of more series than the snapshot knows: they do not belong together"
                raise ValueError(msg)
            above = chunk.times_ms > self.floor_ms[rows]
            kept.append((rows[above], chunk.times_ms[above], chunk.values[above], chunk.positions[above]))
        if not kept:
            return
        rows, times_ms, values, positions = (np.concatenate(columns) for columns in zip(*kept, strict=True))
        order = np.lexsort((values, times_ms, rows))
        self.append(rows[order], times_ms[order], values[order], positions[order])
        self._new = []

    # -- room ---------------------------------------------------------------------------------------------------------------------

    def _pools(self) -> tuple[Integers, Floats, Integers]:
        return self.times_ms, self.values, self.positions

    def _make_room(self, rows: Integers, more: Integers) -> None:
        """Give each series room for so many readings more behind its last one: a quarter of its slab is free then, at least."""
        if 2 * self.unused > max(self.used, FIRST_POOL):
            self._pack()
        held = self.end[rows] - self.first[rows]
        needed = (held + more) * 4 // 3 + 1
        grow = needed > self.limit[rows] - self.base[rows]
        bases = self.base[rows]  # a copy
        if grow.any():
            room = np.maximum(FIRST_SLAB, 1 << np.ceil(np.log2(needed[grow])).astype(np.int64))
            for length in np.unique(room).tolist():
                chosen = np.flatnonzero(grow)[room == length]
                bases[chosen] = self._allocate(length, len(chosen))
                self._release(rows[chosen])
                self.limit[rows[chosen]] = bases[chosen] + length
        self._move(rows, held, bases)

    def _move(self, rows: Integers, held: Integers, bases: Integers) -> None:
        """Put the readings of series at the beginning of the slabs that they have from now on."""
        source, target = spans(self.first[rows], held), spans(bases, held)
        for pool in self._pools():
            pool[target] = pool[source]
        self.base[rows] = self.first[rows] = bases
        self.end[rows] = bases + held

    def _allocate(self, length: int, count: int) -> Integers:
        free = self._free.get(length, [])
        reused = [free.pop() for _ in range(min(count, len(free)))]
        self.unused -= length * len(reused)
        missing = count - len(reused)
        fresh = self.used + length * np.arange(missing)
        self.used += length * missing
        if self.used > len(self.times_ms):
            for pool in self._pools():  # in place: the kernel moves pages, nobody copies them; no view of a pool outlives its use
                pool.resize(max(self.used, len(pool) * 5 // 4), refcheck=False)
        return np.concatenate([np.array(reused, np.int64), fresh])

    def _release(self, rows: Integers) -> None:
        for base, limit in zip(self.base[rows].tolist(), self.limit[rows].tolist(), strict=True):
            if limit > base:
                self._free.setdefault(limit - base, []).append(base)
                self.unused += limit - base

    def _pack(self) -> None:
        """Put all slabs side by side: series that grew together have left more room behind than they use."""
        rows = np.flatnonzero(self.limit[: self.length] > self.base[: self.length])
        rooms, held = (self.limit - self.base)[rows], (self.end - self.first)[rows]
        bases = np.cumsum(rooms) - rooms
        taken, target = spans(self.first[rows], held), spans(bases, held)
        self.used, self.unused, self._free = int(rooms.sum()), 0, {}
        self.times_ms, self.values, self.positions = (_scattered(pool[taken], target, self.used) for pool in self._pools())
        self.base[rows] = self.first[rows] = bases
        self.end[rows], self.limit[rows] = bases + held, bases + rooms


def _scattered(values: NDArray[Any], at: Integers, length: int) -> NDArray[Any]:
    """Return an array of a length with values at some places."""
    array = np.zeros(length, values.dtype)
    array[at] = values
    return array
