"""How far one store has come in the outbox, and what it refused for good. Law 7 in rows: decided = delivered + pending + dead.

The cursor moves only after the store said durable, and with the dead letters of the same rows in one transaction. WAL with
synchronous=NORMAL suffices: a power failure puts the cursor back, and rows that a store is given twice are kept once.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from journal.rows import Row, RowKind
from sinks.database import Database
from sinks.ledger import Counts
from sinks.outbox import Cursor, Source, Taken

WHOLE, PART = "row", "line"
MAX_DEAD = 100_000
"""Dead letters kept; the oldest go first, and go on being counted."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (
    file INTEGER, partition INTEGER, next_offset INTEGER NOT NULL,
    PRIMARY KEY (file, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    row_offset INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    source_offset INTEGER NOT NULL,
    source_part INTEGER NOT NULL,
    what TEXT NOT NULL,
    body BLOB NOT NULL,
    why TEXT NOT NULL,
    died_ms INTEGER NOT NULL,
    again INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS dead_by_row ON dead (file, partition, row_offset);
"""


class Dead(NamedTuple):
    """What a store refused: a whole row, or one part of it."""

    taken: Taken
    why: str
    part: bytes | None = None


class DeadRow(NamedTuple):
    id: int
    source: Source
    offset: int
    kind: RowKind
    what: str  # WHOLE: `body` is the row's; PART: `body` is the refused line
    body: bytes
    why: str
    died_ms: int


class StoreLedger:
    def __init__(self, path: Path, *, serve: bool = True, max_dead: int = MAX_DEAD) -> None:
        """Open or create. `serve=False` looks and re-queues only, beside the one process that serves the store."""
        self._database = Database(path, SCHEMA, lock=serve)
        self._max_dead = max_dead

    def cursor(self) -> Cursor:
        return {(file, partition): offset for file, partition, offset in self._database.rows("SELECT * FROM cursor")}

    def advance(self, taken: Sequence[Taken], dead: Sequence[Dead], cursor: Mapping[Source, int], *, trimmed: int, now_ms: int) -> None:
        """Write down that these rows are kept, but for the dead, and move the cursor, in one transaction."""
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", [(*source, at) for source, at in cursor.items()])
            delivered = len(taken) - len(_rows_of(dead))
            self._database.count({"decided": len(taken), "delivered": delivered, "trimmed": trimmed})
            self._bury(connection, dead, now_ms)

    def retried(self, taken: Taken, dead: Sequence[Dead], now_ms: int) -> None:
        """Write down what came of writing a dead letter's row once more."""
        where = (*taken.source, taken.row.offset)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM dead WHERE file = ? AND partition = ? AND row_offset = ?", where)
            self._database.count({"delivered": 0 if dead else 1})
            self._bury(connection, dead, now_ms)

    def again(self) -> list[tuple[Source, int, Row | None]]:
        """Return the rows of the dead letters that somebody wants tried again; the row itself where it was refused whole."""
        found: dict[tuple[Source, int], Row | None] = {}
        for file, partition, offset, count, kind, time_ms, source_offset, source_part, what, body in self._database.rows(
            "SELECT file, partition, row_offset, row_count, kind, time_ms, source_offset, source_part, what, body FROM dead WHERE again = 1"
        ):
            row = Row(partition, offset, count, RowKind(kind), time_ms, body, source_offset, source_part) if what == WHOLE else None
            found[((file, partition), offset)] = row
        return [(source, offset, row) for (source, offset), row in found.items()]

    def gone(self, source: Source, offset: int) -> None:
        """Write down that the row of a dead letter cannot be tried again: the outbox has forgotten it."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE dead SET again = 0, why = why || ' (no longer in the outbox)' WHERE file = ? AND partition = ? AND row_offset = ?",
                (*source, offset),
            )

    def retry(self, ids: Sequence[int] | None = None) -> int:
        """Ask for dead letters to be tried again, all of them or these. Returns how many."""
        chosen = None if ids is None else json.dumps(list(ids))
        with self._database.transaction() as connection:
            done = connection.execute(
                "UPDATE dead SET again = 1 WHERE ? IS NULL OR id IN (SELECT value FROM json_each(?))", (chosen, chosen)
            )
        return done.rowcount

    def dead(self, limit: int = 1000) -> list[DeadRow]:
        """Return dead letters, the latest first."""
        rows = self._database.rows(
            "SELECT id, file, partition, row_offset, kind, what, body, why, died_ms FROM dead ORDER BY id DESC LIMIT ?", (limit,)
        )
        return [DeadRow(id_, (file, partition), offset, RowKind(kind), *rest) for id_, file, partition, offset, kind, *rest in rows]

    def counts(self) -> Counts:
        """Return the books in rows; a row of which any part was refused counts as dead. What is yet to be read is not in them."""
        totals = dict(
            self._database.rows(  # in one statement, so that it is one instant while somebody else delivers
                "SELECT name, n FROM totals UNION ALL"
                " SELECT 'rows of the dead', count(*) FROM (SELECT DISTINCT file, partition, row_offset FROM dead)"
            )
        )
        return Counts(
            decided=totals.get("decided", 0),
            delivered=totals.get("delivered", 0),
            pending=0,
            dead=totals["rows of the dead"] + totals.get("forgotten", 0),
            trimmed=totals.get("trimmed", 0),
        )

    def changed_elsewhere(self) -> bool:
        """Return whether another process has written since the last call: somebody asked for dead letters to be tried again."""
        return self._database.changed_elsewhere()

    def sync(self) -> bool:
        """Flush to disk; True where all of it is there, so that what was read may be trimmed from the outbox."""
        return self._database.sync()

    def close(self) -> None:
        self._database.close()

    def _bury(self, connection: sqlite3.Connection, dead: Sequence[Dead], now_ms: int) -> None:
        connection.executemany(
            "INSERT INTO dead (file, partition, row_offset, row_count, kind, time_ms, source_offset, source_part, what, body, why, died_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_values(item, now_ms) for item in dead],
        )
        while dead and connection.execute("SELECT count(*) FROM dead").fetchone()[0] > self._max_dead:
            (oldest,) = connection.execute("SELECT file, partition, row_offset FROM dead ORDER BY id LIMIT 1").fetchall()
            connection.execute("DELETE FROM dead WHERE file = ? AND partition = ? AND row_offset = ?", oldest)
            self._database.count({"forgotten": 1})


def _values(item: Dead, now_ms: int) -> tuple[object, ...]:
    (file, partition), row = item.taken
    what, body = (WHOLE, row.body) if item.part is None else (PART, item.part)
    return (
        *(file, partition, row.offset, row.count, int(row.kind), row.time_ms, row.source_offset, row.source_part),
        *(what, body, item.why, now_ms),
    )


def _rows_of(dead: Sequence[Dead]) -> set[tuple[Source, int]]:
    return {(item.taken.source, item.taken.row.offset) for item in dead}
