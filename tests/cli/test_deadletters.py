import json
from pathlib import Path

import pytest

from cli.configuration import Configuration
from cli.deadletters import dead_of
from cli.main import run
from cli.places import ledger_path, outbox_paths
from journal.rows import RowKind
from sinks.ledger import DEAD, ChannelLedger, Decision, Outcome
from sinks.outbox import Outbox
from telemetry.alert import from_json
from tests.cli.running import decided_world, deliver_all


@pytest.fixture
def world(tmp_path: Path) -> Configuration:
    """Two events of the channel `screen` are dead."""
    configuration = decided_world(tmp_path)
    outbox = Outbox(outbox_paths(configuration.data_dir, 2))
    rows = [taken.row for taken in outbox.read({}, max_rows=1000) if taken.row.kind == RowKind.ALERT][:2]
    outbox.close()
    events = [from_json(row.body) for row in rows]
    ledger = ChannelLedger(ledger_path(configuration.data_dir, "screen"))
    decisions = [Decision(event.event_id, event.alert_id, row.body, event) for event, row in zip(events, rows, strict=True)]
    owed = ledger.decide(decisions, {}, unmatched=0, trimmed=0, now_ms=1)
    ledger.settle([Outcome(delivery, DEAD, error="422 from the receiver") for delivery in owed], 2)
    ledger.close()
    return configuration


def test_list_names_each_and_why(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deadletters", "list", "-c", str(world.path), "--json"]) == 0
    letters = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(letter["to"], letter["why"]) for letter in letters] == [("screen", "422 from the receiver")] * 2
    assert run(["deadletters", "list", "-c", str(world.path), "--to", "quiet"]) == 0
    assert capsys.readouterr().out == "there are no dead letters\n"


def test_retry_owes_them_again_and_the_deliverer_takes_them_up(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    """The person who mended the receiver decides what is sent again."""
    [first, _] = dead_of(world, "screen")
    assert run(["deadletters", "retry", "-c", str(world.path), "--to", "screen", first["id"]]) == 0
    assert capsys.readouterr().out == "1 dead letters are owed again\n"
    deliver_all(world)
    assert [letter["id"] for letter in dead_of(world, "screen")] != [first["id"]]
    assert len(dead_of(world, "screen")) == 1


def test_an_id_that_is_none_is_a_failure(world: Configuration) -> None:
    assert run(["deadletters", "retry", "-c", str(world.path), "nobody"]) == 1


def test_a_destination_that_does_not_exist_is_wrong_usage(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deadletters", "list", "-c", str(world.path), "--to", "pager"]) == 2
    assert "there are screen, quiet, history" in capsys.readouterr().err
