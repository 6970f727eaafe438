"""What was told since the last commit, compared with what is decided after a crash. Its law: told once, and nothing false stays told.

Theory of operation. Alerts go into the outbox at once, epochs are committed later; so a crash leaves alerts in the outbox that no
committed state knows of, and evaluation decides them again. Where all readings of a subject lie in one journal partition that gives the
very same events in the same order, and each is skipped. Where they come from several partitions, how the partitions are interleaved is
not the same twice; the episodes become the same in the end, the revisions on the way there need not. Then

- an event that says something else under a revision that was told already is told as the revision after the last one told, and so is
  everything that follows of this alert (`shifts`);
- an alert that evaluation does not decide again is retracted, once evaluation has passed all that decided it;
- an alert of which only a part is decided again is told once more as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from journal.rows import Row
from telemetry import alert
from telemetry.alert import AlertEvent, Phase

MAX_SHIFTS = 10_000  # alerts; the oldest are forgotten: nobody amends them any more

FOREIGN = -2
"""An alert that readings of another partition `p` decided has FOREIGN - p as its row's source_offset, the offset there as source_part."""


def place_of(row: Row, partition: int) -> tuple[int, int]:
    """Return the partition and offset of the telemetry row that an outbox row of a shard follows from."""
    if row.source_offset <= FOREIGN:
        return FOREIGN - row.source_offset, row.source_part
    return partition, row.source_offset


class Told:
    """The alerts of one shard that are expected to be decided again, and the revisions that differ from the engine's."""

    def __init__(self, partition: int, rows: Iterable[Row] = (), shifts: Mapping[str, int] | None = None) -> None:
        """`rows` are the ALERT rows that no commit covers, in order."""
        self.partition = partition
        self.shifts = dict(shifts or {})
        self.chains: dict[str, _Chain] = {}
        for row in rows:
            event = alert.from_json(row.body)
            self.chains.setdefault(event.alert_id, _Chain()).add(row, event)

    def admit(self, event_id: str, body: bytes) -> bytes | None:
        """Return how an event that was decided is to be told; None where it was told already."""
        if not self.chains and not self.shifts:
            return body
        name = event_id.rpartition("-")[0]
        shift, chain = self.shifts.get(name, 0), self.chains.get(name)
        if not shift and chain is None:
            return body
        event = alert.from_json(body)
        event = event._replace(revision=event.revision + shift)
        if chain is not None:
            expected = chain.events[chain.matched]
            if event.revision == expected.revision and _says(event) == _says(expected):
                chain.matched += 1
                if chain.matched == len(chain.events):
                    del self.chains[name]
                return None
            event = self._renumbered(event, chain, shift)
        return alert.to_json(event)

    def settle(self, passed: Mapping[int, int], now_ms: int, find: Callable[[str], AlertEvent | None]) -> list[bytes]:
        """Return what is to be told of alerts that were not decided again although evaluation has passed them.

        `passed` is the end of what was evaluated of each partition; `find` returns the event of an id that the outbox holds.
        """
        bodies = []
        for name, chain in [(name, chain) for name, chain in self.chains.items() if chain.is_behind(passed, self.partition)]:
            truth = _truth(chain, find)
            decided = chain.events[0].revision - 1 + chain.matched
            told = chain.events[-1].revision
            if truth is not None:
                told += 1
                bodies.append(alert.to_json(truth._replace(revision=told, detected_at_ms=max(now_ms, truth.detected_at_ms))))
            self._shift(name, self.shifts.get(name, 0) + told - decided)
            del self.chains[name]
        return bodies

    def waiting(self) -> list[int]:
        """Return the outbox offsets of the rows that are still expected to be decided again."""
        return sorted(row.offset for chain in self.chains.values() for row in chain.rows[chain.matched :])

    def _renumbered(self, event: AlertEvent, chain: "_Chain", shift: int) -> AlertEvent:
        revision = chain.events[-1].revision + 1
        self._shift(event.alert_id, shift + revision - event.revision)
        del self.chains[event.alert_id]
        known = event.phase is Phase.RAISED and chain.events[-1].phase is not Phase.RETRACTED
        return event._replace(revision=revision, phase=Phase.AMENDED if known else event.phase)

    def _shift(self, name: str, shift: int) -> None:
        self.shifts.pop(name, None)
        self.shifts[name] = shift
        if len(self.shifts) > MAX_SHIFTS:
            del self.shifts[next(iter(self.shifts))]


class _Chain:
    """The events of one alert as they were told, and how many of them were decided again."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.events: list[AlertEvent] = []
        self.matched = 0

    def add(self, row: Row, event: AlertEvent) -> None:
        self.rows.append(row)
        self.events.append(event)

    def is_behind(self, passed: Mapping[int, int], partition: int) -> bool:
        """Return whether evaluation has passed every row and message that decided what is left of the chain."""
        places = [place_of(row, partition) for row in self.rows[self.matched :]]
        places += [position for event in self.events[self.matched :] for position in event.positions]
        return all(passed.get(carrier, 0) > offset for carrier, offset in places)


def _truth(chain: _Chain, find: Callable[[str], AlertEvent | None]) -> AlertEvent | None:
    """Return what stands of an alert that was told further than it was decided, None where nothing need be told."""
    first, last = chain.events[0], chain.events[-1]
    if not chain.matched and first.revision == 1:
        return None if last.phase is Phase.RETRACTED else last._replace(phase=Phase.RETRACTED)
    decided = chain.events[chain.matched - 1] if chain.matched else find(f"{first.alert_id}-{first.revision - 1}")
    if decided is None or decided.phase in {Phase.RESOLVED, Phase.RETRACTED}:
        return decided
    return decided._replace(phase=Phase.RAISED if last.phase is Phase.RETRACTED else Phase.AMENDED)


def _says(event: AlertEvent) -> tuple[Any, ...]:
    """Return what somebody is told by an event, whatever led to it."""
    return (
        event.phase,
        event.severity,
        event.worst_severity,
        event.escalated_at_ms,
        event.started_at_ms,
        event.ended_at_ms,
        event.peak,
        event.superseded_by,
    )
