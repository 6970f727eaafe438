"""The ways in which devices write a time, each to milliseconds since the epoch. What is no time raises Unreadable.

A naive local time needs the zone that its mapping declares. Of the hour that comes twice in autumn the first is meant; a time in the hour
that spring leaves out is read with the offset that held before it (PEP 495, fold 0).
"""

import math
import re
from datetime import UTC, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from decoders.packets import EARLIEST_MS, LATEST_MS, Unreadable, event_time
from telemetry.reasons import Reason


class TimeForm(StrEnum):
    """How a time is written."""

    RFC3339 = "rfc3339"  # with a zone
    LOCAL = "local"  # date and time without one
    S = "s"  # since the epoch
    MS = "ms"
    US = "us"
    NS = "ns"


PER_MS = {TimeForm.S: 0.001, TimeForm.MS: 1, TimeForm.US: 1000, TimeForm.NS: 1_000_000}

_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_LONGEST = 64


def read_time(value: object, form: TimeForm, zone: ZoneInfo | None = None, layout: str | None = None) -> int:
    """Return the milliseconds since the epoch that a value means. Raises Unreadable (`impossible_time`, `wrong_type`)."""
    if form in PER_MS:
        return _epoch(value, form)
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise Unreadable(Reason.WRONG_TYPE, "the time is no text")
    if form is TimeForm.RFC3339:
        return event_time(value.strip())
    return _local(value.strip(), zone, layout)


def _epoch(value: object, form: TimeForm) -> int:
    text = value.strip() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        value = float(text) if "." in text else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(Reason.WRONG_TYPE, f"the time is no number of {form} since 1970")
    per_ms = PER_MS[form]
    if isinstance(value, int) and per_ms >= 1:
        return event_time(value // int(per_ms))
    try:
        number = float(value) / per_ms
    except OverflowError:
        number = math.inf
    if not EARLIEST_MS <= number <= LATEST_MS:
        raise Unreadable(Reason.IMPOSSIBLE_TIME, f"the time is not between the years 2000 and 9999 in {form} since 1970")
    return round(number)


def _local(text: str, zone: ZoneInfo | None, layout: str | None) -> int:
    try:
        instant = datetime.strptime(text, layout) if layout else datetime.fromisoformat(text)  # noqa: DTZ007 - the zone follows
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone or UTC)
        return event_time(round(instant.timestamp() * 1000))
    except Unreadable:
        raise
    except (ValueError, OverflowError, OSError):
        wanted = f"{layout!r}" if layout else "date and time, as 2026-01-31 08:00:00"
        raise Unreadable(Reason.IMPOSSIBLE_TIME, f"the time is not written as {wanted}, or does not exist") from None
