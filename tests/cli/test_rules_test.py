import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli.main import run

RULES = (
    "rules: [{id: warm, when: temperature > 8 Cel, for: 10 min, severity: warning}, {id: cold, when: temperature < 2 Cel, severity: info}]"
)
TRIALS = """trials:
  - name: warm is told
    every: 5 min
    series: {temperature: "5, 9 x4, 5"}
    expect: [{rule: warm, from: 5 min, until: 25 min}]
  - name: this one is wrong
    every: 5 min
    series: {temperature: "5, 9 x4, 5"}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(RULES)
    (tmp_path / "own.trial.yaml").write_text(TRIALS)
    return tmp_path


def test_the_shipped_trials_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", "-k", "scale two"]) == 0
    assert capsys.readouterr().out.endswith("1 trials: 1 passed, 0 failed\n")


@pytest.mark.parametrize("named", ["", "own.yaml", "own.trial.yaml"])
def test_a_failure_says_what_came_and_what_should_have(files: Path, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", str(files / named)]) == 1
    told = capsys.readouterr().out
    assert "ok     own.trial.yaml:2  warm is told" in told
    assert "FAILED own.trial.yaml:6  this one is wrong" in told
    assert "unexpected  warm from 5 min until 25 min, warning, peak 9" in told
    assert "temperature        |" in told
    assert told.endswith("2 trials: 1 passed, 1 failed\n")


def test_some_trials_by_name_and_what_none_reached(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", str(files), "-k", "warm is", "--coverage"]) == 0
    told = capsys.readouterr().out
    assert "no trial reached cold: raised" in told
    assert "no trial reached warm: late data" in told
    assert "1 trials: 1 passed, 0 failed" in told


def test_for_machines(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", str(files), "--json", "--junit", str(files / "junit.xml")]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["failed"], [trial["passed"] for trial in told["trials"]]) == (1, 1, [True, False])
    assert told["trials"][1]["unexpected"][0]["rule"] == "warm"

    (suite,) = ElementTree.parse(files / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.find("failure") is not None for case in suite] == [False, True]
    assert "unexpected" in (suite[1][0].text or "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials: [{name: a, series: {temperature: 5}, expect: [{rule: wrm, from: 0}]}]", "expects the rule `wrm`, which is not there"),
        ("trials: 5", "own.trial.yaml:1"),
        ("", "`trials` is missing"),
    ],
)
def test_a_wrong_file_is_exit_2(files: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "own.trial.yaml").write_text(text)
    assert run(["rules", "test", str(files)]) == 2
    assert said in capsys.readouterr().err


def test_where_there_are_no_trials_it_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", str(tmp_path)]) == 2
    assert "write one into NAME.trial.yaml" in capsys.readouterr().err
