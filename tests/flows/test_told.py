"""After a crash nothing is told twice and nothing false stays told, whatever is decided the second time."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decision import Decision
from flows.outbox import OutboxSink, outbox_path
from flows.recovery import prepare, recovery_path
from flows.told import FOREIGN, Told
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from telemetry import alert
from telemetry.alert import AlertClass, AlertEvent, Phase, Severity

NOW_MS = 1_763_000_000_000
OPEN = {Phase.RAISED, Phase.AMENDED}


def event(revision: int, phase: Phase, *, name: str = "a", peak: float = 9.0, positions=((1, 7),)) -> AlertEvent:
    ended = NOW_MS + int(peak) if phase is Phase.RESOLVED else None
    return AlertEvent(
        name, revision, phase, "warm", "v1", Severity.CRITICAL, AlertClass.ENVIRONMENTAL, "shipment", "s", {}, "temperature", "Cel", "> 8",
        8.0, peak, peak, NOW_MS, ended, NOW_MS, NOW_MS, False, "", (), positions, "c",
    )  # fmt: skip


def decided(*events: AlertEvent, origin: int = 1, offset: int = 7, end: int = 8) -> Decision:
    alerts = [(one.event_id, alert.to_json(one)) for one in events]
    return Decision(origin, offset, end, NOW_MS, alerts, [], repeatable=origin == 0)


PASSED = [decided(origin=1, offset=100, end=101), decided(origin=0, offset=100, end=101)]


class Outbox:
    """The outbox of shard 0 as Bytewax drives it."""

    def __init__(self, data_dir) -> None:
        self.data_dir, self.committed = data_dir, None
        prepare(recovery_path(data_dir), [outbox_path(data_dir, 0)])
        self.part = self._built()

    def _built(self):
        return OutboxSink(self.data_dir, 2, threading.Event()).build_part("outbox", "0000", self.committed)

    def start(self) -> None:
        self.part.close()
        self.part = self._built()

    def commit(self) -> None:
        self.committed = self.part.snapshot()

    def told(self) -> list[AlertEvent]:
        with JournalReader(outbox_path(self.data_dir, 0)) as reader:
            return [alert.from_json(row.body) for row in reader.read(0, 0, max_rows=1000) if row.kind is RowKind.ALERT]

    def brief(self) -> list[tuple[int, str]]:
        return [(one.revision, str(one.phase)) for one in self.told()]


@pytest.fixture
def outbox(tmp_path):
    built = Outbox(tmp_path)
    yield built
    built.part.close()


def test_what_is_decided_again_is_not_told_again(outbox):
    outbox.part.write_batch([decided(event(1, Phase.RAISED), event(2, Phase.RESOLVED))])
    outbox.start()
    outbox.part.write_batch([decided(event(1, Phase.RAISED)), decided(event(2, Phase.RESOLVED))])
    outbox.part.write_batch(PASSED)
    outbox.commit()
    assert outbox.brief() == [(1, "raised"), (2, "resolved")]


def test_an_alert_that_is_not_decided_again_is_retracted_once_evaluation_has_passed_it(outbox):
    """The second time a late reading came first, and the episode never was: nobody else would ever end it."""
    outbox.part.write_batch([decided(event(1, Phase.RAISED))])
    outbox.start()
    outbox.part.write_batch([decided(origin=0, offset=50, end=51)])
    outbox.commit()
    assert outbox.brief() == [(1, "raised")], "its own row in partition 1 is still to come"
    outbox.start()
    outbox.part.write_batch([decided(end=8)])
    assert outbox.brief() == [(1, "raised")], "the epoch has not ended"
    outbox.commit()
    assert outbox.brief() == [(1, "raised"), (2, "retracted")]
    assert outbox.told()[-1].detected_at_ms == NOW_MS


def test_an_alert_that_was_retracted_too_early_is_raised_again(outbox):
    outbox.part.write_batch([decided(event(1, Phase.RAISED))])
    outbox.start()
    outbox.part.write_batch([decided(end=8)])
    outbox.commit()
    outbox.part.write_batch([decided(event(1, Phase.RAISED), event(2, Phase.RESOLVED), offset=9, end=10)])
    outbox.commit()
    assert outbox.brief() == [(1, "raised"), (2, "retracted"), (3, "raised"), (4, "resolved")]


def test_another_event_under_a_revision_that_was_told_gets_the_next_one(outbox):
    """Consumers know an event by its id: without this, an end that follows an amendment would be taken for the amendment."""
    outbox.part.write_batch([decided(event(1, Phase.RAISED))])
    outbox.commit()
    outbox.part.write_batch([decided(event(2, Phase.AMENDED, peak=11.0))])
    outbox.start()
    outbox.part.write_batch([decided(event(2, Phase.RESOLVED))])
    outbox.commit()
    outbox.start()
    outbox.part.write_batch([decided(event(3, Phase.AMENDED, peak=12.0), offset=20, end=21)])
    assert outbox.brief() == [(1, "raised"), (2, "amended"), (3, "resolved"), (4, "amended")]


def test_what_was_told_further_than_it_was_decided_is_told_as_it_is(outbox):
    """The committed state says that the alert is open; the outbox said that it is over."""
    outbox.part.write_batch([decided(event(1, Phase.RAISED, peak=10.0))])
    outbox.commit()
    outbox.part.write_batch([decided(event(2, Phase.RESOLVED), offset=9, end=10)])
    outbox.start()
    outbox.part.write_batch(PASSED)
    outbox.commit()
    assert outbox.brief() == [(1, "raised"), (2, "resolved"), (3, "amended")]
    assert outbox.told()[-1].peak == 10.0


def test_a_second_crash_remembers_what_the_first_left_to_be_decided(outbox):
    """The second run commits before it has come as far as the first: what the first told beyond that is still not to be told twice."""
    outbox.part.write_batch([decided(event(1, Phase.RAISED, name="x"), offset=30, end=31), decided(event(1, Phase.RAISED, name="y"))])
    outbox.start()
    outbox.part.write_batch([decided(event(1, Phase.RAISED, name="y"))])
    outbox.commit()
    outbox.start()
    outbox.part.write_batch([decided(event(1, Phase.RAISED, name="x"), offset=30, end=31)])
    outbox.part.write_batch(PASSED)
    outbox.commit()
    assert [one.alert_id for one in outbox.told()] == ["x", "y"]


def test_an_alert_of_the_own_rows_waits_for_the_own_rows(outbox):
    """Silence is decided by a tick: its row tells when evaluation has passed it, its positions do not."""
    outbox.part.write_batch([decided(event(1, Phase.RAISED, positions=()), origin=0, offset=40, end=41)])
    outbox.start()
    outbox.part.write_batch([decided(origin=0, offset=20, end=21), decided(offset=99, end=100)])
    outbox.commit()
    assert outbox.brief() == [(1, "raised")]
    outbox.part.write_batch([decided(event(1, Phase.RAISED, positions=()), origin=0, offset=40, end=41)])
    outbox.commit()
    assert outbox.brief() == [(1, "raised")]


def test_the_rest_of_a_mixed_shard_is_written_at_the_end_of_the_epoch(outbox):
    outbox.part.write_batch([Decision(1, 7, 8, NOW_MS, [], [(RowKind.BOOKS, b"{}")], repeatable=False)])
    outbox.part._flush()
    assert outbox.part.writer.next_offset(0) == 0
    outbox.commit()
    assert outbox.part.writer.next_offset(0) == 1


def test_the_memory_of_corrected_alerts_is_bounded(monkeypatch):
    told = Told(0)
    for number in range(10_005):
        told._shift(f"alert-{number}", 1)
    assert len(told.shifts) == 10_000
    assert "alert-10004" in told.shifts


def test_an_alert_of_another_partition_says_so_in_its_row(outbox):
    outbox.part.write_batch([decided(event(1, Phase.RAISED))])
    with JournalReader(outbox_path(outbox.data_dir, 0)) as reader:
        [row] = reader.read(0, 0)
    assert isinstance(row, Row)
    assert (row.source_offset, row.source_part) == (FOREIGN - 1, 7)


steps = st.lists(st.tuples(st.sampled_from([Phase.AMENDED, Phase.RESOLVED, Phase.RETRACTED]), st.integers(9, 12)), max_size=3)
rounds = st.lists(st.tuples(steps, st.integers(0, 3), steps, st.booleans()), min_size=1, max_size=5)


def lived(last: AlertEvent | None, some) -> list[AlertEvent]:
    """Return how an alert may go on after its last event."""
    events = []
    for phase, peak in some:
        raised = last is None or last.phase is Phase.RETRACTED
        last = event((last.revision if last else 0) + 1, Phase.RAISED if raised else phase, peak=float(peak))
        events.append(last)
    return events


def says(one: AlertEvent) -> tuple:
    return "open" if one.phase in OPEN else str(one.phase), one.ended_at_ms, one.peak


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(rounds)
def test_in_the_end_the_outbox_says_what_evaluation_says(tmp_path_factory, rounds):
    """Each round an epoch is lost; the next time the alert goes on the same way for some events and then otherwise."""
    outbox = Outbox(tmp_path_factory.mktemp("rounds"))
    last: AlertEvent | None = None
    for lost, shared, again, crashed_twice in rounds:
        lost_events = lived(last, lost)
        decided_events = [*lost_events[:shared], *lived(lost_events[:shared][-1] if lost_events[:shared] else last, again)]
        outbox.part.write_batch([decided(one) for one in lost_events])
        outbox.start()
        if crashed_twice:
            outbox.part.write_batch([decided(one) for one in decided_events])
            outbox.start()
        outbox.part.write_batch([decided(one) for one in decided_events])
        outbox.part.write_batch(PASSED)
        if crashed_twice:
            outbox.part.snapshot()  # on the disk, but the commit did not come
            outbox.start()
            outbox.part.write_batch([decided(one) for one in decided_events])
            outbox.part.write_batch(PASSED)
        outbox.commit()
        last = decided_events[-1] if decided_events else last
    told = outbox.told()
    outbox.part.close()
    assert max(Counter(one.event_id for one in told).values(), default=1) == 1
    assert [one.revision for one in told] == sorted(one.revision for one in told)
    if last is None:
        assert not told or told[-1].phase is Phase.RETRACTED
    else:
        assert says(told[-1]) == says(last)
