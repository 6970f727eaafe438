"""The hash chain of a partition: each row's hash covers the row and the hash before it, so that no row changes, moves or vanishes unseen.

hash = blake2b-16(previous hash || header || body); the first previous hash is derived from stream and partition, so that a row of one
stream is no row of another. The chain shows accidents and edits; against somebody who rewrites a whole journal, keep a head hash elsewhere
(`journal.verify` reports them). Durable: golden files hold it.
"""

import struct
from hashlib import blake2b

from journal.rows import Row

HASH_BYTES = 16

_HEADER = struct.Struct("<HqqBqqq")  # partition, offset, count, kind, time_ms, source_offset, source_part


def genesis(stream: str, partition: int) -> bytes:
    """Return the hash before the first row of a partition."""
    return blake2b(f"vitalane journal 1 {partition} {stream}".encode(), digest_size=HASH_BYTES).digest()


def link(previous: bytes, row: Row) -> bytes:
    """Return a row's hash."""
    state = blake2b(previous, digest_size=HASH_BYTES)
    state.update(_HEADER.pack(row.partition, row.offset, row.count, row.kind, row.time_ms, row.source_offset, row.source_part))
    state.update(row.body)
    return state.digest()
