"""What a journal holds: rows, each a batch that was committed whole. Their law: a row occupies `count` offsets and offsets are dense.

The first offset of a row names it; the next row of its partition starts at `offset + count`. A row of messages counts its messages, every
other row counts 1. Kinds and the layout of the record are durable: kinds are added, never renumbered.
"""

from enum import IntEnum
from typing import NamedTuple

OFFSET_BITS = 48
OFFSET_MASK = (1 << OFFSET_BITS) - 1
MAX_PARTITIONS = 1 << 15  # (partition << 48 | offset) stays a positive 64-bit integer
MAX_BODY_BYTES = 256 << 20


class RowKind(IntEnum):
    MESSAGES = 1  # journal.messages: MQTT messages as received
    TICK = 2  # empty: nothing came, but time passed
    CONTROL = 3  # JSON: rules, registry or settings as applied
    ALERT = 16  # telemetry.alert: one event
    WINDOWS = 17  # telemetry.blocks: closed windows
    READINGS = 18  # telemetry.blocks: accepted readings
    QUARANTINE = 19  # JSON: what was refused, with its raw bytes
    BOOKS = 20  # telemetry.books: the counts so far
    HISTORY = 21  # flows.history_body: accepted readings, kept for late ones


class Entry(NamedTuple):
    """A row to be appended."""

    partition: int
    kind: RowKind
    count: int  # type: ignore[assignment]  # the field's word; nobody asks a row for tuple.count
    body: bytes
    source_offset: int = -1  # in the outbox: the telemetry row (its first offset) that this follows from
    source_part: int = 0  # and its sequence number among that row's outputs


class Row(NamedTuple):
    """A row as read back."""

    partition: int
    offset: int
    count: int  # type: ignore[assignment]  # the field's word; nobody asks a row for tuple.count
    kind: RowKind
    time_ms: int  # journal time, never going backwards
    body: bytes
    source_offset: int
    source_part: int


def row_id(partition: int, offset: int) -> int:
    """Return the key of a row: rows of one partition are neighbours on disk, in order."""
    return partition << OFFSET_BITS | offset
