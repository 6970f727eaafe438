"""The evaluator: a row is an atom, a snapshot loses nothing, every reading is counted."""

import random
from collections.abc import Set

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.control import DEFAULT_SETTINGS, listening_record, registry_record
from telemetry.alert import Phase, from_json, to_json
from telemetry.blocks import pack, unpack
from telemetry.readings import Decoded, DeviceStatus, Refusal, no_packets
from telemetry.reasons import Reason
from tests.rules.stream import START_MS, Packet, Shard, decoded

WARM = """rules:
  - id: warm
    applies_to: {kind: shipment}
    when: temperature > 8 Cel
    for: 10 min
    max_gap: 15 min
    clear: {when: temperature <= 7.5 Cel, for: 5 min}
    severity: critical
"""
SILENT = "rules: [{id: silent, when: 'absent(spo2, 10 s)', severity: warning}, {id: gone, when: 'absent(device, 30 s)', severity: warning}]"
WINDOWED = "rules: [{id: mean, when: 'mean(heart_rate, 10 s, 10 s) > 100 /min', severity: warning}]"


def truck(minute: float, value: float, device: str = "truck-1") -> Packet:
    return ("shipment", device, minute * 60, {"temperature": value})


def monitor(second: float, device: str = "bed-1", **values: float) -> Packet:
    return ("patient", device, second, values)


def test_a_breach_is_told_when_it_is_proved_and_ends_when_it_has_cleared():
    shard = Shard(WARM)
    for minute in range(60):
        shard.messages(minute * 60 + 1, truck(minute, 9.0 if 10 <= minute < 30 else 5.0))

    assert shard.alerts() == [("raised", "warm", "truck-1", 600, None), ("resolved", "warm", "truck-1", 600, 1800)]
    raised, resolved = (event for outcome in shard.outcomes for event in outcome.alerts)
    assert (raised.time_ms - START_MS, resolved.time_ms - START_MS) == (1_200_000, 2_100_000)
    assert raised.alert_id == resolved.alert_id
    assert [item.value for item in raised.evidence] == [9.0, 9.0]
    assert from_json(to_json(raised)) == raised


def test_the_positions_lead_back_to_the_messages_that_decided():
    shard = Shard(WARM.replace("for: 10 min", "for: 0"))
    shard.messages(1, truck(0, 5.0), truck(0, 5.0, "other"), truck(0, 9.0, "hot"))
    raised = shard.outcomes[-1].alerts[0]

    assert raised.subject == "hot"
    assert raised.positions == ((0, shard.offset - 1),)


def test_readings_of_one_subject_from_two_devices_are_one_alert():
    """A shipment whose logger is exchanged on the way is one shipment."""
    devices = [{"device": name, "subject": "crate", "kind": "shipment", "tags": {"product": "vaccine"}} for name in ("old", "new")]
    shard = Shard(WARM, devices=devices)
    for minute in range(20):
        shard.messages(minute * 60 + 1, truck(minute, 9.0, "old" if minute < 6 else "new"))

    assert shard.alerts() == [("raised", "warm", "crate", 0, None)]
    assert shard.outcomes[13].alerts[0].tags == {"product": "vaccine"}


def test_silence_is_told_once_and_ends_with_the_next_reading():
    shard = Shard(SILENT)
    shard.messages(0, monitor(0, spo2=97, heart_rate=70))
    for second in range(1, 60):
        shard.messages(second, monitor(second, heart_rate=70)) if second < 25 else shard.tick(second)
    shard.messages(60, monitor(60, spo2=97, heart_rate=70))

    assert shard.alerts() == [
        ("raised", "silent", "bed-1", 0, None),
        ("raised", "gone", "bed-1", 24, None),
        ("resolved", "silent", "bed-1", 0, 60),
        ("resolved", "gone", "bed-1", 24, 60),
    ]


def test_a_reading_at_the_very_instant_is_in_time():
    """grafana#130902, thingsboard#7909: a device that is back at the boundary is not silent."""
    shard = Shard(SILENT)
    for second in range(0, 60, 10):
        shard.messages(second, monitor(second, spo2=97))

    assert shard.alerts() == []


def test_one_silent_device_of_ten_is_exactly_one_alert():
    shard = Shard(SILENT)
    for second in range(30):
        shard.messages(second, *(monitor(second, f"bed-{bed}", spo2=97) for bed in range(10) if bed != 3 or second < 5))

    assert [(phase, rule, subject) for phase, rule, subject, _, _ in shard.alerts()] == [("raised", "silent", "bed-3")]


def test_an_assigned_device_that_never_speaks_is_missed():
    shard = Shard(SILENT, devices=[{"device": "bed-9", "subject": "patient-9", "kind": "patient", "tags": {}}])
    shard.tick(5)
    shard.tick(11)

    assert shard.alerts() == [("raised", "silent", "patient-9", 0, None)]


def test_silence_is_not_proved_while_nobody_listens():
    """After our own downtime, a hundred devices are not silent: nobody was there to hear them."""
    shard = Shard(SILENT)
    shard.messages(0, monitor(0, spo2=97))
    shard.control(listening_record(), 3600)
    shard.tick(3605)
    assert shard.alerts() == []
    shard.tick(3611)

    assert [alert[:2] for alert in shard.alerts()] == [("raised", "silent")]


