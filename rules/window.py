"""Windows, as a value: how the readings of a series are cut. Event time, aligned to the epoch, `[start, end)`."""

from typing import Any, NamedTuple

from documents import format_duration, parse_duration

SHORTEST_MS = 1000
AGGREGATES = ("count", "sum", "mean", "min", "max", "stddev", "first", "last", "median", "p95", "range", "slope")
"""What the readings of a window, or of a trailing span, can be summarised as (`rules/aggregates.py`)."""

TRAILING = (*AGGREGATES, "delta", "rate", "mkt")
"""What the readings of a trailing span can be summarised as: what changes with time as well."""

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


def read_window(text: Any) -> PlainWindow:
    """Return the window that people write: `10 s`, `30 s every 10 s`, `session 5 min`. Raises ValueError with a sentence."""
    if not isinstance(text, str):
        return _checked(text if isinstance(text, list) else parse_duration(text))
    if text.strip().startswith("session "):
        return _checked([0, parse_duration(text.strip().removeprefix("session "))])
    size, separator, every = text.partition(" every ")
    return _checked([parse_duration(size), parse_duration(every)] if separator else parse_duration(size))


def write_window(plain: PlainWindow) -> str:
    """Return the window as people write it."""
    form = window(plain)
    if form.gap_ms:
        return f"session {format_duration(form.gap_ms)}"
    size = format_duration(form.size_ms)
    return size if form.every_ms == form.size_ms else f"{size} every {format_duration(form.every_ms)}"


def _checked(plain: PlainWindow) -> PlainWindow:
    form = window(plain)
    if form.gap_ms < SHORTEST_MS and not SHORTEST_MS <= form.every_ms <= form.size_ms:
        msg = "a window is one second at least, and begins again within its size: `10 s`, `30 s every 10 s`, `session 5 min`"
        raise ValueError(msg)
    return plain


def window(plain: PlainWindow) -> Window:
    """Return the window that a record means."""
    if isinstance(plain, int):
        return Window(plain, plain, 0)
    first, second = plain
    return Window(first, second, 0) if first else Window(0, 0, second)
