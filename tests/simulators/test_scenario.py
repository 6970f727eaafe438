"""Scenario documents: what is wrong is said at its place, and a seed draws devices and times, nothing else does."""

import pytest

from documents import read_tree
from simulators.faults import FaultKind
from simulators.incidents import IncidentKind
from simulators.mixture import CLASSES, HARMLESS
from simulators.scenario import PARAMETERS, Scenario, library, read_scenario, schema
from simulators.staging import kinds_of, stage
from telemetry.errors import ConfigError

START = 1_767_225_600_000

GOOD = """\
about: a trial
lasts: 6 h
devices:
  truck: {world: shipments, count: 8, report: 5 min, tags: [{storage: cold}, {storage: warm}]}
  monitor: {world: patients, count: 4, report: 1 min}
rules:
  - {id: too-warm, when: temperature > 8 Cel, severity: warning}
incidents:
  - {kind: door_open, of: truck, count: 2, tags: {storage: cold}, at: 1 h, within: 2 h, for: 60 min, rule: too-warm}
faults:
  - {kind: dropout, of: truck, share: 0.5, at: 1 h, for: 1 h}
"""


def scenario(text):
    return Scenario("trial", read_tree(text, "trial.yaml"))


def staged(text=GOOD, seed=1, faults="own"):
    return stage(scenario(text), seed=seed, start_ms=START, limits={}, faults=faults)


def messages(played):
    found = []
    for source in played.sources:
        while source.next_ms is not None:
            found += source.take()
    return found


