"""What a flow leaves on the disk is read by its later versions: a shard's state, its history, and an outbox, as they were first written."""

import os
import pickle
import shutil
import threading
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

import pytest

from flows.decision import Decision
from flows.history import Histories, history_path
from flows.route import Routes
from flows.service import telemetry_path
from flows.shard import Shard, ShardLogic
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from journal.verify import verify
from rules.recovery import SNAPSHOT_VERSION
from telemetry import alert
from tests.flows.journals import GOLDEN, lanes, run_to_end, without_memory, write_world
from tests.goldens import assert_golden

ROWS, HALF = 40, 25
STATE, HISTORY = (GOLDEN / f"shard-v{SNAPSHOT_VERSION}.{ending}" for ending in ("pickle", "db"))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    data_dir = tmp_path_factory.mktemp("world")
    write_world(data_dir, 1, ROWS, seed=13)
    return data_dir


def rows(world: Path) -> list[Row]:
    with JournalReader(telemetry_path(world)) as reader:
        return reader.read(0, 0, max_rows=1000)


@contextmanager
def shard(data_dir: Path, state: object = None):
    with closing(Histories(data_dir, threading.Event())) as histories:
        yield Shard(1, histories).build(state)


def fed(logic: ShardLogic, some: list[Row]) -> list[Decision]:
    routes = Routes(1).build(None)
    decisions = [made for row in some for _, part in routes.on_batch([row])[0] for made in logic.on_batch([part])[0]]
    return [made._replace(bulk=[(kind, without_memory(kind, body)) for kind, body in made.bulk]) for made in decisions]


def state_at_half(world: Path, data_dir: Path) -> bytes:
    """Return a shard's state after half of the world, in two epochs; its history is in the folder."""
    with shard(data_dir) as logic:
        fed(logic, rows(world)[: HALF // 2])
        logic.snapshot()
        fed(logic, rows(world)[HALF // 2 : HALF])
        return logic.snapshot()


@pytest.fixture
def written(world, tmp_path) -> bytes:
    """The golden state, its history in place in the test's folder. It is made once a version: a pickle is not the same bytes twice."""
    if os.environ.get("VITALANE_UPDATE_GOLDEN") == "1" and not STATE.exists():
        GOLDEN.mkdir(parents=True, exist_ok=True)
        STATE.write_bytes(state_at_half(world, tmp_path / "made"))
        shutil.copy(history_path(tmp_path / "made", 0), HISTORY)
    shutil.copy(HISTORY, history_path(tmp_path, 0))
    return STATE.read_bytes()


@pytest.fixture(scope="module")
def second_half(world, tmp_path_factory) -> list[Decision]:
    """What the second half of the world leads to, uninterrupted."""
    with shard(tmp_path_factory.mktemp("straight")) as logic:
        fed(logic, rows(world)[:HALF])
        return fed(logic, rows(world)[HALF:])


def test_a_shard_goes_on_from_what_this_version_first_wrote(world, written, second_half, tmp_path):
    """An upgrade that keeps the snapshot's version must not need the journal to be evaluated anew."""
    with shard(tmp_path, written) as logic:
        assert fed(logic, rows(world)[HALF:]) == second_half
    assert any(made.alerts for made in second_half)


NEWER = [
    ("mixed",),
    ("waiting",),
    ("evaluator", "series", "minute_ends_ms"),
    ("evaluator", "series", "in_minute"),
    ("evaluator", "metrics", "advanced_ms"),
]


@pytest.mark.parametrize("path", NEWER, ids="/".join)
def test_what_an_older_program_did_not_write_yet_has_a_default(world, written, second_half, tmp_path, path):
    """Records grow at their end. A key that is taken away here stands for one that a later program writes: its default must do."""
    state = pickle.loads(written)
    holder = state
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    with shard(tmp_path, pickle.dumps(state)) as logic:
        assert fed(logic, rows(world)[HALF:]) == second_half


def test_the_outbox_of_a_fixed_journal_is_as_it_was(world, tmp_path):
    """The same journal, the same bytes: what differs here has changed the meaning of rules, windows or counts, and is for the changelog."""
    for path in world.glob("telemetry.db*"):
        shutil.copy(path, tmp_path)
    run_to_end(tmp_path, 1)
    alerts, bulk = lanes(tmp_path, 1)
    lines = [f"journal {verify(telemetry_path(tmp_path)).partitions[0].head_hash}"]
    lines += [f"{offset} {part} {body.decode()}" for _, offset, part, body in alerts]
    lines += [f"{offset} {part} {RowKind(kind).name} {blake2b(body, digest_size=8).hexdigest()}" for kind, offset, part, body in bulk]
    assert {alert.from_json(body).rule for *_, body in alerts} == {"warm", "low", "silent"}
    assert_golden(GOLDEN / f"outbox-v{SNAPSHOT_VERSION}.txt", "".join(f"{line}\n" for line in lines).encode())
