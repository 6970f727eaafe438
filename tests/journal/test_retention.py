"""What leaves a journal, and what never does."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.verify import verify
from journal.writer import JournalWriter
from telemetry.errors import OffsetTrimmed
from tests.journal.samples import fill, message_entry, read_all, summary

PARTITIONS = 2
appends = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 5), st.integers(0, 100)), max_size=25)
floors = st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(0, 80))


@settings(max_examples=40, deadline=None)
@given(appends, st.lists(st.tuples(st.integers(0, 200), floors), max_size=3))
def test_rows_leave_by_age_and_never_past_the_floor(rows, trims):
    """Against a list: what is too old and below the floor goes, everything else stays, and the chain is still provable."""
    kept: list[list[tuple[int, int, int]]] = [[] for _ in range(PARTITIONS)]
    clock = 0
    with TemporaryDirectory() as directory:
        path = Path(directory) / "j.db"
        with JournalWriter(path, "telemetry", PARTITIONS) as writer:
            for partition, count, time_ms in rows:
                clock = max(clock, time_ms)
                (offset,) = writer.append([Entry(partition, RowKind.ALERT, count, b"x")], time_ms)
                kept[partition].append((offset, count, clock))
        for now_ms, floor in trims:
            removed = 0
            with JournalWriter(path, "telemetry", PARTITIONS) as writer:
                for partition in range(PARTITIONS):
                    old = [row for row in kept[partition] if row[0] + row[1] <= floor.get(partition, 0) and row[2] < now_ms - 50]
                    kept[partition] = kept[partition][len(old) :]
                    removed += len(old)
                assert writer.trim(max_age_ms=50, max_bytes=None, now_ms=now_ms, floor=floor) == removed
            with JournalReader(path) as reader:
                for partition, expected in enumerate(kept):
                    found = read_all(reader, partition)
                    assert [(row.offset, row.count, row.time_ms) for row in found] == expected
                    assert reader.first(partition) == (expected[0][0] if expected else reader.head(partition))
                    if reader.first(partition):
                        with pytest.raises(OffsetTrimmed):
                            reader.read(partition, reader.first(partition) - 1)
            assert verify(path).problem == ""


def test_no_limits_remove_nothing(tmp_path):
    fill(tmp_path / "j.db", 5)
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        assert writer.trim(max_age_ms=None, max_bytes=None, now_ms=1 << 40, floor={0: 100, 1: 100}) == 0


def test_a_partition_without_a_floor_keeps_everything(tmp_path):
    """Nobody is known to have read it."""
    fill(tmp_path / "j.db", 5)
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        assert writer.trim(max_age_ms=0, max_bytes=0, now_ms=1 << 40, floor={1: 100}) == 5
    with JournalReader(tmp_path / "j.db") as reader:
        assert (reader.first(0), reader.first(1)) == (0, 15)


def test_size_removes_the_oldest_of_all_partitions_and_no_more(tmp_path):
    path = tmp_path / "j.db"
    fill(path, 100, size=4000)  # about 2.4 MB
    with JournalWriter(path, "telemetry", 2) as writer:
        removed = writer.trim(max_age_ms=None, max_bytes=1 << 20, now_ms=0, floor={0: 1000, 1: 1000})
        assert 100 < removed < 140
        assert writer.trim(max_age_ms=None, max_bytes=1 << 20, now_ms=0, floor={0: 1000, 1: 1000}) == 0
    with JournalReader(path) as reader:
        assert abs(reader.first(0) - reader.first(1)) <= 3, "the oldest go first, whichever their partition"
    assert verify(path).ok


def test_size_never_passes_the_floor(tmp_path):
    """A full disk is said (JournalFull); unread rows are not the way out."""
    path = tmp_path / "j.db"
    fill(path, 100, size=4000)
    with JournalWriter(path, "telemetry", 2) as writer:
        assert writer.trim(max_age_ms=None, max_bytes=0, now_ms=0, floor={0: 31, 1: 0}) == 10
    with JournalReader(path) as reader:
        assert (reader.first(0), reader.first(1)) == (30, 0)


def test_a_floor_beyond_everything_stays_in_its_partition(tmp_path):
    """Partitions share one table: a wild offset must not let the next one's rows go."""
    path = tmp_path / "j.db"
    fill(path, 5)
    with JournalWriter(path, "telemetry", 2) as writer:
        assert writer.trim(max_age_ms=0, max_bytes=None, now_ms=1 << 40, floor={0: 1 << 60}) == 5
    with JournalReader(path) as reader:
        assert (reader.first(0), reader.first(1)) == (15, 0)


def test_many_rows_leave_in_many_transactions(tmp_path):
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2) as writer:
        for number in range(4):
            writer.append([Entry(at % 2, RowKind.TICK, 1, b"") for at in range(400)], number)
        assert writer.trim(max_age_ms=0, max_bytes=None, now_ms=3, floor={0: 1000, 1: 500}) == 600 + 500
    with JournalReader(path) as reader:
        assert (reader.first(0), reader.first(1)) == (600, 500)
    assert verify(path).ok


def test_space_is_used_again(tmp_path):
    """At a steady size a journal is a ring: the file stops growing."""
    path = tmp_path / "j.db"
    sizes = []
    with JournalWriter(path, "telemetry", 1) as writer:
        for number in range(100):
            writer.append([message_entry(0, 50, str(number), size=4000)], number)
            writer.trim(max_age_ms=None, max_bytes=2 << 20, now_ms=0, floor={0: writer.next_offset(0)})
            sizes.append(path.stat().st_size)
    assert max(sizes) == sizes[-1] < 4 << 20
    with JournalReader(path) as reader:
        assert summary(read_all(reader, 0))[-1][0] == 99 * 50
    assert verify(path).ok
