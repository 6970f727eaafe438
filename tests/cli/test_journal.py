import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.configuration import Configuration
from cli.journal import described
from cli.main import run
from journal.messages import FLAG_RETAIN, encode_messages
from journal.rows import Row, RowKind
from tests.cli.running import Running, decided_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    return decided_world(tmp_path_factory.mktemp("world"))


def told(world: Configuration, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    capsys.readouterr()
    assert run(["journal", arguments[0], "-c", str(world.path), *arguments[1:]]) == code
    return capsys.readouterr().out.splitlines()


def test_tail_shows_the_newest_rows_and_no_payload(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    """Topics help to see what comes; what was measured is shown only to who asks for it."""
    lines = told(world, capsys, "tail", "-n", "6")
    assert len(lines) == 6
    assert any("messages: vitalane/v1/" in line for line in lines)
    assert not any("values" in line for line in lines)
    assert any('"values"' in line for line in told(world, capsys, "tail", "-n", "6", "--payload"))


def test_tail_of_the_outbox_says_what_was_decided(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(world, capsys, "tail", "--stream", "outbox", "-n", "10000")
    for shown in ("outbox-0@", "outbox-1@", " alert ", " raised critical: warm for dev-", " windows", " readings", "books to "):
        assert any(shown in line for line in lines), shown
    assert lines == sorted(lines, key=lambda line: line[:24])


def test_tail_follows(world: Configuration) -> None:
    """What comes later is shown, and Ctrl-C is no error to read about."""
    from journal.rows import Entry
    from journal.writer import JournalWriter

    with Running("journal", "tail", "-c", str(world.path), "-n", "1", "-f") as tail:
        tail.says("@")
        with JournalWriter(world.data_dir / "telemetry.db", "telemetry", 2) as writer:
            writer.append([Entry(1, RowKind.CONTROL, 1, b'{"type":"stopped","version":"of-the-test"}')], 0)
        tail.says("control: stopped of-the-test")
        tail.stop()
    assert not any("Traceback" in line for line in tail.lines)


def test_export_writes_json_lines(world: Configuration, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in told(world, capsys, "export", "--no-payload")]
    assert {line["kind"] for line in lines} >= {"messages", "control"}
    assert not any("payload" in line for line in lines)
    file = tmp_path / "out.jsonl"
    told(world, capsys, "export", str(file))
    assert len(file.read_text().splitlines()) == len(lines)


def test_verify_names_the_row_that_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = decided_world(tmp_path)
    assert all("whole, head" in line for line in told(changed, capsys, "verify"))
    with closing(sqlite3.connect(changed.data_dir / "telemetry.db", isolation_level=None)) as connection:
        connection.execute("UPDATE rows SET time_ms = time_ms + 1 WHERE id = 3")
    assert any("row at offset 3: it is not what was written" in line for line in told(changed, capsys, "verify", code=1))


def test_without_a_journal_it_says_who_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vitalane.yaml").write_text("")
    assert run(["journal", "tail", "-c", str(tmp_path / "vitalane.yaml")]) == 3
    assert "`vitalane ingest` or `vitalane up` makes it" in capsys.readouterr().err


def test_a_row_of_many_topics_is_still_one_line() -> None:
    topics = [f"vitalane/v1/patient/monitor-{number % 5}/readings".encode() for number in range(9)]
    body = encode_messages(topics, [b"{}"] * 9, bytes([FLAG_RETAIN, *[0] * 8]))
    line = described(Row(0, 0, 9, RowKind.MESSAGES, 0, body, -1, 0))
    assert line.startswith("9 messages, 1 retained: vitalane/v1/patient/monitor-0/readings (2), ")
    assert line.endswith(" and 2 more")
