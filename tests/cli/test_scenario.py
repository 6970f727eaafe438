"""`vitalane simulate scenario`, `simulate replay --faults` and `vitalane score`, as a person uses them."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rules.document import load_rules
from rules.reserved import RESERVED
from simulators.score import CAUSES, OWN_CLOCK
from simulators.truth_file import read_truth
from tests.cli.running import vitalane

pytestmark = pytest.mark.long

SMALL = """\
about: a trial
lasts: 4 h
grouped: 5 min
devices: {truck: {world: shipments, count: 6, report: 5 min, tick: 1 min}}
rules:
  - {id: too-warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, for: 20 min, max_gap: 30 min, severity: critical}
incidents:
  - {kind: door_open, of: truck, at: 30 min, for: 90 min, rule: too-warm}
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "trial.yaml"
    file.write_text(SMALL)
    return file


def rehearsed(document: Path, folder: Path, *options: str) -> tuple[int, str, Path, Path]:
    truth, alerts = folder / "truth.jsonl", folder / "alerts.jsonl"
    ended = vitalane("simulate", "scenario", str(document), "--rehearse", "--truth", str(truth), "--alerts", str(alerts), *options)
    return ended.returncode, ended.stdout + ended.stderr, truth, alerts


def test_a_rehearsal_finds_what_happens_and_its_files_score_the_same(document: Path, tmp_path: Path) -> None:
    code, told, truth, alerts = rehearsed(document, tmp_path, "--faults", "all", "--seed", "4")
    assert code == 0, told
    assert "recall 1.000, precision 1.000" in told
    scored = vitalane("score", "--truth", str(truth), "--alerts", str(alerts), "--min-precision", "1")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.strip() in told
    assert len(read_truth(truth).faults) > 14  # some kinds throw their dice in vain


def test_a_missed_incident_is_exit_code_1(document: Path, tmp_path: Path) -> None:
    """What CI asks for."""
    _, _, truth, alerts = rehearsed(document, tmp_path)
    kept = [line for line in alerts.read_text().splitlines() if json.loads(line)["data"]["rule"] != "too-warm"]
    alerts.write_text("".join(f"{line}\n" for line in kept))
    scored = vitalane("score", "--truth", str(truth), "--alerts", str(alerts), "--json")
    result = json.loads(scored.stdout)
    assert scored.returncode == 1
    assert result["recall"] == 0.0
    assert [item["incident"] for item in result["missed"]] == ["door_open"]
    assert vitalane("score", "--truth", str(truth), "--alerts", str(alerts), "--min-recall", "0").returncode == 0


def test_an_alert_without_a_cause_lowers_the_precision(document: Path, tmp_path: Path) -> None:
    _, _, truth, alerts = rehearsed(document, tmp_path)
    struck = read_truth(truth).incidents[0].subject
    raised = json.loads(next(line for line in alerts.read_text().splitlines() if '"raised"' in line))
    raised["data"] |= {"subject": "truck-99" if struck != "truck-99" else "truck-98", "alert_id": "0123456789abcdef"}
    with alerts.open("a") as file:
        file.write(json.dumps(raised) + "\n")
    scored = vitalane("score", "--truth", str(truth), "--alerts", str(alerts), "--min-precision", "0.9")
    assert scored.returncode == 1
    assert "1 without a cause" in scored.stdout
    assert "without a cause: too-warm for truck-99" in scored.stdout


def test_a_floor_that_is_not_reached_fails_the_rehearsal(document: Path, tmp_path: Path) -> None:
    document.write_text(SMALL + "floors: {p95: 10 min}\n")
    code, told, _, _ = rehearsed(document, tmp_path, "--faults", "none")
    assert code == 1
    assert "WRONG: without faults, 95 % were found within 2" in told
    assert "not 10 min" in told


def test_a_rehearsal_in_which_nothing_was_due_has_tried_nothing(document: Path, tmp_path: Path) -> None:
    document.write_text(SMALL.replace("for: 90 min, rule", "for: 1 min, rule"))
    code, told, _, _ = rehearsed(document, tmp_path, "--faults", "none")
    assert code == 1, told
    assert "WRONG: nothing was due of 1 incidents, so recall was not tried" in told
    document.write_text(document.read_text() + "floors: {recall: 0}\n")
    assert rehearsed(document, tmp_path, "--faults", "none")[0] == 0


def test_a_rule_that_is_always_on_has_found_nothing(document: Path, tmp_path: Path) -> None:
    document.write_text(SMALL.replace("> 8 Cel, for: 20 min", "> -90 Cel, for: 0 s"))
    code, told, _, _ = rehearsed(document, tmp_path, "--faults", "none")
    assert code == 1, told
    assert "recall 0.000, precision 0.000" in told


