"""Devices that misbehave: one technical alert for as long as they do, however many readings it concerns."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from rules.columns import NEVER
from telemetry.readings import SeriesKey
from telemetry.reasons import Reason

OVER_AFTER_MS = 10 * 60_000
"""An offence is over when it was not repeated for so long, on the journal's clock."""

RULES = {
    Reason.FUTURE_TIME: ("device-clock-ahead", "{subject}: the clock of a device is ahead, its readings are not taken since {started_at}"),
    Reason.TOO_LATE: ("device-too-late", "{subject}: readings of a device come too late to be judged since {started_at}"),
    Reason.FLOOD: ("device-flood", "{subject}: a device sends far more readings than it should since {started_at}, most are left out"),
}


class Offence(NamedTuple):
    """Durable; grows at its end only."""

    rule: str
    message: str
    key: SeriesKey  # of the first reading that it concerned
    tags: tuple[tuple[str, str], ...]
    since_ms: int  # journal time
    last_ms: int
    position: int  # in the journal, of the message that it was first noticed in
    ended_ms: int | None = None
    heard_ms: int = NEVER  # when a reading of the device was taken last

    def is_over(self, now_ms: int) -> bool:
        """Return whether it was not repeated for long enough; of a clock, nothing is known until a reading is taken."""
        return self.last_ms + OVER_AFTER_MS <= now_ms and (self.heard_ms > self.last_ms or self.rule == RULES[Reason.FLOOD][0])


class Offences:
    """The offences that go on, by rule, subject and device."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str, str], Offence] = {}

    def note(self, reason: Reason, key: SeriesKey, tags: tuple[tuple[str, str], ...], now_ms: int, position: int) -> Offence | None:
        """Note that a reading was refused; returns the offence where it is a new one."""
        if reason not in RULES:
            return None
        rule, message = RULES[reason]
        name = rule, key.subject, key.device
        known = self.open.get(name)
        if known is not None:
            self.open[name] = known._replace(last_ms=max(known.last_ms, now_ms))
            return None
        offence = self.open[name] = Offence(rule, message, key, tags, now_ms, now_ms, position)
        return offence

    def over(self, now_ms: int) -> list[Offence]:
        """Return the offences that have ended."""
        ended = [offence._replace(ended_ms=now_ms) for offence in self.open.values() if offence.is_over(now_ms)]
        for offence in ended:
            del self.open[offence.rule, offence.key.subject, offence.key.device]
        return ended

    def heard(self, devices: Iterable[str], now_ms: int) -> None:
        """Note that readings of devices were taken."""
        devices = set(devices)
        for name, offence in self.open.items():
            if offence.key.device in devices:
                self.open[name] = offence._replace(heard_ms=now_ms)

    def dump(self) -> list[tuple[Any, ...]]:
        """Return the offences as plain values."""
        return [tuple(offence) for offence in self.open.values()]

    def restore(self, dumped: list[tuple[Any, ...]]) -> None:
        """Take what `dump` returned."""
        for fields in dumped:
            offence = Offence(*fields)
            offence = offence._replace(key=SeriesKey(*offence.key))
            self.open[offence.rule, offence.key.subject, offence.key.device] = offence
