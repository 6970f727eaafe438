"""Proving a journal, and finding what was done to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journal.reader import JournalReader
from journal.rows import Entry, RowKind, row_id
from journal.verify import verify
from journal.writer import JournalWriter
from telemetry.errors import JournalCorrupt, VitalaneError
from tests.journal.samples import UPDATE, fill, golden, message_entry, messages


@pytest.fixture
def path(tmp_path):
    fill(tmp_path / "j.db", 10)
    return tmp_path / "j.db"


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_whole_journal_is_proved(path):
    found = verify(path)
    assert (found.ok, found.rows, found.messages, found.problem) == (True, 20, 60, "")
    assert [(one.first, one.next_offset, one.rows, one.messages, one.problem) for one in found.partitions] == [(0, 30, 10, 30, "")] * 2
    assert found.partitions[0].head_hash != found.partitions[1].head_hash
    assert all("proved, head" in line for line in found.lines())


def test_progress_is_told(path):
    told: list[tuple[int, int]] = []
    verify(path, lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
    assert told == sorted(told)


ROW = f"(id = {row_id(1, 12)})"
EDITS = {
    "body": f"UPDATE rows SET body = CAST(replace(body, 'row 4', 'row 5') AS BLOB) WHERE {ROW}",
    "body as text": f"UPDATE rows SET body = CAST(body AS TEXT) WHERE {ROW}",
    "body gone": f"UPDATE rows SET body = x'' WHERE {ROW}",
    "time": f"UPDATE rows SET time_ms = time_ms + 1 WHERE {ROW}",
    "kind": f"UPDATE rows SET kind = 3 WHERE {ROW}",
    "source": f"UPDATE rows SET source_part = 1 WHERE {ROW}",
    "hash": f"UPDATE rows SET hash = zeroblob(16) WHERE {ROW}",
    "count as text": f"UPDATE rows SET count = 'three' WHERE {ROW}",
}


@pytest.mark.parametrize("statement", EDITS.values(), ids=EDITS)
def test_an_edited_row_is_named(path, statement):
    """Somebody with a database tool must not be able to change what a device said."""
    edit(path, statement)
    found = verify(path)
    assert not found.ok
    assert found.problem.startswith("partition 1, row at offset 12: it is not what was written")
    assert [one.problem == "" for one in found.partitions] == [True, False]
    assert found.partitions[1].next_offset == 12


def test_a_byte_flipped_on_the_disk_is_named(path):
    content = bytearray(path.read_bytes())
    at = content.index(b"row 7#1")
    content[at + 6] ^= 1
    path.write_bytes(content)
    assert "row at offset 21: it is not what was written" in verify(path).problem


def test_a_missing_row_is_named(path):
    edit(path, f"DELETE FROM rows WHERE {ROW}")
    assert verify(path).problem == "partition 1, row at offset 15: the row at offset 12 should come here and is gone"


def test_rows_cut_off_at_the_end_are_missed(path):
    """A chain alone would not miss its own end: the record of newest rows does."""
    edit(path, f"DELETE FROM rows WHERE id >= {row_id(1, 24)}")
    assert verify(path).problem == "partition 1: the newest row of kind 1 is recorded at offset 27 and found at 21"


def test_a_partition_emptied_is_missed(path):
    edit(path, f"DELETE FROM rows WHERE id >= {row_id(1, 0)}")
    assert verify(path).problem == "partition 1: the newest row of kind 1 is recorded at offset 27 and found at none"


def test_rows_in_each_others_place_are_named(path):
    """The same bodies in another order are another story."""
    edit(
        path,
        f"UPDATE rows SET id = -1 WHERE id = {row_id(0, 3)}",
        f"UPDATE rows SET id = {row_id(0, 3)} WHERE id = {row_id(0, 6)}",
        f"UPDATE rows SET id = {row_id(0, 6)} WHERE id = -1",
    )
    assert "partition 0, row at offset 3: it is not what was written" in verify(path).problem


def test_a_row_of_no_partition_is_named(path):
    edit(
        path, f"INSERT INTO rows SELECT {row_id(9, 0)}, count, kind, time_ms, source_offset, source_part, hash, body FROM rows WHERE {ROW}"
    )
    found = verify(path)
    assert "belongs to none of the 2 partitions" in found.problem
    assert found.lines()[-1].startswith("NOT PROVED")


def test_an_anchor_moved_over_rows_is_named(path):
    edit(path, "UPDATE anchors SET offset = 6 WHERE partition = 0")
    assert "partition 0" in verify(path).problem


def test_a_record_of_sources_set_back_is_named(tmp_path):
    """It decides what a restarted flow writes again."""
    path = tmp_path / "outbox.db"
    with JournalWriter(path, "outbox", 1) as writer:
        writer.append([Entry(0, RowKind.ALERT, 1, b"{}", 5, 1)], 1)
    edit(path, "UPDATE latest SET source_offset = 4")
    assert "newest row of kind 16" in verify(path).problem


def test_a_row_that_counts_wrong_is_named(tmp_path):
    """Written so by a faulty program, not changed later: the chain is whole and the books would still not balance."""
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 1) as writer:
        writer.append([Entry(0, RowKind.MESSAGES, 4, messages(3))], 1)
    assert verify(path).problem == "partition 0, row at offset 0: it counts 4 messages and holds 3"


def test_time_that_goes_back_is_named(tmp_path):
    """Only a faulty writer could do it, its chain whole; the flow would run backwards on it."""
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 1) as writer:
        writer.append([message_entry(0, 1)], 500)
        writer._time_ms = 0
        writer.append([message_entry(0, 1)], 400)
    assert verify(path).problem == "partition 0, row at offset 1: its time goes back by 100 ms"


def test_a_damaged_page_is_a_finding_and_no_traceback(tmp_path):
    path = tmp_path / "j.db"
    fill(path, 200, size=400)
    content = bytearray(path.read_bytes())
    for page in range(10, len(content) // 4096, 7):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    found = verify(path)
    assert not found.ok
    assert found.problem


def test_a_trimmed_journal_is_proved_from_its_anchor(path):
    with JournalWriter(path, "telemetry", 2) as writer:
        writer.trim(max_age_ms=0, max_bytes=None, now_ms=1 << 40, floor={0: 15, 1: 30})
        assert verify(path).ok
        writer.append([message_entry(1, 2)], 1 << 40)
    found = verify(path)
    assert found.ok
    assert [(one.first, one.rows) for one in found.partitions] == [(15, 5), (30, 1)]


def test_a_journal_in_use_is_proved(path):
    """Appends and retention go on while it is verified, and are no faults; the only row of a kind may leave meanwhile."""
    with JournalWriter(path, "telemetry", 2) as writer:
        writer.append([Entry(1, RowKind.CONTROL, 1, b"{}")], 15_000)
        for number in range(200):
            writer.append([message_entry(number % 2, 1)], 20_000 + number)

        def disturb(done: int, total: int) -> None:
            writer.append([message_entry(0, 1), message_entry(1, 1)], 30_000)
            if done >= 30:
                writer.trim(max_age_ms=0, max_bytes=None, now_ms=20_190, floor={0: 120, 1: 10_000})

        found = verify(path, disturb)
        assert (found.problem, found.ok) == ("", True)
    assert verify(path).ok


def test_what_is_no_journal_is_refused(tmp_path):
    with pytest.raises(VitalaneError, match="there is no journal at"):
        verify(tmp_path / "none.db")
    edit(tmp_path / "other.db", "CREATE TABLE t (x)")
    with pytest.raises(JournalCorrupt, match="another program's SQLite file"):
        verify(tmp_path / "other.db")


def test_a_journal_of_version_1_is_still_read(tmp_path):
    """A file as the first version made it: later versions open it, prove it and go on from it."""
    made = tmp_path / "made.db"
    fill(made, 3)
    kept = tmp_path / "kept.db"
    kept.write_bytes(golden("journal-v1.db", made.read_bytes() if UPDATE else b""))
    assert verify(kept).lines() == verify(made).lines()
    with JournalWriter(kept, "telemetry", 2) as writer:
        assert writer.append([message_entry(0, 1)], 1) == [9]
    with JournalReader(kept) as reader:
        assert [row.time_ms for row in reader.read(0, 0)] == [1000, 2000, 3000, 3000]
    assert verify(kept).ok
