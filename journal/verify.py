"""Proves a journal, or names the first row of each partition that is not what was written. Its law: it only reads, and believes nothing.

It walks every partition's hash chain from the anchor that retention left, and checks that offsets have no hole, time never goes back,
bodies of messages hold as many as their row says, and the newest rows that the journal speaks of are there. A journal in use can be
verified: the walk ends where the journal ended when it began, and starts again at the new anchor where retention overtakes it.

What it cannot know is that somebody rewrote everything after a row, hashes included, or cut off the oldest rows and moved the anchor. Keep
`PartitionVerification.head_hash` elsewhere to be able to show that.
"""

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal import storage
from journal.chain import link
from journal.messages import decode_messages
from journal.rows import OFFSET_MASK, Row, RowKind, row_id
from telemetry.errors import JournalCorrupt

_ROWS_AT_ONCE = 64
_SELECT = "SELECT id, count, kind, time_ms, body, source_offset, source_part, hash FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
_KINDS = {int(kind) for kind in RowKind}


class PartitionVerification(NamedTuple):
    partition: int
    first: int  # the first offset retained
    next_offset: int  # one past the last offset proved
    rows: int
    messages: int
    head_hash: str  # of the last row proved; later rows are proved to follow it
    problem: str  # empty where the partition is proved


class Verification(NamedTuple):
    ok: bool
    rows: int
    messages: int
    problem: str  # of the first partition that has one
    partitions: list[PartitionVerification]

    def lines(self) -> list[str]:
        """Return what was found, a line a partition."""
        found = [
            f"partition {one.partition}: offsets {one.first} to {one.next_offset}, {one.rows} rows, {one.messages} messages, "
            + (f"NOT PROVED: {one.problem}" if one.problem else f"proved, head {one.head_hash}")
            for one in self.partitions
        ]
        unnamed = bool(self.problem) and not any(one.problem for one in self.partitions)
        return [*found, f"NOT PROVED: {self.problem}"] if unnamed else found


class _Anchor(NamedTuple):
    offset: int
    hash: bytes
    time_ms: int


class _Latest(NamedTuple):
    """What the journal itself says of a kind: its newest row and its greatest source."""

    offset: int
    source: tuple[int, int]


class _Extent(NamedTuple):
    """What a partition held when verification began."""

    anchor: _Anchor
    head: int
    latest: dict[int, _Latest]


