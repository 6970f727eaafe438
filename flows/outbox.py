"""The outbox as a Bytewax output: alerts durable at once, the rest twice a second and at the end of the epoch, nothing twice.

A FixedPartitionedSink is part of Bytewax's commit: an epoch counts as done only after `snapshot` has returned. After a crash the rows
since the last committed epoch are evaluated again. Alerts told meanwhile are known by their ids (`flows/told.py`). The rest is known by
its place in the telemetry journal (row, number within it), as long as the shard evaluates rows of its own partition only, for then it is
the very same again. Else it waits for the end of the epoch; a crash just there writes some of it twice, under the same keys.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows import full_disk
from flows.decision import Decision
from flows.keys import partition_of_key
from flows.recovery import began, recovery_path
from flows.told import FOREIGN, Told
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import Entry, Row, RowKind
from journal.writer import JournalWriter
from telemetry import alert
from telemetry.alert import AlertEvent

logger = logging.getLogger(__name__)

STREAM = "outbox"
TRIM_EVERY_S = 60.0
FLUSH_EVERY_S = 0.5  # so that stores are fresh, however long an epoch is
SOUGHT_ROWS = 100_000  # back from the end, for the last committed revision of an alert
ROWS_AT_ONCE = 256
BULK = (RowKind.WINDOWS, RowKind.READINGS, RowKind.QUARANTINE, RowKind.BOOKS)

Place = tuple[int, int]  # telemetry row, number of the output within it


def offsets_path(data_dir: Path) -> Path:
    """Return the file in which consumers say how far they are."""
    return data_dir / "offsets.db"


def outbox_path(data_dir: Path, partition: int) -> Path:
    """Return the file of one partition's outbox."""
    return data_dir / f"outbox-{partition}.db"


class Keep(NamedTuple):
    """How much of the outbox stays: rows beyond the bounds go, once every consumer has taken them. None: no bound."""

    age_ms: int | None = None
    bytes: int | None = None
    consumers: tuple[str, ...] = ()


KEEP_ALL = Keep()


