"""The hash chain."""

import json

import pytest

from journal.chain import HASH_BYTES, genesis, link
from journal.rows import Row, RowKind
from tests.journal.samples import golden, messages

ROW = Row(1, 7, 2, RowKind.MESSAGES, 1_763_674_000_123, b"body", 5, 6)


def test_version_1_is_what_it_was():
    """Hashes on disks were made so: a difference here would call every journal damaged."""
    previous = genesis("telemetry", 3)
    chain = [previous.hex()]
    for row in (
        Row(3, 0, 2, RowKind.MESSAGES, 1_763_674_000_123, messages(2), -1, 0),
        Row(3, 2, 1, RowKind.TICK, 1_763_674_001_123, b"", -1, 0),
        Row(3, 3, 1, RowKind.ALERT, 1_763_674_001_124, b'{"alert":1}', 1 << 40, 17),
    ):
        previous = link(previous, row)
        chain.append(previous.hex())
    actual = json.dumps(chain, indent=1).encode() + b"\n"
    assert golden("chain-v1.json", actual) == actual


CHANGED = [
    ROW._replace(partition=2),
    ROW._replace(offset=8),
    ROW._replace(count=3),
    ROW._replace(kind=RowKind.TICK),
    ROW._replace(time_ms=ROW.time_ms + 1),
    ROW._replace(body=b"bodY"),
    ROW._replace(source_offset=6),
    ROW._replace(source_part=7),
]


@pytest.mark.parametrize(("field", "changed"), list(zip(Row._fields, CHANGED, strict=True)))
def test_every_field_is_covered(field, changed):
    """A hash that left a field out would let it be edited unseen."""
    assert getattr(changed, field) != getattr(ROW, field)
    assert link(b"\0" * HASH_BYTES, changed) != link(b"\0" * HASH_BYTES, ROW)


def test_the_row_before_is_covered():
    assert link(b"\1" * HASH_BYTES, ROW) != link(b"\0" * HASH_BYTES, ROW)


def test_streams_and_partitions_begin_differently():
    """Else a partition could stand in for another."""
    assert len({genesis("a", 0), genesis("a", 1), genesis("b", 0), genesis("a", 10)}) == 4
