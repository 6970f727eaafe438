"""The recovery store: whole or anew, and never in two executions at once."""

import threading

import pytest

from flows.outbox import outbox_path
from flows.recovery import Began, await_prepared, began, held, prepare
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from telemetry.errors import VitalaneError

PAIR, OTHERS = ("127.0.0.1:1", "127.0.0.1:2"), ("127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5")


def test_the_processes_of_one_cluster_share_the_store(tmp_path):
    with held(tmp_path, 0, PAIR), held(tmp_path, 1, PAIR):
        assert (tmp_path / ".lock").read_text() == ";".join(PAIR)
    with held(tmp_path, 2, OTHERS):
        assert (tmp_path / ".lock").read_text() == ";".join(OTHERS)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((None, ()), (None, ())),
        ((None, ()), (0, PAIR)),
        ((0, PAIR), (None, ())),
        ((0, PAIR), (0, PAIR)),
        ((0, PAIR), (2, OTHERS)),
    ],
)
def test_a_second_execution_is_kept_out(tmp_path, first, second):
    """Bytewax would let two executions write one store, and neither could be recovered from it."""
    with held(tmp_path, *first), pytest.raises(VitalaneError, match="another flow is running"), held(tmp_path, *second):
        raise AssertionError
    with held(tmp_path, *second):
        assert (tmp_path / ".lock").exists()


def test_what_the_outbox_held_before_the_store_was_made_is_known(tmp_path):
    recovery, outboxes = tmp_path / "recovery", [outbox_path(tmp_path, partition) for partition in range(2)]
    with JournalWriter(outboxes[1], "outbox-1", 1) as writer:
        writer.append([Entry(0, RowKind.ALERT, 1, b"{}", 40, 2), Entry(0, RowKind.BOOKS, 1, b"{}", 90, 0)], 1)
    prepare(recovery, outboxes)
    with JournalWriter(outboxes[1], "outbox-1", 1) as writer:
        writer.append([Entry(0, RowKind.ALERT, 1, b"{}", 99, 0)], 1)
    prepare(recovery, outboxes)  # a second start changes nothing

    assert [began(recovery, partition) for partition in range(2)] == [Began(), Began(2, (40, 2))]


def test_whoever_waits_for_the_store_goes_on_when_it_is_there_and_when_told_to_stop(tmp_path):
    stop, results = threading.Event(), []
    waiting = threading.Thread(target=lambda: results.append(await_prepared(tmp_path, stop)))
    waiting.start()
    prepare(tmp_path, [])
    waiting.join()
    stop.set()
    assert results == [True]
    assert not await_prepared(tmp_path / "elsewhere", stop)
