"""The body of a HISTORY row: accepted readings as columns. Its law: what goes in comes out, bit for bit.

Version 1, little-endian:

    "VH"  version u8 = 1  zero u8  n u32  clock_ms i64  scale i64
    four columns, each:  least i64  bytes of an entry u8  zeros u8 * 7  entries less the least, * n

in the order values, series, times, positions. `clock_ms` is the journal's time when the last of the readings was taken. Every byte is
hashed, logged and copied, so columns are as narrow as they can be: integers are their differences to the least. Values are mostly decimal
numbers of a few places, and are written as integers, times `scale`, where that brings back the very same bits; else the scale is 0 and
they are doubles.
"""

import struct
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.columns import Floats, Integers
from rules.history import HistoryChunk
from telemetry.errors import JournalCorrupt

VERSION = 1
SCALES = (1000, 1_000_000)
_SAMPLE = 256  # values that are tried before all are
_HEADER = struct.Struct("<2sBBIqq")
_COLUMN = struct.Struct("<qB7x")
_TYPES: dict[int, Any] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<i8")}

assert sys.byteorder == "little", "journals are written on little-endian machines"


def encode(chunk: HistoryChunk, clock_ms: int) -> bytes:
    """Return the body for a chunk, which holds at least one reading."""
    scale, values = _scaled(chunk.values)
    columns = (values, chunk.rows, chunk.times_ms, chunk.positions)
    return b"".join((_HEADER.pack(b"VH", VERSION, 0, len(chunk.rows), clock_ms, scale), *(_packed(column) for column in columns)))


def clock_ms(body: bytes) -> int:
    """Return the journal's time at which a body was written."""
    return _header(body)[1]


def decode(body: bytes) -> HistoryChunk:
    """Return the chunk of a body. Raises JournalCorrupt where `encode` did not write it."""
    n, _, scale = _header(body)
    at = _HEADER.size
    columns: list[Integers] = []
    for _ in range(4):
        column, at = _unpacked(body, n, at)
        columns.append(column)
    if at != len(body):
        raise _other_length(body, n)
    values, rows, times_ms, positions = columns
    return HistoryChunk(rows.astype(np.int32), times_ms, values / scale if scale else values.view(np.float64), positions)


def _header(body: bytes) -> tuple[int, int, int]:
    if len(body) < _HEADER.size or body[:2] != b"VH":
        msg = f"a body of history starts with 'VH', this one with {body[:2]!r}"
        raise JournalCorrupt(msg)
    _, version, _, n, clock, scale = _HEADER.unpack_from(body)
    if version != VERSION:
        msg = f"history of format version {version} is newer than this program, which reads version {VERSION}"
        raise JournalCorrupt(msg)
    return n, clock, scale


def _scaled(values: Floats) -> tuple[int, Integers]:
    """Return values as integers and what they were multiplied by; 0 and their bits where no scale brings all of them back."""
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit comes back as something else, and that is seen
        for scale in SCALES:
            for tried in (values[:_SAMPLE], values):
                whole = np.rint(tried * scale).astype(np.int64)
                if not np.array_equal((whole / scale).view(np.int64), tried.view(np.int64)):
                    break
            else:
                return scale, whole
    return 0, values.view(np.int64)


def _packed(column: NDArray[np.signedinteger[Any]]) -> bytes:
    least, greatest = int(column.min()), int(column.max())
    size = next(size for size in _TYPES if size == 8 or greatest - least < 1 << 8 * size)
    if size == 8:
        return _COLUMN.pack(0, size) + column.astype(_TYPES[size], copy=False).tobytes()
    return _COLUMN.pack(least, size) + (column - least).astype(_TYPES[size]).tobytes()


def _unpacked(body: bytes, n: int, at: int) -> tuple[Integers, int]:
    """Return the column that begins at a place, and where it ends."""
    if len(body) < at + _COLUMN.size:
        raise _other_length(body, n)
    least, size = _COLUMN.unpack_from(body, at)
    at += _COLUMN.size
    if size not in _TYPES or len(body) < at + n * size:
        raise _other_length(body, n)
    return np.frombuffer(body, _TYPES[size], n, at).astype(np.int64) + least, at + n * size


def _other_length(body: bytes, n: int) -> JournalCorrupt:
    return JournalCorrupt(f"a body of {len(body)} bytes is not the {n} readings that its header says")
