"""A channel's ledger: what was decided is delivered, pending or dead, and a cursor never moves without it."""

import sqlite3
from pathlib import Path

import pytest

from sinks.ledger import DEAD, DELIVERED, PENDING, ChannelLedger, Counts, Decision, Outcome
from telemetry.alert import AlertEvent, to_json
from telemetry.errors import Transient, VitalaneError
from tests.sinks.parts import event

NOW_MS = 1_000_000


def decision(an_event: AlertEvent) -> Decision:
    return Decision(an_event.event_id, an_event.alert_id, to_json(an_event), an_event)


def decided(ledger: ChannelLedger, *events: AlertEvent, at: int = 1):
    return ledger.decide([decision(item) for item in events], {(0, 0): at}, unmatched=0, trimmed=0, now_ms=NOW_MS)


def test_deciding_moves_the_cursor_and_owes_the_events(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    added = ledger.decide([decision(event(1)), decision(event(2))], {(0, 0): 7, (1, 0): 9}, unmatched=3, trimmed=4, now_ms=NOW_MS)
    assert [delivery.event_id for delivery in added] == [event(1).event_id, event(2).event_id]
    ledger.close()
    again = ChannelLedger(tmp_path / "a.db")
    assert again.cursor() == {(0, 0): 7, (1, 0): 9}
    assert again.counts() == Counts(decided=2, delivered=0, pending=2, dead=0, unmatched=3, repeated=0, trimmed=4)
    assert [delivery.event_id for delivery in again.pending(10)] == [event(1).event_id, event(2).event_id]
    assert again.event(again.pending(1)[0].sequence) == event(1)
    again.close()


def test_an_event_is_owed_once_whatever_is_read_twice(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    decided(ledger, event(1), event(1))
    assert decided(ledger, event(1)) == []
    assert ledger.counts()[:3] == (1, 0, 1)
    assert ledger.counts().repeated == 2
    ledger.close()


def test_settling_keeps_the_books_balanced(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    one, two, three = decided(ledger, event(1), event(2), event(3))
    ledger.settle([Outcome(one, DELIVERED), Outcome(two, DEAD, error="410"), Outcome(three, PENDING, NOW_MS + 5, "timeout")], NOW_MS)
    counts = ledger.counts()
    assert counts[:4] == (3, 1, 1, 1)
    assert counts.balances()
    (still,) = ledger.pending(10)
    assert (still.event_id, still.attempts, still.next_ms) == (event(3).event_id, 1, NOW_MS + 5)
    (letter,) = ledger.dead()
    assert (letter.event_id, letter.error, letter.body) == (event(2).event_id, "410", to_json(event(2)))
    ledger.close()


def test_a_delivered_event_leaves_no_body_behind(tmp_path: Path) -> None:
    """The ledger is no second copy of what patients' alerts said."""
    ledger = ChannelLedger(tmp_path / "a.db")
    (one,) = decided(ledger, event(1))
    ledger.settle([Outcome(one, DELIVERED)], NOW_MS)
    ledger.close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("SELECT length(body) FROM deliveries").fetchall() == [(0,)]
    connection.close()


def test_what_cannot_be_read_is_dead_at_once_and_counted(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    assert ledger.decide([Decision("x", "", b"?", None, "cannot be read")], {(0, 0): 1}, unmatched=0, trimmed=0, now_ms=NOW_MS) == []
    assert ledger.counts()[:4] == (1, 0, 0, 1)
    assert ledger.retry(now_ms=NOW_MS) == 0, "nothing can be sent of it"
    ledger.close()


def test_dead_letters_are_owed_again_when_somebody_asks(tmp_path: Path) -> None:
    """From another process, beside the one that serves the channel."""
    ledger = ChannelLedger(tmp_path / "a.db")
    one, two = decided(ledger, event(1), event(2))
    ledger.settle([Outcome(one, DEAD, error="410"), Outcome(two, DEAD, error="410")], NOW_MS)
    assert not ledger.changed_elsewhere()
    beside = ChannelLedger(tmp_path / "a.db", serve=False)
    assert beside.retry([event(2).event_id, "unknown"], now_ms=NOW_MS + 9) == 1
    beside.close()
    assert ledger.changed_elsewhere()
    assert not ledger.changed_elsewhere()
    (again,) = ledger.pending(10)
    assert (again.event_id, again.attempts, again.decided_ms) == (event(2).event_id, 0, NOW_MS + 9)
    assert ledger.retry(now_ms=NOW_MS) == 1
    assert ledger.counts()[:4] == (2, 0, 2, 0)
    ledger.close()


def test_what_is_forgotten_is_still_counted(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    one, two, _ = decided(ledger, event(1), event(2), event(3))
    ledger.settle([Outcome(one, DELIVERED)], NOW_MS)
    ledger.settle([Outcome(two, DELIVERED)], NOW_MS + 10)
    assert ledger.prune(NOW_MS + 5) == 1
    counts = ledger.counts()
    assert counts[:4] == (3, 2, 1, 0)
    assert counts.balances()
    ledger.close()


def test_one_process_serves_a_channel(tmp_path: Path) -> None:
    """Two would tell everybody twice."""
    ledger = ChannelLedger(tmp_path / "a.db")
    with pytest.raises(VitalaneError, match="served by another process"):
        ChannelLedger(tmp_path / "a.db")
    ledger.close()
    ChannelLedger(tmp_path / "a.db").close()


def test_a_file_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VitalaneError, match=r"cannot open .*: No such file or directory"):
        ChannelLedger(tmp_path / "absent" / "a.db")
    (tmp_path / "b.db").write_bytes(b"no database" * 100)
    with pytest.raises(VitalaneError, match="file is not a database"):
        ChannelLedger(tmp_path / "b.db")


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    """SQLite's own page limit stands in for the disk's: the same error, from the same place."""
    ledger = ChannelLedger(tmp_path / "a.db")
    ledger._database._connection.execute("PRAGMA max_page_count = 12")
    big = event(1, message="x" * 100_000)
    with pytest.raises(Transient, match="full"):
        decided(ledger, event(2), big, at=5)
    assert ledger.cursor() == {}
    assert ledger.counts()[:4] == (0, 0, 0, 0)
    ledger._database._connection.execute("PRAGMA max_page_count = 100000")
    assert len(decided(ledger, event(2), big, at=5)) == 2
    ledger.close()


def test_a_flush_brings_everything_to_disk(tmp_path: Path) -> None:
    ledger = ChannelLedger(tmp_path / "a.db")
    decided(ledger, event(1))
    assert ledger.sync()
    ledger.close()
