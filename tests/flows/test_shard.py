"""A shard: foreign parts in their turn, state that comes back, and a state of another version that is refused in a sentence."""

import pickle
import threading
from contextlib import closing
from dataclasses import dataclass

import pytest

from flows.dataflow import build
from flows.history import Histories
from flows.keys import shard_key
from flows.outbox import OutboxSink, outbox_path
from flows.recovery import prepare, recovery_path
from flows.route import Routes
from flows.service import FlowSettings, execute, run, telemetry_path
from flows.shard import AHEAD_MS, MAX_WAITING, Shard
from flows.source import JournalSource
from journal.rows import Row, RowKind
from rules.control import DEFAULT_SETTINGS, registry_record, rules_record, settings_record
from rules.document import compile_rules
from rules.recovery import SNAPSHOT_VERSION
from telemetry import alert
from telemetry.errors import VitalaneError
from telemetry.routing import partition_of
from tests.flows.journals import START_MS, write_world
from tests.flows.test_route import reading, row

PARTITIONS, OWN, OTHER = 4, 2, 1
DEVICE = next(name for name in (f"dev-{number}" for number in range(100)) if partition_of(name, PARTITIONS) == OWN)
RULES = "rules: [{id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, severity: critical}]"


@pytest.fixture
def histories(tmp_path):
    with closing(Histories(tmp_path, threading.Event())) as opened:
        yield opened


def controls(time_ms: int = START_MS) -> list[Row]:
    bodies = [settings_record(DEFAULT_SETTINGS), registry_record([]), rules_record(compile_rules([("r", RULES)]), "test")]
    return [Row(OWN, offset, 1, RowKind.CONTROL, time_ms, body, -1, 0) for offset, body in enumerate(bodies)]


def tick(time_ms: int, offset: int = 3) -> Row:
    return Row(OWN, offset, 1, RowKind.TICK, time_ms, b"", -1, 0)


def foreign(value: float, time_ms: int, offset: int = 10) -> Row:
    """Return a row of another partition with a reading of a device that lives here."""
    return row((DEVICE, reading(value, time_ms)), offset=offset)._replace(partition=OTHER, time_ms=time_ms)


def fed(logic, *rows: Row) -> list[tuple[int, str]]:
    """Feed rows, each through the routing of its own partition; return the alerts: partition of the deciding row, phase."""
    told = []
    for one in rows:
        addressed, _ = Routes(PARTITIONS).build(None).on_batch([one])
        parts = [part for key, part in addressed if key == shard_key(OWN)]
        decisions, _ = logic.on_batch(parts)
        told += [(made.origin, str(alert.from_json(body).phase)) for made in decisions for _, body in made.alerts]
    return told


def test_a_foreign_reading_is_judged_at_once(histories):
    """Somebody may lie in that bed: an alert waits for nobody's order."""
    logic = Shard(PARTITIONS, histories).build(None)
    assert fed(logic, *controls(), tick(START_MS), foreign(9.0, START_MS + 10)) == [(OTHER, "raised")]


def test_a_foreign_part_waits_for_the_rules_of_its_time(histories):
    """In a replay another partition may be read first: its readings are to be judged by the rules that were in force, not by none."""
    logic = Shard(PARTITIONS, histories).build(None)
    late = START_MS + AHEAD_MS + 1
    assert fed(logic, foreign(9.0, late), foreign(7.0, late + 1), *controls()) == []
    assert fed(logic, tick(START_MS)) == []
    assert fed(logic, tick(late, 4)) == [(OTHER, "raised"), (OTHER, "resolved")]


def test_what_waits_outlives_the_process(histories):
    logic = Shard(PARTITIONS, histories).build(None)
    late = START_MS + AHEAD_MS + 1
    fed(logic, foreign(9.0, late), *controls())
    again = Shard(PARTITIONS, histories).build(pickle.loads(pickle.dumps(logic.snapshot())))
    assert fed(again, tick(late)) == [(OTHER, "raised")]


def test_how_much_waits_is_bounded(histories):
    logic = Shard(PARTITIONS, histories).build(None)
    fed(logic, *controls())
    [(_, part)] = Routes(PARTITIONS).build(None).on_batch([foreign(9.0, START_MS + AHEAD_MS)])[0][1:]
    decisions, _ = logic.on_batch([part._replace(time_ms=START_MS + AHEAD_MS)] * (MAX_WAITING + 1))
    assert len(logic.waiting) == MAX_WAITING
    assert len(decisions) == 1


def test_a_shard_may_begin_with_somebody_elses_readings(histories):
    logic = Shard(PARTITIONS, histories).build(None)
    fed(logic, foreign(9.0, START_MS))
    assert logic.evaluator.partition == OWN


def test_the_end_of_a_run_is_not_the_end_of_the_data(histories):
    assert Shard(PARTITIONS, histories).build(None).on_eof() == ([], False)


@pytest.mark.parametrize(
    "state",
    [(0, {"version": 1}), pickle.dumps({"evaluator": {"version": SNAPSHOT_VERSION + 1}})],
    ids=["of the first version", "of a later version"],
)
def test_a_snapshot_of_another_version_is_refused_with_what_to_do(histories, state):
    with pytest.raises(VitalaneError, match=r"version \d, this program reads version \d: .* move the folder `recovery` away"):
        Shard(PARTITIONS, histories).build(state)


@dataclass(frozen=True)
class ShardOfTomorrow(Shard):
    """Leaves behind what a later version would."""

    def build(self, resume_state):
        logic = super().build(resume_state)
        logic.snapshot = lambda: pickle.dumps({"evaluator": {"version": 99}})
        return logic


def test_the_flow_says_what_to_do_about_a_store_of_another_version(tmp_path):
    """The sentence has to come through Bytewax, which wraps what its callbacks raise."""
    write_world(tmp_path, 1, 3, seed=1)
    stop = threading.Event()
    prepare(recovery_path(tmp_path), [outbox_path(tmp_path, 0)])
    with closing(Histories(tmp_path, stop)) as histories:
        source = JournalSource(telemetry_path(tmp_path), 1, stop, lambda partition, offset: None, to_end=True)
        execute(build(source, Routes(1), ShardOfTomorrow(1, histories), OutboxSink(tmp_path, 1, stop)), FlowSettings(tmp_path, 1, 0))
    with pytest.raises(VitalaneError, match="version 99"):
        run(FlowSettings(tmp_path, 1, 0, to_end=True), stop)
