"""What people are told when the past changes: one id through all revisions, and every phase for its reason."""

import pytest

from rules.control import DEFAULT_SETTINGS, registry_record
from rules.window import PlainWindow
from telemetry.alert import AlertEvent, Phase
from telemetry.readings import Decoded, DeviceStatus, no_packets
from tests.rules.stream import START_MS, Shard, decoded

AT_ONCE = "rules: [{id: warm, when: temperature > 8 Cel, max_gap: 5 min, clear: {when: temperature <= 8 Cel}, severity: warning}]"
HELD = "rules: [{id: warm, when: temperature > 8 Cel, for: 2 min, max_gap: 5 min, severity: warning}]"

ACCUMULATED = AT_ONCE.replace("max_gap", "accumulated: 2 min within 10 min, max_gap")

RUN = """when: 'last(temperature, session 10 min) <= 7.5 Cel', clear: {when: 'last(temperature, session 10 min) <= 1 Cel'},
for: 10 s, max_gap: 1 h"""


def truck(minute: float, value: float, device: str = "truck-1") -> tuple[str, str, float, dict[str, float]]:
    return "shipment", device, minute * 60, {"temperature": value}


def fed(rules: str, *readings: tuple[float, float]) -> list[AlertEvent]:
    """Feed (minute, value) one a row, in the order given; the first is measured at minute 0 at the earliest."""
    shard, newest = Shard(rules), 0.0
    for minute, value in readings:
        newest = max(newest, minute)
        shard.messages(newest * 60 + 1, truck(minute, value))
    return [event for outcome in shard.outcomes for event in outcome.alerts]


def told(events: list[AlertEvent]) -> list[tuple[str, float | None, float | None, float | None]]:
    """Return (phase, start, end, peak), minutes."""

    def minutes(time_ms: int | None) -> float | None:
        return None if time_ms is None else (time_ms - START_MS) / 60_000

    return [(str(event.phase), minutes(event.started_at_ms), minutes(event.ended_at_ms), event.peak) for event in events]


def test_a_late_reading_makes_an_alert_begin_earlier():
    events = fed(AT_ONCE, (0, 5), (4, 9), (3, 9))

    assert told(events) == [("raised", 4, None, 9), ("amended", 3, None, 9)]
    assert events[0].alert_id == events[1].alert_id
    assert [event.revision for event in events] == [1, 2]


def test_a_late_reading_raises_what_was_missed_and_resolves_it():
    """VictoriaMetrics#836: a problem that was and is over is told too, as history."""
    shard = Shard(AT_ONCE)
    for minute, value in ((0, 5), (30, 5), (60, 5)):
        shard.messages(minute * 60 + 1, truck(minute, value))
    shard.messages(3602, truck(20, 9))
    events = [event for outcome in shard.outcomes for event in outcome.alerts]

    assert told(events) == [("raised", 20, None, 9), ("resolved", 20, 30, 9)]
    assert all(event.historic for event in events)


def test_a_late_reading_takes_back_what_was_not():
    events = fed(HELD, (0, 9), (1, 9), (2, 9), (1.5, 5))

    assert told(events) == [("raised", 0, None, 9), ("retracted", 0, None, 9)]
    assert events[-1].superseded_by is None


def test_a_late_reading_takes_back_what_was_accumulated_before_the_episode():
    """Two of ten minutes: the first was proved in a run before the one that raised."""
    events = fed(ACCUMULATED, (0, 9), (1, 9), (2, 5), (8, 9), (9, 9), (10, 5), (30, 9), (31, 5), (0.5, 5))

    assert told(events) == [("raised", 8, None, 9), ("resolved", 8, 10, 9), ("retracted", 8, 10, 9)]


def test_two_alerts_that_become_one_say_which():
    events = fed(HELD, (0, 9), (1, 9), (2, 9), (3, 5), (4, 9), (5, 9), (6, 9), (2.5, 5.5), (3, 9.5))
    first = events[0].alert_id

    assert {event.alert_id for event in events if event.phase is Phase.RAISED} == {first, events[2].alert_id}
    assert events[-1].phase in {Phase.RETRACTED, Phase.AMENDED}


