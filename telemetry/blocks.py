"""A block: many rows of one shape as columns, the durable form of window summaries and readings in the outbox.

Layout, little-endian: `VB1` and a zero byte, the header's length (u32), the header (JSON: series and columns with their array type and
length), then the columns' bytes one after the other. Grows by new columns; a reader takes the columns it knows.
"""

import json
import sys
from array import array
from math import nan
from typing import Any, NamedTuple

from telemetry.readings import SeriesKey

MAGIC = b"VB1\x00"

WINDOW_COLUMNS = (
    "series", "opens_ms", "closes_ms", "count", "mean", "min", "max", "first", "last", "stddev",
    "sum", "median", "p95", "range", "slope", "revision",
)  # fmt: skip
"""`series` 'i' indexes Block.series; `opens_ms`, `closes_ms`, `count`, `revision` 'q'; the rest 'd' in the metric's catalogue unit, `slope`
in that unit a second. NaN where there is none (a slope of one reading). A summary with a revision above 1 replaces the one before; one with
a count of 0 withdraws it (two sessions became one)."""

READING_COLUMNS = ("series", "time_ms", "value")


class Block(NamedTuple):
    series: list[SeriesKey]
    columns: "dict[str, array[Any]]"

    def __len__(self) -> int:
        return len(self.columns["series"])


def pack(block: Block) -> bytes:
    """Return the block's bytes."""
    assert sys.byteorder == "little", "blocks are written on little-endian machines"
    header = {
        "series": block.series,
        "columns": [[name, column.typecode, len(column)] for name, column in block.columns.items()],
    }
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join([MAGIC, len(head).to_bytes(4, "little"), head, *(column.tobytes() for column in block.columns.values())])


def unpack(body: bytes) -> Block:
    """Return the block that `pack` wrote. Raises ValueError where it did not."""
    if body[:4] != MAGIC:
        msg = f"not a block: it starts with {body[:4]!r}"
        raise ValueError(msg)
    at = 8 + int.from_bytes(body[4:8], "little")
    header = json.loads(body[8:at])
    columns: dict[str, array[Any]] = {}
    for name, typecode, length in header["columns"]:
        column = array(typecode)
        end = at + length * column.itemsize
        column.frombytes(body[at:end])
        columns[name], at = column, end
    if "opens_ms" in columns:  # summaries that were written before there were as many aggregates
        length = len(columns["opens_ms"])
        for name in WINDOW_COLUMNS:
            columns.setdefault(name, array("q", [1] * length) if name == "revision" else array("d", [nan] * length))
    return Block([SeriesKey(*key) for key in header["series"]], columns)