@pytest.mark.parametrize("option", ["--truth", "--alerts"])
def test_a_file_that_cannot_be_written_is_a_sentence(document: Path, tmp_path: Path, option: str) -> None:
    file = tmp_path / "no-such-folder" / "file.jsonl"
    ended = vitalane("simulate", "scenario", str(document), "--rehearse", option, str(file))
    assert ended.returncode == 3
    assert ended.stderr == f"vitalane: {file} cannot be written: no such file or directory\n"


def test_the_same_seed_gives_the_same_truth_and_alerts(document: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
        rehearsed(document, tmp_path / name, "--faults", "all", "--seed", "5" if name == "other" else "4")
    for file in ("truth.jsonl", "alerts.jsonl"):
        one, two, other = ((tmp_path / name / file).read_text() for name in ("one", "two", "other"))
        assert one == two != other


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("when: temperature > 8 Cel", "when: temprature > 8 Cel", "rules[0].when: "),
        ("for: 90 min, rule: too-warm", "for: 90 min, rule: too-hot", "there is no rule `too-hot`: too-warm"),
    ],
)
def test_a_rule_that_is_wrong_is_said_at_its_place(document: Path, before: str, after: str, problem: str) -> None:
    document.write_text(SMALL.replace(before, after))
    ended = vitalane("simulate", "scenario", str(document), "--rehearse")
    assert ended.returncode == 2
    line = 6 if "rules[0]" in problem else 8
    assert f"{document}:{line}:" in ended.stderr, ended.stderr
    assert problem in ended.stderr


def test_what_a_system_needs_to_watch_it_is_written_and_nothing_is_overwritten(document: Path, tmp_path: Path) -> None:
    folder = tmp_path / "system"
    ended = vitalane("simulate", "scenario", str(document), "--prepare", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert [rule.id for rule in load_rules([folder / "rules.yaml"]).rules] == ["too-warm"]
    assert len(yaml.safe_load((folder / "registry.yaml").read_text())["devices"]) == 6
    again = vitalane("simulate", "scenario", str(document), "--prepare", str(folder))
    assert again.returncode == 3
    assert "are there already" in again.stderr


def test_the_library_is_listed_and_its_documents_fit_the_schema() -> None:
    listed = vitalane("simulate", "scenario", "--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()][:2] == ["alert-storm", "clock-chaos"]
    schema = json.loads(vitalane("simulate", "scenario", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(SMALL), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(SMALL.replace("door_open", "fire")), schema)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("simulate", "scenario"), "name a scenario"),
        (("simulate", "scenario", "sepsis", "--rehearse", "--speed", "600"), "--speed means nothing in a rehearsal"),
        (("simulate", "scenario", "sepsis", "--rehearse", "--prepare", "no-such"), "--prepare means nothing in a rehearsal"),
        (("simulate", "scenario", "--seeds", "1-3"), "--seeds means nothing without --rehearse"),
        (("simulate", "scenario", "sepsis", "--alerts", "no-such"), "--alerts means nothing without --rehearse"),
        (("simulate", "scenario", "sepsis", "--json"), "--json means nothing without --rehearse"),
        (("simulate", "scenario", "--rehearse", "--seeds", "1-3", "--truth", "no-such"), "--truth means nothing with --seeds"),
        (("simulate", "scenario", "no-such", "--rehearse"), "no scenario of this name"),
        (("simulate", "scenario", "sepsis", "--rehearse", "--faults", "gremlins"), "'gremlins' is none of all, own, none"),
        (("score", "--truth", "no-such"), "name the alerts"),
        (("score", "--truth", "no-such", "--alerts", "no-such"), "it cannot be read"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    ended = vitalane(*arguments)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_line_that_is_no_alert_is_named(document: Path, tmp_path: Path) -> None:
    _, _, truth, alerts = rehearsed(document, tmp_path)
    alerts.write_text(alerts.read_text() + '{"specversion": "1.0"}\n')
    ended = vitalane("score", "--truth", str(truth), "--alerts", str(alerts))
    assert ended.returncode == 2
    assert f"{alerts}:{len(alerts.read_text().splitlines())}" in ended.stderr


def test_the_rules_that_faults_can_cause_are_the_engines_own() -> None:
    """A rule that was renamed there would leave alerts without their cause."""
    named = {rule for causes in CAUSES.values() for rule in causes.rules}
    assert named <= set(RESERVED)
    assert all(rule.startswith(OWN_CLOCK) for rule in RESERVED)
