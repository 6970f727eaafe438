"""The score says what was found, missed and told without a cause: by cases that a reader can check, and what must not fool it."""

import json

import pytest

from simulators.faults import FaultKind
from simulators.score import CAUSES, by_fault, by_incident, score, total
from simulators.truth_file import parse_truth
from telemetry.alert import AlertClass, AlertEvent, Phase, Severity
from telemetry.clock import format_ms
from telemetry.errors import ConfigError

START = 1_767_225_600_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def at(minutes):
    return format_ms(START + round(minutes * MINUTE))


RUN = {"run": "trial", "seed": 1, "speed": 1.0, "devices": 24, "start": at(0), "end": at(24 * 60), "played": at(0)}


def incident(
    subject="truck-1",
    start=60,
    end=160,
    breach=(70, 170),
    *,
    due=True,
    hidden_by=(),
    silence=False,
    rule="too-warm",
    kind="door_open",
    stamps=None,
):
    return {
        "incident": kind,
        "subject": subject,
        "device": subject,
        "start": at(start),
        "end": at(end),
        "rule": rule,
        "also": ["door-open"],
        "silence": silence,
        "breach": breach and {"start": at(breach[0]), "end": breach[1] and at(breach[1])},
        "stamps": stamps and {"first": at(stamps[0]), "last": at(stamps[1])},
        "due": due,
        "hidden_by": list(hidden_by),
    }


def fault(kind, subject="truck-2", start=60, end=120, until=None, metrics=(), stamps=None):
    return {
        "fault": kind,
        "subjects": [subject],
        "devices": [subject],
        "start": at(start),
        "end": at(end),
        "until": at(end if until is None else until),
        "stamps": dict(zip(("first", "last"), map(at, stamps or (start, end)), strict=True)),
        "messages": 7,
        "metrics": list(metrics),
    }


def truth(*lines, run=None):
    return parse_truth([json.dumps(line) for line in ({**RUN, **(run or {})}, *lines)])


def event(
    rule="too-warm",
    subject="truck-1",
    start=70,
    end=None,
    detected=100,
    *,
    signal="temperature",
    phase=Phase.RAISED,
    revision=1,
    inhibited=None,
    decided=None,
    number=0,
):
    return AlertEvent(
        alert_id=f"{rule}-{subject}-{start}-{number}",
        revision=revision,
        phase=phase,
        rule=rule,
        rule_version="1",
        severity=Severity.WARNING,
        alert_class=AlertClass.ENVIRONMENTAL,
        kind="shipment",
        subject=subject,
        tags={},
        signal=signal,
        unit="Cel",
        comparison="> 8",
        threshold=8.0,
        value=9.0,
        peak=9.0,
        started_at_ms=START + round(start * MINUTE),
        ended_at_ms=None if end is None else START + round(end * MINUTE),
        time_ms=START + round((detected if decided is None else decided) * MINUTE),
        detected_at_ms=START + round(detected * MINUTE),
        historic=False,
        message="",
        evidence=(),
        positions=(),
        correlation_id="0-0",
        inhibited_by=inhibited,
    )


def test_an_incident_that_was_found_counts_its_delay_from_the_breach():
    result = score(truth(incident()), [event(detected=100)])
    assert (result.recall, result.precision) == (1.0, 1.0)
    assert [item.delay_ms for item in result.found] == [30 * MINUTE]
    assert by_incident(result)[0].p95_ms == 30 * MINUTE


def test_an_incident_without_an_alert_is_missed():
    result = score(truth(incident(), incident("truck-3")), [event()])
    assert result.recall == 0.5
    assert [item.incident.subject for item in result.found if item.missed] == ["truck-3"]


@pytest.mark.parametrize(
    "other",
    [
        event(subject="truck-9"),
        event(rule="too-cold"),
        event(start=5, end=20, detected=10),
        event(start=400, detected=430),
        event(phase=Phase.RETRACTED, revision=2),
        event(inhibited="absence"),
        event(rule="door-open"),
    ],
    ids=["another subject", "another rule", "long before", "long after", "taken back", "for the record", "a rule that is only also right"],
)
def test_an_incident_is_not_found_by(other):
    assert score(truth(incident()), [other]).recall == 0.0


