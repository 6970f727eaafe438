"""What peers get wrong, as their users filed it, and what goes right here; and a real series with a clock that jumps back."""

import csv
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alerts.message import render
from decoders.decode import decode_row
from decoders.topics import Topic, format_topic
from decoders.wire import encode_reading
from journal.messages import FLAG_RETAIN, decode_messages, encode_messages
from rules.registry import Registry
from telemetry.alert import AlertClass, AlertEvent, Phase
from telemetry.metrics import CATALOGUE
from tests.rules.reference import Bound, RuleOf, summaries
from tests.rules.stream import START_MS, Packet, Shard
from tests.rules.test_against_reference import (
    DAY,
    HOUR,
    MINUTE,
    Row,
    World,
    bits,
    events_of,
    expected_episodes,
    fed,
    final_episodes,
    final_windows,
)

DATA = Path(os.environ.get("VITALANE_DATA", Path(__file__).parents[3] / "shared" / "data"))
MACHINE = DATA / "nab-temperature" / "machine_temperature_system_failure.csv"

WARM = """rules:
  - id: warm
    applies_to: {kind: shipment}
    when: temperature > 8 Cel
    for: 60 min
    max_gap: 15 min
    clear: {when: temperature <= 7.5 Cel}
    severity: critical
"""
HOT = "rules: [{id: hot, when: temperature > 8 Cel, severity: critical, message: '{phase}: {value:.1f} {unit}'}]"
SILENT = "rules: [{id: silent, when: 'absent(spo2, 10 s)', severity: warning}]"


def truck(minute: float, value: float, device: str = "truck-1") -> Packet:
    return ("shipment", device, minute * 60, {"temperature": value})


def monitor(second: float, device: str) -> Packet:
    return ("patient", device, second, {"spo2": 97.0})


def of(shard: Shard, *rules: str) -> list[AlertEvent]:
    return [event for event in events_of(shard) if event.rule in rules]


def phases(shard: Shard, *rules: str) -> list[Phase]:
    return [event.phase for event in of(shard, *rules)]


@pytest.mark.parametrize("back_at", [5.0, 9.0])
def test_a_gap_after_a_high_reading_raises_silence_and_no_temperature(back_at):
    """2. thingsboard#14210: a freezer alarm from a stale value while the link was down. A gap is not a value, whatever comes after it."""
    shard = Shard(WARM + "  - {id: silent, when: 'absent(temperature, 30 min)', severity: warning}\n")
    for minute in range(0, 31, 5):
        shard.messages(minute * 60, truck(minute, 5.0))
    shard.messages(35 * 60, truck(35, 9.0))
    for minute in range(36, 125):
        shard.tick(minute * 60)
    shard.messages(125 * 60, truck(125, back_at))

    assert phases(shard, "warm") == []
    assert phases(shard, "silent") == [Phase.RAISED, Phase.RESOLVED]


def test_a_backlog_of_two_hours_between_live_readings_tells_what_order_would_have_told():
    """3. thingsboard#4207: buffered upload is normal for trackers; elsewhere it is late by the clock of the live readings, and lost."""
    warm = RuleOf("warm", "shipment", "temperature", "", (0, 0), Bound(">", 8), Bound("<=", 7.5), 15 * MINUTE, 20 * MINUTE)
    mean = warm._replace(id="mean", aggregate="mean", span=(30 * MINUTE, 0), for_ms=0)
    measured = [truck(minute, 9.0 if 30 <= minute < 60 or 110 <= minute < 135 or minute >= 200 else 5.0) for minute in range(240)]
    backlog, live = measured[:120], measured[120:]
    rows = [Row(round(packet[2] * 1000), [packet, late]) for late, packet in zip(backlog, live, strict=True)]
    world = World([warm, mean], [], {"shipment": (5 * MINUTE, 5 * MINUTE)}, MINUTE, rows)
    shard, straight = fed(world), fed(world.in_order())

    assert final_episodes(shard) == final_episodes(straight) == expected_episodes(world)
    assert len(final_episodes(shard)) == 6
    assert bits(final_windows(shard)) == bits(final_windows(straight))
    assert shard.books().late == len(backlog) - 1  # the first row brings the first of both: neither is late yet
    assert shard.books().quarantined == {}


