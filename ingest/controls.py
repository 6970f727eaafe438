"""Control records: the rules, registry and settings that hold from here on, written into every partition where they do not already stand.

They are appended as one set, so that the last rows of their kind say what holds, and a start with nothing new writes nothing.
"""

import json
from collections.abc import Sequence

from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from telemetry.errors import OffsetTrimmed


def control_entries(reader: JournalReader, controls: Sequence[bytes]) -> list[Entry]:
    """Return what is to be appended so that these records, JSON objects with `type` and `version`, hold in every partition."""
    wanted = [_name(body) for body in controls]
    return [
        Entry(partition, RowKind.CONTROL, 1, body)
        for partition in range(reader.partitions)
        if _standing(reader, partition, len(controls)) != wanted
        for body in controls
    ]


def _standing(reader: JournalReader, partition: int, count: int) -> list[tuple[str, str]]:
    """Return type and version of the newest `count` control records of a partition, [] where they do not stand side by side."""
    newest = reader.last(partition, RowKind.CONTROL)
    if newest is None or newest.offset + 1 < count:
        return []
    try:
        rows = reader.read(partition, newest.offset - count + 1, max_rows=count)
    except OffsetTrimmed:
        return []
    return [_name(row.body) for row in rows if row.kind == RowKind.CONTROL]


def _name(body: bytes) -> tuple[str, str]:
    record = json.loads(body)
    return record["type"], str(record["version"])
