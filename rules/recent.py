"""The latest readings of a shard, to tell a duplicate from a late reading.

A broker hands over again what it does not know to be acknowledged, after the newer readings of the same devices were already seen; so a
reading that is not newer than its series' last one is looked up here. Bounded: `CAPACITY` readings, far more than may be in flight at once.
"""

import numpy as np
from numpy.typing import NDArray

from rules.columns import Floats, Integers

CAPACITY = 32_768


class RecentReadings:
    """A ring of (series row, time, value)."""

    def __init__(self) -> None:
        self.rows = np.full(CAPACITY, -1, np.int32)
        self.times_ms = np.zeros(CAPACITY, np.int64)
        self.values = np.zeros(CAPACITY, np.float64)
        self.at = 0

    def add(self, rows: Integers, times_ms: Integers, values: Floats) -> None:
        """Remember readings, forgetting the oldest."""
        if len(rows) > CAPACITY:
            rows, times_ms, values = rows[-CAPACITY:], times_ms[-CAPACITY:], values[-CAPACITY:]
        first = min(len(rows), CAPACITY - self.at)
        for ring, new in ((self.rows, rows), (self.times_ms, times_ms), (self.values, values)):
            ring[self.at : self.at + first] = new[:first]
            ring[: len(new) - first] = new[first:]
        self.at = (self.at + len(rows)) % CAPACITY

    def holds(self, rows: Integers, times_ms: Integers, values: Floats) -> NDArray[np.bool_]:
        """Return for each reading whether the very same one is remembered."""
        candidates = np.flatnonzero((self.times_ms >= times_ms.min()) & (self.times_ms <= times_ms.max()) & (self.rows >= 0))
        remembered = set(
            zip(self.rows[candidates].tolist(), self.times_ms[candidates].tolist(), self.values[candidates].tolist(), strict=True)
        )
        asked = zip(rows.tolist(), times_ms.tolist(), values.tolist(), strict=True)
        return np.fromiter((reading in remembered for reading in asked), np.bool_, len(rows))

    def dump(self) -> tuple[NDArray[np.int32], Integers, Floats, int]:
        used = CAPACITY if self.rows[-1] >= 0 else self.at
        return self.rows[:used].copy(), self.times_ms[:used].copy(), self.values[:used].copy(), self.at

    def restore(self, dumped: tuple[NDArray[np.int32], Integers, Floats, int]) -> None:
        rows, times_ms, values, self.at = dumped
        self.rows[: len(rows)], self.times_ms[: len(rows)], self.values[: len(rows)] = rows, times_ms, values
