"""The outbox as a Bytewax output: alerts durable at once, the rest twice a second and at the end of the epoch, nothing twice.

A FixedPartitionedSink is part of Bytewax's commit: an epoch counts as done only after `snapshot` has returned. After a crash the rows since
the last committed epoch are evaluated again, to the very same decisions; the outbox knows which of them it holds by their place in the
telemetry journal (row, number), once for alerts and once for the rest, and writes only what is new.
"""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows.decision import Decision
from flows.keys import partition_of_key
from journal.offsets import ConsumerOffsets
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from telemetry.errors import JournalFull

logger = logging.getLogger(__name__)

STREAM = "outbox"
RETRY_S = 0.5
TRIM_EVERY_S = 60.0
FLUSH_EVERY_S = 0.5  # so that stores are fresh, however long an epoch is
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
class OutboxSink(FixedPartitionedSink[Decision, None]):
    """One journal file for each shard: one file, one writer."""

    data_dir: Path
    partitions: int
    stop: threading.Event
    keep: Keep = KEEP_ALL

    def list_parts(self) -> list[str]:
        return [f"{partition:04d}" for partition in range(self.partitions)]

    def part_fn(self, item_key: str) -> int:
        return partition_of_key(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_OutboxPartition":  # noqa: ARG002 Bytewax calls it so
        return _OutboxPartition(self, int(for_part))


class _OutboxPartition(StatefulSinkPartition[Decision, None]):
    """The file holds one partition, number 0; `partition` is the shard's."""

    def __init__(self, sink: OutboxSink, partition: int) -> None:
        self.stream = f"{STREAM}-{partition}"
        self.writer = JournalWriter(outbox_path(sink.data_dir, partition), self.stream, 1)
        self.sink, self.stop = sink, sink.stop
        self.trim_at_s = time.monotonic() + TRIM_EVERY_S
        self.last_alert: Place = self.writer.last_source(0, (RowKind.ALERT,))
        self.last_bulk: Place = self.writer.last_source(0, BULK)
        self.waiting: list[Entry] = []
        self.flush_at_s = time.monotonic() + FLUSH_EVERY_S
        self.time_ms = 0

    def write_batch(self, values: list[Decision]) -> None:
        urgent: list[Entry] = []
        for made in values:
            self.time_ms = max(self.time_ms, made.time_ms)
            for number, body in enumerate(made.alerts):
                if (made.offset, number) > self.last_alert:
                    self.last_alert = made.offset, number
                    urgent.append(Entry(0, RowKind.ALERT, 1, body, *self.last_alert))
            for number, (kind, body) in enumerate(made.bulk):
                if (made.offset, number) > self.last_bulk:
                    self.last_bulk = made.offset, number
                    self.waiting.append(Entry(0, RowKind(kind), 1, body, *self.last_bulk))
        if urgent:
            self._append(urgent)
        if time.monotonic() >= self.flush_at_s:
            self._flush()

    def snapshot(self) -> None:
        self._flush()
        if time.monotonic() >= self.trim_at_s:
            self._trim()

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
        """Write durably; wait for room where there is none. Deciding stops meanwhile, and loses nothing."""
        told = False
        while True:
            try:
                self.writer.append(entries, self.time_ms)
            except JournalFull as error:
                if not told:
                    logger.warning("flows.outbox_full %s", error)
                    told = True
                if self.stop.wait(RETRY_S):
                    raise
            else:
                if told:
                    logger.info("flows.outbox_resumed")
                return

    def close(self) -> None:
        self.writer.close()
