"""A scenario over a real broker into the whole house, faster than real time, with every kind of fault: found, explained, accounted for."""

import json

import pytest

from simulators.truth_file import read_truth
from tests.house import House, until

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(240)]

SCENARIO = """\
about: trucks, faster than they drive
lasts: 6 h
devices: {truck: {world: shipments, count: 16, report: 2 min, tick: 1 min, tags: [{storage: refrigerated}]}}
rules:
  - id: too-warm
    applies_to: {kind: shipment, tags: {storage: refrigerated}}
    when: temperature > 8 Cel
    for: 20 min
    max_gap: 30 min
    clear: {when: temperature <= 7.5 Cel, for: 10 min}
    severity: critical
  - {id: silent, applies_to: {kind: shipment}, when: 'absent(temperature, 30 s)', class: technical, severity: warning}
incidents:
  - {kind: door_open, of: truck, count: 2, at: 1 h, within: 2 h, for: 90 min, rule: too-warm}
  - {kind: compressor_failure, of: truck, at: 1 h, within: 1 h, for: 3 h, rule: too-warm}
"""


@pytest.fixture
def house(tmp_path, start_mosquitto):
    file = tmp_path / "trial.yaml"
    file.write_text(SCENARIO)
    with_rules = House(tmp_path, start_mosquitto(), rules=["rules.yaml"], registry="registry.yaml")
    with_rules.command("simulate", "scenario", str(file), "--prepare", str(tmp_path))
    with with_rules as running:
        until(lambda: running.status("ingest").get("connected"), running.told)
        yield running


def test_a_scenario_played_live_is_found_and_accounted_for(house, tmp_path):
    """Absences are told on the wall clock there: a rule of thirty seconds sees a partition of hours as well as the end of the run."""
    truth = tmp_path / "truth.jsonl"
    played = house.command(
        *("simulate", "scenario", str(tmp_path / "trial.yaml"), "--speed", "1200", "--faults", "all", "--seed", "3", "--truth", str(truth))
    )
    assert "messages sent" in played.stderr
    sent = int(played.stderr.split(" messages sent")[0].split()[-1])
    until(lambda: house.status("ingest").get("received", 0) >= sent, house.told)
    assert house.stop() == 0
    assert house.command("verify").returncode == 0
    scored = house.command("score", "--truth", str(truth), "-c", str(house.configuration), "--json", check=False)
    result = json.loads(scored.stdout)
    assert result["recall"] == 1.0, result
    assert result["all"]["found"] == 3, result
    assert not result["alerts"]["of_nobody"], result
    exported = house.command("journal", "export", "--stream", "outbox").stdout
    (tmp_path / "outbox.jsonl").write_text(exported)
    again = house.command("score", "--truth", str(truth), "--alerts", str(tmp_path / "outbox.jsonl"), "--json")
    assert json.loads(again.stdout) == result
    assert len(read_truth(truth).faults) > 14


def test_a_file_is_replayed_with_faults_on_top(house, tmp_path):
    rows = "".join(
        f"2026-01-31T{m // 60:02d}:{m % 60:02d}:00Z,probe-{n},temperature,{5 + n + m / 1000}\n" for m in range(240) for n in range(4)
    )
    (tmp_path / "readings.csv").write_text("time,device,metric,value\n" + rows)
    truth = tmp_path / "faults.jsonl"
    replay = ("simulate", "replay", str(tmp_path / "readings.csv"), "--speed", "14400", "--faults", "duplicates,malformed", "--seed", "3")
    played = house.command(*replay, "--truth", str(truth))
    sent = int(played.stderr.split(" messages sent")[0].split()[-1])
    faults = {fault.kind: fault.messages for fault in read_truth(truth).faults}
    assert set(faults) == {"duplicates", "malformed"}
    assert sent == 4 * 240 + faults["duplicates"]
    until(lambda: house.status("ingest").get("received", 0) >= sent, house.told)
    assert house.stop() == 0
    refused = [json.loads(line)["reason"] for line in house.command("quarantine", "list", "--json").stdout.splitlines()]
    assert faults["malformed"] <= refused.count("malformed") <= 2 * faults["malformed"], "what was doubled may be malformed twice"
    assert set(refused) == {"malformed"}
