"""The only place that reads the wall clock. Whatever decides takes its time as an argument instead."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns milliseconds since the Unix epoch, UTC."""


def utc_now_ms() -> int:
    """Return the wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def utc_now() -> datetime:
    """Return the wall clock, aware, for libraries that ask for it so."""
    return datetime.now(UTC)


def format_ms(time_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC with milliseconds, `2026-01-31T08:00:00.000Z`; years 1 to 9999."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def parse_ms(text: str) -> int:
    """Return the milliseconds of an RFC 3339 instant. Raises ValueError when it is not one or names no zone."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        msg = f"{text!r} names no time zone: write it with Z or an offset"
        raise ValueError(msg)
    return round(instant.timestamp() * 1000)