@pytest.mark.parametrize("began", [-900, 54.9])
def test_what_was_on_before_an_incident_came_has_not_found_it(began):
    """A rule that is always on finds nothing."""
    result = score(truth(incident()), [event(start=began, detected=began)])
    assert (result.recall, len(result.of_nobody)) == (0.0, 1)


@pytest.mark.parametrize(
    ("kind", "began", "decided", "found"),
    [("dwell", 30, 120, 1.0), ("dwell", 30, 59, 0.0), ("dwell", -30, 120, 0.0), ("door_open", 30, 120, 0.0)],
)
def test_a_dwell_may_prolong_a_stay_and_nothing_else_what_was_there(kind, began, decided, found):
    result = score(truth(incident(kind=kind)), [event(start=began, detected=decided)])
    assert (result.recall, len(result.of_nobody)) == (found, 1 - found)


@pytest.mark.parametrize(("kind", "hidden"), [("unit_mix_up", 1), ("dropout", 0)])
def test_an_alert_that_a_fault_had_raised_already_hides_the_incident(kind, hidden):
    told = truth(incident(), fault(kind, "truck-1", 20, 50, metrics=["temperature"]))
    result = score(told, [event(start=22, detected=30)])
    assert (total(result).hidden, total(result).missed, total(result).found) == (hidden, 1 - hidden, 0)


def test_what_was_on_before_a_fault_came_is_not_caused_by_it():
    result = score(truth(fault("spike", metrics=["temperature"])), [event(subject="truck-2", start=-900, detected=-900)])
    assert (len(result.of_faults), len(result.of_nobody)) == (0, 1)


def test_an_incident_that_a_clock_stamped_hours_earlier_is_found_there():
    found = score(truth(incident(stamps=(-600, -500))), [event(start=-595, detected=100)])
    assert (found.recall, found.precision) == (1.0, 1.0)


def test_what_was_too_short_or_hidden_is_no_miss_and_is_said():
    result = score(truth(incident(due=False), incident("truck-3", hidden_by=["frozen"])), [])
    assert result.recall == 1.0
    assert (total(result).hidden, total(result).missed, total(result).incidents) == (1, 0, 2)


def test_an_alert_of_nobody_is_false_and_is_counted_by_device_and_day():
    result = score(truth(incident()), [event(), event(subject="truck-7", start=300, detected=330)])
    assert [alert.subject for alert in result.of_nobody] == ["truck-7"]
    assert result.precision == 0.5
    assert result.false_per_device_day == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    ("told", "alert", "explained"),
    [
        (fault("spike", metrics=["temperature"]), event(subject="truck-2"), True),
        (fault("spike", metrics=["temperature"], stamps=(-240, -180)), event(subject="truck-2", start=-200, detected=90), True),
        (fault("spike", metrics=["temperature"], stamps=(-240, -180)), event(subject="truck-2"), False),
        (fault("spike", metrics=["humidity"]), event(subject="truck-2"), False),
        (fault("spike", metrics=["temperature"]), event(subject="truck-3"), False),
        (fault("spike", metrics=["temperature"]), event(subject="truck-2", start=400, detected=410), False),
        (fault("duplicates"), event(subject="truck-2"), False),
        (fault("reordering"), event(subject="truck-2"), False),
        (fault("latency"), event(subject="truck-2"), False),
        (fault("dropout"), event(subject="truck-2"), False),
        (fault("dropout"), event("silent", "truck-2", signal="absent(temperature, 45 min)"), True),
        (fault("frozen", metrics=["temperature"]), event("silent", "truck-2", signal="absent(temperature, 45 min)"), False),
        (fault("clock_day_ahead"), event("device-clock-ahead", "truck-2"), True),
        (fault("clock_day_ahead"), event("device-flood", "truck-2"), False),
        (fault("flood"), event("device-flood", "truck-2"), True),
        (fault("teleport", metrics=["latitude", "longitude"]), event("off-route", "truck-2", signal="distance_from(tag route)"), True),
        (fault("teleport", metrics=["latitude", "longitude"]), event("off-route", "truck-2", signal="speed"), False),
        (fault("unit_mix_up", metrics=["spo2"]), event("news2-high", "truck-2", signal="news2"), True),
        (fault("gateway_merge", until=300), event("device-mismatch", "truck-2", start=295, detected=295), True),
        (fault("gateway_merge", until=200), event("device-mismatch", "truck-2", start=295, detected=295), False),
    ],
)
def test_an_alert_has_a_fault_as_its_cause_only_where_that_can_be(told, alert, explained):
    result = score(truth(told), [alert])
    assert bool(result.of_faults) is explained
    assert bool(result.of_nobody) is not explained