def test_an_episode_that_falls_apart_goes_on_as_its_first_part():
    events = fed(AT_ONCE, (0, 9), (1, 9), (3, 9), (4, 5), (2, 5))
    first = events[0].alert_id

    assert told(events) == [
        ("raised", 0, None, 9), ("resolved", 0, 4, 9), ("amended", 0, 2, 9), ("raised", 3, None, 9), ("resolved", 3, 4, 9),
    ]  # fmt: skip
    assert [event.alert_id == first for event in events] == [True, True, True, False, False]


def test_a_bridge_makes_one_alert_of_two():
    """The reading that parted them has a twin with another value: both count, and the higher comes last."""
    apart = (
        "rules: [{id: warm, when: temperature > 8 Cel, max_gap: 1 min, clear: {when: temperature <= 8 Cel, for: 1 min}, severity: warning}]"
    )
    events = fed(apart, (0, 9), (1, 5), (2, 5), (3, 9), (4, 9), (1.5, 9))
    last = {event.alert_id: event for event in events}

    assert [event.phase for event in events] == [Phase.RAISED, Phase.RESOLVED, Phase.RAISED, Phase.AMENDED, Phase.RETRACTED]
    assert events[-1].superseded_by == events[0].alert_id
    assert [event.ended_at_ms for event in last.values() if event.phase is not Phase.RETRACTED] == [None]


def test_a_higher_peak_that_comes_late_is_told():
    events = fed(AT_ONCE, (0, 9), (2, 9), (3, 5), (1, 12))

    assert told(events)[-1] == ("amended", 0, 3, 12)


def test_an_id_that_was_taken_back_goes_on_where_it_was():
    events = fed(HELD, (0, 9), (1, 9), (2, 9), (1.5, 5), (3.5, 9))
    retracted = events[1]

    assert retracted.phase is Phase.RETRACTED
    assert len({event.event_id for event in events}) == len(events)


def test_a_run_goes_on_over_a_session_that_is_part_of_the_next_one():
    """What did not satisfy between two that do is gone: its session has grown into the one after."""
    shard = Shard(f"rules: [{{id: low, {RUN}, severity: warning}}]")
    shard.messages(715, truck(715 / 60, 7.5))
    shard.messages(735, truck(-2555 / 60, 7.0), truck(0, 8.5))
    shard.messages(735, truck(590 / 60, 8.0))
    shard.tick(9000)

    assert told([event for outcome in shard.outcomes for event in outcome.alerts]) == [("raised", -1955 / 60, None, 7.0)]


