"""Trials: the notation, the faults, and that a trial passes for the right reason."""

from pathlib import Path

import pytest

from documents import read_tree
from rules.condition import Silence
from rules.document import compile_rules, load_rules, pack_names, packs_folder
from rules.trial import Trial, read_series, read_trials
from rules.trying import measured, run_trial
from telemetry.errors import ConfigError

WARM = compile_rules([("warm", "rules: [{id: warm, when: temperature > 8 Cel, for: 10 min, max_gap: 15 min, severity: warning}]")])


def trial(**given: object) -> Trial:
    return Trial.model_validate({"name": "one", "every": "5 min", **given})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4.0 x3, 9.2", (4.0, 4.0, 4.0, 9.2)),
        ("_ x2, -5", (None, None, -5.0)),
        ("4..9 x6", (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)),
        ("7", (7.0,)),
        (" 1x2 ,2 ", (1.0, 1.0, 2.0)),
    ],
)
def test_the_notation_of_a_series(text, values):
    assert read_series(text) == values


@pytest.mark.parametrize("text", ["", "4 x0", "4 x", "four", "4..9", "_..3 x2", "1 x999999", "4,,5", "nan", "inf", "1e9"])
def test_what_is_no_series_is_refused(text):
    with pytest.raises(ValueError, match=r"is not understood|values|rise"):
        read_series(text)


def test_faults_move_readings():
    one = trial(
        series={"temperature": "1, 2, 3, 4"},
        faults=[
            {"late": "1 h", "from": "5 min", "until": "10 min"},
            {"ahead": "1 min", "from": "10 min", "until": "15 min"},
            {"duplicate": True, "from": "15 min", "until": "20 min"},
        ],
    )
    minutes = [(reading.arrives_ms / 60_000, reading.measured_ms / 60_000, reading.value) for reading in measured(one)]

    assert minutes == [(0, 0, 1), (10, 11, 3), (15, 15, 4), (15, 15, 4), (65, 5, 2)]


@pytest.mark.parametrize(
    ("expect", "passes"),
    [
        ([{"rule": "warm", "from": "10 min", "until": "30 min"}], True),
        ([{"rule": "warm", "from": "10 min", "until": "30 min", "severity": "warning", "peak": 9}], True),
        ([{"rule": "warm", "from": "10 min", "until": "30 min", "peak": 10}], False),
        ([{"rule": "warm", "from": "10 min", "until": "30 min", "severity": "info"}], False),
        ([{"rule": "warm", "from": "10 min"}], False),  # it is not open
        ([{"rule": "warm", "from": "5 min", "until": "30 min"}], False),
        ([], False),  # an alert that nobody expects
        ([{"rule": "warm", "from": "10 min", "until": "30 min"}] * 2, False),
    ],
)
def test_a_trial_passes_where_exactly_what_it_expects_is_told(expect, passes):
    result = run_trial(trial(series={"temperature": "5 x2, 9 x4, 5 x2"}, expect=expect), WARM)

    assert result.passed is passes
    assert result.shuffled is None
    assert result.quarantined == {}


def test_what_is_refused_is_counted():
    result = run_trial(trial(series={"temperature": "5, 500, 5"}), WARM)

    assert (result.passed, result.quarantined) == (True, {"implausible": 1})


def test_several_devices_and_intervals():
    series = {"temperature": [{"values": "9 x2", "device": "a"}, {"values": "9 x3", "device": "b", "every": "10 min", "offset": "2 min"}]}
    result = run_trial(trial(series=series, expect=[{"rule": "warm", "from": "0 min"}]), WARM)

    assert result.passed
    assert {reading.device for reading in result.readings} == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials: []", "at least 1 item"),
        ("trials: [{name: a, series: {temprature: 5}}]", "unknown metric `temprature`"),
        ("trials: [{name: a, series: {temperature: 5, 9 x3}}]", "between `{` and `}` a series stands in quotes"),
        ("trials: [{name: a, series: {temperature: 5}, faults: [{late: 1 h, ahead: 1 h}]}]", "a fault is one of"),
        ("trials: [{name: a, series: {temperature: 5}, expects: []}]", "unknown key, did you mean `expect`?"),
        ("trials: [{name: a, series: {temperature: 5}, every: 0}]", "longer than 0"),
        ("trials: [{name: a, series: {temperature: 5}}, {name: a, series: {temperature: 5}}]", "is a trial already"),
        ("trials: [{name: a, series: {}}]", "at least 1 item"),
    ],
)
def test_a_wrong_document_is_explained(text, said):
    with pytest.raises(ConfigError) as caught:
        read_trials(read_tree(text, "t.yaml"))
    assert said in "\n".join(str(problem) for problem in caught.value.problems)


@pytest.mark.long
@pytest.mark.parametrize("pack", pack_names())
def test_every_shipped_rule_has_its_trials(pack):
    """Each fires in one and does not in another, and in one that has a gap; all pass, shuffled and doubled too."""
    rules = load_rules([pack])
    file = packs_folder() / f"{pack}.trial.yaml"
    _, trials = read_trials(read_tree(Path(file).read_text(), str(file)))
    results = [run_trial(placed.trial, rules) for placed in trials]

    assert [result.trial.name for result in results if not result.passed] == []
    fired = {event.rule for result in results for event in result.events}
    assert {rule.id for rule in rules.rules} - fired == set()
    gappy = [result for result in results if any(None in series.values for _, series in result.trial.all_series())]
    beside_a_gap = {event.rule for result in gappy for event in result.events}
    assert {rule.id for rule in rules.rules if not isinstance(rule.when, Silence)} - beside_a_gap == set()
    assert any(not result.events for result in results)
    assert any(fault.late for result in results for fault in result.trial.faults)


def test_the_peak_of_an_alert_that_is_open_is_that_of_all_its_readings():
    rules = compile_rules([("r", "rules: [{id: warm, when: temperature > 8 Cel, severity: warning}]")])
    trial = Trial.model_validate({"name": "t", "series": {"temperature": "5 x5, 9 x3, 15 x5, 10 x3"}, "expect": [
        {"rule": "warm", "from": "5 min", "peak": 15}]})  # fmt: skip

    assert run_trial(trial, rules).passed
