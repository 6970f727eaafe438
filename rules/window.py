"""Windows, as a value: how the readings of a series are cut. Event time, aligned to the epoch, `[start, end)`."""

from typing import NamedTuple

from documents import format_duration

PlainWindow = int | list[int]
"""A window in a journalled record, milliseconds: a tumbling one's size; [size, every] of a sliding one; [0, gap] of a session."""


class Window(NamedTuple):
    """How a series is cut: windows of a size that begin every so often, aligned to the epoch, or sessions apart by at least a gap."""

    size_ms: int
    every_ms: int  # the size itself: tumbling
    gap_ms: int  # of sessions, whose size and every are 0

    @property
    def reach_ms(self) -> int:
        return self.size_ms or self.gap_ms

    @property
    def step_ms(self) -> int:
        """How far apart windows lie, at least."""
        return self.every_ms or self.gap_ms

    def __str__(self) -> str:
        if self.gap_ms:
            return f"session {format_duration(self.gap_ms)}"
        return f"{format_duration(self.size_ms)}, {format_duration(self.every_ms)}"


def window(plain: PlainWindow) -> Window:
    """Return the window that a record means."""
    if isinstance(plain, int):
        return Window(plain, plain, 0)
    first, second = plain
    return Window(first, second, 0) if first else Window(0, 0, second)
