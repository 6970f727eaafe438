"""Reading while the writer writes."""

import sqlite3
import threading

import pytest

from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import CHECKPOINT_BYTES, LONG_LOG_BYTES, JournalWriter
from telemetry.errors import OffsetTrimmed
from tests.journal.samples import fill, message_entry, read_all


@pytest.fixture
def path(tmp_path):
    fill(tmp_path / "j.db", 10)
    return tmp_path / "j.db"


def test_a_reader_knows_whose_journal_it_reads(path):
    with JournalReader(path) as reader:
        assert (reader.stream, reader.partitions) == ("telemetry", 2)
        assert (reader.first(1), reader.head(1)) == (0, 30)


def test_an_empty_partition_reads_empty(tmp_path):
    with JournalWriter(tmp_path / "j.db", "telemetry", 1), JournalReader(tmp_path / "j.db") as reader:
        assert reader.read(0, 0) == []
        assert (reader.first(0), reader.head(0)) == (0, 0)
        assert reader.last(0, RowKind.BOOKS) is None


def test_reads_are_bounded_by_rows_and_bytes(path):
    """A consumer that was away for a day must not take the day into memory."""
    with JournalReader(path) as reader:
        size = len(reader.read(0, 0, max_rows=1)[0].body)
        assert [row.offset for row in reader.read(0, 3, max_rows=2)] == [3, 6]
        assert len(reader.read(0, 0, max_bytes=3 * size)) == 3
        assert len(reader.read(0, 0, max_bytes=3 * size - 1)) == 2
        assert len(reader.read(0, 0, max_bytes=0)) == 1, "a row larger than the bound must still come, or nothing would ever go on"


def test_reading_inside_a_row_gives_the_next(path):
    """Rows are read whole: an offset within one asks for what begins there or later."""
    with JournalReader(path) as reader:
        assert reader.read(0, 4)[0].offset == 6
        assert reader.read(0, 28) == []
        assert reader.read(0, 1000) == []


@pytest.mark.parametrize(("partition", "offset"), [(0, -1), (0, 1 << 48), (2, 0), (-1, 0)])
def test_a_place_outside_the_journal_is_refused(path, partition, offset):
    """Partitions share one table: a wild offset must not reach into the next one."""
    with JournalReader(path) as reader, pytest.raises(ValueError, match="not offset"):
        reader.read(partition, offset)


@pytest.mark.parametrize("partition", [-1, 2])
def test_a_partition_that_is_not_there_has_no_ends(path, partition):
    with JournalReader(path) as reader:
        for ask in (reader.first, reader.head):
            with pytest.raises(ValueError, match="has partitions 0 to 1"):
                ask(partition)


def test_the_newest_of_a_kind(path):
    with JournalWriter(path, "telemetry", 2) as writer, JournalReader(path) as reader:
        writer.append([Entry(0, RowKind.BOOKS, 1, b"old"), Entry(1, RowKind.BOOKS, 1, b"other"), Entry(0, RowKind.BOOKS, 1, b"new")], 1)
        writer.append([message_entry(0, 5)], 2)
        newest = reader.last(0, RowKind.BOOKS)
        assert newest is not None
        assert newest.body == b"new"
        assert reader.last(0, RowKind.CONTROL) is None
        writer.trim(max_age_ms=0, max_bytes=None, now_ms=1 << 40, floor={0: 1000})
        assert reader.last(0, RowKind.BOOKS) is None
        assert (reader.first(0), reader.head(0)) == (37, 37)


def test_what_retention_removed_is_said(path):
    """Silence would be a hole that nobody counted."""
    with JournalWriter(path, "telemetry", 2) as writer, JournalReader(path) as reader:
        writer.trim(max_age_ms=0, max_bytes=None, now_ms=1 << 40, floor={0: 12, 1: 30})
        with pytest.raises(OffsetTrimmed, match=r"no longer holds offset 9 of partition 0.*first is 12"):
            reader.read(0, 9)
        assert reader.read(0, 12)[0].offset == 12
        with pytest.raises(OffsetTrimmed):
            reader.read(1, 29)
        assert reader.read(1, 30) == []


def test_a_reader_sees_rows_in_order_while_they_are_written(tmp_path):
    """Constant readers in other threads get every row once, and do not keep the log from starting anew."""
    path = tmp_path / "j.db"
    rows, longest = 400, 0
    seen: dict[int, list[int]] = {0: [], 1: []}
    failed = threading.Event()

    def consume(reader: JournalReader, partition: int) -> None:
        offset = 0
        while len(seen[partition]) < rows and not failed.is_set():
            for row in reader.read(partition, offset):
                seen[partition].append(row.offset)
                offset = row.offset + row.count

    with JournalWriter(path, "telemetry", 2) as writer:
        readers = [JournalReader(path), JournalReader(path)]
        threads = [threading.Thread(target=consume, args=(readers[partition], partition)) for partition in seen]
        for thread in threads:
            thread.start()
        try:
            for number in range(rows):
                writer.append([message_entry(partition, 20, str(number), size=2000) for partition in seen], number)
                longest = max(longest, (tmp_path / "j.db-wal").stat().st_size)
        except BaseException:
            failed.set()
            raise
        finally:
            for thread in threads:
                thread.join(30)
    assert seen[0] == seen[1] == list(range(0, 20 * rows, 20))
    assert path.stat().st_size > 7 * CHECKPOINT_BYTES
    assert longest < 2 * LONG_LOG_BYTES
    for reader in readers:
        reader.close()


def test_a_reader_made_before_a_restart_of_the_writer_goes_on(path):
    """Services restart by themselves: a clean close removes the log under the reader."""
    with JournalReader(path) as reader:
        assert len(read_all(reader, 0)) == 10
        with JournalWriter(path, "telemetry", 2) as writer:
            writer.append([message_entry(0, 1)], 1)
            assert reader.read(0, 30)[0].count == 1
        with JournalWriter(path, "telemetry", 2) as writer:
            writer.append([message_entry(0, 2)], 1)
        assert [row.count for row in reader.read(0, 30)] == [1, 2]


def test_a_reader_cannot_write(path):
    with JournalReader(path) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM rows")