@pytest.mark.long
def test_a_device_a_day_ahead_among_a_thousand_is_the_only_one_it_affects():
    """4. sql-flow#358: one row from the future makes a whole fleet late, for the watermark is everybody's."""

    def ward(ahead: bool) -> Shard:
        shard = Shard(WARM)
        for minute in range(0, 120, 5):
            fleet = [truck(minute, 9.0 if number % 10 == 0 else 5.0, f"truck-{number}") for number in range(999)]
            shard.messages(minute * 60 + 1, *([truck(minute + 24 * 60, 9.0, "ahead")] if ahead else []), *fleet)
        shard.tick(3 * 3600)
        return shard

    alone, together = ward(ahead=False), ward(ahead=True)
    assert len(final_episodes(alone)) == 100
    assert {episode for episode in final_episodes(together) if episode[1] != "ahead"} == final_episodes(alone)
    assert bits(final_windows(together)) == bits(final_windows(alone))
    assert together.books().quarantined == {"future_time": 24}
    assert [(event.phase, event.alert_class) for event in events_of(together) if event.subject == "ahead"] == [
        (Phase.RAISED, AlertClass.TECHNICAL)
    ]


def test_one_silent_device_of_ten_is_one_alert_that_ends_when_it_is_back():
    """5. grafana#130902: a fleet's query has data as long as anybody's has; the one that is gone is not missed, or everybody is."""
    shard = Shard(SILENT)
    for second in range(60):
        shard.messages(second, *(monitor(second, f"bed-{bed}") for bed in range(10) if bed != 3 or not 5 <= second < 40))

    assert [(event.phase, event.subject) for event in events_of(shard)] == [(Phase.RAISED, "bed-3"), (Phase.RESOLVED, "bed-3")]


@pytest.mark.parametrize("tick_first", [False, True])
@pytest.mark.parametrize("back_at", [10, 10.001, 11])
def test_a_device_that_is_back_at_the_boundary_instant_is_left_without_an_alert(tick_first, back_at):
    """5. thingsboard#7909: a reading in the instant in which the alarm is made finds none to clear, and the alarm stays for good."""
    shard = Shard(SILENT)
    shard.messages(0, monitor(0, "bed-1"))
    if tick_first:
        shard.tick(back_at)
    shard.messages(back_at, monitor(back_at, "bed-1"))
    shard.tick(back_at)
    shard.tick(back_at + 9)

    assert phases(shard, "silent") in ([], [Phase.RAISED, Phase.RESOLVED])
    assert tick_first or back_at > 10 or phases(shard, "silent") == []
    assert shard.books().open_alerts == 0


def test_a_restart_with_five_hundred_alerts_firing_notifies_nobody():
    """6. kapacitor#2336: after a restart every firing alert was sent again, and those that ended meanwhile never ended."""
    shard = Shard(HOT)
    trucks = [f"truck-{number}" for number in range(500)]
    shard.messages(0, *(truck(0, 9.0, name) for name in trucks))
    assert phases(shard, "hot") == [Phase.RAISED] * 500
    raised = {event.alert_id for event in events_of(shard)}
    shard.restart()
    shard.tick(30)
    shard.messages(60, *(truck(1, 9.5, name) for name in trucks))
    assert len(events_of(shard)) == 500
    shard.restart()
    shard.messages(120, *(truck(2, 5.0, name) for name in trucks))

    assert phases(shard, "hot")[500:] == [Phase.RESOLVED] * 500
    assert {event.alert_id for event in events_of(shard)[500:]} == raised


