"""When to try again: exponential backoff with full jitter, never sooner than the other side asked for."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import NamedTuple

LONGEST_RETRY_AFTER_S = 3600.0
"""A server may ask for more patience than that; an alert must not wait for ever because of one header."""


class Backoff(NamedTuple):
    """Waits of up to `base_s`, twice that, four times that, never above `cap_s`, each drawn evenly from zero on (full jitter)."""

    base_s: float = 0.5
    cap_s: float = 60.0

    def delay_s(self, attempt: int, retry_after_s: float | None, draw: Callable[[], float]) -> float:
        """Return the seconds to wait after the failed attempt number `attempt`, counted from 1. `draw` returns a number in [0, 1)."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 30))
        return max(draw() * ceiling, min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))


def retry_after_s(header: str | None, now_ms: int) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either of its forms; None where it says nothing usable."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        instant = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, instant.timestamp() - now_ms / 1000)