def test_what_a_fault_caused_is_no_merit():
    """Precision must not rise because a fault could be blamed."""
    told = truth(incident(), fault("spike", metrics=["temperature"]))
    result = score(told, [event(), event(subject="truck-2"), event(subject="truck-8")])
    assert (len(result.of_incidents), len(result.of_faults), len(result.of_nobody)) == (1, 1, 1)
    assert result.precision == 0.5


def test_incidents_are_told_by_the_faults_that_touched_their_subject_meanwhile():
    told = truth(incident(), incident("truck-2"), fault("dropout", "truck-2", 100, 200), fault("spike", "truck-1", 900, 950))
    lines = {line.name: line for line in by_fault(score(told, [event(), event(subject="truck-2", detected=210)]))}
    assert (lines["none"].found, lines["none"].p50_ms) == (1, 30 * MINUTE)
    assert (lines["dropout"].found, lines["dropout"].p50_ms, lines["dropout"].messages) == (1, 140 * MINUTE, 7)
    assert lines["spike"].incidents == 0


def test_the_first_event_of_an_alert_says_when_it_was_found_and_the_last_when_it_was():
    """A late reading that moves the beginning makes nobody have known sooner."""
    first, amended = event(start=80, detected=110), event(start=80, detected=300, phase=Phase.AMENDED, revision=2)
    amended = amended._replace(started_at_ms=START + 70 * MINUTE)
    for order in ([first, amended], [amended, first]):
        result = score(truth(incident()), order)
        assert result.found[0].delay_ms == 40 * MINUTE
        assert result.found[0].alert.start_ms == START + 70 * MINUTE


def test_played_fast_delays_are_of_the_sensor_and_silence_is_on_the_receivers_clock():
    run = {"speed": 60.0, "played": at(24 * 60 * 59 / 60)}  # event time meets the clock at the end
    fast = score(truth(incident(), run=run), [event(detected=24 * 60, decided=100)])
    assert fast.found[0].delay_ms == 30 * MINUTE
    played = 24 * 60 * 59 / 60
    silent = incident(silence=True, rule="silent", kind="probe_silent", start=600, end=900, breach=(600, 900))
    fell = event("silent", start=played + 10, detected=played + 11, signal="absent(spo2, 60 s)")
    found = score(truth(silent, run=run), [fell])
    assert found.recall == 1.0
    assert found.found[0].delay_ms == pytest.approx(60 * MINUTE, abs=1000)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line of a truth"),
        ("[]", "line of a truth"),
        ('{"incident": "door_open"}', "'breach' is missing"),
        ('{"fault": "gremlins"}', "gremlins"),
        (json.dumps({**RUN, "start": "yesterday"}), "yesterday"),
        (json.dumps({**RUN, "speed": 0}), "`speed` is 0"),
        (json.dumps({**RUN, "speed": float("nan")}), "`speed` is nan"),
        (json.dumps(RUN), "a second `run` line"),
    ],
)
def test_a_line_that_is_none_is_named(line, why):
    with pytest.raises(ConfigError, match=why) as caught:
        parse_truth([json.dumps(RUN), line], "truth.jsonl")
    assert caught.value.problems[0].line == 2


@pytest.mark.parametrize("lines", [[], ["\n"], [json.dumps(incident())]])
def test_a_truth_without_its_run_is_none(lines):
    with pytest.raises(ConfigError, match=r"truth.jsonl: it is no truth of a run"):
        parse_truth(lines, "truth.jsonl")


def test_every_kind_of_fault_has_its_causes():
    assert set(CAUSES) == set(FaultKind)
