"""The history journal: whatever crashes, a restored shard reads exactly what its snapshot counts."""

import logging
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import full_disk, history_body
from flows.history import COMMITTED_BY_THEN, READINGS_A_ROW, TRIM_EVERY_MS, Histories, history_path
from journal.reader import JournalReader
from journal.rows import Entry, RowKind, row_id
from journal.verify import verify
from journal.writer import JournalWriter
from rules.history import HistoryChunk
from telemetry.errors import JournalCorrupt, JournalFull, VitalaneError
from tests.flows.journals import GOLDEN
from tests.goldens import assert_golden

START_MS, HOUR_MS = 1_763_000_000_000, 3_600_000


def chunk(*values: float, first: int = 0) -> HistoryChunk:
    n = len(values)
    times = np.arange(START_MS, START_MS + n, dtype=np.int64)
    return HistoryChunk(np.arange(n, dtype=np.int32), times, np.array(values), np.arange(n, dtype=np.int64) + row_id(1, first))


def same(one: HistoryChunk, other: HistoryChunk) -> bool:
    return all(np.array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}")) for a, b in zip(one, other, strict=True))


def values(chunks) -> list[float]:
    return [float(value) for one in chunks for value in one.values]


@pytest.fixture
def histories(tmp_path):
    with closing(Histories(tmp_path, threading.Event())) as opened:
        yield opened


readings = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1),
        st.integers(-(2**62), 2**62),
        st.floats(width=64) | st.decimals(-(10**6), 10**6, places=3).map(float) | st.just(-0.0),
        st.integers(0, 2**62),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(readings, st.integers(0, 2**62))
def test_a_body_brings_back_every_bit(some, clock_ms):
    """A history that came back with another value would give other alerts after a crash than without one."""
    types = (np.int32, np.int64, float, np.int64)
    columns = [np.array(column, dtype) for column, dtype in zip(zip(*some, strict=True), types, strict=True)]
    written = HistoryChunk(*columns)
    body = history_body.encode(written, clock_ms)
    assert same(history_body.decode(body), written)
    assert history_body.clock_ms(body) == clock_ms


def test_the_body_is_a_durable_format():
    wide = chunk(1.5, float("nan"), -0.0)._replace(times_ms=np.array([START_MS, START_MS + 2**40, START_MS], np.int64))
    assert_golden(GOLDEN / "history-v1.bin", history_body.encode(chunk(1.5, 8.25, 21.0, first=40), START_MS))
    assert_golden(GOLDEN / "history-v1-wide.bin", history_body.encode(wide, START_MS))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda body: b"", "starts with 'VH'"),
        (lambda body: b"XX" + body[2:], "starts with 'VH'"),
        (lambda body: body[:2] + b"\x07" + body[3:], "version 7 is newer"),
        (lambda body: body[:-1], "is not the 3 readings"),
        (lambda body: body[:32] + b"\x05" + body[33:], "is not the 3 readings"),
    ],
)
def test_a_body_that_is_none_is_refused_with_a_sentence(broken, why):
    with pytest.raises(JournalCorrupt, match=why):
        history_body.decode(broken(history_body.encode(chunk(1.0, 2.0, 3.0), START_MS)))


def test_what_a_snapshot_counts_is_what_comes_back(histories):
    history = histories.open(0)
    history.snapshot(chunk(1.0, 2.0), START_MS, HOUR_MS)
    history.snapshot(None, START_MS + 1, HOUR_MS)
    state = history.snapshot(chunk(3.0), START_MS + 2, HOUR_MS)
    history.snapshot(chunk(4.0), START_MS + 3, HOUR_MS)
    assert values(histories.open(0).restore(state)) == [1.0, 2.0, 3.0]


def test_readings_come_back_in_the_order_of_their_admission_however_many_they_are(histories):
    many = HistoryChunk(*(np.arange(2 * READINGS_A_ROW + 7).astype(dtype) for dtype in (np.int32, np.int64, float, np.int64)))
    state = histories.open(0).snapshot(many, START_MS, HOUR_MS)
    parts = list(histories.open(0).restore(state))
    assert [len(part.rows) for part in parts] == [READINGS_A_ROW, READINGS_A_ROW, 7]
    assert same(HistoryChunk(*map(np.concatenate, zip(*parts, strict=True))), many)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_what_a_crash_left_over_is_never_read(tmp_path_factory, epochs):
    """The crash comes between the append and the commit, again and again: only what was committed counts, in order, each once."""
    data_dir, expected, pending = tmp_path_factory.mktemp("crashes"), [], []
    number = 0
    with closing(Histories(data_dir, threading.Event())) as histories:
        history = histories.open(0)
        state: dict = {"ranges": [], "oldest_ms": 0}
        for committed, crashed, empty in epochs:
            number += 1
            new = None if empty else chunk(float(number), number + 0.5, first=number)
            given_back = history.snapshot(new, START_MS + number, HOUR_MS)
            pending += [] if new is None else new.values.tolist()
            if committed:
                state, expected, pending = given_back, expected + pending, []
            if crashed:
                history = histories.open(0)
                assert values(history.restore(state)) == expected
                pending = []
        assert values(histories.open(0).restore(state)) == expected
        assert len(state["ranges"]) <= 1 + sum(crashed for _, crashed, _ in epochs)
    assert verify(history_path(data_dir, 0)).ok


