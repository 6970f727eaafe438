"""Subjects whose devices publish into several partitions: in the end the same episodes and summaries as from one, crashes included."""

import os
import random
from collections import Counter

import pytest

from journal.rows import RowKind
from telemetry import books
from tests.flows.clusters import EPOCH_MS, decided, run_cluster_to_end, run_killing_one
from tests.flows.crashes import Fuse, run_until_crash
from tests.flows.journals import copy_of_the_journal, outbox_rows, run_to_end
from tests.flows.mixed import SOLO, alerts, final_episodes, final_summaries, go_on, write_mixed_world

PARTITIONS, STEPS, KILLS = 3, 90, 4

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The same messages, all in one partition."""
    data_dir = tmp_path_factory.mktemp("single")
    write_mixed_world(data_dir, 1, STEPS, seed=3)
    run_to_end(data_dir, 1, EPOCH_MS)
    run_on(data_dir, 1)
    return data_dir


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """All over the partitions, and evaluated without a crash."""
    data_dir = tmp_path_factory.mktemp("spread")
    write_mixed_world(data_dir, PARTITIONS, STEPS, seed=3)
    run_to_end(data_dir, PARTITIONS, EPOCH_MS)
    run_on(data_dir, PARTITIONS)
    return data_dir


def run_on(data_dir, partitions) -> None:
    go_on(data_dir, partitions)
    run_to_end(data_dir, partitions, EPOCH_MS)


def assert_same_end(data_dir, single, spread) -> None:
    told = alerts(data_dir, PARTITIONS)
    assert max(Counter(event.event_id for event in told).values()) == 1
    assert final_episodes(data_dir, PARTITIONS) == final_episodes(single, 1)
    assert final_summaries(data_dir, PARTITIONS) == final_summaries(single, 1)
    assert alone(data_dir) == alone(spread), "whose messages lie in one partition is told the very same, revision for revision"


def alone(data_dir) -> list:
    return [event for event in alerts(data_dir, PARTITIONS) if event.subject in SOLO]


def test_the_world_has_episodes_of_every_rule_on_every_subject(single):
    found = Counter((rule, subject) for rule, subject, *_ in final_episodes(single, 1))
    assert {rule for rule, _ in found} == {"warm", "humid", "low", "silent"}
    assert len({subject for _, subject in found}) == 5 + len(SOLO)


def test_the_end_is_that_of_one_partition(single, spread):
    assert_same_end(spread, single, spread)


def test_every_reading_is_in_the_books_of_the_shard_that_evaluated_it(single, spread):
    def last_books(data_dir, partitions):
        rows = [[row for row in outbox_rows(data_dir, at) if row.kind is RowKind.BOOKS][-1] for at in range(partitions)]
        return [books.from_json(row.body) for row in rows]

    counted = last_books(spread, PARTITIONS)
    assert all(one.balances() for one in counted)
    assert books.total(counted).accepted == books.total(last_books(single, 1)).accepted


@pytest.mark.parametrize("epoch_ms", [5, 250])
def test_the_end_is_the_same_after_a_crash(single, spread, tmp_path, epoch_ms):
    for position in (5, 60, 150, 280):
        data_dir = tmp_path / str(position)
        copy_of_the_journal(spread, data_dir)
        assert run_until_crash(data_dir, PARTITIONS, epoch_ms, Fuse("before read", position))
        run_to_end(data_dir, PARTITIONS, EPOCH_MS)
        run_on(data_dir, PARTITIONS)
        assert_same_end(data_dir, single, spread)


def test_the_end_is_the_same_after_kill_9_and_rescaling(single, spread, tmp_path):
    seed = int(os.environ.get("VITALANE_SEED", random.randrange(2**32)))
    print(f"VITALANE_SEED={seed}")
    rng = random.Random(seed)
    all_rows = decided(spread, PARTITIONS)
    data_dir = tmp_path / "killed"
    copy_of_the_journal(spread, data_dir)
    for rows in sorted(rng.randrange(all_rows) for _ in range(KILLS)):
        run_killing_one(data_dir, PARTITIONS, rng.randint(1, 3), rows, rng)
    processes = rng.randint(1, 3)
    assert run_cluster_to_end(data_dir, PARTITIONS, processes) == [0] * processes
    run_on(data_dir, PARTITIONS)
    assert_same_end(data_dir, single, spread)
