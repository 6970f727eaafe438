"""`vitalane devices`: who watches what, by document and by command, and what was heard of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.configuration import read_configuration
from cli.main import run
from cli.registered import registered
from decoders.mappings import from_plain
from rules.control import read_record
from rules.registry import Registry
from telemetry.clock import parse_ms, utc_now_ms

ROOT = str(Path(__file__).parents[2])

CONFIGURATION = """\
data_dir: data
registry: registry.yaml
mappings: [zigbee2mqtt, {use: tasmota, zone: Europe/Amsterdam}]
"""
REGISTRY = """\
devices:
  - {device: logger-1, subject: crate-1, kind: shipment, tags: {product: vaccine}, limits: {payload_bytes: 500}}
unknown: quarantine
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "vitalane.yaml").write_text(CONFIGURATION)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "nurse")
    return tmp_path


def record(house: Path) -> dict:
    return read_record(registered(read_configuration(house / "vitalane.yaml")).record())


def test_everything_that_is_known_of_devices_is_one_record(house):
    """Law 2: what decides how a message is read is in the journal, whole."""
    plain = record(house)
    assert plain["devices"] == [
        {"device": "logger-1", "subject": "crate-1", "kind": "shipment", "tags": {"product": "vaccine"}, "limits": {"payload_bytes": 500}}
    ]
    assert plain["unknown"] == "quarantine"
    assert {metric["name"] for metric in plain["metrics"]} == {"pressure", "carbon_dioxide"}
    assert from_plain(plain["mappings"]).home(b"zigbee2mqtt/fridge") == "fridge"


def test_an_assignment_holds_from_its_time_and_says_by_whom_and_why(house, capsys):
    """A logger moves to another crate: its backlog stays with the first one."""
    arguments = ["--subject", "crate-2", "--tag", "product=insulin", "--from", "2026-01-31T08:00:00Z", "--why", "reloaded"]
    assert run(["devices", "assign", "logger-1", *arguments]) == 0
    assert "logger-1 watches crate-2; registry version" in capsys.readouterr().out
    registry = Registry(record(house)["devices"])
    moved_ms = parse_ms("2026-01-31T08:00:00Z")
    assert [registry.assignment("shipment", "logger-1", moved_ms + at).subject for at in (-1, 0)] == ["crate-1", "crate-2"]

    assert run(["devices", "show", "logger-1"]) == 0
    told = capsys.readouterr().out
    for part in (
        "crate-1 product=vaccine",
        "crate-2 product=insulin: from 2026-01-31T08:00:00+00:00",
        "by nurse: reloaded",
        "500 payload bytes",
    ):
        assert part in told, told


def test_an_assignment_for_a_time_gives_the_device_back(house):
    assert (
        run(["devices", "assign", "logger-1", "--subject", "b", "--from", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"]) == 0
    )
    registry = Registry(record(house)["devices"])
    times = [parse_ms(f"2026-01-0{day}T00:00:00Z") for day in (1, 2)]
    assert [registry.assignment("shipment", "logger-1", time_ms).subject for time_ms in (times[0] - 1, *times)] == [
        "crate-1",
        "b",
        "crate-1",
    ]


def test_without_a_time_an_assignment_holds_from_now_on(house, capsys):
    """The backlog of the crate before must not move to the new one; and the document's own `from` must not win over what was just said."""
    (house / "registry.yaml").write_text("devices: [{device: logger-1, subject: crate-1, kind: shipment, from: 2026-01-31T08:00:00Z}]")
    before_ms = utc_now_ms()
    assert run(["devices", "assign", "logger-1", "--subject", "crate-9"]) == 0
    registry = Registry(record(house)["devices"])
    assert registry.assignment("shipment", "logger-1", before_ms - 1).subject == "crate-1"
    assert registry.assignment("shipment", "logger-1", utc_now_ms()).subject == "crate-9"
    capsys.readouterr()

    assert run(["devices", "assign", "logger-1", "--subject", "crate-0", "--from", "always"]) == 0
    assert "crate-0, but one that began later holds now: crate-9" in capsys.readouterr().out
    assert (
        run(["devices", "assign", "logger-1", "--subject", "crate-5", "--from", "2026-01-31T08:00:00Z", "--until", "2026-02-01T08:00:00Z"])
        == 0
    )
    assert "crate-5 for readings measured until 2026-02-01" in capsys.readouterr().out


def test_nobody_loses_an_assignment_to_another(house):
    """Two nurses at two screens: both are right, one after the other."""
    command = [sys.executable, "-m", "cli.main", "devices", "assign", "--kind", "patient"]
    environment = os.environ | {"PYTHONPATH": ROOT}
    crowd = [subprocess.Popen([*command, f"d{number}"], env=environment, cwd=house) for number in range(6)]
    assert [process.wait(60) for process in crowd] == [0] * 6
    assert {item["device"] for item in record(house)["devices"]} == {"logger-1", *(f"d{number}" for number in range(6))}


def test_the_list_has_every_assignment(house, capsys):
    run(["devices", "assign", "monitor-1", "--kind", "patient", "--json"])
    assert json.loads(capsys.readouterr().out)["applied"] is False
    assert run(["devices", "list", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["device"], line["subject"], line["kind"], line["by"], line["heard"]) for line in lines] == [
        ("logger-1", "crate-1", "shipment", "registry", None),
        ("monitor-1", "monitor-1", "patient", "nurse", None),
    ]
    assert run(["devices", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["device", "kind", "subject", "tags", "since", "last", "heard"]
    assert run(["devices", "list", "--unknown"]) == 0
    assert "every device that was heard is registered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["assign", "new-one"], "--kind: nobody knows what new-one is yet"),
        (["assign", "a b", "--kind", "shipment"], "--device: String should match pattern"),
        (["assign", "logger-1", "--tag", "vaccine"], "--tag: 'vaccine' is no tag"),
        (["assign", "logger-1", "--from", "2026-01-31"], "--from: Input should have timezone info"),
        (["assign", "logger-1", "--from", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"], "`from` must be before `until`"),
        (["show", "nobody"], "no device 'nobody' is registered or was heard"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_changes_nothing(house, capsys, arguments, sentence):
    before = record(house)
    assert run(["devices", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert record(house) == before


def test_a_file_of_assignments_that_cannot_be_read_stops_everything(house, capsys):
    """To go on without it would give readings to the wrong shipment."""
    run(["devices", "assign", "logger-1", "--subject", "crate-2"])
    (house / "data" / "control" / "devices.json").write_text("[{")
    assert run(["devices", "list"]) == 1
    assert "devices.json cannot be read" in capsys.readouterr().err


def test_what_is_not_there_is_suggested(house, capsys):
    (house / "vitalane.yaml").write_text(CONFIGURATION.replace("zigbee2mqtt", "zigbee2mqt"))
    assert run(["config", "check"]) == 2
    assert "vitalane.yaml:3:12: mappings[0]: there is no file and no shipped mapping `zigbee2mqt`, did you mean" in capsys.readouterr().err
