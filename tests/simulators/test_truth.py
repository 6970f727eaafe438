"""The truth says what the sensor saw, and what of it arrived: only what did not arrive excuses."""

import json

import pytest

from simulators.faults import Span
from simulators.faults_device import ClockSkew, Frozen
from simulators.faults_payload import Malformed
from simulators.faults_way import Backlog, Dropout, Duplicates, Reordering
from simulators.feeds import Disturbed, WorldSource
from simulators.incidents import ABSENT, Incident, IncidentKind, Limit, strike
from simulators.patient import Patients
from simulators.shipment import Shipments
from simulators.truth import Run, Truth
from simulators.truth_file import parse_truth

START = 1_767_225_600_000
MINUTE, HOUR = 60_000, 3_600_000
WARM = Limit("temperature", ">", 8.0, for_ms=30 * MINUTE, gap_ms=30 * MINUTE)


def told(faults=(), *, hours=8, lasts_ms=2 * HOUR, limit=WARM):
    """Return the truth about a door that was open, after some faults."""
    world = Shipments(4, seed=3, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE)
    incident = strike(world, IncidentKind.DOOR_OPEN, 1, START + 2 * HOUR, START + 2 * HOUR + lasts_ms, rule="too-warm", limit=limit)
    run = Run("trial", 1, START, START + hours * HOUR, len(world.devices))
    truth = Truth([incident], devices=world.devices, faults=faults, run=run)
    played(Disturbed(WorldSource(world, truth=truth), faults, end_ms=run.end_ms, seen=truth.let_go))
    return truth


def played(source):
    while source.next_ms is not None:
        source.take()


def struck(truth):
    return truth.incidents[0]


def test_an_incident_that_was_long_enough_is_due_and_was_shown():
    truth = told()
    assert truth.is_due(struck(truth))
    assert truth.was_shown(struck(truth))
    assert truth.hidden_by(struck(truth)) == ()


def test_an_incident_that_was_too_short_for_its_rule_is_not_due():
    truth = told(lasts_ms=10 * MINUTE)
    assert not truth.is_due(struck(truth))
    assert truth.hidden_by(struck(truth)) == ()


@pytest.mark.parametrize("for_minutes", range(60, 180, 7))
def test_due_is_what_the_rules_own_definition_says_of_the_readings(for_minutes):
    """From the first reading past the limit to the last one, by brute force over what was published."""
    truth = told(limit=WARM._replace(for_ms=for_minutes * MINUTE))
    readings = sorted((item.stamp_ms, item.value) for item in truth._arrived["truck-02", "temperature"])
    past = [stamp for stamp, value in readings if value > 8 and stamp >= START + 2 * HOUR]
    assert all(value > 8 for stamp, value in readings if past[0] <= stamp <= past[-1])
    assert truth.is_due(struck(truth)) is truth.was_shown(struck(truth)) is (past[-1] - past[0] >= for_minutes * MINUTE)


EVERYTHING = Span(START, START + 8 * HOUR)
DURING = Span(START + HOUR, START + 6 * HOUR)


