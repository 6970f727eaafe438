"""Silence, on the journal's clock: what was last received when, and which absences have been told.

A source is a metric of a subject, or everything of one device. Nothing here looks at event time: a device with a wrong clock is not
silent while its readings are taken; one whose readings are all refused, as those of a clock a day ahead, is. Silence is proved only while
somebody listens: `listen` starts every wait anew.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from rules.columns import FOREVER, NEVER, Columns, Flags, Integers
from rules.condition import WHOLE_DEVICE, Silence
from rules.metrics import Subject
from rules.rule import Rule

NO_SOURCE = -1


class Source(NamedTuple):
    """What may fall silent. `device` is empty for a metric: any device of the subject may bring it."""

    subject: Subject
    device: str
    metric: str  # WHOLE_DEVICE: everything from the device


class Fallen(NamedTuple):
    """A source fell silent, or came back."""

    rule: Rule
    source: Source
    since_ms: int  # journal time of the last receipt before
    back: bool
    mistaken: bool = False  # something had come in time, by way of another partition
    revision: int = 2  # of what is told of it when it is back: above 2 where it was told before


class Orphan(NamedTuple):
    """A told absence whose rule or source is no longer there."""

    rule_id: str
    source: Source
    since_ms: int


class SilenceTable(Columns):
    """One row for each rule on each source."""

    spec = {
        "source": (np.int64, NO_SOURCE),
        "duration_ms": (np.int64, 0),
        "told": (np.bool_, False),  # the absence was told and has not ended
        "since_ms": (np.int64, NEVER),  # since when the absence was that was told last
        "ended_ms": (np.int64, NEVER),  # until when, where it is over
        "revision": (np.int64, 0),  # under which its end was told last
        "early": (np.bool_, False),  # the absence that was told last was so at the broker's word, before its time
    }
    source: Integers
    duration_ms: Integers
    told: Flags
    since_ms: Integers
    ended_ms: Integers
    revision: Integers
    early: Flags

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Rule] = []
        self.sources: dict[Source, int] = {}
        self.names: list[Source] = []
        self.last = _Receipts()
        self.next_due_ms = FOREVER
        self._text: list[tuple[str, str, tuple[tuple[str, str], ...], str, str]] = []

    def add(self, subject: Subject, device: str, metric: str, rules: tuple[Rule, ...], now_ms: int) -> int:
        """Return the row of a source in `last`, waiting from now if it is new; NO_SOURCE where none of the metric's `rules` applies."""
        source = Source(subject, device if metric == WHOLE_DEVICE else "", metric)
        known = self.sources.get(source)
        if known is not None:
            return known
        chosen = [rule for rule in rules if rule.applies_to(subject.kind, dict(subject.tags))]
        if not chosen:
            return NO_SOURCE
        row = len(self.names)
        self.sources[source] = row
        self.names.append(source)
        self.last.extend(row + 1)
        self.last.received_ms[row] = now_ms
        for rule in chosen:
            assert isinstance(rule.when, Silence)
            at = self.length
            self.rules.append(rule)
            self.extend(at + 1)
            self.source[at], self.duration_ms[at] = row, rule.when.duration_ms
            self.next_due_ms = min(self.next_due_ms, now_ms + rule.when.duration_ms)
        return row

    def heard(self, sources: Integers, now_ms: int, *, home: bool = True) -> list[Fallen]:
        """Note that something was received; returns the absences that end with it. What is not from `home` may come behind the clock."""
        sources = sources[sources >= 0]
        if not len(sources):
            return []
        ended: list[Fallen] = []
        if self.last.told[sources].any():
            back = np.unique(sources[self.last.told[sources]])
            for at in np.flatnonzero(self.told[: self.length] & np.isin(self.source[: self.length], back)).tolist():
                since_ms = int(self.since_ms[at])
                if now_ms < since_ms or (now_ms == since_ms and not home):
                    continue
                mistaken = not home and self._came_in_time(at, now_ms)
                ended.append(Fallen(self.rules[at], self.names[self.source[at]], since_ms, back=True, mistaken=mistaken))
                self.told[at], self.ended_ms[at], self.revision[at] = False, NEVER if mistaken else now_ms, 2
                self.last.received_ms[self.source[at]] = since_ms + 1  # the next absence is another one, whatever the clock says
                self.next_due_ms = min(self.next_due_ms, now_ms + int(self.duration_ms[at]))
            self.last.told[back] = False
            self.last.told[self.source[: self.length][self.told[: self.length]]] = True
        if not home:
            ended += self._over_before(sources, now_ms)
        self.last.received_ms[sources] = np.maximum(self.last.received_ms[sources], now_ms)
        self.last.gone[sources] = False
        return ended

    def _over_before(self, sources: Integers, now_ms: int) -> list[Fallen]:
        """Return the absences that were told as over later than they were: something had come before, by way of another partition."""
        rows = slice(0, self.length)
        over = np.isin(self.source[rows], sources) & (self.since_ms[rows] < now_ms) & (now_ms < self.ended_ms[rows])
        found: list[Fallen] = []
        for at in np.flatnonzero(over & ~self.told[rows]).tolist():
            since_ms = int(self.since_ms[at])
            mistaken = self._came_in_time(at, now_ms)
            self.ended_ms[at] = NEVER if mistaken else now_ms
            self.revision[at] += 1
            found.append(Fallen(self.rules[at], self.names[self.source[at]], since_ms, True, mistaken, int(self.revision[at])))
        return found

    def _came_in_time(self, at: int, now_ms: int) -> bool:
        """Return whether what was received shows that there was no absence."""
        return not self.early[at] and now_ms < int(self.since_ms[at] + self.duration_ms[at])

    def absence(self, source: int) -> Fallen | None:
        """Return the absence of a source that is told and has not ended."""
        if source == NO_SOURCE or not self.last.told[source]:
            return None
        at = int(np.flatnonzero(self.told[: self.length] & (self.source[: self.length] == source))[0])
        return Fallen(self.rules[at], self.names[source], int(self.since_ms[at]), back=False)

    def release(self, subject: str, device: str, *, metrics: bool) -> list[Fallen]:
        """Wait no longer for a device, nor, with `metrics`, for any metric of its subject; returns the absences that end with it."""
        ended: list[Fallen] = []
        for source, row in self.sources.items():
            if source.subject.name != subject or not (source.device == device or (metrics and not source.device)):
                continue
            for at in np.flatnonzero(self.source[: self.length] == row).tolist():
                if self.told[at]:
                    ended.append(Fallen(self.rules[at], source, int(self.since_ms[at]), back=True))
                    self.told[at] = False
            self.last.told[row] = self.last.gone[row] = False
            self.last.received_ms[row] = FOREVER // 2
        return ended

    def expect(self, subject: str, device: str, now_ms: int) -> None:
        """Wait again for a device that was released, and for its subject's metrics."""
        for source, row in self.sources.items():
            if source.subject.name == subject and source.device in {device, ""} and self.last.received_ms[row] > now_ms:
                self.last.received_ms[row] = now_ms
                self.next_due_ms = NEVER

    def went_offline(self, source: int, now_ms: int) -> None:
        """Take a broker's word (a last will) that a device is gone: its absence is due at once."""
        if source != NO_SOURCE:
            self.last.received_ms[source] = min(int(self.last.received_ms[source]), now_ms)
            self.last.gone[source] = True
            self.next_due_ms = NEVER

    def due(self, now_ms: int) -> list[Fallen]:
        """Return the absences that have lasted long enough, oldest first, each once."""
        if now_ms < self.next_due_ms:
            return []
        source = self.source[: self.length]
        since = self.last.received_ms[source]
        due = np.where(self.last.gone[source], since, since + self.duration_ms[: self.length])
        due[self.told[: self.length]] = FOREVER
        fell = np.flatnonzero(due <= now_ms)
        fell = fell[np.lexsort((fell, due[fell]))]
        fallen = [Fallen(self.rules[at], self.names[source[at]], int(since[at]), back=False) for at in fell.tolist()]
        self.told[fell] = True
        self.since_ms[fell], self.ended_ms[fell] = since[fell], NEVER
        self.early[fell] = self.last.gone[source[fell]]
        self.last.told[source[fell]] = True
        self.last.gone[source[fell]] = False
        due[fell] = FOREVER
        self.next_due_ms = int(due.min()) if len(due) else FOREVER
        return fallen

    def listen(self, now_ms: int) -> None:
        """Start every wait anew: until now nobody listened, so nothing was proved silent."""
        waiting = np.ones(len(self.names), np.bool_)
        waiting[self.source[: self.length][self.told[: self.length]]] = False
        self.last.received_ms[: len(self.names)][waiting] = now_ms
        self.next_due_ms = min(self.next_due_ms, now_ms)

    def open_alerts(self) -> int:
        return int(self.told[: self.length].sum())

    def dump_told(self) -> dict[str, Any]:
        """Return the state as plain values and arrays."""
        if len(self._text) != len(self.names):
            self._text = [(*source.subject, source.device, source.metric) for source in self.names]
        return {
            "sources": self._text,
            "received_ms": self.last.received_ms[: len(self.names)].copy(),
            "gone": self.last.gone[: len(self.names)].copy(),
            "rules": [rule.id for rule in self.rules],
            "source": self.source[: self.length].copy(),
            "told": self.told[: self.length].copy(),
            "since_ms": self.since_ms[: self.length].copy(),
            "ended_ms": self.ended_ms[: self.length].copy(),
            "revision": self.revision[: self.length].copy(),
            "early": self.early[: self.length].copy(),
        }

    def keep_told(self, dumped: dict[str, Any], rules: Collection[str]) -> list[Orphan]:
        """Take over what `dump` returned, of the sources that are still watched and of the rules named.

        Returns the told absences that nobody watches any more, as ended.
        """
        sources = [Source(Subject(kind, name, tags), device, metric) for kind, name, tags, device, metric in dumped["sources"]]
        untagged = {
            source._replace(subject=source.subject._replace(tags=())): row for source, row in self.sources.items()
        }  # tags may change
        rows = [untagged.get(source._replace(subject=source.subject._replace(tags=())), NO_SOURCE) for source in sources]
        for row, received_ms, gone in zip(rows, dumped["received_ms"].tolist(), dumped["gone"].tolist(), strict=True):
            if row != NO_SOURCE:
                self.last.received_ms[row], self.last.gone[row] = received_ms, gone
        at_of = {(self.rules[at].id, int(self.source[at])): at for at in range(self.length)}
        orphans = []
        over = dumped.get("ended_ms", np.full(len(dumped["told"]), NEVER))
        for at in np.flatnonzero(dumped["told"] | (over != NEVER)).tolist():
            rule_id, index, since_ms = dumped["rules"][at], int(dumped["source"][at]), int(dumped["since_ms"][at])
            now_at = at_of.get((rule_id, rows[index]))
            if now_at is not None and rule_id in rules:
                self.told[now_at], self.since_ms[now_at], self.ended_ms[now_at] = dumped["told"][at], since_ms, over[at]
                self.revision[now_at] = dumped["revision"][at] if "revision" in dumped else 2
                self.early[now_at] = "early" in dumped and dumped["early"][at]
                self.last.told[self.source[now_at]] |= dumped["told"][at]
            elif dumped["told"][at]:
                orphans.append(Orphan(rule_id, sources[index], since_ms))
        self.next_due_ms = NEVER  # looked at anew at the next occasion
        return orphans


class _Receipts(Columns):
    """When each source was last heard."""

    spec = {
        "received_ms": (np.int64, NEVER),
        "told": (np.bool_, False),  # at least one rule has told its absence
        "gone": (np.bool_, False),  # the broker says that it is offline, and no rule has told it yet
    }
    received_ms: Integers
    told: Flags
    gone: Flags