def verify(path: Path, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Verify the journal at `path`, telling `progress` the offsets done and in all. Raises VitalaneError where it cannot be opened."""
    try:
        with closing(storage.open_read_only(path)) as connection:
            return _verify_all(connection, path, progress or (lambda _done, _total: None))
    except sqlite3.Error as error:
        return Verification(False, 0, 0, str(storage.translate(error, path, "read")), [])


def _verify_all(connection: sqlite3.Connection, path: Path, progress: Callable[[int, int], None]) -> Verification:
    stream = storage.read_stream(connection, path)
    with storage.snapshot(connection):
        extents = [_extent(connection, path, partition) for partition in range(stream.partitions)]
        stray = connection.execute("SELECT id FROM rows WHERE id < 0 OR id >= ?", (row_id(stream.partitions, 0),)).fetchone()
    total = sum(extent.head - extent.anchor.offset for extent in extents)
    done = 0
    results = []
    for partition, extent in enumerate(extents):
        before = done

        def tell(offsets: int, before: int = before) -> None:
            progress(before + offsets, total)

        results.append(_Walk(connection, path, partition, extent).run(tell))
        done += extent.head - extent.anchor.offset
        progress(done, total)
    problems = [result.problem for result in results if result.problem]
    if stray is not None:
        problems.append(f"a row with the key {stray[0]} belongs to none of the {stream.partitions} partitions")
    return Verification(
        ok=not problems,
        rows=sum(result.rows for result in results),
        messages=sum(result.messages for result in results),
        problem=problems[0] if problems else "",
        partitions=results,
    )


def _extent(connection: sqlite3.Connection, path: Path, partition: int) -> _Extent:
    anchor = _anchor(connection, path, partition)
    last = connection.execute(
        "SELECT id, count FROM rows WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1", (row_id(partition, 0), row_id(partition + 1, 0))
    ).fetchone()
    latest = connection.execute("SELECT kind, offset, source_offset, source_part FROM latest WHERE partition = ?", (partition,))
    return _Extent(
        anchor,
        anchor.offset if last is None else (last[0] & OFFSET_MASK) + last[1],
        {kind: _Latest(offset, (at, part)) for kind, offset, at, part in latest},
    )


def _anchor(connection: sqlite3.Connection, path: Path, partition: int) -> _Anchor:
    found = connection.execute("SELECT offset, hash, time_ms FROM anchors WHERE partition = ?", (partition,)).fetchone()
    if found is None:
        msg = f"{path} is damaged: it does not say where partition {partition} begins"
        raise JournalCorrupt(msg)
    return _Anchor(*found)


class _Walk:
    """One partition's walk along its chain."""

    def __init__(self, connection: sqlite3.Connection, path: Path, partition: int, extent: _Extent) -> None:
        self._connection = connection
        self._path = path
        self._partition = partition
        self._extent = extent
        self._at = extent.anchor
        self._began = extent.anchor.offset
        self._rows = 0
        self._messages = 0
        self._seen: dict[int, _Latest] = {}

    def run(self, tell: Callable[[int], None]) -> PartitionVerification:
        problem = ""
        try:
            while not problem and self._at.offset < self._extent.head:
                problem = self._step()
                tell(self._at.offset - self._extent.anchor.offset)
            problem = problem or self._compare_latest()
        except sqlite3.Error as error:
            problem = str(storage.translate(error, self._path, "read"))
        return PartitionVerification(
            self._partition, self._extent.anchor.offset, self._at.offset, self._rows, self._messages, self._at.hash.hex(), problem
        )

    def _step(self) -> str:
        """Check the next rows; return what is wrong, or nothing."""
        bounds = (row_id(self._partition, self._at.offset), row_id(self._partition + 1, 0), _ROWS_AT_ONCE)
        with storage.snapshot(self._connection):
            anchor = _anchor(self._connection, self._path, self._partition)
            if anchor.offset > self._at.offset:
                self._at = anchor  # retention was faster
                self._began = anchor.offset
                return ""
            with closing(self._connection.execute(_SELECT, bounds)) as records:
                for key, count, kind, time_ms, body, source_offset, source_part, digest in records:
                    row = Row(self._partition, key & OFFSET_MASK, count, kind, time_ms, body, source_offset, source_part)
                    problem = self._check(row, digest)
                    if problem or self._at.offset >= self._extent.head:
                        return problem
        return ""

    def _check(self, row: Row, digest: bytes) -> str:
        where = f"partition {self._partition}, row at offset {row.offset}"
        if row.offset != self._at.offset:
            return f"{where}: the row at offset {self._at.offset} should come here and is gone"
        try:
            expected = link(self._at.hash, row)
        except (struct.error, TypeError):
            expected = b""  # a column holds what no writer writes
        if expected != digest:
            return f"{where}: it is not what was written, or the row before it is not (the hash differs)"
        if row.time_ms < self._at.time_ms:
            return f"{where}: its time goes back by {self._at.time_ms - row.time_ms} ms"
        if row.kind not in _KINDS:
            return f"{where}: its kind {row.kind} is not known to this program"
        if row.kind == RowKind.MESSAGES:
            try:
                found = len(decode_messages(row.body).payloads)
            except JournalCorrupt as error:
                return f"{where}: {error}"
            if found != row.count:
                return f"{where}: it counts {row.count} messages and holds {found}"
            self._messages += row.count
        self._rows += 1
        self._at = _Anchor(row.offset + row.count, digest, row.time_ms)
        source = (row.source_offset, row.source_part)
        before = self._seen.get(row.kind)
        self._seen[row.kind] = _Latest(row.offset, max(source, before.source) if before else source)
        return ""

    def _compare_latest(self) -> str:
        """Compare the newest rows with what the journal says they are: that shows rows cut off at the end."""
        for kind in sorted({*self._extent.latest, *self._seen}):
            said, found = self._extent.latest.get(kind), self._seen.get(kind)
            if found is None and said is not None and said.offset < self._began:
                continue  # retention has removed it
            if found is None or said is None or said.offset != found.offset or said.source < found.source:
                at, where = (said.offset if said else "none"), (found.offset if found else "none")
                return f"partition {self._partition}: the newest row of kind {kind} is recorded at offset {at} and found at {where}"
        return ""
