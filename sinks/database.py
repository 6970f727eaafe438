"""The small SQLite file that a destination keeps its state in: opened once, changed in transactions, served by one process at a time."""

import fcntl
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from telemetry.errors import Transient, VitalaneError


class Database:
    def __init__(self, path: Path, schema: str, *, lock: bool, synchronous: str = "NORMAL") -> None:
        """Open or create. Raises VitalaneError where that cannot be, or where another process holds the lock."""
        self._path = path
        self._lock: TextIO | None = _locked(path) if lock else None
        try:
            # One thread uses it at a time, not always the one that opened it.
            self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._connection.executescript(schema)
        except sqlite3.Error as error:
            self._unlock()
            msg = f"cannot open {path}: {error}"
            raise VitalaneError(msg) from error
        self._version = self._data_version()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit everything or nothing. Raises Transient where the disk is full or the file is busy."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            msg = f"cannot write {self._path}: {error}"
            raise Transient(msg) from error

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(query, parameters).fetchall()

    def count(self, increments: Mapping[str, int]) -> None:
        """Add to the table `totals`, within a transaction."""
        self._connection.executemany(
            "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n",
            [(name, n) for name, n in increments.items() if n],
        )

    def changed_elsewhere(self) -> bool:
        """Return whether another connection has written since the last call."""
        before, self._version = self._version, self._data_version()
        return self._version != before

    def sync(self) -> bool:
        """Flush what was committed to disk; True where all of it is there, False where a reader was in the way."""
        busy, written, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not busy and bool(written == moved)

    def close(self) -> None:
        self._connection.close()
        self._unlock()

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _locked(path: Path) -> TextIO:
    """Return a file that holds the lock until it is closed or its process ends. A file of its own: closing one drops SQLite's own locks."""
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        lock = lock_path.open("a")
    except OSError as error:
        msg = f"cannot open {lock_path}: {error.strerror}"
        raise VitalaneError(msg) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        msg = f"{path} is served by another process: end that one first"
        raise VitalaneError(msg) from error
    return lock
