"""The telemetry journal as a Bytewax input: partitions, offsets in the recovery store, and a stop that keeps all state.

While a journal is caught up with, its partitions are read at about the same journal time, as they are live: a shard whose device is heard
through another partition would else take hours of it for silence.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from flows.keys import shard_key
from journal.reader import JournalReader
from journal.rows import Row
from telemetry.clock import utc_now

MAX_ROWS = 64
BUSY_POLL = timedelta(milliseconds=1)
IDLE_POLL = timedelta(milliseconds=5)
IDLE_AFTER_POLLS = 500
TOGETHER_MS = 15_000  # of journal time that one partition may be ahead of another; less costs turns where there are ticks only

Committed = Callable[[int, int], None]
"""Called with (partition, offset): the decisions on everything before the offset are durable, everywhere."""


@dataclass(frozen=True)
class JournalSource(FixedPartitionedSource[tuple[str, Row], int]):
    """Reads every partition of a journal, each from its offset in the recovery store."""

    path: Path
    partitions: int
    stop: threading.Event
    committed: Committed
    to_end: bool = False  # end where the journal ends now: for replays
    max_rows: int = MAX_ROWS
    next_ms: dict[int, int] = field(default_factory=dict)  # when each partition's next row is, at the earliest
    snapshots: dict[int, int] = field(
        default_factory=dict
    )  # the offset in each partition's last snapshot; committed once the run has ended

    def list_parts(self) -> list[str]:
        return [f"{partition:04d}" for partition in range(self.partitions)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> "_JournalPartition":  # noqa: ARG002 Bytewax calls it so
        return _JournalPartition(self, int(for_part), resume_state)


class _JournalPartition(StatefulSourcePartition[tuple[str, Row], int]):
    def __init__(self, source: JournalSource, partition: int, resume_state: int | None) -> None:
        self.source, self.partition = source, partition
        self.reader = JournalReader(source.path)
        self.key = shard_key(partition)
        self.offset = resume_state if resume_state is not None else self.reader.first(partition)
        self.end = self.reader.head(partition) if source.to_end else None
        self._ready: list[Row] = []
        self._look()
        self._snapshotted: int | None = None
        self._idle_polls = 0
        self._awake: datetime | None = None

    def next_batch(self) -> list[tuple[str, Row]]:
        if self._snapshotted is not None:  # Bytewax asks for more only once the epoch of the snapshot is committed on all workers
            self.source.committed(self.partition, self._snapshotted)
            self._snapshotted = None
        if self.source.stop.is_set():
            raise StopIteration
        if not self._ready:
            self._look()
        if self._ready:
            return self._take()
        if self.end is not None and self.offset >= self.end:
            raise StopIteration
        self._idle_polls += 1
        self._awake = utc_now() + (IDLE_POLL if self._idle_polls > IDLE_AFTER_POLLS else BUSY_POLL)
        return []

    def _look(self) -> None:
        """Read what comes next, and say to the other partitions of when it is."""
        self._ready = self.reader.read(self.partition, self.offset, max_rows=self.source.max_rows)
        if self._ready:
            self.source.next_ms[self.partition] = self._ready[0].time_ms
        else:
            self.source.next_ms.pop(self.partition, None)

    def _take(self) -> list[tuple[str, Row]]:
        """Return the rows whose turn it is; whoever has the oldest one always has a turn."""
        limit_ms = min(self.source.next_ms.values()) + TOGETHER_MS
        rows = [row for row in self._ready if row.time_ms <= limit_ms]
        self._idle_polls, self._awake = 0, None
        if rows:
            self.offset = rows[-1].offset + rows[-1].count
            self._ready = self._ready[len(rows) :]
            self.source.next_ms[self.partition] = (self._ready or rows)[0].time_ms
        return [(self.key, row) for row in rows]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        self._snapshotted = self.source.snapshots[self.partition] = self.offset
        return self.offset

    def close(self) -> Any:
        self.reader.close()
