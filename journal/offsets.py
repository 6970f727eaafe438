"""How far each consumer of a stream has read: what retention must not pass. Its law: a consumer that never committed stands at 0.

One small SQLite file for all streams of a machine, written by every consumer's process, each commit on the disk when it returns. Consumers
that keep their place elsewhere as well (the flow's recovery, a channel's ledger) resume from there; this file is what retention asks.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from journal import storage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS committed (
    stream TEXT NOT NULL, consumer TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (stream, consumer, partition)
) WITHOUT ROWID
"""


class ConsumerOffsets:
    """The offsets file at `path`, made when it is not there. Many processes may hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lock = storage.WriterLock(path, wait=True)  # changing a file to WAL mode is not for two at once
        with storage.explained(path, "opened"), closing(lock), ExitStack() as undo:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=storage.BUSY_MS / 1000)
            self._connection = undo.enter_context(closing(connection))
            self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_SCHEMA)
            undo.pop_all()

    def commit(self, stream: str, consumer: str, offsets: Mapping[int, int]) -> None:
        """Record that a consumer has done with everything below these offsets; on the disk on return."""
        rows = [(stream, consumer, partition, offset) for partition, offset in offsets.items()]
        with storage.explained(self.path, "written"), storage.transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?)", rows)

    def committed(self, stream: str, consumer: str) -> dict[int, int]:
        """Return a consumer's offset in each partition where it ever committed one."""
        select = "SELECT partition, offset FROM committed WHERE stream = ? AND consumer = ?"
        return {int(partition): int(offset) for partition, offset in self._select(select, (stream, consumer))}

    def consumers(self, stream: str) -> list[str]:
        """Return who ever committed an offset of a stream."""
        select = "SELECT DISTINCT consumer FROM committed WHERE stream = ? ORDER BY consumer"
        return [str(name) for (name,) in self._select(select, (stream,))]

    def floor(self, stream: str, consumers: Sequence[str], partitions: int) -> dict[int, int]:
        """Return for each partition the offset below which all of these consumers have done: 0 where one has never committed.

        Without consumers nothing is known to be done with, so it is 0 everywhere.
        """
        committed = [self.committed(stream, consumer) for consumer in consumers]
        return {partition: min((offsets.get(partition, 0) for offsets in committed), default=0) for partition in range(partitions)}

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "ConsumerOffsets":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _select(self, select: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with storage.explained(self.path, "read"):
            return self._connection.execute(select, values).fetchall()
