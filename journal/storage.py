"""How a journal's file is made, opened and refused. Its law: whatever SQLite or the system says, a person reads one clear sentence.

A file is built aside and renamed, so that a half-made journal never stands under its name. One flock on `<name>.lock` marks the writer.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from journal.chain import genesis
from telemetry.errors import JournalCorrupt, JournalFull, Transient, VitalaneError

APPLICATION_ID = 0x56544C4A  # "VTLJ"
FORMAT_VERSION = 1
PAGE_BYTES = 4096  # measured: the fastest commit for bodies of 400 bytes to 30 KB
BUSY_MS = 5_000  # somebody else's tool on the file: wait this long, then say so
_FULL_BELOW_BYTES = 1 << 20  # an I/O error with less space than this is a full disk

SCHEMA = """
CREATE TABLE stream (name TEXT NOT NULL, partitions INTEGER NOT NULL);
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,        -- partition << 48 | offset: a partition is one range
    count INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    source_offset INTEGER NOT NULL,
    source_part INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE anchors (             -- where the retained rows begin
    partition INTEGER PRIMARY KEY,
    offset INTEGER NOT NULL,       -- of the first row retained
    hash BLOB NOT NULL,            -- of the row before it
    time_ms INTEGER NOT NULL       -- of the row before it
);
CREATE TABLE latest (              -- per kind, so that nobody searches for it
    partition INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    offset INTEGER NOT NULL,       -- of its newest row
    source_offset INTEGER NOT NULL,  -- the greatest (source_offset, source_part) ever appended
    source_part INTEGER NOT NULL,
    PRIMARY KEY (partition, kind)
) WITHOUT ROWID;
"""


class Stream(NamedTuple):
    name: str
    partitions: int


def translate(error: sqlite3.Error, path: Path, doing: str) -> VitalaneError:
    """Return what an error of SQLite means to the person who runs this."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    told = f"{path} could not be {doing}"
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and free_disk_bytes(path) < _FULL_BELOW_BYTES):
        return JournalFull(f"{told}: the disk or the size it may have is full")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Transient(f"{told}: another program holds it locked")
    if code == sqlite3.SQLITE_NOTADB:
        return JournalCorrupt(f"{path} is not a journal: it is no SQLite file")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT}:
        return JournalCorrupt(f"{told}: the file is damaged ({error})")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return VitalaneError(f"{told}: no permission to write in {path.parent}, or no such place ({error})")
    return VitalaneError(f"{told}: {error}")


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Raise what SQLite and the system refuse in the block as a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path, doing) from error
    except OSError as error:
        msg = f"{path} could not be {doing}: {error.strerror} ({error.filename or path.parent})"
        raise VitalaneError(msg) from error


def free_disk_bytes(path: Path) -> int:
    """Return the space left on the disk of a file, where the system knows."""
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize if status.f_blocks else 1 << 62


def free_page_bytes(connection: sqlite3.Connection) -> int:
    """Return the space inside the file that retention has freed."""
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0]) * PAGE_BYTES


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return what the rows take in the file, free pages not counted."""
    return int(connection.execute("PRAGMA page_count").fetchone()[0]) * PAGE_BYTES - free_page_bytes(connection)


def log_bytes(path: Path) -> int:
    """Return the length of the write-ahead log."""
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def checkpoint(connection: sqlite3.Connection) -> int:
    """Copy of the write-ahead log into the file what no reader still needs there, waiting for nobody; return the log's length in use."""
    _busy, pages, _copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages) * PAGE_BYTES


def restart_log(connection: sqlite3.Connection, readers_wait_ms: int) -> bool:
    """Copy the whole log and start it anew, waiting for readers so long; return whether they let go of it."""
    connection.execute(f"PRAGMA busy_timeout = {readers_wait_ms}")
    try:
        busy, _pages, _copied = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return not busy


class WriterLock:
    """The mark of a file's one writer, held by the kernel and gone with the process."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        lock_path = path.with_name(path.name + ".lock")
        with explained(path, "opened for writing"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            msg = f"{path} already has a writer (process {holder or 'unknown'}): a journal has one at a time"
            raise VitalaneError(msg) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or undo all of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let everything that the block reads be of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def sync_directory(directory: Path) -> None:
    """Make a new or renamed entry of a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path, stream: Stream) -> None:
    """Make a new, empty journal; the caller holds the writer's lock."""
    building = path.with_name(path.name + ".new")
    building.unlink(missing_ok=True)
    with closing(sqlite3.connect(building, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        with transaction(connection):
            connection.execute("INSERT INTO stream VALUES (?, ?)", stream)
            connection.executemany(
                "INSERT INTO anchors VALUES (?, 0, ?, 0)", [(p, genesis(stream.name, p)) for p in range(stream.partitions)]
            )
        connection.execute("PRAGMA journal_mode = WAL")
    building.rename(path)
    sync_directory(path.parent)


def read_stream(connection: sqlite3.Connection, path: Path) -> Stream:
    """Return whose journal an open file is. Raises JournalCorrupt where it is none."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        msg = f"{path} is not a journal of Vitalane: it is another program's SQLite file"
        raise JournalCorrupt(msg)
    if version != FORMAT_VERSION:
        msg = f"{path} has journal format {version}; this program reads format {FORMAT_VERSION}"
        raise JournalCorrupt(msg)
    found = connection.execute("SELECT name, partitions FROM stream").fetchall()
    if len(found) != 1:
        msg = f"{path} does not say which stream it holds: it is damaged"
        raise JournalCorrupt(msg)
    return Stream(*found[0])


def open_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write, usable from any thread, while a writer writes."""
    if not path.exists():
        msg = f"there is no journal at {path}"
        raise VitalaneError(msg)
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
    )


def open_for_writing(path: Path, stream: Stream, max_bytes: int | None, log_kept_bytes: int) -> sqlite3.Connection:
    """Return a connection that writes, on a new journal if there is none; the caller holds the writer's lock."""
    if not path.exists():
        create(path, stream)
    with ExitStack() as undo:
        connection = undo.enter_context(closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)))
        _require_stream(connection, path, stream)
        for setting in (
            f"busy_timeout = {BUSY_MS}",
            "synchronous = FULL",
            "fullfsync = ON",  # where fsync alone does not reach the disk
            "checkpoint_fullfsync = ON",
            "wal_autocheckpoint = 0",  # the writer's to do
            f"journal_size_limit = {log_kept_bytes}",
            "secure_delete = FAST",  # no second write for what retention removes
        ):
            connection.execute(f"PRAGMA {setting}").fetchone()
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}").fetchone()
        undo.pop_all()
    return connection


def _require_stream(connection: sqlite3.Connection, path: Path, stream: Stream) -> None:
    found = read_stream(connection, path)
    if found != stream:
        msg = (
            f"{path} holds the stream {found.name!r} in {found.partitions} partitions, "
            f"not {stream.name!r} in {stream.partitions}: use another path, or the settings it was made with"
        )
        raise VitalaneError(msg)
