"""Appending, and reading back what was appended."""

import logging
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import storage
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.verify import verify
from journal.writer import CHECKPOINT_BYTES, LONG_LOG_BYTES, JournalWriter
from telemetry.errors import VitalaneError
from tests.journal.samples import fill, message_entry, read_all, summary

PARTITIONS = 3
entries = st.builds(
    Entry,
    partition=st.integers(0, PARTITIONS - 1),
    kind=st.sampled_from([kind for kind in RowKind if kind != RowKind.MESSAGES]),  # whose bodies are not any bytes
    count=st.integers(1, 300),
    body=st.binary(max_size=60),
    source_offset=st.integers(-1, 1 << 48),
    source_part=st.integers(0, 1 << 31),
)
batches = st.lists(st.lists(entries, max_size=5), max_size=8)


@settings(max_examples=40, deadline=None)
@given(batches, st.lists(st.integers(0, 7), max_size=2), st.data())
def test_reading_from_any_row_gives_the_tail(groups, reopenings, data):
    """However appends were grouped, and wherever the writer was closed between them, a partition is one list of rows."""
    expected: list[list[tuple[int, int, int, bytes]]] = [[] for _ in range(PARTITIONS)]
    ends = [0] * PARTITIONS
    with TemporaryDirectory() as directory:
        path = Path(directory) / "journal.db"
        writer = JournalWriter(path, "telemetry", PARTITIONS)
        for number, group in enumerate(groups):
            offsets = writer.append(group, number)
            for entry, offset in zip(group, offsets, strict=True):
                assert offset == ends[entry.partition]
                expected[entry.partition].append((offset, entry.count, int(entry.kind), entry.body))
                ends[entry.partition] = offset + entry.count
            if number in reopenings:
                writer.close()
                writer = JournalWriter(path, "telemetry", PARTITIONS)
        assert [writer.next_offset(partition) for partition in range(PARTITIONS)] == ends
        writer.close()
        with JournalReader(path) as reader:
            for partition in range(PARTITIONS):
                rows = expected[partition]
                assert reader.head(partition) == ends[partition]
                first = data.draw(st.integers(0, len(rows)))
                start = rows[first][0] if first < len(rows) else ends[partition]
                max_rows = data.draw(st.integers(1, 4))
                assert summary(read_all(reader, partition, start, max_rows)) == rows[first:]
        assert verify(path).ok


def test_nothing_is_appended_by_nothing(tmp_path):
    with JournalWriter(tmp_path / "j.db", "telemetry", 1) as writer:
        assert writer.append([], 5) == []
        assert writer.last_time_ms() == 0


def test_time_never_goes_back(tmp_path):
    """The journal's clock decides silence: a machine's clock set back must not run it backwards, over a restart neither."""
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2) as writer:
        writer.append([Entry(0, RowKind.TICK, 1, b"")], 1000)
        writer.append([Entry(1, RowKind.TICK, 1, b"")], 400)
    with JournalWriter(path, "telemetry", 2) as writer:
        assert writer.last_time_ms() == 1000
        writer.append([Entry(0, RowKind.TICK, 1, b"")], 999)
        writer.append([Entry(0, RowKind.TICK, 1, b"")], 1001)
    with JournalReader(path) as reader:
        assert [row.time_ms for row in reader.read(0, 0)] == [1000, 1000, 1001]
        assert [row.time_ms for row in reader.read(1, 0)] == [1000]


def test_the_greatest_source_of_each_lane_survives(tmp_path):
    """The flow asks which outputs it has written: after a crash, and after retention removed the rows themselves."""
    path = tmp_path / "outbox.db"
    bulk = (RowKind.WINDOWS, RowKind.BOOKS)
    with JournalWriter(path, "outbox", 2) as writer:
        assert writer.last_source(0, bulk) == (-1, -1)
        writer.append([Entry(0, RowKind.ALERT, 1, b"a", 10, 0), Entry(0, RowKind.ALERT, 1, b"b", 10, 3)], 1)
        writer.append([Entry(0, RowKind.BOOKS, 1, b"c", 7, 9), Entry(0, RowKind.WINDOWS, 1, b"d", 7, 2)], 2)
        writer.append([Entry(0, RowKind.WINDOWS, 1, b"e", 6, 99)], 3)
        assert writer.last_source(0, bulk) == (7, 9)
    with JournalWriter(path, "outbox", 2) as writer:
        assert writer.trim(max_age_ms=0, max_bytes=None, now_ms=100, floor={0: 5}) == 5
        assert writer.last_source(0, bulk) == (7, 9)
    with JournalWriter(path, "outbox", 2) as writer:
        assert writer.last_source(0, bulk) == (7, 9)
        assert writer.last_source(0, [RowKind.WINDOWS]) == (7, 2)
        assert writer.last_source(0, [RowKind.ALERT]) == (10, 3)
        assert writer.last_source(1, [RowKind.ALERT]) == (-1, -1)


@pytest.mark.parametrize("entry", [Entry(2, RowKind.TICK, 1, b""), Entry(-1, RowKind.TICK, 1, b""), Entry(0, RowKind.TICK, 0, b"")])
def test_a_row_against_the_rules_changes_nothing(tmp_path, entry):
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2) as writer:
        with pytest.raises(ValueError):
            writer.append([message_entry(0, 3), entry], 5)
        assert writer.append([message_entry(0, 1)], 6) == [0]
    assert verify(path).ok


