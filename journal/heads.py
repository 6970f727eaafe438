"""What a writer must know to append: each partition's end, and the newest row and greatest source of each kind. Read at open, and checked.

The last row of every partition is hashed again at open, so that a writer never continues a chain that it cannot prove.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.chain import link
from journal.rows import OFFSET_MASK, Row, row_id
from telemetry.errors import JournalCorrupt


class Head(NamedTuple):
    """Where a partition's next row goes."""

    offset: int
    hash: bytes  # of the row before it
    time_ms: int  # of the row before it


class Latest(NamedTuple):
    """The newest row of a kind, and the greatest (source_offset, source_part) that a row of that kind ever had."""

    offset: int
    source: tuple[int, int]


def read_head(connection: sqlite3.Connection, path: Path, partition: int) -> Head:
    """Return where a partition's next row goes. Raises JournalCorrupt where its last row is not what was written."""
    anchor = connection.execute("SELECT offset, hash, time_ms FROM anchors WHERE partition = ?", (partition,)).fetchone()
    if anchor is None:
        msg = f"{path} is damaged: it does not say where partition {partition} begins"
        raise JournalCorrupt(msg)
    select = (
        "SELECT id, count, kind, time_ms, body, source_offset, source_part, hash FROM rows"
        " WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 2"
    )
    with closing(connection.execute(select, (row_id(partition, 0), row_id(partition + 1, 0)))) as cursor:
        newest, before = cursor.fetchone(), cursor.fetchone()
    if newest is None:
        return Head(*anchor)
    key, count, kind, time_ms, body, source_offset, source_part, digest = newest
    row = Row(partition, key & OFFSET_MASK, count, kind, time_ms, body, source_offset, source_part)
    if link(before[-1] if before else anchor[1], row) != digest:
        msg = f"{path} is damaged: the last row of partition {partition}, offset {row.offset}, is not what was written"
        raise JournalCorrupt(msg)
    return Head(row.offset + count, digest, time_ms)


def read_latest(connection: sqlite3.Connection) -> dict[tuple[int, int], Latest]:
    """Return the newest row and the greatest source by partition and kind."""
    select = "SELECT partition, kind, offset, source_offset, source_part FROM latest"
    return {(partition, kind): Latest(offset, (at, part)) for partition, kind, offset, at, part in connection.execute(select)}