@dataclass(frozen=True)
class OutboxSink(FixedPartitionedSink[Decision, dict[str, Any]]):
    """One journal file for each shard: one file, one writer."""

    data_dir: Path
    partitions: int
    stop: threading.Event
    keep: Keep = KEEP_ALL

    def list_parts(self) -> list[str]:
        return [f"{partition:04d}" for partition in range(self.partitions)]

    def part_fn(self, item_key: str) -> int:
        return partition_of_key(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "_OutboxPartition":  # noqa: ARG002 Bytewax calls it so
        return _OutboxPartition(self, int(for_part), resume_state)


class _OutboxPartition(StatefulSinkPartition[Decision, dict[str, Any]]):
    """The file holds one partition, number 0; `partition` is the shard's."""

    def __init__(self, sink: OutboxSink, partition: int, resume_state: dict[str, Any] | None) -> None:
        self.partition, self.stream = partition, f"{STREAM}-{partition}"
        self.path = outbox_path(sink.data_dir, partition)
        self.writer = JournalWriter(self.path, self.stream, 1)
        self.sink, self.stop = sink, sink.stop
        self.trim_at_s = time.monotonic() + TRIM_EVERY_S
        self.last_bulk: Place = self.writer.last_source(0, BULK)
        self.waiting: list[Entry] = []
        self.at_the_end: list[Entry] = []  # of the epoch
        self.flush_at_s = time.monotonic() + FLUSH_EVERY_S
        start = began(recovery_path(sink.data_dir), partition)
        state = resume_state or {}
        self.time_ms: int = state.get("time_ms", 0)
        self.evaluated: dict[int, int] = dict(state.get("evaluated", {}))  # by partition, the end of what was evaluated of it here
        self.quiet_until: Place = start.alerts  # an earlier evaluation told of everything up to there
        rows = [*self._rows_at(state.get("expected", [])), *self._rows_from(state.get("offset", start.offset))]
        self.told = Told(partition, rows, state.get("shifts"))

    def write_batch(self, values: list[Decision]) -> None:
        urgent: list[Entry] = []
        for made in values:
            self.time_ms = max(self.time_ms, made.time_ms)
            self.evaluated[made.origin] = max(self.evaluated.get(made.origin, 0), made.end)
            own = made.origin == self.partition
            for number, (event_id, body) in enumerate(made.alerts):
                place = (made.offset, number) if own else (FOREIGN - made.origin, made.offset)
                if not self._is_quiet(made, number) and (told := self.told.admit(event_id, body)) is not None:
                    urgent.append(Entry(0, RowKind.ALERT, 1, told, *place))
            for number, (kind, body) in enumerate(made.bulk):
                if not made.repeatable:
                    if not self._is_quiet(made, number):
                        self.at_the_end.append(Entry(0, RowKind(kind), 1, body))
                elif (made.offset, number) > self.last_bulk:
                    self.last_bulk = made.offset, number
                    self.waiting.append(Entry(0, RowKind(kind), 1, body, *self.last_bulk))
        if urgent:
            self._append(urgent)
        if time.monotonic() >= self.flush_at_s:
            self._flush()

    def _is_quiet(self, made: Decision, number: int) -> bool:
        """Return whether an earlier evaluation of this journal told of it: the recovery store was made anew since."""
        if made.origin == self.partition:
            return (made.offset, number) <= self.quiet_until
        return self.evaluated.get(self.partition, 0) <= self.quiet_until[0]

    def snapshot(self) -> dict[str, Any]:
        self.waiting += self.at_the_end
        self.at_the_end = []
        corrections = self.told.settle(self.evaluated, self.time_ms, self._find)
        if corrections:
            logger.warning("flows.alerts_corrected stream=%s alerts=%d", self.stream, len(corrections))
        self.waiting += [Entry(0, RowKind.ALERT, 1, body) for body in corrections]
        self._flush()
        if time.monotonic() >= self.trim_at_s:
            self._trim()
        return {
            "offset": self.writer.next_offset(0),
            "expected": self.told.waiting(),
            "shifts": dict(self.told.shifts),
            "evaluated": dict(self.evaluated),
            "time_ms": self.time_ms,
        }

    def _rows_from(self, offset: int) -> Iterator[Row]:
        """Yield the alerts that no commit covers."""
        with JournalReader(self.path) as reader:
            offset = max(offset, reader.first(0))
            while rows := reader.read(0, offset):
                yield from (row for row in rows if row.kind is RowKind.ALERT)
                offset = rows[-1].offset + 1

    def _rows_at(self, offsets: list[int]) -> list[Row]:
        with JournalReader(self.path) as reader:
            return [reader.read(0, offset, max_rows=1)[0] for offset in offsets if offset >= reader.first(0)]

    def _find(self, event_id: str) -> AlertEvent | None:
        """Return an event that was told, None where it is not among the newest rows."""
        name, end = f'"id":"{event_id}"'.encode(), self.writer.next_offset(0)
        with JournalReader(self.path) as reader:
            first = max(reader.first(0), end - SOUGHT_ROWS)
            for begin in range(end - ROWS_AT_ONCE, first - ROWS_AT_ONCE, -ROWS_AT_ONCE):
                at = max(begin, first)
                while at < min(begin + ROWS_AT_ONCE, end):
                    for row in (rows := reader.read(0, at, max_rows=ROWS_AT_ONCE)):
                        if row.kind is RowKind.ALERT and name in row.body:
                            return alert.from_json(row.body)
                    at = rows[-1].offset + 1
        return None

    def _flush(self) -> None:
        self.flush_at_s = time.monotonic() + FLUSH_EVERY_S
        if self.waiting:
            self._append(self.waiting)
            self.waiting = []

    def _trim(self) -> None:
        """Remove what every consumer has taken and what is older or more than is kept."""
        self.trim_at_s = time.monotonic() + TRIM_EVERY_S
        keep = self.sink.keep
        if keep.age_ms is None and keep.bytes is None:
            return
        with ConsumerOffsets(offsets_path(self.sink.data_dir)) as offsets:
            floor = offsets.floor(self.stream, keep.consumers, 1)
        removed = self.writer.trim(max_age_ms=keep.age_ms, max_bytes=keep.bytes, now_ms=self.writer.last_time_ms(), floor=floor)
        if removed:
            logger.info("flows.outbox_trimmed stream=%s rows=%d", self.stream, removed)

    def _append(self, entries: list[Entry]) -> None:
        full_disk.append(self.writer, entries, self.time_ms, self.stop)

    def close(self) -> None:
        self.writer.close()
