"""A store's loop: the cursor moves behind what is durable, and what is refused is set aside alone."""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from journal.offsets import ConsumerOffsets
from journal.rows import Row, RowKind
from sinks.backoff import Backoff
from sinks.outbox import Outbox
from sinks.sink import Part, PartlyRejected
from sinks.store_ledger import StoreLedger
from sinks.storing import StoreDelivery
from telemetry.errors import Rejected, Transient
from tests.sinks.parts import OutboxFile, eventually, running

QUICK = Backoff(base_s=0.001, cap_s=0.01)


class Shelf:
    """A store that keeps rows, but for the bodies that it is told to refuse, in one of the ways that a store may."""

    def __init__(self, way: str = "named") -> None:
        self.rows: dict[int, Row] = {}
        self.bad: set[bytes] = set()
        self.way = way
        self.failures: list[Exception] = []
        self.writes = 0
        self.fail_each = 0
        self.closed = 0

    def write(self, rows: Sequence[Row]) -> None:
        self.writes += 1
        if self.fail_each and self.writes % self.fail_each == 0:
            msg = "blip"
            raise Transient(msg)
        if self.failures:
            raise self.failures.pop(0)
        bad = {index: "bad" for index, row in enumerate(rows) if row.body in self.bad}
        if bad and self.way == "named":
            msg = "bad rows"
            raise Rejected(msg, bad)
        if bad and self.way == "unnamed":
            msg = "something is bad"
            raise Rejected(msg)
        self.rows |= {row.offset: row for row in rows}
        if bad:
            msg = "bad parts"
            raise PartlyRejected(msg, [Part(index, b"part of " + rows[index].body, why) for index, why in bad.items()])

    def close(self) -> None:
        self.closed += 1


def loop(tmp_path: Path, stop: threading.Event, shelf: Shelf, **given: Any) -> StoreDelivery:
    options: dict[str, Any] = {"backoff": QUICK, "pause_s": 0.005} | given
    return StoreDelivery(
        "shelf", shelf, StoreLedger(tmp_path / "delivery-shelf.db"), Outbox({0: tmp_path / "outbox-0.db"}), stop, **options
    )


def ledger(tmp_path: Path) -> StoreLedger:
    return StoreLedger(tmp_path / "delivery-shelf.db", serve=False)


def decided(tmp_path: Path) -> int:
    found = ledger(tmp_path)
    counts = found.counts()
    found.close()
    assert counts.balances()
    return counts.decided


def has_decided(tmp_path: Path, count: int) -> bool:
    return decided(tmp_path) == count


def filled(outbox_file: OutboxFile, count: int) -> list[bytes]:
    bodies = [b"row %d" % number for number in range(count)]
    outbox_file.append(*[(RowKind.WINDOWS, body) for body in bodies])
    return bodies


def test_everything_is_stored_and_the_cursor_follows(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    shelf = Shelf()
    bodies = filled(outbox_file, 500)
    with running(stop, loop(tmp_path, stop, shelf, offsets=tmp_path / "offsets.db")):
        eventually(lambda: decided(tmp_path) == 500)
    assert [shelf.rows[offset].body for offset in range(500)] == bodies
    assert ledger(tmp_path).cursor() == {(0, 0): 500}
    assert ConsumerOffsets(tmp_path / "offsets.db").committed("outbox-0", "shelf") == {0: 500}
    assert shelf.closed == 1


def test_a_store_that_is_away_is_waited_for(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    shelf = Shelf()
    shelf.failures = [Transient("down")] * 20
    filled(outbox_file, 5)
    with running(stop, loop(tmp_path, stop, shelf)):
        eventually(lambda: decided(tmp_path) == 5)
    assert len(shelf.rows) == 5
    assert shelf.writes == 21


def test_the_cursor_does_not_move_before_the_store_said_durable(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    shelf = Shelf()
    shelf.failures = [Transient("down")] * 100_000
    filled(outbox_file, 5)
    with running(stop, loop(tmp_path, stop, shelf)):
        eventually(lambda: shelf.writes > 3)
        assert ledger(tmp_path).cursor() == {}
    assert ledger(tmp_path).cursor() == {}, "stopping is not storing"


def test_refused_rows_are_set_aside_however_the_store_says_so(tmp_path: Path, outbox_file: OutboxFile) -> None:
    bodies = filled(outbox_file, 100)
    for way in ("named", "unnamed"):
        folder = tmp_path / way
        folder.mkdir()
        (folder / "outbox-0.db").hardlink_to(outbox_file.path)
        stop, shelf = threading.Event(), Shelf(way)
        shelf.bad = {bodies[0], bodies[40], bodies[41], bodies[99]}
        outbox = Outbox({0: outbox_file.path})
        delivery = StoreDelivery("shelf", shelf, StoreLedger(folder / "delivery-shelf.db"), outbox, stop, backoff=QUICK, pause_s=0.005)
        with running(stop, delivery):
            eventually(partial(has_decided, folder, 100))
        assert set(range(100)) - set(shelf.rows) == {0, 40, 41, 99}
        assert sorted(letter.offset for letter in ledger(folder).dead()) == [0, 40, 41, 99]
        assert {letter.body for letter in ledger(folder).dead()} == shelf.bad
        assert ledger(folder).counts()[:4] == (100, 96, 0, 4)


def test_refused_parts_are_set_aside_and_their_rows_kept(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    bodies = filled(outbox_file, 10)
    shelf = Shelf("parts")
    shelf.bad = {bodies[3]}
    with running(stop, loop(tmp_path, stop, shelf)):
        eventually(lambda: decided(tmp_path) == 10)
    assert len(shelf.rows) == 10
    assert [(letter.offset, letter.what, letter.body) for letter in ledger(tmp_path).dead()] == [(3, "line", b"part of row 3")]


def test_a_transient_in_the_middle_of_a_search_loses_nothing(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    bodies = filled(outbox_file, 16)
    shelf = Shelf("unnamed")
    shelf.bad = {bodies[5]}
    shelf.fail_each = 3
    with running(stop, loop(tmp_path, stop, shelf)):
        eventually(lambda: decided(tmp_path) == 16)
    assert set(range(16)) - set(shelf.rows) == {5}
    assert [letter.offset for letter in ledger(tmp_path).dead()] == [5]


def test_dead_letters_are_written_again_when_somebody_asks(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    bodies = filled(outbox_file, 10)
    shelf = Shelf("named")
    shelf.bad = {bodies[3], bodies[4]}
    with running(stop, loop(tmp_path, stop, shelf)):
        eventually(lambda: decided(tmp_path) == 10)
        shelf.bad = {bodies[4]}
        assert ledger(tmp_path).retry() == 2
        eventually(lambda: 3 in shelf.rows and len(ledger(tmp_path).dead()) == 1)
    assert [letter.offset for letter in ledger(tmp_path).dead()] == [4]
    assert ledger(tmp_path).counts()[:4] == (10, 9, 0, 1)


def test_a_restart_writes_only_what_was_not_confirmed(tmp_path: Path, outbox_file: OutboxFile) -> None:
    shelf = Shelf()
    filled(outbox_file, 10)
    for expected in (10, 15):
        stop = threading.Event()
        with running(stop, loop(tmp_path, stop, shelf)):
            eventually(partial(has_decided, tmp_path, expected))
        outbox_file.append(*[(RowKind.WINDOWS, b"more")] * 5)
    assert len(shelf.rows) == 15
    assert shelf.writes == 2
