"""A store's ledger: how far it has come, and what it refused."""

from pathlib import Path

from journal.rows import RowKind
from sinks.outbox import Taken
from sinks.store_ledger import PART, WHOLE, Dead, StoreLedger
from tests.sinks.parts import row

SOURCE = (3, 0)


def taken(*offsets: int) -> list[Taken]:
    return [Taken(SOURCE, row(RowKind.READINGS, b"body-%d" % offset, offset)) for offset in offsets]


def test_dead_letters_and_cursor_change_together(tmp_path: Path) -> None:
    ledger = StoreLedger(tmp_path / "a.db")
    some = taken(0, 1, 2)
    ledger.advance(
        some, [Dead(some[1], "why"), Dead(some[2], "what", b"line"), Dead(some[2], "what", b"other")], {SOURCE: 3}, trimmed=0, now_ms=9
    )
    ledger.close()
    again = StoreLedger(tmp_path / "a.db")
    assert again.cursor() == {SOURCE: 3}
    counts = again.counts()
    assert (counts.decided, counts.delivered, counts.dead) == (3, 1, 2), "in rows: one with two refused lines is one"
    assert counts.balances()
    letters = again.dead()
    assert [(letter.offset, letter.what, letter.body, letter.why) for letter in reversed(letters)] == [
        (1, WHOLE, b"body-1", "why"),
        (2, PART, b"line", "what"),
        (2, PART, b"other", "what"),
    ]
    again.close()


def test_a_letter_that_is_tried_again_and_taken_is_dead_no_more(tmp_path: Path) -> None:
    ledger = StoreLedger(tmp_path / "a.db")
    some = taken(0, 1)
    ledger.advance(some, [Dead(some[0], "why"), Dead(some[1], "what", b"line")], {SOURCE: 2}, trimmed=0, now_ms=9)
    beside = StoreLedger(tmp_path / "a.db", serve=False)
    assert beside.retry([beside.dead()[-1].id]) == 1
    assert beside.retry() == 2
    beside.close()
    assert ledger.changed_elsewhere()
    assert ledger.again() == [(SOURCE, 0, some[0].row), (SOURCE, 1, None)], "a line's row is read from the outbox once more"
    ledger.retried(some[0], [], 10)
    ledger.retried(some[1], [Dead(some[1], "still", b"line")], 10)
    assert [letter.why for letter in ledger.dead()] == ["still"]
    assert ledger.again() == []
    assert ledger.counts()[:4] == (2, 1, 0, 1)
    ledger.close()


def test_a_row_that_the_outbox_has_forgotten_is_not_asked_for_for_ever(tmp_path: Path) -> None:
    ledger = StoreLedger(tmp_path / "a.db")
    some = taken(0)
    ledger.advance(some, [Dead(some[0], "what", b"line")], {SOURCE: 1}, trimmed=0, now_ms=9)
    ledger.retry()
    ledger.gone(SOURCE, 0)
    assert ledger.again() == []
    assert ledger.dead()[0].why == "what (no longer in the outbox)"
    assert ledger.counts().balances()
    ledger.close()


def test_dead_letters_are_bounded_and_go_on_being_counted(tmp_path: Path) -> None:
    """A store that refuses everything must not fill the disk."""
    ledger = StoreLedger(tmp_path / "a.db", max_dead=3)
    for number in range(5):
        some = taken(number)
        ledger.advance(some, [Dead(some[0], "why")], {SOURCE: number + 1}, trimmed=0, now_ms=9)
    assert [letter.offset for letter in ledger.dead()] == [4, 3, 2]
    assert ledger.counts()[:4] == (5, 0, 0, 5)
    ledger.close()
