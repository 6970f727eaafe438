"""The journal as an input: in order, from where it was left, and no partition far ahead of another."""

import threading
from itertools import pairwise

import pytest

from flows.service import telemetry_path
from flows.source import TOGETHER_MS, JournalSource
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter

START_MS = 1_763_000_000_000


def journal(data_dir, *ticks_ms: list[int]) -> JournalSource:
    """Return a source of a journal with these ticks in its partitions."""
    with JournalWriter(telemetry_path(data_dir), "telemetry", len(ticks_ms)) as writer:
        for time_ms, partition in sorted((time_ms, partition) for partition, times in enumerate(ticks_ms) for time_ms in times):
            writer.append([Entry(partition, RowKind.TICK, 1, b"")], START_MS + time_ms)
    return JournalSource(telemetry_path(data_dir), len(ticks_ms), threading.Event(), lambda partition, offset: None, to_end=True)


def drained(*parts) -> list[list[int]]:
    """Return the times that each turn brought, over all parts, until all have ended."""
    turns, left = [], list(parts)
    while left:
        for part in list(left):
            try:
                turns.append([row.time_ms - START_MS for _, row in part.next_batch()])
            except StopIteration:
                left.remove(part)
    return turns


@pytest.fixture
def built():
    parts = []

    def build(source: JournalSource, resume=(None, None)):
        parts.extend(source.build_part("journal", name, at) for name, at in zip(source.list_parts(), resume, strict=False))
        return parts

    yield build
    for part in parts:
        part.close()


def test_no_partition_is_far_ahead_of_another(tmp_path, built):
    """Live, partitions come together; a replay that read one of them hours ahead would take its lead for the other's silence."""
    first, second = built(journal(tmp_path, list(range(0, 3_600_000, 60_000)), list(range(500, 3_600_000, 90_000))))
    turns = drained(first, second)
    seen = [max(turn) for turn in turns if turn]
    assert all(later >= earlier - TOGETHER_MS for earlier, later in pairwise(seen))
    assert sum(map(len, turns)) == 100


def test_a_gap_in_all_partitions_stops_nobody(tmp_path, built):
    turns = drained(*built(journal(tmp_path, [0, 10_000_000], [5, 10_000_000])))
    assert sorted(time for turn in turns for time in turn) == [0, 5, 10_000_000, 10_000_000]


def test_a_partition_without_rows_holds_nobody_up(tmp_path, built):
    turns = drained(*built(journal(tmp_path, [0, 100_000, 200_000], [])))
    assert [time for turn in turns for time in turn] == [0, 100_000, 200_000]


def test_a_snapshot_names_the_first_row_that_was_not_handed_on(tmp_path, built):
    """Rows that wait for their turn were read, but nobody evaluated them."""
    source = journal(tmp_path, [0, 1, 100_000], [0, 90_000])
    first, _ = built(source)
    assert [row.offset for _, row in first.next_batch()] == [0, 1]
    assert first.next_batch() == []
    assert first.snapshot() == 2
    again = source.build_part("journal", "0000", 2)
    assert again.offset == 2
    again.close()