@pytest.mark.parametrize(
    ("fault", "hidden"),
    [
        (Frozen(["truck-02"], DURING, seed=1, metric="temperature"), True),
        (Frozen(["truck-02"], DURING, seed=1, metric="humidity"), False),
        (Frozen(["truck-03"], DURING, seed=1, metric="temperature"), False),
        (Dropout(["truck-02"], DURING, seed=1, backlog=Backlog.NONE), True),
        (Dropout(["truck-02"], DURING, seed=1, backlog=Backlog.NEWEST), False),
        (Malformed(["truck-02"], DURING, seed=1), True),
        (Malformed(["truck-02"], DURING, seed=1, probability=0.2), False),
        (Duplicates(["truck-02"], DURING, seed=1, probability=1.0), False),
        (Reordering(["truck-02"], DURING, seed=1, within_ms=HOUR), False),
        (ClockSkew(["truck-02"], EVERYTHING, seed=1, offset_ms=-3 * HOUR), False),
        (ClockSkew(["truck-02"], EVERYTHING, seed=1, offset_ms=3 * HOUR), True),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else str(value),
)
def test_only_what_destroys_the_evidence_hides_an_incident(fault, hidden):
    truth = told([fault])
    assert truth.is_due(struck(truth)), "the sensor saw it"
    assert truth.hidden_by(struck(truth)) == ((fault.kind.value,) if hidden else ())


@pytest.mark.parametrize(("horizon_ms", "hidden"), [(None, False), (72 * HOUR, False), (HOUR, True)])
def test_what_comes_behind_the_horizon_is_no_evidence(horizon_ms, hidden):
    fault = Dropout(["truck-02"], DURING, seed=1, backlog=Backlog.NEWEST)
    truth = told([fault], limit=WARM._replace(horizon_ms=horizon_ms))
    assert bool(truth.hidden_by(struck(truth))) is hidden


def silent(speed, hours=4):
    world = Patients(3, seed=1, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE)
    limit = Limit("spo2", ABSENT, for_ms=5 * MINUTE)
    incident = strike(world, IncidentKind.PROBE_SILENT, 0, START + HOUR, START + 2 * HOUR, rule="probe-off", limit=limit)
    truth = Truth([incident], devices=world.devices, run=Run("trial", 1, START, START + hours * HOUR, 3, speed, START))
    played(Disturbed(WorldSource(world, truth=truth), end_ms=START + hours * HOUR, seen=truth.let_go))
    return truth


@pytest.mark.parametrize(("speed", "due"), [(1.0, True), (10.0, True), (15.0, False), (600.0, False)])
def test_silence_is_due_where_it_lasts_on_the_receivers_clock(speed, due):
    """An hour of event time is four minutes of the receiver's at fifteen times its pace: no rule of five minutes can notice."""
    truth = silent(speed)
    assert truth.is_due(struck(truth)) is due


def test_a_run_that_was_stopped_owes_nothing_that_was_not_played():
    world = Patients(2, seed=1, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE)
    sepsis = strike(world, IncidentKind.SEPSIS, 0, START + HOUR, START + 5 * HOUR, rule="news2")
    truth = Truth([sepsis], devices=world.devices, run=Run("trial", 1, START, START + 9 * HOUR, 2))
    source = Disturbed(WorldSource(world, truth=truth), seen=truth.let_go)
    while source.next_ms < START + 2 * HOUR:
        source.take()
    assert not truth.is_due(sepsis)
    run = json.loads(truth.lines()[0])
    assert run["end"].startswith("2026-01-01T01:59")


def test_what_is_written_reads_back():
    faults = [Dropout(["truck-03"], DURING, seed=1), Frozen(["truck-02"], DURING, seed=1, metric="temperature")]
    truth = told(faults)
    back = parse_truth(truth.lines())
    [incident] = back.incidents
    assert (incident.kind, incident.subject, incident.rule) == ("door_open", "truck-02", "too-warm")
    assert incident.breach == truth.breach(struck(truth))[:2]
    assert (incident.due, incident.hidden_by) == (True, ("frozen",))
    assert [(item.kind, item.subjects, item.metrics) for item in back.faults] == [
        ("dropout", ("truck-03",), ()),
        ("frozen", ("truck-02",), ("temperature",)),
    ]
    assert back.faults[0].until_ms > back.faults[0].end_ms, "the backlog came after it"
    assert [item.messages for item in back.faults] == [fault.touched.total() for fault in faults]


def test_what_does_not_happen_in_a_world_is_refused():
    world = Patients(1, seed=1, start_ms=START)
    with pytest.raises(ValueError, match="door_open does not happen to patients"):
        strike(world, IncidentKind.DOOR_OPEN, 0, START, START + 1, rule="x")


@pytest.mark.parametrize("kind", [kind for kind in IncidentKind if kind.is_of_shipments])
def test_every_incident_of_a_shipment_shows(kind):
    assert shows(lambda: Shipments(3, seed=1, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE), kind)


@pytest.mark.parametrize("kind", [kind for kind in IncidentKind if not kind.is_of_shipments])
def test_every_incident_of_a_patient_shows(kind):
    assert shows(lambda: Patients(3, seed=1, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE), kind)


def shows(world, kind):
    """Return whether it changes what its own device says, and no other."""
    calm, other = world(), world()
    incident = strike(other, kind, 1, START + HOUR, START + 3 * HOUR, rule="x")
    assert isinstance(incident, Incident)
    said = [list(_messages(one)) for one in (calm, other)]
    assert {m for m in said[0] if incident.device not in m.topic} == {m for m in said[1] if incident.device not in m.topic}
    return said[0] != said[1]


def _messages(world):
    source = WorldSource(world)
    while source.next_ms < START + 4 * HOUR:
        yield from source.take()
