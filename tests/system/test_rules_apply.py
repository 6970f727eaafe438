"""Rules into a running system: no restart, what did not change keeps its state, and who and why are journalled."""

import json

import pytest

from cli.applying import in_force
from cli.places import telemetry_path
from journal.reader import JournalReader
from journal.rows import RowKind
from tests.house import House, until

OPEN = "{id: open, when: door >= 1, severity: info}"
WARM = "{id: warm, when: temperature > 8 Cel, severity: warning}"

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture
def house(tmp_path, start_mosquitto):
    (tmp_path / "rules.yaml").write_text(f"rules: [{OPEN}, {WARM}]")
    with House(tmp_path, start_mosquitto(), rules=["rules.yaml"]) as running:
        until(lambda: running.status("ingest").get("connected"), running.told)
        yield running


def publish(house: House, at: int, **values: float) -> None:
    units = {"temperature": "Cel", "door": "{state}"}
    rows = [f"2026-03-01T08:{at:02}:00Z,truck,{name},{value},{units[name]}\n" for name, value in values.items()]
    file = house.directory / "one.csv"
    file.write_text("time,device,metric,value,unit\n" + "".join(rows))
    house.command("simulate", "replay", str(file), "--speed", "0", "--kind", "shipment")


def test_rules_are_applied_without_a_restart(house):
    publish(house, 0, door=1, temperature=9)
    until(lambda: len(house.events()) == 2, house.told)
    pids = [house.status(name)["pid"] for name in ("ingest", "flow", "deliver")]

    (house.directory / "rules.yaml").write_text(f"rules: [{OPEN}, {WARM.replace('8 Cel', '9.5 Cel')}]")
    told = house.command("rules", "apply", "--why", "the fridge is set warmer").stdout
    assert "changed  warm (begins anew: its open alerts are taken back)" in told
    assert "in force from journal offsets 0:" in told
    until(lambda: len(house.events()) == 3, house.told)
    publish(house, 1, door=0, temperature=9)
    publish(house, 2, temperature=10)
    until(lambda: len(house.events()) == 5, house.told)

    version = in_force(house.data_dir).version
    ended = {(event.rule, str(event.phase)): event for event in house.events()}
    assert set(ended) == {("open", "raised"), ("warm", "raised"), ("warm", "retracted"), ("open", "resolved")}
    assert ended["open", "resolved"].alert_id == ended["open", "raised"].alert_id
    assert ended["open", "resolved"].rule_version == ended["warm", "raised"].rule_version == version
    assert ended["warm", "raised"].value == 10
    assert [house.status(name)["pid"] for name in ("ingest", "flow", "deliver")] == pids

    with JournalReader(telemetry_path(house.data_dir)) as reader:
        bodies = [json.loads(row.body) for row in reader.read(0, 0, max_rows=1000) if row.kind == RowKind.CONTROL]
    applied = [(body["version"], body.get("why"), body["applied_by"] != "configuration") for body in bodies if body["type"] == "rules"]
    assert applied[-1] == (version, "the fridge is set warmer", True)
    house.command("verify")


def test_wrong_rules_are_refused_before_anybody_is_asked(house):
    (house.directory / "rules.yaml").write_text("rules: [{id: warm, when: temprature > 8 Cel, severity: warning}]")
    ended = house.command("rules", "apply", check=False)

    assert ended.returncode == 2
    assert "did you mean `temperature`?" in ended.stderr
    assert not (house.data_dir / "control" / "rules.json").exists()


def test_without_ingest_the_rules_wait_for_its_start(house):
    house.stop()
    (house.directory / "rules.yaml").write_text(f"rules: [{OPEN}]")
    told = house.command("rules", "apply", "--json")
    assert json.loads(told.stdout)["applied"] is False
    house.start()
    until(lambda: house.status("ingest").get("connected") and len(in_force(house.data_dir).rules) == 1, house.told)
