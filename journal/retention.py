"""What leaves a journal, and when: the oldest rows beyond an age or a size. Its law: no row that a consumer has yet to read.

Rows go in small transactions, oldest first over all partitions, each moving its partition's anchor (first offset, hash before it), so that
the chain stays verifiable. Pages are used again by later rows, not given back: at a steady size a journal is a ring.
"""

import heapq
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from journal import storage
from journal.rows import OFFSET_MASK, row_id

ROWS_AT_ONCE = 256


class _Old(NamedTuple):
    time_ms: int
    partition: int
    next_offset: int
    size: int


def trim_some(
    connection: sqlite3.Connection,
    partitions: int,
    *,
    max_age_ms: int | None,
    max_bytes: int | None,
    now_ms: int,
    floor: Mapping[int, int],
) -> int:
    """Remove in one transaction some of what is too old or too much and below the floor; return how many rows, 0 when nothing is left."""
    oldest_kept_ms = None if max_age_ms is None else now_ms - max_age_ms
    excess = 0 if max_bytes is None else storage.used_bytes(connection) - max_bytes
    ends: dict[int, int] = {}
    removed = 0
    with closing(heapq.merge(*(_oldest(connection, partition, floor.get(partition, 0)) for partition in range(partitions)))) as oldest:
        for old in oldest:
            too_old = oldest_kept_ms is not None and old.time_ms < oldest_kept_ms
            if removed == ROWS_AT_ONCE or not (too_old or excess > 0):
                break
            ends[old.partition] = old.next_offset
            excess -= old.size
            removed += 1
    if removed:
        with storage.transaction(connection):
            for partition, end in ends.items():
                _remove(connection, partition, end)
    return removed


def _oldest(connection: sqlite3.Connection, partition: int, floor: int) -> Iterator[_Old]:
    """Yield the first rows of a partition that end at or below the floor."""
    select = "SELECT id, count, time_ms, length(body) FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    with closing(connection.execute(select, (row_id(partition, 0), row_id(partition, min(floor, OFFSET_MASK)), ROWS_AT_ONCE))) as rows:
        for key, count, time_ms, size in rows:
            next_offset = (key & OFFSET_MASK) + count
            if next_offset > floor:
                return
            yield _Old(time_ms, partition, next_offset, size)


def _remove(connection: sqlite3.Connection, partition: int, end: int) -> None:
    bounds = (row_id(partition, 0), row_id(partition, end))
    time_ms, digest = connection.execute(
        "SELECT time_ms, hash FROM rows WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1", bounds
    ).fetchone()
    connection.execute("DELETE FROM rows WHERE id >= ? AND id < ?", bounds)
    connection.execute("UPDATE anchors SET offset = ?, hash = ?, time_ms = ? WHERE partition = ?", (end, digest, time_ms, partition))
