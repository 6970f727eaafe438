"""Grouping: alone, a message does not wait; in a crowd, rows are long; and no wait that brings nothing is kept up."""

import pytest

from ingest.grouping import LONGEST_GAP, ROW_MESSAGES, SHORTEST_GAP, Grouping

COMMIT_MS = 2.0
COMMIT_S = COMMIT_MS / 1000


def grouping(*, commit_messages: int = 2000, partitions: int = 4) -> Grouping:
    return Grouping(commit_messages=commit_messages, commit_ms=COMMIT_MS, partitions=partitions)


def run(group: Grouping, rate: float, *, seconds: float = 1.0, commit_s: float = 0.0005) -> tuple[float, float]:
    """Let messages come evenly; return, of the last half, messages a commit and the mean time from arrival to the commit's beginning."""
    now, arrived, committed, commits, waits = 0.0, 0.0, 0, 0, 0.0
    while now < seconds:
        waiting = int(now * rate) - int(arrived)
        if waiting < 1:
            now = (int(arrived) + 1) / rate
            waiting = 1
        wait = group.wait_s(now, waiting)
        if wait:
            now += wait
            group.waited(brought_more=int(now * rate) - int(arrived) > waiting)
        messages = max(1, int(now * rate) - int(arrived))
        if now > seconds / 2:
            committed, commits, waits = (
                committed + messages,
                commits + 1,
                waits + sum(now - (int(arrived) + k + 1) / rate for k in range(messages)),
            )
        group.committed(now, messages)
        arrived += messages
        now += commit_s
    return committed / commits, waits / committed


def test_the_first_message_after_a_quiet_time_does_not_wait():
    group = grouping()
    assert group.wait_s(100.0, 1) == 0
    group.committed(100.0, 1)
    assert group.wait_s(100.0 + SHORTEST_GAP * COMMIT_S / 2, 1) == pytest.approx(SHORTEST_GAP * COMMIT_S / 2)
    assert group.wait_s(100.0 + SHORTEST_GAP * COMMIT_S, 1) == 0


def test_under_full_load_rows_are_long():
    messages, _ = run(grouping(), 85_000)
    assert messages >= ROW_MESSAGES * 4


def test_at_moderate_load_nobody_waits_long():
    for rate in (100, 1000, 5000):
        _, wait = run(grouping(), rate)
        assert wait < 0.001


def test_a_wait_is_bounded_at_any_rate():
    for rate in (10, 1000, 10_000, 50_000, 1_000_000):
        group = grouping()
        run(group, rate)
        assert COMMIT_S * SHORTEST_GAP <= group.gap_s() <= COMMIT_S * LONGEST_GAP


def test_a_full_group_does_not_wait():
    group = grouping(commit_messages=50)
    group.committed(0.0, 1)
    assert group.wait_s(0.0, 49) > 0
    assert group.wait_s(0.0, 50) == 0


def test_waiting_that_brings_nothing_is_given_up_and_tried_again():
    """A broker with 20 messages in flight sends nothing while we wait for more: then waiting is pure loss."""
    group = grouping()
    now, waits = 0.0, []
    for _ in range(300):
        wait = group.wait_s(now, 20)
        waits.append(wait)
        if wait:
            group.waited(brought_more=False)
        group.committed(now + wait, 20)
        now += wait + 0.0001
    assert sum(waits[10:]) < 0.1 * now
    assert any(waits[10:])


def test_waiting_that_brings_something_again_is_taken_up_again():
    group = grouping()
    for _ in range(10):
        group.waited(brought_more=False)
    messages, _ = run(group, 85_000)
    assert messages >= ROW_MESSAGES * 4