def test_a_last_will_tells_at_once_that_a_device_is_gone():
    shard = Shard(SILENT)
    shard.messages(0, monitor(0, spo2=97))
    shard.decoded(3, 1, Decoded(no_packets(), [], [DeviceStatus(0, "patient", "bed-1", online=False)], 0))
    shard.messages(4, monitor(4, spo2=97))

    assert shard.alerts() == [("raised", "gone", "bed-1", 0, None), ("resolved", "gone", "bed-1", 0, 4)]


def test_a_rule_on_a_window_is_judged_once_when_the_window_closes():
    shard = Shard(WINDOWED)
    for second in range(60):
        shard.messages(second, monitor(second, heart_rate=130 if 20 <= second < 40 else 70))

    assert shard.alerts() == [("raised", "mean", "bed-1", 30, None), ("resolved", "mean", "bed-1", 30, 50)]


def test_a_device_a_day_ahead_hurts_only_itself():
    """sql-flow#358: one future row makes a fleet late."""
    shard = Shard(WARM)
    for minute in range(30):
        shard.messages(minute * 60 + 1, truck(minute, 9.0), truck(minute + 1440, 9.0, "ahead"))

    assert [alert[:3] for alert in shard.alerts()] == [("raised", "device-clock-ahead", "ahead"), ("raised", "warm", "truck-1")]
    assert shard.books().quarantined == {"future_time": 30}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (truck(0, 850.0), Reason.IMPLAUSIBLE),
        (truck(-20_000_000, 5.0), Reason.IMPOSSIBLE_TIME),
        (truck(10, 5.0), Reason.FUTURE_TIME),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_reason(packet, reason):
    shard = Shard(WARM)
    outcome = shard.messages(1, packet, truck(0, 5.0, "neighbour"))

    assert [item.reason for item in outcome.quarantined] == [reason]
    assert shard.books().accepted == 1


def test_duplicates_late_readings_and_conflicts_are_told_apart():
    shard = Shard(WARM)
    first = [truck(minute, 5.0) for minute in range(10)]
    for minute, packet in enumerate(first):
        shard.messages(minute * 60 + 1, packet)
    shard.messages(601, *first)  # a redelivery of everything
    shard.messages(602, truck(9, 6.0))  # another value for the same instant
    shard.messages(603, truck(4.5, 5.0))  # behind, and new
    shard.messages(604, truck(11, 5.0), truck(11, 5.0), truck(11, 5.5))  # in one row

    books = shard.books()
    assert (books.received, books.accepted, books.duplicate, books.late, books.conflicts) == (25, 14, 11, 2, 2)
    assert books.balances()


def test_late_readings_count_in_their_window_before_it_is_told_and_after():
    chosen = DEFAULT_SETTINGS._replace(windows_ms={"patient": 10_000}, grace_ms={"patient": 5_000})
    shard = Shard("rules: []", chosen)
    for second in (1, 2, 9, 12, 8, 16, 3):  # 8 is late and in time, 3 comes after the close at 15
        shard.messages(second + 1, monitor(second, spo2=90 + second))
    block = shard.outcomes[-2].windows[0]

    assert (block.columns["count"][0], block.columns["last"][0], block.columns["revision"][0]) == (4, 99.0, 1)
    again = shard.tick(18).windows[0]
    assert (again.columns["count"][0], again.columns["last"][0], again.columns["revision"][0]) == (5, 99.0, 2)


def random_rows(seed: int) -> list[tuple[float, list[Packet]]]:
    """Rows of a small world with everything in it: several kinds, late, repeated, far-off and absurd readings."""
    rng = random.Random(seed)
    rows, now = [], 0.0
    for _ in range(rng.randint(5, 60)):
        now += rng.choice([0.5, 1, 5, 40, 400])
        packets = []
        for _ in range(rng.randint(0, 8)):
            time_s = now - rng.choice([0, 0, 0, 1, 3, 30, 900])
            value = rng.choice([4.0, 6.0, 7.6, 8.0, 9.5, 12.0, 500.0])
            device = rng.choice("abc")
            packets.append(
                rng.choice([truck(time_s / 60, value, device), monitor(time_s, device, spo2=80 + value, heart_rate=60 + value * 5)])
            )
        if packets and rng.random() < 0.2:
            packets.append(packets[0])
        rows.append((now, packets))
    return rows


EVERYTHING = WARM + (
    "  - {id: low, when: spo2 < 90 %, for: 3 s, clear: {when: spo2 > 91 %}, severity: warning}\n"
    "  - {id: silent, when: 'absent(spo2, 60 s)', severity: warning}\n"
    "  - {id: mean, when: 'mean(heart_rate, 10 s, 10 s) > 100 /min', severity: warning}\n"
)


def everything(rows: list[tuple[float, list[Packet]]], restart_after: Set[int] = frozenset()) -> Shard:
    shard = Shard(EVERYTHING)
    for number, (now, packets) in enumerate(rows):
        shard.messages(now, *packets) if packets else shard.tick(now)
        if number in restart_after:
            shard.restart()
    return shard


