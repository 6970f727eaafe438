"""Steps, schedules and legs, as people see them. That they are right for every order of arrival: `test_against_reference.py`."""

import pytest

from alerts.message import render
from alerts.subscriptions import SubscriptionDocument
from rules.document import compile_rules
from rules.schedule import Hours, Schedule, legs_of, minutes
from telemetry.alert import AlertEvent, Severity, from_json, to_json
from telemetry.clock import parse_ms
from tests.rules.stream import START_MS, Shard

STEPPED = """rules:
  - id: warm
    when: temperature > 8 Cel
    for: 60 s
    clear: {when: temperature <= 7 Cel}
    severity: warning
    steps: [{when: temperature > 12 Cel, for: 20 s, clear: {when: temperature <= 11 Cel}, severity: critical}]
"""


def fed(rules: str, *seen: tuple[float, float], devices: list[dict] | None = None) -> list[AlertEvent]:
    shard = Shard(rules, devices=devices or [])
    for second, value in seen:
        shard.messages(second, ("shipment", "d", second, {"temperature": value}))
    return [event for outcome in shard.outcomes for event in outcome.alerts]


def shown(events: list[AlertEvent]) -> list[tuple[str, str, int]]:
    return [(str(event.phase), str(event.severity), (event.time_ms - START_MS) // 1000) for event in events]


def test_one_alert_escalates_deescalates_and_resolves():
    seen = [(at, 9.0) for at in range(0, 70, 10)] + [(70, 13.0), (80, 13.0), (90, 13.0), (100, 11.5), (110, 10.0), (120, 6.0)]
    events = fed(STEPPED, *seen)

    assert shown(events) == [
        ("raised", "warning", 60),
        ("escalated", "critical", 90),
        ("deescalated", "warning", 110),
        ("resolved", "warning", 120),
    ]
    assert len({event.alert_id for event in events}) == 1
    escalated = events[1]
    assert (escalated.comparison, escalated.threshold, escalated.value) == ("> 12", 12.0, 13.0)
    assert (escalated.started_at_ms - START_MS, escalated.escalated_at_ms - START_MS) == (0, 70_000)
    assert render(escalated).endswith("temperature 13 Cel, > 12 since 2025-11-13 02:14:30 UTC")
    assert [event.worst for event in events] == [Severity.WARNING, *[Severity.CRITICAL] * 3]
    assert events[3].escalated_at_ms is None


def test_a_step_raises_before_the_rule_itself_is_proved():
    """Nobody waits an hour for the alert on 8 °C while it is 13 °C."""
    events = fed(STEPPED, (0, 13.0), (10, 13.0), (20, 13.0), (30, 9.0), (40, 6.0))

    assert shown(events) == [("raised", "critical", 20), ("deescalated", "warning", 30), ("resolved", "warning", 40)]


def test_a_late_reading_escalates_what_was_told():
    shard = Shard(STEPPED)
    for second in (0, 10, 20, 30, 40, 50, 60, 90):
        shard.messages(second, ("shipment", "d", second, {"temperature": 13.0 if second == 90 else 9.0}))
    assert [phase for phase, *_ in shard.alerts()] == ["raised"]
    shard.messages(100, ("shipment", "d", 70, {"temperature": 13.0}))
    assert [phase for phase, *_ in shard.alerts()] == ["raised", "escalated"]


def test_whoever_was_told_of_a_level_hears_how_it_goes_on():
    subscription = SubscriptionDocument.model_validate({"name": "n", "match": {"severity": ["critical"]}, "channels": ["c"]}).subscription()
    seen = [(at, 9.0) for at in range(0, 70, 10)] + [(70, 13.0), (80, 13.0), (90, 13.0), (110, 10.0), (120, 6.0)]
    heard = [event.phase for event in fed(STEPPED, *seen) if subscription.matches(event)]

    assert heard == ["escalated", "deescalated", "resolved"]


def test_an_event_with_steps_goes_through_json_and_one_without_says_nothing_of_them():
    stepped = fed(STEPPED, (0, 13.0), (10, 13.0), (20, 13.0), (30, 9.0))
    plain = fed("rules: [{id: r, when: temperature > 8 Cel, severity: warning}]", (0, 13.0))

    assert [from_json(to_json(event)) for event in (*stepped, *plain)] == [*stepped, *plain]
    assert not any(name.encode() in to_json(plain[0]) for name in ("worst_severity", "told_severities", "escalated_at", "latching"))


def test_a_latching_alert_says_so():
    events = fed("rules: [{id: r, when: temperature > 8 Cel, severity: warning, latching: true}]", (0, 13.0), (1, 5.0))

    assert [from_json(to_json(event)).latching for event in events] == [True, True]


@pytest.mark.parametrize(
    ("hours", "at", "inside"),
    [
        (Hours((0, 1, 2, 3, 4), 8 * 60, 18 * 60, "UTC"), "2026-01-05T08:00:00Z", True),
        (Hours((0, 1, 2, 3, 4), 8 * 60, 18 * 60, "UTC"), "2026-01-05T18:00:00Z", False),
        (Hours((0, 1, 2, 3, 4), 8 * 60, 18 * 60, "UTC"), "2026-01-04T12:00:00Z", False),  # a Sunday
        # Over midnight it belongs to the day on which it begins: Friday's night ends on Saturday morning.
        (Hours((4,), 22 * 60, 6 * 60, "UTC"), "2026-01-10T05:59:59Z", True),
        (Hours((4,), 22 * 60, 6 * 60, "UTC"), "2026-01-09T05:00:00Z", False),
        (Hours((4,), 22 * 60, 6 * 60, "UTC"), "2026-01-10T22:00:00Z", False),
        # By the clock of the place: in Berlin 8:00 is 7:00 UTC in winter and 6:00 UTC in summer.
        (Hours(tuple(range(7)), 8 * 60, 9 * 60, "Europe/Berlin"), "2026-01-05T07:30:00Z", True),
        (Hours(tuple(range(7)), 8 * 60, 9 * 60, "Europe/Berlin"), "2026-07-06T07:30:00Z", False),
        (Hours(tuple(range(7)), 8 * 60, 9 * 60, "Europe/Berlin"), "2026-07-06T06:30:00Z", True),
        (Hours((0,), 0, 0, "UTC"), "2026-01-05T23:59:00Z", True),  # the whole of Monday
        (Hours((0,), 0, 0, "UTC"), "2026-01-06T00:00:00Z", False),
    ],
)
def test_hours_are_of_the_day_on_which_they_begin_by_the_clock_of_the_place(hours, at, inside):
    assert hours.at(parse_ms(at)) is inside


def test_minutes_of_the_day_are_written_as_on_a_clock():
    assert minutes("22:00-06:30") == (1320, 390)
    for text in ("22-06", "24:00-01:00", "08:00", "08:00-09:00-10:00", "now"):
        with pytest.raises(ValueError, match="two times of the day"):
            minutes(text)


def test_a_rule_holds_on_its_legs_only_and_its_alert_ends_with_them():
    rule = "rules: [{id: r, when: temperature > 8 Cel, severity: warning, active: {legs: [in transit]}}]"
    tags = {"departed_at": "2025-11-13T02:13:30Z", "arrived_at": "2025-11-13T02:14:20Z"}  # 10 s and 60 s after the start
    device = {"device": "d", "kind": "shipment", "subject": "s", "tags": tags}
    seen = [(at, 9.0) for at in range(0, 90, 5)]

    assert shown(fed(rule, *seen, devices=[device])) == [("raised", "warning", 10), ("resolved", "warning", 60)]
    assert shown(fed(rule, *seen, devices=[device | {"tags": {}}])) == [("raised", "warning", 0)], (
        "where the leg is not known, every one is possible"
    )
    assert shown(fed(rule, *seen, devices=[device | {"tags": {"departed_at": tags["departed_at"]}}])) == [("raised", "warning", 10)]


def test_legs_follow_one_another():
    legs = legs_of({"departed_at": "1970-01-01T00:00:01Z", "arrived_at": "1970-01-01T00:00:02Z"})

    assert [sum(since <= at < until for since, until in legs.values()) for at in (0, 999, 1000, 1999, 2000)] == [1] * 5
    assert legs["in transit"] == (1000, 2000)


def test_a_schedule_is_shown_as_it_is_written():
    rules = compile_rules(
        [
            (
                "f",
                (
                    "rules: [{id: r, when: temperature > 8, severity: info, active: {days: [sun, sat], hours: '22:00-06:00',"
                    " legs: [at origin]}}]"
                ),
            )
        ]
    )

    assert str(rules.rules[0].schedule) == "at origin; sat, sun 22:00-06:00 UTC"
    assert str(Schedule()) == "always"


def test_a_shipment_has_its_own_budget_of_time_out_of_range():
    """What was used is remembered as spans of time, however long ago it was; the readings themselves need not be."""
    rule = (
        "rules: [{id: r, when: temperature > 8 Cel, accumulated: 'limit(budget, 72 h) within 60 d', max_gap: 30 min, severity: critical}]"
    )
    seen = [(minute * 60, 9.0 if minute % 60 < 30 else 5.0) for minute in range(0, 6 * 60, 10)]  # 20 minutes are proved in each hour
    for budget, expected in (("1", 2 * 60 + 20), ("0.5", 60 + 10), ("0", 0), ("-1", 0), ("nothing", None), ("5000", None)):
        events = fed(rule, *seen, devices=[{"device": "d", "kind": "shipment", "subject": "s", "tags": {"budget": budget}}])
        found = (events[0].time_ms - START_MS) // 60_000 if events else None
        assert found == expected, budget
