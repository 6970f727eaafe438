"""A backtest over the journal of a run tells what the run told."""

import pytest

from flows.replay import replay
from flows.service import telemetry_path
from journal.rows import RowKind
from rules.document import compile_rules
from rules.episodes import differences, final_episodes
from telemetry import alert
from tests.flows.journals import RULES, outbox_rows, run_to_end, write_world


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_replay_tells_what_the_run_told(tmp_path, partitions):
    write_world(tmp_path, partitions, 120, seed=5)
    run_to_end(tmp_path, partitions)
    told = [
        alert.from_json(row.body)
        for partition in range(partitions)
        for row in outbox_rows(tmp_path, partition)
        if row.kind == RowKind.ALERT
    ]
    again = replay(telemetry_path(tmp_path), partitions, None)

    assert len(told) > 20
    assert {event.event_id: event for event in again.events} == {event.event_id: event for event in told}
    assert final_episodes(again.events) == final_episodes(told)


def test_other_rules_over_the_same_journal_and_what_that_changes(tmp_path):
    write_world(tmp_path, 1, 120, seed=5)
    before = replay(telemetry_path(tmp_path), 1, None)
    warmer = compile_rules([("r", RULES.replace("temperature > 8 Cel", "temperature > 9.2 Cel").replace("spo2 < 90 %", "spo2 < 96 %"))])
    after = replay(telemetry_path(tmp_path), 1, warmer)
    found = differences(final_episodes(before.events), final_episodes(after.events), after.last_ms)

    assert before.accepted == after.accepted > 500
    assert {rule for item in found if (one := item.after or item.before) for rule in [one.rule]} == {"warm", "low"}
    assert {word for item in found for word in item.what} >= {"added", "removed", "longer"}
    assert differences(final_episodes(before.events), final_episodes(before.events), before.last_ms) == []


def test_a_part_of_the_journal(tmp_path):
    write_world(tmp_path, 2, 60, seed=5)
    whole = replay(telemetry_path(tmp_path), 2, None)
    middle = whole.first_ms + (whole.last_ms - whole.first_ms) // 2
    part = replay(telemetry_path(tmp_path), 2, None, since_ms=middle)

    assert 0 < part.accepted < whole.accepted
    assert all(event.detected_at_ms >= middle for event in part.events)
    assert replay(telemetry_path(tmp_path), 2, None, until_ms=middle).accepted + part.accepted == whole.accepted
