"""When a rule judges: at some hours of some days, and on some legs of a shipment. By event time, so that late readings are judged alike."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from rules.registry import ALWAYS_FROM_MS, ALWAYS_UNTIL_MS
from telemetry.clock import parse_ms

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Leg = Literal["at origin", "in transit", "at destination"]
DAYS: tuple[Day, ...] = get_args(Day)
LEGS: tuple[Leg, ...] = get_args(Leg)
DEPARTED_AT, ARRIVED_AT = "departed_at", "arrived_at"
"""The tags of a shipment that say when its legs begin: instants like `2026-01-31T08:00:00Z`."""


class Hours(NamedTuple):
    """A daily time on some days, `[from, until)`, by the clock of a time zone. One over midnight belongs to the day on which it begins."""

    days: tuple[int, ...]  # 0 is Monday
    from_min: int  # minutes of the day; equal to `until_min` for the whole day
    until_min: int
    timezone: str

    def at(self, time_ms: int) -> bool:
        """Return whether an instant is in it."""
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone(self.timezone))
        minute = local.hour * 60 + local.minute
        if self.from_min < self.until_min:
            return local.weekday() in self.days and self.from_min <= minute < self.until_min
        if minute >= self.from_min:
            return local.weekday() in self.days
        return minute < self.until_min and (local - timedelta(days=1)).weekday() in self.days


class Active(NamedTuple):
    """When a rule judges one subject: in all of what is given."""

    hours: Hours | None
    spans_ms: tuple[tuple[int, int], ...]  # `[from, until)`, any of them

    def at(self, time_ms: int) -> bool:
        """Return whether the rule judges what was measured at an instant."""
        return (self.hours is None or self.hours.at(time_ms)) and any(since <= time_ms < until for since, until in self.spans_ms)


class Schedule(NamedTuple):
    """When a rule judges, as it is written."""

    hours: Hours | None = None
    legs: tuple[Leg, ...] = ()  # empty: all

    def of_subject(self, tags: Mapping[str, str]) -> Active:
        """Return when it judges a subject."""
        spans = (
            tuple(span for name, span in legs_of(tags).items() if name in self.legs) if self.legs else ((ALWAYS_FROM_MS, ALWAYS_UNTIL_MS),)
        )
        return Active(self.hours, spans)

    def __str__(self) -> str:
        parts = [" or ".join(self.legs)] if self.legs else []
        if self.hours is not None:
            days = ", ".join(DAYS[day] for day in self.hours.days)
            clock = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in self.hours[1:3])
            parts.append(f"{days} {clock} {self.hours.timezone}")
        return "; ".join(parts) or "always"


def legs_of(tags: Mapping[str, str]) -> dict[Leg, tuple[int, int]]:
    """Return when a shipment is on which leg, `[from, until)`. Where its tags do not say, every leg is possible at all times."""
    departed_ms, arrived_ms = (_instant(tags.get(name)) for name in (DEPARTED_AT, ARRIVED_AT))
    if departed_ms is None and arrived_ms is None:
        return dict.fromkeys(LEGS, (ALWAYS_FROM_MS, ALWAYS_UNTIL_MS))
    until_ms = ALWAYS_UNTIL_MS if arrived_ms is None else arrived_ms
    since_ms = ALWAYS_FROM_MS if departed_ms is None else departed_ms
    return {"at origin": (ALWAYS_FROM_MS, since_ms), "in transit": (since_ms, until_ms), "at destination": (until_ms, ALWAYS_UNTIL_MS)}


def minutes(text: str) -> tuple[int, int]:
    """Return the minutes of the day of `22:00-06:00`. Raises ValueError where it is no such time."""
    parts = text.split("-")
    try:
        found = [datetime.strptime(part.strip(), "%H:%M").replace(tzinfo=UTC) for part in parts]
    except ValueError:
        found = []
    if len(found) != 2:
        msg = "must be two times of the day in quotes, like '22:00-06:00'"
        raise ValueError(msg)
    begins, ends = (moment.hour * 60 + moment.minute for moment in found)
    return begins, ends


@cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone. Raises ValueError or KeyError where there is none of the name."""
    return ZoneInfo(name)


def _instant(text: str | None) -> int | None:
    try:
        return None if text is None else parse_ms(text)
    except ValueError:
        return None
