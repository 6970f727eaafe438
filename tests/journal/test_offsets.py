"""How far consumers have read."""

import multiprocessing
import threading
from pathlib import Path

import pytest

from journal.offsets import ConsumerOffsets
from telemetry.errors import VitalaneError


@pytest.fixture
def offsets(tmp_path):
    with ConsumerOffsets(tmp_path / "data" / "offsets.db") as offsets:
        yield offsets


def test_the_floor_is_the_slowest_consumer(offsets):
    offsets.commit("telemetry", "flow", {0: 50, 1: 40})
    offsets.commit("telemetry", "audit", {0: 10, 1: 60})
    assert offsets.floor("telemetry", ["flow", "audit"], 2) == {0: 10, 1: 40}
    assert offsets.floor("telemetry", ["flow"], 2) == {0: 50, 1: 40}


def test_who_never_committed_stands_at_the_beginning(offsets):
    """A channel added tonight, or a partition that a consumer has not come to: nothing there has been read."""
    offsets.commit("telemetry", "flow", {0: 50})
    assert offsets.floor("telemetry", ["flow", "new"], 1) == {0: 0}
    assert offsets.floor("telemetry", ["flow"], 2) == {0: 50, 1: 0}


def test_without_consumers_nothing_may_leave(offsets):
    """A configuration that names nobody must not empty the journal."""
    assert offsets.floor("telemetry", [], 2) == {0: 0, 1: 0}


def test_streams_and_consumers_are_apart(offsets):
    offsets.commit("telemetry", "flow", {0: 5})
    offsets.commit("outbox-0", "mail", {0: 7})
    assert offsets.committed("telemetry", "mail") == {}
    assert offsets.committed("outbox-0", "mail") == {0: 7}
    assert offsets.consumers("telemetry") == ["flow"]
    assert offsets.consumers("nothing") == []


def test_commits_survive_and_name_only_what_changed(tmp_path):
    with ConsumerOffsets(tmp_path / "o.db") as first:
        first.commit("s", "c", {0: 5, 1: 6})
        first.commit("s", "c", {1: 7})
        first.commit("s", "c", {})
    with ConsumerOffsets(tmp_path / "o.db") as again:
        assert again.committed("s", "c") == {0: 5, 1: 7}


def _commit_many(path: Path, name: str) -> None:
    with ConsumerOffsets(path) as offsets:
        for number in range(1, 31):
            offsets.commit("s", name, {0: number})


def test_processes_share_the_file_from_its_first_moment(tmp_path):
    """`vitalane up` starts every service at once on an empty directory."""
    path = tmp_path / "o.db"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_commit_many, args=(path, f"c{number}")) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    with ConsumerOffsets(path) as offsets:
        assert offsets.floor("s", offsets.consumers("s"), 1) == {0: 30}
        assert len(offsets.consumers("s")) == 4


def test_another_thread_may_ask(offsets):
    offsets.commit("s", "c", {0: 5})
    answers: list[dict[int, int]] = []
    thread = threading.Thread(target=lambda: answers.append(offsets.committed("s", "c")))
    thread.start()
    thread.join(10)
    assert answers == [{0: 5}]


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "o.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(VitalaneError, match="no SQLite file"):
        ConsumerOffsets(tmp_path / "o.db")
