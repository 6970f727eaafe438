"""Journals to test with, and the golden files that durable formats are held by."""

import os
from collections.abc import Iterable
from pathlib import Path

from journal.messages import encode_messages
from journal.reader import JournalReader
from journal.rows import Entry, Row, RowKind
from journal.writer import JournalWriter

GOLDEN = Path(__file__).parent.parent / "golden" / "journal"
UPDATE = os.environ.get("VITALANE_UPDATE_GOLDEN") == "1"  # the one switch that rewrites them


def golden(name: str, actual: bytes) -> bytes:
    """Return what the golden file says, after writing `actual` into it where asked to."""
    path = GOLDEN / name
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(actual)
    return path.read_bytes()


def messages(count: int, tag: str = "", size: int = 20) -> bytes:
    """Return a body of some messages that say which they are."""
    topics = [b"vitalane/v1/shipment/truck-%d/readings" % index for index in range(count)]
    return encode_messages(topics, [f"{tag}#{index}".ljust(size).encode() for index in range(count)], b"\x10" * count)


def message_entry(partition: int, count: int, tag: str = "", size: int = 20) -> Entry:
    return Entry(partition, RowKind.MESSAGES, count, messages(count, tag, size))


def fill(path: Path, rows: int, partitions: int = 2, size: int = 20) -> None:
    """Write a journal with some rows of three messages a partition, one transaction a row of each, a second apart."""
    with JournalWriter(path, "telemetry", partitions) as writer:
        for number in range(rows):
            writer.append([message_entry(partition, 3, f"row {number}", size) for partition in range(partitions)], 1000 * (number + 1))


def read_all(reader: JournalReader, partition: int, offset: int | None = None, max_rows: int = 64) -> list[Row]:
    """Return every row from an offset, or the first retained, by as many reads as it takes."""
    rows: list[Row] = []
    at = reader.first(partition) if offset is None else offset
    while found := reader.read(partition, at, max_rows=max_rows):
        rows += found
        at = found[-1].offset + found[-1].count
    return rows


def summary(rows: Iterable[Row]) -> list[tuple[int, int, int, bytes]]:
    return [(row.offset, row.count, int(row.kind), row.body) for row in rows]
