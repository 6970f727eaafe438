"""The one writer of a journal. Its law: `append` returns after the rows are on the disk, all of them, or raises and none of them is.

Theory of operation. A journal is a SQLite file in WAL mode with synchronous=FULL. An append is one transaction over all partitions and
costs one fsync, of the write-ahead log. What the next append needs (offsets, chain hashes, sources) is held in memory, read at open and
replaced only after the commit, so that a refused append changes nothing and can be tried again. Copying the log into the file
(the checkpoint) is ours to do, each `CHECKPOINT_BYTES`, waiting for nobody; SQLite then begins the log anew at the next append that finds
no reader in it, on the same space of the disk. Where readers are always there, the log grows to `LONG_LOG_BYTES`, and we wait for them.

A disk that fills up is refused early, with `reserve_bytes` left: that is room for a checkpoint and for `trim`, whose freed pages then take
new rows although the disk stays full.
"""

import logging
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from journal import retention, storage
from journal.chain import link
from journal.heads import Head, Latest, read_head, read_latest
from journal.rows import MAX_BODY_BYTES, MAX_PARTITIONS, Entry, Row, RowKind, row_id
from telemetry.errors import JournalFull, VitalaneError

logger = logging.getLogger(__name__)

CHECKPOINT_BYTES = 4 << 20  # measured: as fast as 16 MB, and the appends that pay for it wait 5 ms, not 15
RESERVE_BYTES = 32 << 20
LONG_LOG_BYTES = 4 * CHECKPOINT_BYTES  # readers were always there: wait for them, and again after as much more
_READERS_WAIT_MS = 100
_ROW_BYTES, _APPEND_BYTES = 128, 4 * storage.PAGE_BYTES  # what a row and an append take in the log beside the bodies, about
_TRIM_BYTES = retention.ROWS_AT_ONCE << 10  # what a transaction of retention takes there, about

_INSERT_ROW = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_LATEST = "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?)"


