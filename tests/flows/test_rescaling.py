"""kill -9 and another number of processes, again and again: the outbox is the same as after one uninterrupted run of one process."""

import os
import random

import pytest

from journal.verify import verify
from tests.flows.clusters import EPOCH_MS, decided, run_cluster_to_end, run_killing_one
from tests.flows.journals import copy_of_the_journal, lanes, run_to_end, write_world

PARTITIONS, ROWS, KILLS = 3, 80, 5

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("straight")
    write_world(data_dir, PARTITIONS, ROWS, seed=11)
    run_to_end(data_dir, PARTITIONS, EPOCH_MS)
    return data_dir


@pytest.mark.parametrize("processes", [2, 3])
def test_a_cluster_decides_what_one_process_decides(straight, tmp_path, processes):
    copy_of_the_journal(straight, tmp_path)
    assert run_cluster_to_end(tmp_path, PARTITIONS, processes) == [0] * processes
    assert lanes(tmp_path, PARTITIONS) == lanes(straight, PARTITIONS)


def test_kill_9_with_rescaling_changes_nothing(straight, tmp_path):
    seed = int(os.environ.get("VITALANE_SEED", random.randrange(2**32)))
    print(f"VITALANE_SEED={seed}")
    rng = random.Random(seed)
    copy_of_the_journal(straight, tmp_path)
    expected, all_rows = lanes(straight, PARTITIONS), decided(straight, PARTITIONS)
    kills = [
        run_killing_one(tmp_path, PARTITIONS, rng.randint(1, 3), rows, rng)
        for rows in sorted(rng.randrange(all_rows) for _ in range(KILLS))
    ]
    processes = rng.randint(1, 3)
    assert run_cluster_to_end(tmp_path, PARTITIONS, processes) == [0] * processes

    assert sum(kills) >= KILLS // 2
    assert lanes(tmp_path, PARTITIONS) == expected
    assert all(verify(tmp_path / f"{name}-{partition}.db").ok for name in ("outbox", "history") for partition in range(PARTITIONS))
