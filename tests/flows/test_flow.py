"""The flow on real Bytewax recovery: whatever happens between, the outbox holds the same decisions, each once."""

import threading
import time
from pathlib import Path

import pytest
from bytewax.errors import BytewaxRuntimeError

from flows.keys import partition_of_key, shard_key, siphash13
from flows.outbox import Keep, OutboxSink, outbox_path
from flows.service import FlowSettings, run
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import RowKind
from telemetry import alert, books
from telemetry.errors import VitalaneError
from tests.flows.journals import copy_of_the_journal, lanes, outbox_rows, run_to_end, write_world

PARTITIONS, ROWS = 2, 40


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world and its outbox after one uninterrupted run."""
    data_dir = tmp_path_factory.mktemp("straight")
    write_world(data_dir, PARTITIONS, ROWS, seed=7)
    run_to_end(data_dir, PARTITIONS)
    return data_dir


def test_every_message_is_in_the_books_and_the_books_balance(straight):
    for partition in range(PARTITIONS):
        rows = outbox_rows(straight, partition)
        last = books.from_json([row.body for row in rows if row.kind == RowKind.BOOKS][-1])
        assert last.balances()
        assert last.quarantined == {"malformed": last.unreadable}
        assert last.accepted > 0


def test_the_world_has_alerts_of_every_rule(straight):
    events = [alert.from_json(row.body) for p in range(PARTITIONS) for row in outbox_rows(straight, p) if row.kind == RowKind.ALERT]

    assert {event.rule for event in events} == {"warm", "low", "silent"}
    assert len({event.event_id for event in events}) == len(events)


def test_a_stop_commits_and_the_next_run_goes_on(straight, tmp_path):
    copy_of_the_journal(straight, tmp_path)
    stop, expected = threading.Event(), lanes(straight, PARTITIONS)

    def stop_when_all_is_decided() -> None:
        give_up_at = time.monotonic() + 60
        paths = [outbox_path(tmp_path, partition) for partition in range(PARTITIONS)]
        while time.monotonic() < give_up_at and not (all(path.exists() for path in paths) and lanes(tmp_path, PARTITIONS) == expected):
            time.sleep(0.1)
        stop.set()

    threading.Thread(target=stop_when_all_is_decided).start()
    run(FlowSettings(tmp_path, PARTITIONS), stop)
    before = lanes(tmp_path, PARTITIONS)
    assert before == expected
    run_to_end(tmp_path, PARTITIONS)

    assert lanes(tmp_path, PARTITIONS) == before
    assert sum(ConsumerOffsets(tmp_path / "offsets.db").committed("telemetry", "flow").values()) > 0


def test_a_second_flow_is_kept_out(straight, tmp_path):
    copy_of_the_journal(straight, tmp_path)
    stop, ended = threading.Event(), threading.Event()

    def first() -> None:
        run(FlowSettings(tmp_path, PARTITIONS), stop)
        ended.set()

    threading.Thread(target=first).start()
    try:
        while not (tmp_path / "recovery" / ".lock").exists() or not (tmp_path / "recovery" / ".lock").read_text():
            ended.wait(0.01)
        with pytest.raises(VitalaneError, match="another flow is running"):
            run(FlowSettings(tmp_path, PARTITIONS), stop)
    finally:
        stop.set()
        assert ended.wait(20)


def test_an_absent_journal_is_one_sentence(tmp_path):
    with pytest.raises((VitalaneError, BytewaxRuntimeError)) as caught:
        run_to_end(tmp_path, PARTITIONS)

    assert isinstance(caught.value, VitalaneError)
    assert "telemetry.db" in str(caught.value)


def test_keys_lead_back_to_their_partition_and_lie_where_their_source_lies():
    for partition in range(64):
        assert partition_of_key(shard_key(partition)) == partition
        for workers in range(1, 9):
            assert siphash13(shard_key(partition).encode() + b"\xff") % workers == partition % workers


def test_a_recovery_store_that_a_crash_left_half_made_is_made_anew(straight, tmp_path):
    """Bytewax makes its store in several steps; a kill between them must not keep the flow from ever starting again."""
    copy_of_the_journal(straight, tmp_path)
    (tmp_path / "recovery").mkdir()
    (tmp_path / "recovery" / "part-0.sqlite3").touch()
    run_to_end(tmp_path, PARTITIONS)

    assert lanes(tmp_path, PARTITIONS) == lanes(straight, PARTITIONS)


def test_the_outbox_keeps_what_a_consumer_has_not_taken_and_lets_the_rest_go(straight, tmp_path):
    copy_of_the_journal(straight, tmp_path)
    run_to_end(tmp_path, PARTITIONS)
    held = len(outbox_rows(tmp_path, 0))
    sink = OutboxSink(tmp_path, PARTITIONS, threading.Event(), Keep(bytes=1, consumers=("history", "hook")))
    with ConsumerOffsets(tmp_path / "offsets.db") as offsets:
        offsets.commit("outbox-0", "history", {0: held})
        trim(sink)
        assert len(outbox_rows(tmp_path, 0)) == held
        offsets.commit("outbox-0", "hook", {0: 5})
        trim(sink)

    part = sink.build_part("outbox", "0000", None)
    assert part.writer.next_offset(0) == held
    part.close()
    reader = JournalReader(tmp_path / "outbox-0.db")
    assert reader.first(0) == 5


def trim(sink: OutboxSink) -> None:
    part = sink.build_part("outbox", "0000", None)
    part.trim_at_s = 0.0
    part.snapshot()
    part.close()