class JournalWriter:
    """Appends to the journal at `path`, made when it is not there. For one thread at a time.

    `max_bytes` bounds the file, its log beside it not counted.
    """

    def __init__(
        self, path: Path, stream: str, partitions: int, *, max_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        if not 1 <= partitions <= MAX_PARTITIONS:
            msg = f"a journal has 1 to {MAX_PARTITIONS} partitions, not {partitions}"
            raise VitalaneError(msg)
        self.path = path
        self._reserve_bytes = reserve_bytes
        with storage.explained(path, "opened"), ExitStack() as undo:
            self._lock = undo.enter_context(closing(storage.WriterLock(path)))
            self._connection = undo.enter_context(
                closing(storage.open_for_writing(path, storage.Stream(stream, partitions), max_bytes, 2 * CHECKPOINT_BYTES))
            )
            self._heads = [read_head(self._connection, path, partition) for partition in range(partitions)]
            self._latest = read_latest(self._connection)
            undo.pop_all()
        self._time_ms = max(head.time_ms for head in self._heads)
        self._checkpoint_problem = ""
        self._checkpoint_in = CHECKPOINT_BYTES  # bytes to append until the next one, about
        self._long_log_bytes = LONG_LOG_BYTES  # the length at which to wait for readers
        self._count_towards_checkpoint(storage.log_bytes(path))

    def append(self, entries: Sequence[Entry], time_ms: int) -> list[int]:
        """Append rows in one transaction, on the disk on return; return the first offset of each.

        `time_ms` becomes their time, or the newest row's where that is later. Raises JournalFull, having changed nothing, where there is
        no space.
        """
        if not entries:
            return []
        size = _APPEND_BYTES + sum([self._checked_size(entry) for entry in entries])
        self._require_space(size)
        time_ms = max(time_ms, self._time_ms)
        heads: dict[int, Head] = {}
        latest: dict[tuple[int, int], Latest] = {}
        offsets: list[int] = []
        records: list[tuple[int | bytes, ...]] = []
        for partition, kind, count, body, source_offset, source_part in entries:
            offset, previous, _ = heads.get(partition) or self._heads[partition]
            digest = link(previous, Row(partition, offset, count, kind, time_ms, body, source_offset, source_part))
            records.append((row_id(partition, offset), count, int(kind), time_ms, source_offset, source_part, digest, body))
            offsets.append(offset)
            heads[partition] = Head(offset + count, digest, time_ms)
            key, source = (partition, kind), (source_offset, source_part)
            before = latest.get(key) or self._latest.get(key)
            latest[key] = Latest(offset, max(source, before.source) if before else source)
        with storage.explained(self.path, "written"), storage.transaction(self._connection):
            self._connection.executemany(_INSERT_ROW, records)
            self._connection.executemany(
                _INSERT_LATEST, [(partition, int(kind), at, *source) for (partition, kind), (at, source) in latest.items()]
            )
        for partition, head in heads.items():
            self._heads[partition] = head
        self._latest.update(latest)
        self._time_ms = time_ms
        self._count_towards_checkpoint(size)
        return offsets

    def next_offset(self, partition: int) -> int:
        return self._heads[partition].offset

    def last_time_ms(self) -> int:
        """Return the time of the newest row, 0 where there never was one."""
        return self._time_ms

    def last_source(self, partition: int, kinds: Collection[RowKind]) -> tuple[int, int]:
        """Return the greatest (source_offset, source_part) ever appended to a partition in rows of these kinds, (-1, -1) if none."""
        found = [self._latest[partition, kind].source for kind in kinds if (partition, kind) in self._latest]
        return max(found, default=(-1, -1))

    def trim(self, *, max_age_ms: int | None, max_bytes: int | None, now_ms: int, floor: Mapping[int, int]) -> int:
        """Remove the oldest rows that exceed an age or the size, none at or past its partition's floor; return how many.

        A partition without a floor keeps everything. Space is not given back but used again by the next rows. Verification still works:
        the hash before the first row retained is kept. Called often, it keeps appends waiting for moments only.
        """
        removed = 0
        while True:
            with storage.explained(self.path, "trimmed"):
                some = retention.trim_some(
                    self._connection, len(self._heads), max_age_ms=max_age_ms, max_bytes=max_bytes, now_ms=now_ms, floor=floor
                )
            if not some:
                return removed
            removed += some
            self._count_towards_checkpoint(_TRIM_BYTES)

    def close(self) -> None:
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked_size(self, entry: Entry) -> int:
        """Return about what a row takes. Raises ValueError where it breaks the journal's rules, which is its maker's fault."""
        if not 0 <= entry.partition < len(self._heads):
            msg = f"{self.path} has partitions 0 to {len(self._heads) - 1}, not {entry.partition}"
            raise ValueError(msg)
        if not 1 <= entry.count < 1 << 32 or len(entry.body) > MAX_BODY_BYTES:
            msg = f"a row counts at least 1 and holds at most {MAX_BODY_BYTES} bytes, not {entry.count} and {len(entry.body)}"
            raise ValueError(msg)
        return len(entry.body) + _ROW_BYTES

    def _require_space(self, size: int) -> None:
        """Raise JournalFull where the disk is almost full and no trimmed pages are there to take these rows."""
        free = storage.free_disk_bytes(self.path)
        if free < self._reserve_bytes + size and storage.free_page_bytes(self._connection) < size:
            msg = f"{self.path} could not be written: its disk is full ({free >> 20} MB left, {self._reserve_bytes >> 20} MB are kept free)"
            raise JournalFull(msg)

    def _count_towards_checkpoint(self, size: int) -> None:
        self._checkpoint_in -= size
        if self._checkpoint_in <= 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Copy the log into the file. Failing loses nothing: the rows are in the log, and a full disk will refuse the next append."""
        self._checkpoint_in = CHECKPOINT_BYTES
        problem = ""
        try:
            log_bytes = storage.checkpoint(self._connection)
            if log_bytes < LONG_LOG_BYTES:
                self._long_log_bytes = LONG_LOG_BYTES
            elif log_bytes >= self._long_log_bytes:
                restarted = storage.restart_log(self._connection, _READERS_WAIT_MS)
                self._long_log_bytes = LONG_LOG_BYTES if restarted else log_bytes + LONG_LOG_BYTES
                problem = "" if restarted else "readers hold the log"
            else:
                problem = self._checkpoint_problem
        except sqlite3.Error as error:
            problem = str(error)
        if problem != self._checkpoint_problem:
            if problem:
                logger.warning("journal.checkpoint_deferred path=%s problem=%s", self.path, problem)
            else:
                logger.info("journal.checkpoint_resumed path=%s", self.path)
            self._checkpoint_problem = problem