def test_every_commit_is_synced(tmp_path):
    """No test can cut the power: that each commit asks for the disk, on a log, is held here. The reader cannot weaken it."""
    with JournalWriter(tmp_path / "j.db", "telemetry", 1) as writer:
        asked = {name: writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "fullfsync", "journal_mode")}
    assert asked == {"synchronous": 2, "fullfsync": 1, "journal_mode": "wal"}


def test_a_second_writer_is_refused(tmp_path):
    """Two writers would fork the chain; the sentence names who holds it."""
    path = tmp_path / "j.db"
    program = (
        "import sys; from pathlib import Path; from journal.writer import JournalWriter; from telemetry.errors import VitalaneError\n"
        "try: JournalWriter(Path(sys.argv[1]), 'telemetry', 2)\n"
        "except VitalaneError as error: print(error)\n"
    )
    with JournalWriter(path, "telemetry", 2) as writer:
        with pytest.raises(VitalaneError, match="already has a writer"):
            JournalWriter(path, "telemetry", 2)
        other = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30)
        assert "already has a writer" in other.stdout
        assert other.stderr == ""
        assert writer.append([message_entry(0, 1)], 1) == [0]
    with JournalWriter(path, "telemetry", 2) as writer:
        assert writer.append([message_entry(0, 1)], 1) == [1]


def test_the_log_stays_short(tmp_path):
    """Without readers the log starts anew at each checkpoint, else it would outgrow the journal."""
    path = tmp_path / "j.db"
    longest = 0
    with JournalWriter(path, "telemetry", 1) as writer:
        for number in range(60):
            writer.append([message_entry(0, 100, str(number), size=4000)], number)
            longest = max(longest, (tmp_path / "j.db-wal").stat().st_size)
    assert longest < 2 * CHECKPOINT_BYTES
    assert path.stat().st_size > 5 * CHECKPOINT_BYTES
    assert verify(path).ok


def test_overlapping_readers_do_not_keep_the_log_growing(tmp_path):
    """Exports and verifications may follow each other without a pause: there is always a reader, and the log must still start anew."""
    path = tmp_path / "j.db"
    longest = 0
    done = threading.Event()

    def read_slowly(connection: sqlite3.Connection, starts: threading.Event) -> None:
        while not done.is_set():
            with storage.snapshot(connection):
                connection.execute("SELECT count(*) FROM stream").fetchone()
                starts.set()
                done.wait(0.006)

    with JournalWriter(path, "telemetry", 1) as writer, ExitStack() as readers:
        connections = [readers.enter_context(closing(storage.open_read_only(path))) for _ in range(3)]
        starts = [threading.Event() for _ in connections]
        threads = [threading.Thread(target=read_slowly, args=pair) for pair in zip(connections, starts, strict=True)]
        for thread, started in zip(threads, starts, strict=True):
            thread.start()
            assert started.wait(10)
            done.wait(0.002)  # so that they overlap
        try:
            for number in range(250):
                writer.append([message_entry(0, 100, str(number), size=4000)], number)
                longest = max(longest, (tmp_path / "j.db-wal").stat().st_size)
        finally:
            done.set()
            for thread in threads:
                thread.join(10)
    print(f"longest log: {longest}")
    assert path.stat().st_size > 23 * CHECKPOINT_BYTES
    assert longest < 4 * LONG_LOG_BYTES, "a wait in vain or two"


def test_a_log_that_a_reader_held_is_cut_back(tmp_path, caplog):
    """Somebody leaves a query open: appends go on, it is said once, and the space comes back when they are done."""
    path = tmp_path / "j.db"
    caplog.set_level(logging.INFO)
    with JournalWriter(path, "telemetry", 1) as writer:
        with closing(storage.open_read_only(path)) as connection, storage.snapshot(connection):
            connection.execute("SELECT count(*) FROM stream").fetchone()
            for number in range(100):
                writer.append([message_entry(0, 100, str(number), size=4000)], number)
        held = (tmp_path / "j.db-wal").stat().st_size
        assert held > 9 * CHECKPOINT_BYTES
        for number in range(60):
            writer.append([message_entry(0, 100, str(number), size=4000)], number)
        assert (tmp_path / "j.db-wal").stat().st_size <= LONG_LOG_BYTES
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["journal.checkpoint_deferred", "journal.checkpoint_resumed"]
    assert verify(path).ok


def test_a_journal_that_a_crash_left_with_its_log_goes_on(tmp_path):
    """Without a clean close the newest rows are in the log only."""
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        writer.append([message_entry(0, 3)], 7)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("j.db", "j.db-wal"):
            (crashed / name).write_bytes((tmp_path / name).read_bytes())
    with JournalWriter(crashed / "j.db", "telemetry", 2) as writer:
        assert writer.next_offset(0) == 3
        assert writer.last_time_ms() == 7
    assert verify(crashed / "j.db").ok


def test_a_damaged_last_row_stops_the_writer(tmp_path):
    """A writer never continues a chain that it cannot prove."""
    path = tmp_path / "j.db"
    fill(path, 2)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET time_ms = time_ms + 1 WHERE id = (1 << 48 | 3)")
    connection.close()
    with pytest.raises(VitalaneError, match="last row of partition 1, offset 3, is not what was written"):
        JournalWriter(path, "telemetry", 2)
