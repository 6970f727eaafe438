"""Whatever is wrong with a file, a person reads one clear sentence."""

import os
import sqlite3
from contextlib import closing

import pytest

from journal.reader import JournalReader
from journal.writer import JournalWriter
from telemetry.errors import JournalCorrupt, Transient, VitalaneError
from tests.journal.samples import fill, message_entry


def both(path):
    """Return what a writer and a reader say of a path."""
    said = []
    for make in (lambda: JournalWriter(path, "telemetry", 2), lambda: JournalReader(path)):
        with pytest.raises(VitalaneError) as raised:
            make()
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)
        said.append(raised.value)
    return said


def test_a_directory_that_cannot_be_written(read_only_directory):
    writing, reading = both(read_only_directory / "j.db")
    assert "could not be opened for writing" in str(writing)
    assert "ead-only file system" in str(writing) or "ermission denied" in str(writing)
    assert "there is no journal at" in str(reading)


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    writing, reading = both(tmp_path / "file" / "j.db")
    assert "could not be opened for writing" in str(writing)
    assert "there is no journal at" in str(reading)


def test_a_directory_in_its_place(tmp_path):
    (tmp_path / "j.db").mkdir()
    writing, reading = both(tmp_path / "j.db")
    assert "could not be opened" in str(writing)
    assert "could not be opened" in str(reading)


@pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 8000, b"x"])
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "j.db").write_bytes(content)
    for said in both(tmp_path / "j.db"):
        assert isinstance(said, JournalCorrupt)


def test_an_empty_file(tmp_path):
    """A full disk or a hasty `touch` leaves one; a journal is never made over something that is there."""
    (tmp_path / "j.db").touch()
    for said in both(tmp_path / "j.db"):
        assert "is not a journal" in str(said)


def test_a_database_of_another_program(tmp_path):
    with closing(sqlite3.connect(tmp_path / "j.db")) as connection:
        connection.execute("CREATE TABLE precious (x)")
    for said in both(tmp_path / "j.db"):
        assert "another program's SQLite file" in str(said)


def test_a_format_of_the_future(tmp_path):
    fill(tmp_path / "j.db", 1)
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 2")
    for said in both(tmp_path / "j.db"):
        assert "journal format 2; this program reads format 1" in str(said)


@pytest.mark.parametrize(("stream", "partitions"), [("outbox", 2), ("telemetry", 3)])
def test_another_stream_or_number_of_partitions(tmp_path, stream, partitions):
    """Another number of partitions would send a device's messages elsewhere, out of order with its past."""
    fill(tmp_path / "j.db", 1)
    with pytest.raises(VitalaneError, match=r"holds the stream 'telemetry' in 2 partitions, not .*: use another path"):
        JournalWriter(tmp_path / "j.db", stream, partitions)
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        assert writer.next_offset(0) == 3, "a refused writer leaves no lock behind"


@pytest.mark.parametrize("partitions", [0, 1 << 16])
def test_an_impossible_number_of_partitions(tmp_path, partitions):
    with pytest.raises(VitalaneError, match="a journal has 1 to 32768 partitions"):
        JournalWriter(tmp_path / "j.db", "telemetry", partitions)
    assert not (tmp_path / "j.db").exists()


def test_a_truncated_file(tmp_path):
    fill(tmp_path / "j.db", 50, size=1000)
    os.truncate(tmp_path / "j.db", 10 * 4096)
    with pytest.raises(JournalCorrupt):
        JournalWriter(tmp_path / "j.db", "telemetry", 2)


def test_half_made_journals_never_stand_under_their_name(tmp_path):
    """Killed while making it: the next start makes it anew."""
    (tmp_path / "j.db.new").write_bytes(b"half")
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        assert writer.append([message_entry(0, 1)], 1) == [0]
    assert not (tmp_path / "j.db.new").exists()


def test_somebody_elses_lock_is_waited_for_and_then_said(tmp_path):
    """A person's open transaction in a database tool delays an append; it must not lose it or end the service."""
    path = tmp_path / "j.db"
    with JournalWriter(path, "telemetry", 2) as writer, closing(sqlite3.connect(path, isolation_level=None)) as tool:
        tool.execute("BEGIN IMMEDIATE")
        writer._connection.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(Transient, match="another program holds it locked"):
            writer.append([message_entry(0, 3)], 1)
        tool.execute("ROLLBACK")
        assert writer.append([message_entry(0, 3)], 1) == [0]