def test_rows_that_were_left_over_do_not_make_a_snapshot_longer_for_ever(histories):
    history = histories.open(0)
    state: dict = {"ranges": [], "oldest_ms": 0}
    for number in range(20):
        history.snapshot(chunk(-1.0), START_MS + number, HOUR_MS)  # an epoch that is never committed
        history = histories.open(0)
        list(history.restore(state))
        state = history.snapshot(chunk(float(number)), START_MS + number, HOUR_MS)
    assert len(state["ranges"]) == 20
    history = histories.open(0)
    assert values(history.restore(state)) == [float(number) for number in range(20)]
    state = history.snapshot(chunk(99.0), START_MS + HOUR_MS + 19, HOUR_MS)
    assert len(state["ranges"]) == 1


def test_what_is_too_old_is_not_read_and_leaves_the_file(histories, tmp_path):
    """On the journal's clock: a journal of last year, replayed in a minute, keeps what it would have kept last year."""
    history, now_ms, states = histories.open(0), START_MS, []
    for number in range(200):
        now_ms += TRIM_EVERY_MS
        states.append(history.snapshot(chunk(float(number)), now_ms, HOUR_MS))
    with JournalReader(history_path(tmp_path, 0)) as reader:
        assert reader.first(0) == 200 - 61 - (COMMITTED_BY_THEN - 1)
    assert values(histories.open(0).restore(states[-1])) == [float(number) for number in range(139, 200)]


def test_what_any_of_the_last_snapshots_needs_is_still_there(histories):
    """An epoch can be hours of journal time in a replay, so an age alone would take away what the committed snapshot needs."""
    history, numbers = histories.open(0), range(COMMITTED_BY_THEN + 3)
    states = [history.snapshot(chunk(float(number)), START_MS + number * HOUR_MS, HOUR_MS) for number in numbers]
    for back in range(1, COMMITTED_BY_THEN + 1):
        last = len(states) - back
        assert values(histories.open(0).restore(states[last])) == [last - 1, last]


def test_rows_of_an_earlier_evaluation_leave_the_file(histories, tmp_path):
    """The recovery store was moved away: the file's clock is ahead of ours, and nobody needs what it holds."""
    histories.open(0).snapshot(chunk(*range(10)), START_MS + 24 * HOUR_MS, HOUR_MS)
    history = histories.open(0)
    for number in range(COMMITTED_BY_THEN):
        state = history.snapshot(chunk(float(number)), START_MS + number, HOUR_MS)
    with JournalReader(history_path(tmp_path, 0)) as reader:
        assert reader.first(0) == 1
    assert values(histories.open(0).restore(state)) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("loss", ["gone", "shorter", "trimmed"])
def test_a_history_that_was_lost_is_one_sentence(histories, tmp_path, loss):
    history = histories.open(0)
    state = history.snapshot(chunk(1.0), START_MS, HOUR_MS)
    state = history.snapshot(chunk(2.0), START_MS, HOUR_MS)
    if loss == "trimmed":
        history.writer.trim(max_age_ms=0, max_bytes=None, now_ms=1 << 62, floor={0: 1})
    histories.close()
    if loss != "trimmed":
        history_path(tmp_path, 0).unlink()
    if loss == "shorter":
        histories.open(0).snapshot(chunk(1.0), START_MS, HOUR_MS)
    with pytest.raises(VitalaneError, match=r"history-0\.db no longer holds .* move .*recovery away to evaluate the journal anew"):
        list(histories.open(0).restore(state))


def test_a_shard_that_is_built_again_takes_its_file_over(histories):
    """Bytewax drops logics without a word; the file's one writer must not be one that nobody holds any more."""
    first = histories.open(3)
    first.snapshot(chunk(1.0), START_MS, HOUR_MS)
    second = histories.open(3)
    assert second.snapshot(chunk(2.0), START_MS, HOUR_MS)["ranges"] == [(1, 2)]
    histories.close()
    with JournalWriter(second.path, "history-3", 1) as writer:
        assert writer.next_offset(0) == 2


class Full(JournalWriter):
    """A writer on a disk that is full for some appends."""

    full = 0

    def append(self, entries, time_ms):
        if self.full:
            self.full -= 1
            msg = "the disk is full"
            raise JournalFull(msg)
        return super().append(entries, time_ms)


def test_a_full_disk_is_waited_for_and_said_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with Full(tmp_path / "history-0.db", "history-0", 1) as writer:
        writer.full = 2
        assert full_disk.append(writer, [Entry(0, RowKind.HISTORY, 1, b"x")], START_MS, threading.Event()) == [0]
    assert [record.message.partition(" ")[0] for record in caplog.records] == ["flows.disk_full", "flows.disk_has_room"]


def test_a_stop_ends_the_waiting_for_room(tmp_path):
    stop = threading.Event()
    stop.set()
    with Full(tmp_path / "history-0.db", "history-0", 1) as writer:
        writer.full = 10
        with pytest.raises(JournalFull):
            full_disk.append(writer, [Entry(0, RowKind.HISTORY, 1, b"x")], START_MS, stop)
        assert writer.next_offset(0) == 0
