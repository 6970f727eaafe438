"""The history journal: what a shard accepted and needs for late readings. Its law: a restored shard reads what its snapshot counts, only.

Theory of operation. Readings that a shard accepted are too many to be pickled at the end of every epoch, so they are appended to a
journal of the shard's own, `history-<k>.db`, before the shard's snapshot is handed to Bytewax: durable first, then committed. A crash in
between leaves rows that no committed snapshot knows of, and after it their readings are taken, and appended, again. So a snapshot names
the rows that it counts, as ranges of offsets. One range as a rule; each crash that hits between append and commit adds one, for as long
as its rows are needed. Offsets are never used twice, so what a snapshot does not name stays unread for ever, however many crashes follow.

Rows leave when they are older than the engine's retention, on the journal's clock, and when the snapshots of some epochs agree that they
are; the committed snapshot is one of those.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flows import full_disk
from flows.history_body import clock_ms, decode, encode
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from rules.history import HistoryChunk
from telemetry.errors import OffsetTrimmed, VitalaneError

logger = logging.getLogger(__name__)

READINGS_A_ROW = 1 << 18  # 5 MB: what a reader takes at once
TRIM_EVERY_MS = 60_000  # on the journal's clock
COMMITTED_BY_THEN = 4  # snapshots: the one before the last is committed, for Bytewax has one epoch under way; the others are margin
FOR_EVER_MS = 1 << 62

Ranges = list[tuple[int, int]]
"""Offsets [begin, end) of the rows that count, in order."""


def history_path(data_dir: Path, partition: int) -> Path:
    """Return the file of one shard's history."""
    return data_dir / f"history-{partition}.db"


class History:
    """The history of one shard, open for writing. For one logic; closed through `Histories`."""

    def __init__(self, path: Path, partition: int, stop: threading.Event) -> None:
        self.path, self.stop = path, stop
        self.writer = JournalWriter(path, f"history-{partition}", 1)
        self.ranges: Ranges = []
        self.rows: deque[tuple[int, int]] = deque()  # offset and clock of every row that counts
        self.floors: deque[int] = deque(maxlen=COMMITTED_BY_THEN)  # the first offset that each of the last snapshots needs
        self.trim_at_ms = 0

    def restore(self, state: dict[str, Any]) -> Iterator[HistoryChunk]:
        """Take over from a snapshot; yield what it counts, but for what had grown too old by then. Must be read to its end."""
        self.ranges = [(begin, end) for begin, end in state["ranges"]]
        self.rows.clear()
        if not self.ranges:
            return
        with JournalReader(self.path) as reader:
            if reader.head(0) < self.ranges[-1][1]:
                raise _lost(self.path)
            for begin, end in self.ranges:
                yield from self._read(reader, begin, end, state["oldest_ms"])

    def _read(self, reader: JournalReader, begin: int, end: int, oldest_ms: int) -> Iterator[HistoryChunk]:
        at = begin
        while at < end:
            try:
                rows = reader.read(0, at, max_rows=end - at)
            except OffsetTrimmed as error:
                raise _lost(self.path) from error
            for row in rows:
                stamp = clock_ms(row.body)
                self.rows.append((row.offset, stamp))
                if stamp >= oldest_ms:
                    yield decode(row.body)
            at = rows[-1].offset + 1

    def snapshot(self, chunk: HistoryChunk | None, now_ms: int, retention_ms: int) -> dict[str, Any]:
        """Append what was accepted since the last snapshot; on the disk on return. Return what a snapshot keeps of the history.

        `now_ms` is the journal's time and never goes back.
        """
        if chunk is not None and len(chunk.rows):
            self._append(chunk, now_ms)
        oldest_ms = now_ms - retention_ms
        while self.rows and self.rows[0][1] < oldest_ms:
            self.rows.popleft()
        floor = self.rows[0][0] if self.rows else self.writer.next_offset(0)
        self.ranges = [(max(begin, floor), end) for begin, end in self.ranges if end > floor]
        self.floors.append(floor)
        if now_ms >= self.trim_at_ms and len(self.floors) == COMMITTED_BY_THEN:
            self.trim_at_ms = now_ms + TRIM_EVERY_MS
            # What is older than the oldest of these snapshots needs goes, whatever its age: rows that a crash left over as well.
            self.writer.trim(max_age_ms=0, max_bytes=None, now_ms=FOR_EVER_MS, floor={0: self.floors[0]})
        return {"ranges": list(self.ranges), "oldest_ms": oldest_ms}

    def _append(self, chunk: HistoryChunk, now_ms: int) -> None:
        bodies = [encode(part, now_ms) for part in _parts(chunk)]
        offsets = full_disk.append(self.writer, [Entry(0, RowKind.HISTORY, 1, body) for body in bodies], now_ms, self.stop)
        self.rows += [(offset, now_ms) for offset in offsets]
        begin, end = offsets[0], offsets[-1] + 1
        if self.ranges and self.ranges[-1][1] == begin:
            begin = self.ranges.pop()[0]
        self.ranges.append((begin, end))

    def close(self) -> None:
        self.writer.close()


class Histories:
    """The histories that this process has open, one for each shard in it. Logics have no `close`: whoever runs the flow calls this one."""

    def __init__(self, data_dir: Path, stop: threading.Event) -> None:
        self.data_dir, self.stop = data_dir, stop
        self.held: dict[int, History] = {}

    def open(self, partition: int) -> History:
        """Return a shard's history, for the logic that is built now: one that was built before is done with."""
        if partition in self.held:
            self.held.pop(partition).close()
        history = self.held[partition] = History(history_path(self.data_dir, partition), partition, self.stop)
        return history

    def close(self) -> None:
        while self.held:
            self.held.popitem()[1].close()


def _parts(chunk: HistoryChunk) -> Iterable[HistoryChunk]:
    """Return a chunk cut to the size of rows."""
    if len(chunk.rows) <= READINGS_A_ROW:
        return [chunk]
    cuts = [slice(at, at + READINGS_A_ROW) for at in range(0, len(chunk.rows), READINGS_A_ROW)]
    return [HistoryChunk(chunk.rows[cut], chunk.times_ms[cut], chunk.values[cut], chunk.positions[cut]) for cut in cuts]


def _lost(path: Path) -> VitalaneError:
    return VitalaneError(
        f"{path} no longer holds what the recovery snapshot needs of it: put it back as it was, "
        f"or move {path.parent / 'recovery'} away to evaluate the journal anew"
    )