def told(shard: Shard) -> list[tuple[object, ...]]:
    """Return everything that came out, comparable."""
    return [
        (item.alerts, [pack(block) for block in item.windows], item.readings and pack(item.readings), item.quarantined, item.books)
        for item in shard.outcomes
    ]


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sets(st.integers(0, 60), max_size=5))
def test_a_restart_at_any_row_changes_nothing(seed, restart_after):
    rows = random_rows(seed)
    straight, restarted = everything(rows), everything(rows, restart_after)

    assert told(restarted) == told(straight)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_the_books_balance_and_the_outbox_holds_what_was_accepted(seed):
    shard = everything(random_rows(seed))
    books = shard.books()

    assert books.balances()
    assert books.accepted == sum(len(outcome.readings) for outcome in shard.outcomes if outcome.readings)
    assert sum(books.quarantined.values()) == sum(len(outcome.quarantined) for outcome in shard.outcomes)
    last = {event.alert_id: event for outcome in shard.outcomes for event in outcome.alerts}
    still_open = [event for event in last.values() if event.phase is not Phase.RETRACTED and event.ended_at_ms is None]
    assert len(still_open) == books.open_alerts


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_are_what_numpy_says_of_their_readings(seed):
    """In order and without lateness: every closed window against the whole of its readings."""
    rng = np.random.default_rng(seed)
    chosen = DEFAULT_SETTINGS._replace(windows_ms={"patient": 10_000}, grace_ms={"patient": 0})
    shard = Shard("rules: []", chosen)
    times, values = np.cumsum(rng.choice([0.5, 1.0, 4.0, 25.0], 80)), rng.choice([1e9, 1.0]) / 1e9 * 50 + rng.random(80)
    at = 0
    while at < 80:
        size = int(rng.integers(1, 12))
        part = zip(times[at : at + size].tolist(), values[at : at + size].tolist(), strict=True)
        shard.messages(float(times[at : at + size][-1]), *(monitor(time_s, spo2=value) for time_s, value in part))
        at += size
    shard.tick(times[-1] + 60)
    stamps = START_MS + np.round(times * 1000).astype(int)
    blocks = [unpack(pack(block)) for outcome in shard.outcomes for block in outcome.windows]
    opened = [opens for block in blocks for opens in block.columns["opens_ms"]]
    assert opened == sorted(set((stamps // 10_000 * 10_000).tolist()))
    for block in blocks:
        for row, opens in enumerate(block.columns["opens_ms"]):
            inside = values[(stamps >= opens) & (stamps < opens + 10_000)]
            told = {name: block.columns[name][row] for name in ("count", "mean", "min", "max", "first", "last", "stddev")}
            expected = dict(
                zip(told, (len(inside), inside.mean(), inside.min(), inside.max(), inside[0], inside[-1], inside.std()), strict=True)
            )
            assert told == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_a_change_of_rules_keeps_what_did_not_change_and_withdraws_the_rest():
    shard = Shard(WARM + "  - {id: hot, when: temperature > 8 Cel, severity: warning}\n")
    for minute in range(12):
        shard.messages(minute * 60 + 1, truck(minute, 9.0))
    changed = WARM.replace("critical", "warning") + "  - {id: hot, when: temperature > 8.5 Cel, severity: warning}\n"
    outcome = shard.apply(changed, 725)
    assert [(event.phase, event.rule) for event in outcome.alerts] == [(Phase.RETRACTED, "hot")]
    for minute in range(13, 25):
        shard.messages(minute * 60 + 1, truck(minute, 5.0))

    assert [alert[:2] for alert in shard.alerts()] == [
        ("raised", "hot"), ("raised", "warm"), ("retracted", "hot"), ("resolved", "warm"),
    ]  # fmt: skip


def test_a_change_of_tags_is_no_change_of_alerts():
    device = {"device": "truck-1", "subject": "truck-1", "kind": "shipment", "tags": {}}
    shard = Shard(WARM, devices=[device])
    for minute in range(12):
        shard.messages(minute * 60 + 1, truck(minute, 9.0))
    outcome = shard.control(registry_record([device | {"tags": {"product": "vaccine"}}]), 725)

    assert outcome.alerts == []
    assert shard.books().open_alerts == 1


def test_refusals_of_the_decoder_are_counted_with_the_rest():
    shard = Shard(WARM)
    given = decoded([truck(0, 5.0)])
    shard.decoded(1, 3, given._replace(refusals=[Refusal(1, Reason.MALFORMED, "cut off"), Refusal(2, Reason.NOT_FINITE, "NaN", "spo2")]))
    books = shard.books()

    assert (books.messages, books.received, books.accepted, books.unreadable) == (3, 3, 1, 1)
    assert books.balances()


def test_a_snapshot_of_another_version_is_refused_with_a_sentence():
    shard = Shard(WARM)
    state = shard.evaluator.snapshot() | {"version": 99}

    with pytest.raises(ValueError, match="of version 99, this program reads version 2"):
        type(shard.evaluator).restore(0, 1, state, [])