def test_an_edit_of_rules_keeps_alerts_and_timers_of_those_that_mean_the_same():
    """7. kapacitor#908: updating a task forgot its state, so what fired fired again and what was nearly proved began anew."""
    hot = "  - {id: hot, when: temperature > 8.5 Cel, severity: warning}\n"
    shard = Shard(WARM + hot)
    for minute in range(0, 45, 5):
        shard.messages(minute * 60, truck(minute, 9.0))
    retold = WARM.replace("critical", "warning") + "    message: 'too warm since {started_at}'\n"
    assert shard.apply(retold + hot + "  - {id: hotter, when: temperature > 20 Cel, severity: info}\n", 41 * 60).alerts == []
    for minute in range(45, 70, 5):
        shard.messages(minute * 60, truck(minute, 9.0))
    assert [(event.rule, event.phase, event.time_ms - START_MS) for event in events_of(shard)] == [
        ("hot", Phase.RAISED, 0),
        ("warm", Phase.RAISED, 60 * MINUTE),
    ]
    withdrawn = shard.apply(retold + hot.replace("8.5", "8.6"), 66 * 60).alerts
    assert [(event.rule, event.phase) for event in withdrawn] == [("hot", Phase.RETRACTED)]
    shard.messages(70 * 60, truck(70, 5.0))

    assert [(event.rule, event.phase) for event in events_of(shard)][3:] == [("warm", Phase.RESOLVED)]


@pytest.mark.parametrize("chunk", [1, 7, 36, 144, 1000])
def test_a_day_long_condition_is_proved_across_the_boundaries_of_chunks(chunk):
    """9. vmalert#5186: replaying history in chunks forgot what was pending at their ends, so a long `for` never fired."""
    rule = RuleOf("day", "shipment", "temperature", "", (0, 0), Bound(">", 8), Bound("<=", 8), 15 * MINUTE, DAY)
    measured = [truck(minute, 9.0 if 300 <= minute < 300 + 30 * 60 else 5.0) for minute in range(0, 3 * 24 * 60, 10)]
    chunks = [measured[at : at + chunk] for at in range(0, len(measured), chunk)]
    world = World([rule], [], {"shipment": (HOUR, HOUR)}, MINUTE, [Row(round(part[-1][2] * 1000), part) for part in chunks])
    shard = fed(world, restart_after=set(range(len(chunks))))

    assert [event.time_ms - START_MS for event in events_of(shard)] == [300 * MINUTE + DAY, 2100 * MINUTE]
    assert final_episodes(shard) == final_episodes(fed(world)) == expected_episodes(world)


def test_retained_messages_are_counted_and_neither_windowed_nor_alerted():
    """11. sql-flow#201: on subscribing, the broker hands out the last stored message of every device, however old, as if it were new."""
    shard = Shard(HOT)

    def deliver(at_s: float, values: dict[str, float], flags: int) -> int:
        topics = [format_topic(Topic("shipment", device, "readings")).encode() for device in values]
        payloads = [encode_reading("temperature", value, START_MS + round(at_s * 1000)) for value in values.values()]
        received_ms = START_MS + round(at_s * 1000)
        decoded = decode_row(decode_messages(encode_messages(topics, payloads, bytes([flags]) * len(topics))), received_ms, CATALOGUE)
        shard.decoded(at_s, len(topics), decoded)
        return decoded.retained

    assert deliver(1, {f"truck-{number}": 30.0 for number in range(50)}, FLAG_RETAIN) == 50
    shard.tick(3600)
    assert events_of(shard) == []
    assert final_windows(shard) == {}
    assert deliver(3601, {"truck-1": 5.0, "truck-2": 9.0}, 0) == 0
    shard.tick(7200)

    assert [(event.phase, event.subject) for event in of(shard, "hot")] == [(Phase.RAISED, "truck-2")]
    assert [told["count"] for told in final_windows(shard).values()] == [1, 1]
    books = shard.books()
    assert (books.retained, books.received, books.accepted, books.messages) == (50, 2, 2, 52)
    assert books.balances()


def test_a_resolved_alert_shows_the_reading_that_resolved_it_and_when_that_was_measured():
    """14. grafana#74212: the message of a resolved alert carries the value that fired, and the time of the evaluation."""
    shard = Shard(HOT)
    shard.messages(2 * 3600, truck(0, 9.0), truck(10, 9.7), truck(20, 5.5), truck(30, 5.0))  # uploaded two hours later, in one go
    raised, resolved = events_of(shard)

    assert (resolved.value, resolved.time_ms, resolved.ended_at_ms) == (5.5, START_MS + 20 * MINUTE, START_MS + 20 * MINUTE)
    assert (resolved.peak, resolved.started_at_ms) == (9.7, START_MS)
    assert (resolved.evidence[-1].value, resolved.evidence[-1].time_ms) == (5.5, START_MS + 20 * MINUTE)
    assert (render(raised), render(resolved)) == ("raised: 9.0 Cel", "resolved: 5.5 Cel")


