import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from cli.config import every_problem, shown
from cli.configuration import read_configuration
from cli.main import run
from cli.settings import Settings
from documents import parse

PACKS = "(packs: cold-chain, demo, early-warning, vital-signs, who-pqs)"

SECRETS = """\
broker: {user: u, password: {env: VITALANE_TEST_PASSWORD}}
stores: {influxdb: {url: "http://localhost:8086", bucket: ward, token: {file: token}}}
ingest: {retention: {max_size: 64 MB, max_age: 36 h}}
"""


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """What `vitalane init` writes."""
    assert run(["init", str(tmp_path)]) == 0
    return tmp_path / "vitalane.yaml"


def test_what_init_writes_is_right(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "-c", str(started)]) == 0
    assert "is right: 3 rules" in capsys.readouterr().out


def test_init_overwrites_nothing(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started.write_text("partitions: 2\n")
    assert run(["init", str(started.parent)]) == 0
    assert started.read_text() == "partitions: 2\n"
    assert "is there already" in capsys.readouterr().out


def test_check_prints_all_problems_of_all_documents_at_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run of `config check`, one list to work through."""
    (tmp_path / "vitalane.yaml").write_text(
        "data_dir: data\n"
        "broker: {user: u, password: {env: VITALANE_NOT_SET}, tls: {ca: nowhere.pem}}\n"
        "rules: [demos, rules.yaml]\n"
        "registry: registry.yaml\n"
        "channels:\n"
        "  history: {type: terminal}\n"
        "  chat: {type: chat, url: {file: nowhere}}\n"
        "subscriptions:\n"
        "  - {name: a, channels: chatt}\n"
    )
    (tmp_path / "registry.yaml").write_text("devices:\n  - {device: a, kind: shipment}\n  - {device: a, kind: ship}\n")
    assert run(["config", "check", "-c", str(tmp_path / "vitalane.yaml")]) == 2
    told = capsys.readouterr().err.replace(str(tmp_path), "").splitlines()
    assert told == [
        "vitalane: /registry.yaml:3:23: devices[1].kind: must be one of shipment, patient (it is 'ship')",
        "vitalane: /vitalane.yaml:2:29: broker.password: the environment variable VITALANE_NOT_SET is not set",
        "vitalane: /vitalane.yaml:2:64: broker.tls.ca: there is no file /nowhere.pem",
        "vitalane: /vitalane.yaml:3:9: rules[0]: there is no file and no rule pack `demos`, did you mean `demo`?",
        f"vitalane: /vitalane.yaml:3:16: rules[1]: there is no file and no rule pack `rules.yaml` {PACKS}",
        "vitalane: /vitalane.yaml:6:3: channels.history: is the name of a store: call the channel otherwise",
        "vitalane: /vitalane.yaml:7:27: channels.chat.url: the secret's file /nowhere cannot be read: no such file or directory",
        "vitalane: /vitalane.yaml:9:25: subscriptions[0].channels: there is no channel 'chatt', did you mean 'chat'?",
    ]


def test_an_unknown_rule_pack_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "vitalane.yaml").write_text("rules: [demos, nowhere/at/all.yaml]\n")
    first, second = every_problem(read_configuration(tmp_path / "vitalane.yaml"))
    assert str(first).endswith("vitalane.yaml:1:9: rules[0]: there is no file and no rule pack `demos`, did you mean `demo`?")
    assert str(second).endswith(f":1:16: rules[1]: there is no file and no rule pack `nowhere/at/all.yaml` {PACKS}")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("broker: {topics: ['a/b', '+/plant/#']}\nsparkplug: {}", "1:26: broker.topics[1]: `+/plant/#` brings what `sparkplug` listens to"),
        ("broker: {topics: ['#']}\nsparkplug: {groups: [plant]}", "1:19: broker.topics[0]: `#` brings what `sparkplug` listens to"),
        ("broker: {client_id: x}\nsparkplug: {client_id: x}", "2:24: sparkplug.client_id: is that of `broker`"),
        ("sparkplug: {groups: ['a/b']}", "1:21: sparkplug.groups: must be `all`, or a list of groups whose names have no `+`, `#` or `/`"),
        ("sparkplug: {groups: some}", "1:21: sparkplug.groups: must be `all`"),
        ("sparkplug: {groups: []}", "1:21: sparkplug.groups: must be `all`"),
        ("sparkplug: {host_id: 'a/b'}", "1:"),
        ("sparkplug: {kind: fridge}", "1:"),
    ],
)
def test_what_sparkplug_cannot_go_with_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, problem: str) -> None:
    """Twice the same message is a gap in its sequence, and every gap a question to the node: it would never end."""
    (tmp_path / "vitalane.yaml").write_text(written)
    assert run(["config", "check", "-c", str(tmp_path / "vitalane.yaml")]) == 2
    assert f"vitalane.yaml:{problem}" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["{}", "{groups: all}", "{groups: [plant], host_id: h, kind: patient, reorder_timeout: 2 s}"])
def test_sparkplug_is_listened_to_as_it_is_written(tmp_path: Path, written: str) -> None:
    (tmp_path / "vitalane.yaml").write_text(f"sparkplug: {written}\nbroker: {{topics: ['vitalane/v1/shipment/+/+', 'spBv1.0/STATE/+']}}")
    assert every_problem(read_configuration(tmp_path / "vitalane.yaml")) == []


def test_show_hides_secrets_and_prints_quantities_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITALANE_TEST_PASSWORD", "hunter2")
    settings = shown(parse(SECRETS, "a.yaml", Settings))
    assert settings["broker"]["password"] == "*** (environment variable VITALANE_TEST_PASSWORD)"
    assert settings["stores"]["influxdb"]["token"] == "*** (file token)"
    assert settings["ingest"]["retention"] == {"max_age": "36 h", "max_size": "64 MB"}
    assert settings["windows"] == {"shipment": "5 min", "patient": "10 s"}
    assert "hunter2" not in json.dumps(settings)


def test_what_show_prints_reads_back_the_same(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Effective values in the form in which they are written, so that a person can copy from there."""
    capsys.readouterr()
    assert run(["config", "show", "-c", str(started)]) == 0
    assert parse(capsys.readouterr().out, "shown.yaml", Settings) == read_configuration(started).settings


def test_the_schema_takes_what_the_program_takes(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Editors check with it as people type."""
    capsys.readouterr()
    assert run(["config", "schema"]) == 0
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    validator.check_schema(validator.schema)
    validator.validate(yaml.safe_load(started.read_text()))
    wrong = [
        {"brokr": {}},
        {"broker": {"port": 0}},
        {"broker": {"password": "hunter2"}},
        {"channels": {"a": {"type": "webhok"}}},
        {"windows": {"patient": 10.5}},
    ]
    assert [document for document in wrong if validator.is_valid(document)] == []


def test_the_partitions_of_a_journal_cannot_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A subject's past would lie in another partition than its future."""
    from journal.writer import JournalWriter

    (tmp_path / "data").mkdir()
    JournalWriter(tmp_path / "data" / "telemetry.db", "telemetry", 2).close()
    (tmp_path / "vitalane.yaml").write_text("partitions: 8\n")
    assert run(["flow", "-c", str(tmp_path / "vitalane.yaml")]) == 2
    assert "vitalane.yaml:1:13: partitions: the journal in" in capsys.readouterr().err