def test_windows_close_before_what_they_hold_is_final():
    """The horizon is shorter than the grace: what is open is not forgotten."""
    rule = "{id: rising, when: 'slope(temperature, 10 min, 10 s) > 0.001 Cel/s', max_gap: 10 s, severity: warning}"
    settings = DEFAULT_SETTINGS._replace(grace_ms={"shipment": 60_000}, horizon_ms={"shipment": 30_000})
    shard = Shard(f"rules: [{rule}]", settings)
    for second, value in ((0, 6), (20, 7), (30, 6), (650, 6)):
        shard.messages(max(second, 10), truck(second / 60, value))
    shard.tick(9000)
    final = [event for outcome in shard.outcomes for event in outcome.alerts][-1]

    assert (str(final.phase), (final.started_at_ms - START_MS) // 1000, (final.ended_at_ms or 0) - START_MS) == ("resolved", 30, 610_000)


def test_an_id_that_was_taken_back_is_known_while_its_run_goes_on():
    """A session that grew is seen at another time: the alert is taken back, its run is settled, and raises it again long after."""
    rule = "{id: low, when: 'min(spo2, session 10 s) != 8 %', clear: {when: 'min(spo2, session 10 s) == 8 %'}, severity: warning"
    shard = Shard(f"rules: [{rule}, for: 10 s, max_gap: 20 s}}]", DEFAULT_SETTINGS._replace(horizon_ms={"patient": 120_000}))

    def monitor(received_s: float, *seen: tuple[float, float]) -> None:
        shard.messages(received_s, *(("patient", "monitor", time_s, {"spo2": value}) for time_s, value in seen))

    monitor(45.032, (45.032, 8.5))
    monitor(60, (35.024, 7), (55.038, 7.5))
    shard.tick(70)
    monitor(90.063, (50.035, 8.5))
    monitor(780.546, (710.497, 9))
    monitor(1325, (700.49, 6), (720.504, 8))
    shard.tick(5000)
    events = [event for outcome in shard.outcomes for event in outcome.alerts]

    assert len(events) > 2
    assert len({event.event_id for event in events}) == len(events)


def test_a_reading_that_changes_nothing_tells_nothing():
    events = fed(AT_ONCE, (0, 5), (4, 9), (6, 9), (5, 9), (1, 5), (2, 5))

    assert told(events) == [("raised", 4, None, 9)]


def test_a_session_that_is_open_again_goes_on_with_its_revisions():
    """A device that stores its readings: the clock closes the session, later ones open it again and hold it open past the horizon."""
    sessions: dict[str, PlainWindow] = {"shipment": [0, 30_000]}
    shard = Shard(AT_ONCE, DEFAULT_SETTINGS._replace(windows_ms=sessions, grace_ms={"shipment": 0}, horizon_ms={"shipment": 30_000}))
    shard.messages(20, truck(10 / 60, 5))
    shard.tick(50)
    for received_s, measured_s in ((80, 30), (140, 50), (200, 70), (260, 90)):
        shard.messages(received_s, truck(measured_s / 60, 5))
    shard.tick(600)
    windows = [block.columns for outcome in shard.outcomes for block in outcome.windows]

    assert {tuple(columns["opens_ms"]) for columns in windows} == {(START_MS + 10_000,)}
    assert [int(columns["revision"][0]) for columns in windows] == list(range(1, len(windows) + 1))
    assert int(windows[-1]["count"][0]) == 5


MEAN = """rules:
  - {id: mean, when: 'mean(spo2, 10 s, 10 s) < 90 %', clear: {when: 'mean(spo2, 10 s, 10 s) >= 90 %'}, severity: warning}
  - {id: silent, when: 'absent(spo2, 5 s)', severity: warning}
"""


def test_an_alert_on_an_absent_signal_is_for_the_record_until_the_signal_is_back():
    """A window that closes while nothing comes is stale: nobody is woken by it, unless it still holds when the signal is there again."""
    shard = Shard(MEAN, DEFAULT_SETTINGS._replace(grace_ms={"patient": 2_000}))
    for second in range(0, 10, 2):
        shard.messages(second, ("patient", "bed", second, {"spo2": 85}))
    shard.tick(14)
    shard.tick(20)
    events = [event for outcome in shard.outcomes for event in outcome.alerts]
    silent, mean = events
    assert (silent.rule, mean.rule, mean.phase, mean.inhibited_by) == ("silent", "mean", Phase.RAISED, silent.alert_id)
    shard.messages(21, ("patient", "bed", 21, {"spo2": 85}))
    after = [(event.rule, event.phase, event.inhibited_by) for event in shard.outcomes[-1].alerts]

    assert ("mean", Phase.RAISED, None) in after
    assert ("silent", Phase.RESOLVED, None) in after


def test_a_flood_is_shed_and_one_alert_says_so():
    """A device at a thousand times its rate costs itself its readings, nobody else anything, and is told of once."""
    shard = Shard("rules: []", DEFAULT_SETTINGS._replace(max_per_minute={"patient": 60}))
    for second in range(120):
        flood = [("patient", "mad", second + number / 100, {"spo2": 90 + number / 100}) for number in range(100)]
        shard.messages(second + 1, *flood, ("patient", "calm", second, {"spo2": 97}))
    books = shard.books()
    kept = sum(len(outcome.readings) for outcome in shard.outcomes if outcome.readings)

    assert books.balances()
    assert books.received == 120 * 101
    assert books.quarantined == {"flood": books.received - books.accepted}
    assert kept == books.accepted
    assert 120 + 120 <= books.accepted <= 120 + 3 * 60 + 120  # each minute's worth at once, then the last of each second
    assert [(event.rule, event.subject) for outcome in shard.outcomes for event in outcome.alerts] == [("device-flood", "mad")]
    shard.tick(120 + 11 * 60)
    assert [event.phase for event in shard.outcomes[-1].alerts] == [Phase.RESOLVED]


def test_a_backlog_is_no_flood():
    shard = Shard("rules: []", DEFAULT_SETTINGS._replace(max_per_minute={"patient": 60}))
    shard.messages(7200, *(("patient", "bed", float(second), {"spo2": 97.0}) for second in range(7200)))

    assert (shard.books().accepted, shard.books().quarantined) == (7200, {})


@pytest.mark.parametrize("restart", [False, True])
def test_a_logger_that_is_exchanged_is_no_longer_waited_for(restart):
    """Its subject has another one from then on; the old logger's silence is nobody's alarm."""
    devices = [
        {"device": "old", "subject": "crate", "kind": "shipment", "tags": {}, "until_ms": START_MS + 600_000},
        {"device": "new", "subject": "crate", "kind": "shipment", "tags": {}, "from_ms": START_MS + 600_000},
    ]
    shard = Shard("rules: [{id: gone, when: 'absent(device, 5 min)', severity: warning}]", devices=devices)
    for minute in range(10):
        shard.messages(minute * 60, truck(minute, 5.0, "old"))
    if restart:
        shard.restart()
    for minute in range(10, 30):
        shard.messages(minute * 60, truck(minute, 5.0, "new")) if minute < 20 else shard.tick(minute * 60)
    alerts = [(event.rule, event.subject, event.phase) for outcome in shard.outcomes for event in outcome.alerts]

    assert alerts == [("gone", "crate", Phase.RAISED)]  # the new one, which fell silent at minute 19


def test_a_device_that_is_assigned_anew_is_no_longer_waited_for_where_it_was():
    """Both assignments are open-ended; the one that began later holds, and the other's silence is nobody's alarm."""
    first = {"device": "probe", "subject": "bed-1", "kind": "patient", "tags": {}}
    shard = Shard("rules: [{id: gone, when: 'absent(device, 5 min)', severity: warning}]", devices=[first])
    shard.messages(1, ("patient", "probe", 0.0, {"spo2": 97.0}))
    shard.control(registry_record([first, {**first, "subject": "bed-2", "from_ms": START_MS + 60_000}]), 60)
    shard.restart()
    shard.tick(3_600)
    assert [alert[:3] for alert in shard.alerts()] == [("raised", "gone", "bed-2")]


def test_a_registry_applied_twice_changes_nothing():
    shard = Shard(AT_ONCE)
    shard.messages(1, truck(0, 9))
    assert shard.control(registry_record([]), 5).alerts == []
    assert shard.books().open_alerts == 1


def test_a_new_rule_judges_what_comes_after_it():
    """Applied in the middle of a stream it takes effect there: the past is context for windows, not a reason to wake anyone."""
    shard = Shard("rules: []")
    for minute in range(10):
        shard.messages(minute * 60 + 1, truck(minute, 9))
    shard.apply(HELD, 600)
    shard.messages(602, truck(3.5, 9))
    assert shard.alerts() == []
    for minute in range(10, 14):
        shard.messages(minute * 60 + 3, truck(minute, 9))

    assert [alert[:3] for alert in shard.alerts()] == [("raised", "warm", "truck-1")]


SHADOW_RULE = AT_ONCE.replace("severity:", "mode: shadow, severity:")


def test_a_rule_in_shadow_is_evaluated_and_told_to_nobody():
    events = fed(SHADOW_RULE, (0, 9), (1, 5))

    assert [(str(event.phase), event.inhibited_by) for event in events] == [("raised", "shadow"), ("resolved", "shadow")]


def test_a_rule_that_leaves_the_shadow_keeps_what_it_holds_and_tells_what_is_open():
    shard = Shard(SHADOW_RULE)
    shard.messages(1, truck(0, 9))
    promoted = shard.apply(AT_ONCE, 30)
    shard.messages(61, truck(1, 5))
    events = [event for outcome in shard.outcomes for event in outcome.alerts]

    assert [(str(event.phase), event.inhibited_by, event.revision) for event in events] == [
        ("raised", "shadow", 1), ("raised", None, 2), ("resolved", None, 3)]  # fmt: skip
    assert promoted.alerts == [events[1]]
    assert {event.alert_id for event in events} == {events[0].alert_id}
    assert shard.books().alerts == {"warm": 1}


def test_an_absence_in_shadow_is_for_the_record():
    shard = Shard("rules: [{id: silent, when: 'absent(temperature, 60 s)', mode: shadow, severity: warning}]")
    shard.messages(0, truck(0, 5))
    shard.tick(120)
    shard.messages(180, truck(3, 5))
    events = [event for outcome in shard.outcomes for event in outcome.alerts]

    assert [(str(event.phase), event.inhibited_by) for event in events] == [("raised", "shadow"), ("resolved", "shadow")]


def foreign(shard, at_s, *packets):
    """Take readings that another partition carried: they may come long after the shard's own of the same time."""
    shard.outcomes.append(shard.evaluator.on_messages(shard.offset, 0, START_MS + round(at_s * 1000), decoded(packets), origin=1))


def silent_for_five_minutes() -> Shard:
    shard = Shard("rules: [{id: silent, when: 'absent(temperature, 60 s)', severity: warning}]")
    shard.messages(0, ("shipment", "d", 0, {"temperature": 5.0}))
    shard.tick(100)
    shard.messages(300, ("shipment", "d", 300, {"temperature": 5.0}))
    return shard


def test_an_absence_was_over_when_another_partition_carried_something_before():
    shard = silent_for_five_minutes()
    shard.restart()
    foreign(shard, 200, ("shipment", "d", 200, {"temperature": 5.0}))
    foreign(shard, 250, ("shipment", "d", 250, {"temperature": 5.0}))
    foreign(shard, 150, ("shipment", "d", 150, {"temperature": 5.0}))
    foreign(shard, 30, ("shipment", "d", 30, {"temperature": 5.0}))

    assert [(phase, start, end) for phase, _, _, start, end in shard.alerts()] == [
        ("raised", 0, None), ("resolved", 0, 300), ("amended", 0, 200), ("amended", 0, 150), ("retracted", 0, 30),
    ]  # fmt: skip
    events = [event for outcome in shard.outcomes for event in outcome.alerts]
    assert [event.revision for event in events] == [1, 2, 3, 4, 5]


def test_who_was_offline_by_the_brokers_word_was_away_however_soon_another_partition_brings_it_back():
    """The wait was not over, but nobody waited: it is over when the device is back, and not taken back as if it had not been."""
    shard = Shard("rules: [{id: gone, when: 'absent(device, 600 s)', severity: warning}]")
    shard.messages(0, ("shipment", "d", 0, {"temperature": 5.0}))
    shard.decoded(10, 1, Decoded(no_packets(), [], [DeviceStatus(0, "shipment", "d", online=False)], 0))
    shard.tick(11)
    shard.restart()
    foreign(shard, 20, ("shipment", "d", 20, {"temperature": 5.0}))

    assert [(phase, start, end) for phase, _, _, start, end in shard.alerts()] == [("raised", 0, None), ("resolved", 0, 20)]


def test_what_came_in_the_instant_in_which_an_absence_begins_does_not_end_it():
    """Else the next one would begin at the same instant, and have the same id."""
    shard = Shard("rules: [{id: silent, when: 'absent(temperature, 60 s)', severity: warning}]")
    shard.messages(0, ("shipment", "d", 0, {"temperature": 5.0}))
    shard.tick(100)
    foreign(shard, 0, ("shipment", "d", 0.5, {"temperature": 5.0}))
    shard.tick(200)

    assert [(phase, start) for phase, _, _, start, _ in shard.alerts()] == [("raised", 0)]
