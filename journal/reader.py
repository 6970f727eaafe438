"""Reads a journal while its writer writes. Its law: rows come whole, in order, without a hole, or the reader says why not.

Every call is one short read transaction, so that a reader never keeps the writer's log from starting anew. `read` trusts SQLite's pages and
does not check the hash chain; `journal.verify` does.
"""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from journal import storage
from journal.rows import OFFSET_BITS, OFFSET_MASK, Row, RowKind, row_id
from telemetry.errors import JournalCorrupt, OffsetTrimmed

_COLUMNS = "id, count, kind, time_ms, body, source_offset, source_part"
_SELECT = f"SELECT {_COLUMNS} FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"  # noqa: S608 - constants only
_SELECT_LAST = "SELECT id, count FROM rows WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1"
_SELECT_LATEST = (
    f"SELECT {_COLUMNS} FROM rows WHERE kind = ? AND id = "  # noqa: S608 - constants only
    "(SELECT partition << 48 | offset FROM latest WHERE partition = ? AND kind = ?)"
)
_SELECT_FIRST = "SELECT offset FROM anchors WHERE partition = ?"
_KINDS = {int(kind): kind for kind in RowKind}


class JournalReader:
    """Reads the journal at `path`, from any thread, one call at a time. Raises VitalaneError where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage.explained(path, "opened"), ExitStack() as undo:
            self._connection = undo.enter_context(closing(storage.open_read_only(path)))
            self.stream, self.partitions = storage.read_stream(self._connection, path)
            undo.pop_all()

    def read(self, partition: int, offset: int, *, max_rows: int = 64, max_bytes: int = 4 << 20) -> list[Row]:
        """Return rows from `offset` on, in order, at least one if there is any; [] where nothing is new.

        Raises OffsetTrimmed where retention has removed the row asked for.
        """
        if not (0 <= offset <= OFFSET_MASK and 0 <= partition < self.partitions):
            msg = f"{self.path} has offsets from 0 in partitions 0 to {self.partitions - 1}, not offset {offset} in partition {partition}"
            raise ValueError(msg)
        rows: list[Row] = []
        size = 0
        bounds = (row_id(partition, offset), row_id(partition + 1, 0), max_rows)
        try:
            with closing(self._connection.execute(_SELECT, bounds)) as cursor:
                for record in cursor:
                    row = self._row(record)
                    size += len(row.body)
                    if rows and size > max_bytes:
                        break
                    rows.append(row)
            if not rows or rows[0].offset != offset:
                self._check_retained(partition, offset)
        except sqlite3.Error as error:
            raise storage.translate(error, self.path, "read") from error
        return rows

    def head(self, partition: int) -> int:
        """Return the offset that the next row will get."""
        bounds = (row_id(partition, 0), row_id(partition + 1, 0))
        found = self._one(_SELECT_LAST, bounds)
        return self.first(partition) if found is None else int(found[0] & OFFSET_MASK) + int(found[1])

    def first(self, partition: int) -> int:
        """Return the first offset that is retained."""
        found = self._one(_SELECT_FIRST, (partition,))
        if found is None:
            msg = f"{self.path} has partitions 0 to {self.partitions - 1}, not {partition}"
            raise ValueError(msg)
        return int(found[0])

    def last(self, partition: int, kind: RowKind) -> Row | None:
        """Return the newest row of a kind, None where there is none or retention has removed it."""
        found = self._one(_SELECT_LATEST, (int(kind), partition, int(kind)))
        return None if found is None else self._row(found)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, select: str, values: tuple[int, ...]) -> Any:
        try:
            return self._connection.execute(select, values).fetchone()
        except sqlite3.Error as error:
            raise storage.translate(error, self.path, "read") from error

    def _row(self, record: tuple[int, int, int, int, bytes, int, int]) -> Row:
        key, count, kind, time_ms, body, source_offset, source_part = record
        if kind not in _KINDS:
            msg = f"{self.path} holds a row of kind {kind}, which this program does not know: a later version wrote it"
            raise JournalCorrupt(msg)
        return Row(key >> OFFSET_BITS, key & OFFSET_MASK, count, _KINDS[kind], time_ms, body, source_offset, source_part)

    def _check_retained(self, partition: int, offset: int) -> None:
        first = self.first(partition)
        if offset < first:
            msg = f"{self.path} no longer holds offset {offset} of partition {partition}: retention has removed it, the first is {first}"
            raise OffsetTrimmed(msg)
