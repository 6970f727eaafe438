"""Columns that grow: numpy arrays with room to spare, one row per series or signal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FIRST_ROOM = 64
NEVER = -(2**62)
"""A time before every time, in milliseconds; far enough from the ends of int64 that sums with it stay inside."""

FOREVER = 2**62


def begins(rows: Integers) -> Flags:
    """Return which entries of a sorted array differ from the one before."""
    changed = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=changed[1:])
    return changed


def lengths(starts: Integers, end: int) -> Integers:
    """Return the length of each run, given where runs start and where the last one ends."""
    result = np.empty(len(starts), np.int64)
    np.subtract(starts[1:], starts[:-1], out=result[:-1])
    result[-1:] = end - starts[-1:]
    return result


class Columns:
    """Named columns of one length. Set `spec` as name -> (dtype, fill); rows appear by `extend` and never go away."""

    spec: dict[str, tuple[Any, Any]] = {}
    derived: tuple[str, ...] = ()  # columns that are not dumped: they follow from the rest

    def __init__(self) -> None:
        self.length = 0
        for name, (dtype, fill) in self.spec.items():
            setattr(self, name, np.full(FIRST_ROOM, fill, dtype))

    def extend(self, length: int) -> None:
        """Make the columns at least `length` rows long, the new ones filled."""
        if length <= self.length:
            return
        room = len(getattr(self, next(iter(self.spec))))
        if length > room:
            more = max(length, 2 * room) - room
            for name, (dtype, fill) in self.spec.items():
                setattr(self, name, np.concatenate([getattr(self, name), np.full(more, fill, dtype)]))
        self.length = length

    def size_bytes(self) -> int:
        """Return the memory that the columns take, their spare room left out."""
        return self.length * sum(int(np.dtype(dtype).itemsize) for dtype, _ in self.spec.values())

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return copies of the columns, without their spare room; those that are as they were at first, and those derived, are left out."""
        held = {name: getattr(self, name)[: self.length] for name in self.spec if name not in self.derived}
        return {name: column.copy() for name, column in held.items() if (column != self.spec[name][1]).any()}

    def restore(self, dumped: dict[str, NDArray[Any]]) -> None:
        """Take what `dump` returned; a column that is not there keeps its fill."""
        self.extend(max((len(column) for column in dumped.values()), default=0))
        for name, column in dumped.items():
            if name in self.spec:
                getattr(self, name)[: len(column)] = column