needs_machine = pytest.mark.skipif(not MACHINE.exists(), reason=f"real data is not at {DATA}: set VITALANE_DATA")


def machine(begin: int = 0, end: int | None = None) -> list[Packet]:
    """Return rows of the real series in the order of its file, in degrees Celsius: its clock jumps back by 55 minutes at row 10149."""
    found: list[Packet] = []
    with MACHINE.open() as file:
        for row in list(csv.DictReader(file))[begin:end]:
            time = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp()
            found.append(("shipment", "machine", time - START_MS / 1000, {"temperature": round((float(row["value"]) - 32) / 1.8, 3)}))
    return found


def machine_world(rules: list[RuleOf], packets: list[Packet], row: int) -> World:
    """Return the readings as a backlog of twelve years, received in rows of a size."""
    parts = [packets[at : at + row] for at in range(0, len(packets), row)]
    return World(rules, [], {"shipment": (HOUR, HOUR)}, MINUTE, [Row(number * 1000, part) for number, part in enumerate(parts)])


OVERHEATED = RuleOf("over", "shipment", "temperature", "", (0, 0), Bound(">", 37), Bound("<=", 36), 15 * MINUTE, 30 * MINUTE, 10 * MINUTE)


@needs_machine
@pytest.mark.long
def test_a_real_series_whose_clock_jumps_back_is_told_as_its_set():
    """Two months of a machine: twelve stamps come twice with other values. Both are kept, counted, and evaluated in one order.

    Eleven of them are late: the first shares its journal row with newer ones, and inside a row there is no order.
    """
    under = OVERHEATED._replace(id="under", when=Bound("<", 20), clear=Bound(">=", 21))
    world = machine_world([OVERHEATED, under], machine(), 50)
    shard = fed(world)
    books = shard.books()

    assert (books.received, books.accepted, books.conflicts, books.late, books.quarantined) == (22_695, 22_695, 12, 11, {})
    assert final_episodes(shard) == expected_episodes(world)
    assert len(final_episodes(shard)) > 5
    straight = fed(world.in_order())
    assert final_episodes(straight) == final_episodes(shard)
    assert bits(final_windows(straight)) == bits(final_windows(shard))


@needs_machine
@pytest.mark.long
@pytest.mark.parametrize("order", ["of the file", "second half first", "shuffled"])
def test_around_the_jump_every_kind_of_rule_is_told_as_the_set_in_every_order(order):
    """The jump with aggregates and accumulated time over it, in orders that no clock gives."""
    packets = machine(10_149 - 300, 10_149 + 300)
    if order == "second half first":
        packets = packets[300:] + packets[:300]
    elif order == "shuffled":
        random.Random(55).shuffle(packets)
    plain = RuleOf("plain", "shipment", "temperature", "", (0, 0), Bound(">", 34.2), Bound("<=", 33.9), 15 * MINUTE, 15 * MINUTE)
    chosen = [
        plain,
        plain._replace(id="added", for_ms=90 * MINUTE, within_ms=12 * HOUR),
        plain._replace(id="trailing", aggregate="mean", span=(30 * MINUTE, 0)),
        plain._replace(id="closed", aggregate="max", span=(HOUR, 15 * MINUTE), for_ms=0),
        plain._replace(id="rising", aggregate="slope", span=(HOUR, 0), when=Bound(">", 0.00013), clear=Bound("<", 0.00007), for_ms=0),
    ]
    world = machine_world(chosen, packets, 7)
    shard = fed(world)

    assert final_episodes(shard) == expected_episodes(world)
    assert {episode[0] for episode in final_episodes(shard)} == {rule.id for rule in chosen}
    expected = summaries(world.windows, world.readings, Registry())
    assert {place: pytest.approx(told, rel=1e-9, abs=1e-9, nan_ok=True) for place, told in expected.items()} == final_windows(shard)
