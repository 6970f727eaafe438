"""A crash at any place changes nothing: with every subject in one partition, the outbox's lanes are the same bytes as without one."""

import pytest

from journal.verify import verify
from tests.flows.crashes import Fuse, run_until_crash
from tests.flows.journals import copy_of_the_journal, lanes, run_to_end, write_world

pytestmark = pytest.mark.long

PARTITIONS, ROWS = 2, 7
READS = PARTITIONS * (3 + ROWS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A small world, with alerts of every rule, and its outbox after one uninterrupted run."""
    data_dir = tmp_path_factory.mktemp("straight")
    write_world(data_dir, PARTITIONS, ROWS, seed=7)
    run_to_end(data_dir, PARTITIONS)
    return data_dir


@pytest.mark.long
@pytest.mark.parametrize("epoch_ms", [0, 250])
def test_a_crash_at_every_read_changes_nothing(straight, tmp_path, epoch_ms):
    expected = lanes(straight, PARTITIONS)
    for position in range(1, READS + 1):
        data_dir = tmp_path / str(position)
        copy_of_the_journal(straight, data_dir)
        assert run_until_crash(data_dir, PARTITIONS, epoch_ms, Fuse("before read", position))
        run_to_end(data_dir, PARTITIONS)
        assert lanes(data_dir, PARTITIONS) == expected, f"after a crash at read {position}"


PLACES = [
    f"{when} {what}"
    for what in ("evaluation", "write", "source snapshot", "shard snapshot", "outbox snapshot")
    for when in ("before", "after")
]


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_between_what_is_durable_and_its_commit_changes_nothing(straight, tmp_path, place):
    """The outbox and the history are written before the epoch is committed: what they hold too much must not count."""
    expected = lanes(straight, PARTITIONS)
    for position in (1, 2, 3, 5, 8):
        data_dir = tmp_path / str(position)
        copy_of_the_journal(straight, data_dir)
        assert run_until_crash(data_dir, PARTITIONS, 0, Fuse(place, position))
        run_to_end(data_dir, PARTITIONS)
        assert lanes(data_dir, PARTITIONS) == expected, f"after a crash {place} number {position}"


@pytest.mark.parametrize("epoch_ms", [0, 250])
def test_crash_after_crash_changes_nothing(straight, tmp_path, epoch_ms):
    """Each time somewhere else, so that what one crash left over is met by the next."""
    copy_of_the_journal(straight, tmp_path)
    for number, place in enumerate(["before read", *PLACES, "after read", *PLACES]):
        run_until_crash(tmp_path, PARTITIONS, epoch_ms, Fuse(place, 1 + number % 3))
    run_to_end(tmp_path, PARTITIONS)

    assert lanes(tmp_path, PARTITIONS) == lanes(straight, PARTITIONS)
    assert all(verify(tmp_path / f"{name}-{partition}.db").ok for name in ("outbox", "history") for partition in range(PARTITIONS))


@pytest.mark.parametrize("position", [5, 6, 11, 14])
def test_who_is_asked_for_a_snapshot_has_had_the_last_one_committed(straight, tmp_path, position):
    """Bytewax says so nowhere, and the history is trimmed by it. Shards that were asked before it in the same epoch are one behind."""
    copy_of_the_journal(straight, tmp_path)
    crashed, again = Fuse("before shard snapshot", position), Fuse("", 0)
    assert run_until_crash(tmp_path, PARTITIONS, 0, crashed)
    run_until_crash(tmp_path, PARTITIONS, 0, again)

    behind = [next(states[::-1].index(state) for states in crashed.given.values() if state in states) for state in again.resumed]
    assert len(behind) == PARTITIONS
    assert min(behind) == 0
    assert max(behind) <= 1


def test_a_journal_evaluated_anew_is_not_told_a_second_time(straight, tmp_path):
    """Who moves the recovery store away gets the state anew; the outbox already holds what it leads to."""
    copy_of_the_journal(straight, tmp_path)
    run_to_end(tmp_path, PARTITIONS)
    (tmp_path / "recovery").rename(tmp_path / "away")
    assert run_until_crash(tmp_path, PARTITIONS, 0, Fuse("after outbox snapshot", 5))
    run_to_end(tmp_path, PARTITIONS)

    assert lanes(tmp_path, PARTITIONS) == lanes(straight, PARTITIONS)
