import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cli.configuration import Configuration, read_configuration
from cli.main import run
from cli.services import flow_look
from cli.verify import Check, verified
from tests.cli.running import CONFIGURATION, decided_world, deliver_all

ONE_ROW = "WHERE id = (SELECT max(id) - 5 FROM rows)"


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is decided and delivered; copied for each test."""
    folder = tmp_path_factory.mktemp("delivered")
    deliver_all(decided_world(folder))
    return folder


@pytest.fixture
def world(delivered: Path, tmp_path: Path) -> Configuration:
    shutil.copytree(delivered, tmp_path / "world")
    return read_configuration(tmp_path / "world" / "vitalane.yaml")


def problems(configuration: Configuration) -> list[Check]:
    return [check for check in verified(configuration) if check.problem]


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_what_was_decided_and_delivered_balances(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "-c", str(world.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["balanced"]
    assert {check["what"] for check in told["checks"]} == {
        *("chain telemetry", "chain outbox-0", "chain outbox-1", "books partition 0", "books partition 1"),
        *("channel screen", "channel quiet", "store history"),
    }
    quiet = next(check["shown"] for check in told["checks"] if check["what"] == "channel quiet")
    assert "not subscribed" in quiet


def test_the_flow_says_what_it_holds_and_what_a_series_costs(world: Configuration) -> None:
    told = flow_look(world)()
    assert told["received"] == told["accepted"] + told["duplicate"] + told["quarantined"]
    assert told["behind"] == 0
    assert told["series"] > 1
    assert 100 < told["bytes_per_series"] < 10_000


@pytest.mark.parametrize(
    ("file", "statement", "what", "sentence"),
    [
        ("telemetry.db", f"UPDATE rows SET body = x'00' {ONE_ROW}", "chain telemetry", "not what was written"),
        ("telemetry.db", f"DELETE FROM rows {ONE_ROW}", "chain telemetry", "is gone"),
        ("outbox-1.db", f"UPDATE rows SET time_ms = time_ms + 1 {ONE_ROW}", "chain outbox-1", "hash differs"),
        ("delivery-screen.db", "DELETE FROM deliveries WHERE sequence = 1", "channel screen", "does not balance in itself"),
        ("delivery-quiet.db", "UPDATE totals SET n = n - 1 WHERE name = 'unmatched'", "channel quiet", "alert events, the outbox holds"),
        ("delivery-history.db", "UPDATE totals SET n = n - 1 WHERE name = 'decided'", "store history", "does not balance in itself"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_named(world: Configuration, file: str, statement: str, what: str, sentence: str) -> None:
    """Law 7 is worth what its check finds: a changed row, a missing row, a forgotten delivery."""
    change(world.data_dir / file, statement)
    found = problems(world)
    assert what in [check.what for check in found], found
    assert sentence in next(check.problem for check in found if check.what == what)
    assert run(["verify", "-c", str(world.path)]) == 1


def test_an_event_that_was_never_owed_is_missed(world: Configuration) -> None:
    """A deliverer that silently decides against the subscriptions is found out by asking them again."""
    change(world.data_dir / "delivery-quiet.db", "DELETE FROM deliveries WHERE sequence = 1")
    change(world.data_dir / "delivery-quiet.db", "UPDATE totals SET n = n - 1 WHERE name = 'decided'")
    change(world.data_dir / "delivery-quiet.db", "UPDATE totals SET n = n + 1 WHERE name = 'unmatched'")
    [check] = problems(world)
    assert check.what == "channel quiet"
    assert "the subscriptions want" in check.problem


def test_after_a_change_of_subscriptions_the_comparison_begins_where_they_took_effect(world: Configuration) -> None:
    """Who subscribes later did not miss what came before, and the books still balance."""
    world.path.write_text(CONFIGURATION.replace("severity: critical", "severity: warning"))
    changed = read_configuration(world.path)
    quiet = next(check for check in verified(changed) if check.what == "channel quiet")
    assert "was not compared" in quiet.shown
    deliver_all(changed)
    assert problems(changed) == []


def test_what_waits_is_no_fault(tmp_path: Path) -> None:
    """Beside running services something always waits: only what is lost is wrong."""
    waiting = decided_world(tmp_path)
    assert problems(waiting) == []
    shown: Callable[[str], str] = lambda what: next(check.shown for check in verified(waiting) if check.what == what)  # noqa: E731
    assert shown("channel screen") == "has delivered nothing yet"


def test_without_a_journal_there_is_nothing_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vitalane.yaml").write_text("")
    assert run(["verify", "-c", str(tmp_path / "vitalane.yaml")]) == 3
    assert "there is no journal in" in capsys.readouterr().err