@pytest.mark.parametrize(
    ("before", "after", "place", "says"),
    [
        ("kind: door_open", "kind: sepsis", "9:12: incidents[0].kind", "sepsis does not happen to shipments"),
        ("kind: door_open", "kind: fire", "9:12: incidents[0].kind", "'door_open'"),
        ("kind: door_open, of: truck", "kind: door_open, of: lorry", "9:27: incidents[0].of", "there is no group `lorry`: truck, monitor"),
        ("for: 60 min", "for: 6 h", "9:5: incidents[0]", "it may end after the scenario does"),
        ("kind: dropout, of: truck", "kind: dropout, of: lorry", "11:25: faults[0].of", "there is no group `lorry`"),
        ("share: 0.5", "share: 0.5, ppm: 3", "11:5: faults[0]", "`ppm` means nothing to dropout"),
        ("share: 0.5", "share: 0.5, count: 3", "11:5: faults[0]", "either `share` or `count`"),
        ("share: 0.5", "share: 1.5", "11:39: faults[0].share", "less than or equal to 1"),
        ("report: 5 min", "report: 5 min, tick: 2 min", "4:10: devices.truck", "`report` must be a multiple of `tick`"),
        ("lasts: 6 h", "lasts: soon", "2:8: lasts", "'soon'"),
        ("report: 5 min", "report: 5 min, tick: 1 ms", "4:60: devices.truck.tick", "43200000 steps in all, 1000000 at most"),
        ("report: 5 min", "report: 1 ms", "4:47: devices.truck.report", "43200000 steps in all"),
        ("lasts: 6 h", "lasts: 6 h\ngrouped: 1 ms", "3:10: grouped", "21600000 steps in all"),
        ("lasts: 6 h", "last: 6 h", "2:1: last", "unknown key, did you mean `lasts`"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(before, after, place, says):
    assert before in GOOD
    with pytest.raises(ConfigError) as caught:
        scenario(GOOD.replace(before, after))
    problems = [str(item) for item in caught.value.problems]
    assert any(problem.startswith(f"trial.yaml:{place}: ") and says in problem for problem in problems), problems


def test_too_few_devices_for_what_is_to_happen_is_said():
    with pytest.raises(ConfigError, match=r"trial.yaml:9:5: incidents\[0\]: 4 devices of `truck` are left for it"):
        staged(GOOD.replace("count: 2", "count: 5"))


def test_a_seed_gives_the_same_run_and_another_another():
    one, same, other = (messages(staged(seed=seed, faults="all")) for seed in (5, 5, 6))
    assert one == same
    assert one != other


def test_a_seed_draws_devices_with_the_tags_and_times_within():
    drawn = [incident for seed in range(30) for incident in staged(seed=seed).truth.incidents]
    assert {incident.device for incident in drawn} == {"truck-01", "truck-03", "truck-05", "truck-07"}
    since = [(incident.start_ms - START) / 3_600_000 for incident in drawn]
    assert 1 <= min(since) < 1.3
    assert 2.7 < max(since) < 3
    assert all(len({one.device, two.device}) == 2 for one, two in zip(drawn[::2], drawn[1::2], strict=True))


def test_another_incident_or_fault_does_not_change_where_the_first_ones_fall():
    more = GOOD.replace("faults:\n", "  - {kind: hypoxia, of: monitor, at: 1 h, for: 1 h, rule: too-warm}\nfaults:\n")
    more += "  - {kind: frozen, of: truck, count: 1, metric: temperature}\n"
    one, other = staged().truth, staged(more).truth
    assert other.incidents[:2] == one.incidents
    assert (other.faults[0].devices, other.faults[0].span) == (one.faults[0].devices, one.faults[0].span)


@pytest.mark.parametrize("seed", range(20))
def test_what_destroys_evidence_spares_those_to_whom_something_happens(seed):
    played = staged(GOOD + "  - {kind: frozen, of: truck, metric: temperature}\n", seed, "all")
    struck = {incident.device for incident in played.truth.incidents}
    for fault in played.truth.faults:
        if fault.kind not in HARMLESS and fault.kind is not FaultKind.MALFORMED:
            assert not struck & set(fault.devices), fault.kind


@pytest.mark.parametrize("seed", range(5))
def test_a_kind_falls_on_the_same_devices_at_the_same_time_whatever_else_is_asked_for(seed):
    def lots(faults):
        return {(fault.kind, fault.devices, fault.span) for fault in staged(seed=seed, faults=faults).truth.faults}

    assert lots("frozen") < lots("spike,frozen,clock_jump") < lots("all")


def test_which_faults_act_is_chosen():
    assert [fault.kind for fault in staged(faults="own").truth.faults] == [FaultKind.DROPOUT]
    assert not staged(faults="none").truth.faults
    named = staged(faults="spike, flood").truth.faults
    assert {fault.kind for fault in named} == {FaultKind.DROPOUT, FaultKind.SPIKE, FaultKind.FLOOD}
    assert {fault.kind for fault in staged(faults="all").truth.faults} == set(FaultKind)
    with pytest.raises(ConfigError, match=r"'gremlins' is none of all, own, none, dropout"):
        kinds_of("spike,gremlins")


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_can_be_asked_for_with_all_that_can_be_said_of_it(kind):
    said = {
        "backlog": "none",
        "every": "20 min",
        "lasts": "2 min",
        "probability": "0.5",
        "spread": "3 min",
        "mean": "1 min",
        "distribution": "fixed",
        "ahead": "1 min",
        "ppm": "10",
        "metric": "temperature",
        "value": "99",
        "degrees": "3",
        "per_minute": "700",
        "schema": "version",
        "named": "false",
    }
    asked = "".join(f", {name.rstrip('_')}: {said[name.rstrip('_')]}" for name in PARAMETERS.get(kind, ()) if name != "behind")
    played = staged(GOOD + f"  - {{kind: {kind}, of: truck, at: 1 h, for: 4 h{asked}}}\n")
    messages(played)
    fault = played.truth.faults[-1]
    assert type(fault) is CLASSES[kind]
    assert fault.touched


@pytest.mark.parametrize("path", library(), ids=lambda path: path.stem)
def test_a_scenario_of_the_library_has_incidents_and_fits_its_own_time(path):
    model = read_scenario(path.stem).model
    assert model.incidents
    assert model.floors.recall == 1.0
    assert model.floors.p95


def test_the_library_has_what_it_promises_and_the_schema_names_every_kind():
    names = {path.stem for path in library()}
    assert names >= {"cold-chain-day", "port-dwell", "ward-night", "sepsis", "network-partition", "clock-chaos", "alert-storm"}
    kinds = schema()["$defs"]
    assert set(kinds["FaultKind"]["enum"]) == set(FaultKind)
    assert set(kinds["IncidentKind"]["enum"]) == set(IncidentKind)


def test_a_name_that_is_none_says_which_there_are():
    with pytest.raises(ConfigError, match="no scenario of this name: alert-storm, "):
        read_scenario("no-such")
