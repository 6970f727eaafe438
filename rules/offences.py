"""Devices that misbehave: one technical alert for as long as they do, however many messages it concerns."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rules.columns import NEVER
from rules.registry import Registry
from rules.reserved import CLOCK, FLOOD, LATE, MALFORMED, MISMATCH, RESERVED, SCHEMA, UNKNOWN
from telemetry.readings import Decoded, SeriesKey
from telemetry.reasons import Reason

OVER_AFTER_MS = 10 * 60_000
"""An offence is over when it was not repeated for so long, on the journal's clock."""

BURST, BURST_MS = 5, 60_000
"""So many messages of a device in a minute that cannot be read are an offence; fewer happen on any radio link."""

MAX_COUNTED = 100_000  # devices whose messages could not be read, in one minute

MAX_STRANGERS = 20
"""Offences of one kind by devices that nobody registered: whoever invents names shall not raise an alert for each."""

OF_READINGS = {Reason.FUTURE_TIME: CLOCK, Reason.TOO_LATE: LATE, Reason.FLOOD: FLOOD}
OF_MESSAGES = {
    Reason.DEVICE_MISMATCH: MISMATCH,
    Reason.UNKNOWN_DEVICE: UNKNOWN,
    Reason.FLOOD: FLOOD,
    Reason.UNKNOWN_FIELD: SCHEMA,
    Reason.UNKNOWN_METRIC: SCHEMA,
    Reason.UNKNOWN_UNIT: SCHEMA,
    Reason.UNIT_MISMATCH: SCHEMA,
}
UNREADABLE = frozenset({Reason.MALFORMED, Reason.WRONG_TYPE, Reason.TOO_LARGE, Reason.UNSUPPORTED_VERSION})


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
        return self.last_ms + OVER_AFTER_MS <= now_ms and (self.heard_ms > self.last_ms or self.rule not in {CLOCK, LATE})


class Noticed(NamedTuple):
    """What one message gave cause for."""

    rule: str
    message: int  # index in the journal row
    kind: str
    device: str
    metric: str
    detail: str = ""


class Offences:
    """The offences that go on, by rule, subject and device."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str, str], Offence] = {}
        self._burst_ms = 0
        self._bursts: dict[str, int] = {}  # device -> messages that could not be read in the minute that runs

    def note(self, reason: Reason, key: SeriesKey, tags: tuple[tuple[str, str], ...], now_ms: int, position: int) -> Offence | None:
        """Note that a reading was refused; returns the offence where it is a new one."""
        rule = OF_READINGS.get(reason)
        return None if rule is None else self._note(rule, RESERVED[rule], key, tags, now_ms, position)

    def of_messages(self, decoded: Decoded, registry: Registry, now_ms: int, position: int) -> list[Offence]:
        """Note what whole messages of a row give cause for; returns the offences that are new. `position` is the first message's."""
        new = []
        for noticed in self._noticed(decoded, now_ms):
            assignment = registry.assignment(noticed.kind, noticed.device, now_ms)
            key = SeriesKey(assignment.kind, assignment.subject, noticed.device, noticed.metric)
            if noticed.device not in registry.assigned and not self._has_room(noticed.rule, key):
                continue
            text = RESERVED[noticed.rule] + (f": {_plain(noticed.detail)}" if noticed.detail else "")
            offence = self._note(noticed.rule, text, key, assignment.tags, now_ms, position + noticed.message)
            new += [] if offence is None else [offence]
        return new

    def _noticed(self, decoded: Decoded, now_ms: int) -> Iterator[Noticed]:
        for change in decoded.changes:
            yield Noticed(SCHEMA, change.message, change.kind, change.device, "", change.detail)
        for shed in decoded.shed:
            yield Noticed(OF_MESSAGES[shed.reason], shed.message, shed.kind, shed.device, "")
        for refusal in decoded.refusals:
            if not refusal.device:
                continue
            rule = OF_MESSAGES.get(refusal.reason)
            if rule is None and refusal.reason is Reason.WRONG_TYPE and refusal.metric:
                rule = SCHEMA
            if rule is None and refusal.reason in UNREADABLE and not refusal.metric and self._is_burst(refusal.device, now_ms):
                rule = MALFORMED
            if rule is not None:
                detail = refusal.detail if rule == SCHEMA else ""
                yield Noticed(rule, refusal.message, refusal.kind, refusal.device, refusal.metric, detail)

    def _is_burst(self, device: str, now_ms: int) -> bool:
        if now_ms // BURST_MS != self._burst_ms:
            self._burst_ms, self._bursts = now_ms // BURST_MS, {}
        if device not in self._bursts and len(self._bursts) >= MAX_COUNTED:
            return False
        self._bursts[device] = self._bursts.get(device, 0) + 1
        return self._bursts[device] >= BURST

    def _has_room(self, rule: str, key: SeriesKey) -> bool:
        return (rule, key.subject, key.device) in self.open or sum(name[0] == rule for name in self.open) < MAX_STRANGERS

    def _note(
        self, rule: str, message: str, key: SeriesKey, tags: tuple[tuple[str, str], ...], now_ms: int, position: int
    ) -> Offence | None:
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

    def dump_bursts(self) -> tuple[int, dict[str, int]]:
        """Return what was counted in the minute that runs."""
        return self._burst_ms, dict(self._bursts)

    def restore(self, dumped: list[tuple[Any, ...]], bursts: tuple[int, dict[str, int]] | None = None) -> None:
        """Take what `dump` and `dump_bursts` returned."""
        for fields in dumped:
            offence = Offence(*fields)
            offence = offence._replace(key=SeriesKey(*offence.key))
            self.open[offence.rule, offence.key.subject, offence.key.device] = offence
        if bursts is not None:
            self._burst_ms, self._bursts = bursts[0], dict(bursts[1])


def _plain(text: str) -> str:
    """Return a text that stands for itself in a message's template, on one line, and can be written anywhere."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable.replace("{", "{{").replace("}", "}}")
