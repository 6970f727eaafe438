"""A full disk: nothing is acknowledged, nothing is lost, and it goes on when there is space."""

import os

import pytest

from journal.reader import JournalReader
from journal.verify import verify
from journal.writer import JournalWriter
from telemetry.errors import JournalFull
from tests.journal.samples import message_entry, read_all


def fill_up(writer: JournalWriter, number: int = 0) -> int:
    """Append until the journal is full; return how many messages were taken."""
    for at in range(number, number + 100_000):
        try:
            offsets = writer.append([message_entry(0, 10, str(at), size=2000), message_entry(1, 10, str(at), size=2000)], at)
        except JournalFull:
            return at
        assert offsets == [10 * at, 10 * at]
    pytest.fail("it never filled up")


def assert_holds(path, rows: int) -> None:
    """Every row whose append returned is there, and no other."""
    assert verify(path).problem == ""
    with JournalReader(path) as reader:
        for partition in range(2):
            assert reader.head(partition) == 10 * rows
            assert read_all(reader, partition)[-1].offset == 10 * (rows - 1)


def test_a_journal_at_its_size_refuses_changes_nothing_and_goes_on_after_a_trim(tmp_path):
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2, max_bytes=2 << 20) as writer:
        rows = fill_up(writer)
        assert rows > 20
        for _ in range(3):
            with pytest.raises(JournalFull, match="is full"):
                writer.append([message_entry(0, 10, size=2000), message_entry(1, 10, size=2000)], rows)
        assert [writer.next_offset(partition) for partition in range(2)] == [10 * rows] * 2
        assert writer.last_time_ms() == rows - 1
        assert_holds(path, rows)
        assert writer.trim(max_age_ms=None, max_bytes=1 << 20, now_ms=0, floor={0: 10 * rows, 1: 10 * rows}) > 10
        more = fill_up(writer, rows)
        assert more > rows + 10
        assert_holds(path, more)
        assert path.stat().st_size <= 2 << 20


def test_a_full_journal_opens_again(tmp_path):
    """A restart must not be what makes it fail for good."""
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2, max_bytes=1 << 20) as writer:
        rows = fill_up(writer)
    with JournalWriter(path, "telemetry", 2, max_bytes=1 << 20) as writer, pytest.raises(JournalFull):
        writer.append([message_entry(0, 100, size=2000)], rows)
    with JournalWriter(path, "telemetry", 2, max_bytes=2 << 20) as writer:
        more = fill_up(writer, rows)
        assert more > rows
    with JournalWriter(path, "telemetry", 2, max_bytes=4096) as writer:
        assert fill_up(writer, more) == more, "a limit below what is there takes nothing more and removes nothing"
    assert_holds(path, more)


@pytest.mark.parametrize("size_mb", [1, 6])
def test_a_disk_without_a_free_byte(small_disk, size_mb):
    """The kernel's own refusal, inside the log (1 MB) and after checkpoints (6 MB): appends go on when somebody makes room."""
    disk = small_disk(f"size={size_mb}m")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(size_mb << 18))
    path = disk / "j.db"
    with JournalWriter(path, "telemetry", 2, reserve_bytes=0) as writer:
        rows = fill_up(writer)
        assert rows > 2
        with pytest.raises(JournalFull, match="is full"):
            writer.append([message_entry(0, 10, size=2000), message_entry(1, 10, size=2000)], rows)
        assert_holds(path, rows)
        ballast.unlink()
        more = fill_up(writer, rows)
        assert more > rows
        assert_holds(path, more)
    assert_holds(path, more)
    with JournalWriter(path, "telemetry", 2, reserve_bytes=0) as writer:
        assert writer.next_offset(1) == 10 * more


def test_retention_makes_room_on_a_disk_that_stays_full(small_disk):
    """The reserve is there for that: rows that everybody has read leave, and their pages take the new ones."""
    disk = small_disk("size=48m")
    path = disk / "j.db"
    with JournalWriter(path, "telemetry", 2) as writer:
        rows = fill_up(writer)
        with pytest.raises(JournalFull, match="its disk is full"):
            writer.append([message_entry(0, 10, size=2000), message_entry(1, 10, size=2000)], rows)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        assert free > 16 << 20
        assert writer.trim(max_age_ms=None, max_bytes=4 << 20, now_ms=0, floor={0: 10 * rows, 1: 10 * rows}) > 50
        more = fill_up(writer, rows)
        assert more > rows + 25
        assert_holds(path, more)


def test_a_disk_too_small_to_begin_on(small_disk):
    disk = small_disk("size=64k")
    (disk / "ballast").write_bytes(bytes(60 << 10))
    with pytest.raises(JournalFull, match="could not be opened"):
        JournalWriter(disk / "j.db", "telemetry", 2)
