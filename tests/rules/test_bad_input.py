"""Bad input through decoding and deciding: refused with a reason or carried as it is; never a crash, never a trace in a neighbour."""

import json
import math
from array import array
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.decode import decode_row
from decoders.topics import Topic, format_topic
from decoders.wire import encode_reading
from journal.messages import decode_messages, encode_messages
from telemetry.alert import AlertEvent, Phase, from_json, to_json
from telemetry.blocks import pack
from telemetry.metrics import CATALOGUE
from telemetry.readings import Decoded, Packets
from telemetry.reasons import Reason
from tests.rules.stream import START_MS, Packet, Shard, decoded
from tests.rules.test_against_reference import accepted, bits, events_of, final_windows

RULES = """rules:
  - {id: warm, when: temperature > 8 Cel, for: 10 s, max_gap: 1 min, severity: critical}
  - {id: mean, when: 'mean(temperature, 10 s, 10 s) > 8 Cel', severity: warning}
  - {id: zero, when: shock == 0, severity: info}
  - {id: silent, when: 'absent(temperature, 30 s)', severity: warning}
"""
NEIGHBOUR = "neighbour"


def neighbours(second: float) -> list[Packet]:
    """What the neighbour measured at a time: it breaches and recovers, so that there is something to disturb."""
    values = {"temperature": 9.0 if 20 <= second < 60 else 5.0, "shock": 0.0 if second < 30 else 1.0}
    return [("shipment", NEIGHBOUR, second, values)] if second < 90 else []


def joined(one: Decoded, two: Decoded) -> Decoded:
    """Return two decodings as one row's, the messages of the second after those of the first."""
    shift = len(one.packets.message)
    a, b = one.packets, two.packets
    packets = Packets(
        a.message + array("q", [number + shift for number in b.message]),
        a.kinds + b.kinds,
        a.devices + b.devices,
        a.metrics + b.metrics,
        a.times_ms + b.times_ms,
        a.values + b.values,
    )
    refusals = [refusal._replace(message=refusal.message + shift) for refusal in two.refusals]
    return Decoded(packets, [*one.refusals, *refusals], [], one.retained + two.retained)


def shard_with(bad: Sequence[Decoded], count: int = 1, devices: Sequence[dict] = (), *, between_restarts: bool = False) -> Shard:
    """Return a shard in which the neighbour measured and bad rows came along with it, one every ten seconds."""
    shard = Shard(RULES, devices=devices)
    for number in range(14):
        own = decoded(neighbours(number * 10))
        given_bad = bad[number] if number < len(bad) else decoded([])
        shard.decoded(number * 10, len(own.packets.message) + (count if number < len(bad) else 1), joined(own, given_bad))
        if between_restarts:
            shard.restart()
    shard.tick(600)
    return shard


def told_of_neighbour(shard: Shard) -> tuple[list[AlertEvent], dict]:
    """Return all that was told of the neighbour, without journal positions, which count everybody's messages."""
    alerts = [event._replace(positions=(), correlation_id="") for event in events_of(shard) if event.subject == NEIGHBOUR]
    return alerts, bits({place: told for place, told in final_windows(shard).items() if place[0].subject == NEIGHBOUR})


@cache
def undisturbed() -> tuple[list[AlertEvent], dict]:
    return told_of_neighbour(shard_with([]))


def check_unhurt(shard: Shard) -> None:
    """Assert that the neighbour's alerts and windows are what they are without bad company, and that all that came out can be written."""
    assert told_of_neighbour(shard) == undisturbed()
    assert shard.books().balances()
    for outcome in shard.outcomes:
        assert [from_json(to_json(event)) for event in outcome.alerts] == outcome.alerts
        for block in [*outcome.windows, *([outcome.readings] if outcome.readings else [])]:
            assert pack(block)


def row(payloads: Sequence[bytes], device: str = "bad", second: float = 0, form: str = "readings") -> Decoded:
    """Return what ingest makes of payloads."""
    topics = [format_topic(Topic("shipment", device, form)).encode()] * len(payloads)
    return decode_row(decode_messages(encode_messages(topics, payloads, bytes(len(payloads)))), START_MS + round(second * 1000), CATALOGUE)


def test_the_neighbour_has_something_to_lose():
    """What is compared below must be more than nothing."""
    alerts, windows = undisturbed()
    whole = [(rule, phase) for rule in ("warm", "mean", "zero") for phase in (Phase.RAISED, Phase.RESOLVED)]
    assert sorted((event.rule, event.phase) for event in alerts) == sorted([*whole, ("silent", Phase.RAISED)])
    assert len(windows) > 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", '"NaN"', "1" + "0" * 400])
def test_what_is_no_finite_number_is_refused_by_name(number):
    """Every comparison with NaN fails and every sum with it is NaN: one such reading in a window would blind a rule for good."""
    payload = f'{{"metric":"temperature","value":{number},"time":{START_MS}}}'.encode()
    row_of_it = row([payload])
    assert row_of_it.packets.values.tolist() == []
    assert row_of_it.refusals[0].reason in {Reason.NOT_FINITE, Reason.MALFORMED, Reason.WRONG_TYPE}
    shard = shard_with([row_of_it] * 9)
    assert sum(shard.books().quarantined.values()) == 9
    check_unhurt(shard)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308])
def test_a_value_that_no_decoder_should_have_passed_is_refused_by_the_evaluator(value):
    """The evaluator trusts no decoder: a plug-in for another payload may forget to look."""
    shard = shard_with([decoded([("shipment", "bad", number * 10, {"temperature": value})]) for number in range(9)])
    assert shard.books().quarantined == {"implausible": 9}
    check_unhurt(shard)


@pytest.mark.parametrize("value", [5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, -0.0])
def test_the_smallest_numbers_are_carried_as_they_are(value):
    """A denormal is a temperature like any other; what is computed of it stays finite."""
    payloads = [encode_reading("temperature", value, START_MS + number * 10_000) for number in range(9)]
    shard = shard_with([row([payload], second=number * 10) for number, payload in enumerate(payloads)])
    own = [told for place, told in final_windows(shard).items() if place[0].device == "bad"]
    assert [reading[4] for reading in accepted(shard) if reading[1] == "bad"] == [value] * 9
    assert [told["mean"] for told in own] == [pytest.approx(value, abs=1e-320)] * len(own)
    assert all(math.isfinite(told[name]) for told in own for name in ("mean", "sum", "stddev", "median", "p95", "range"))
    check_unhurt(shard)


def test_negative_zero_is_zero_to_a_rule_and_a_duplicate_of_zero_or_a_reading_once():
    """`shock == 0` holds for -0.0; whichever of the two came first, the books balance and one alert is open."""
    orders = [(0.0, -0.0), (-0.0, 0.0)]
    found = []
    for first, second in orders:
        rows = [decoded([("shipment", "bad", 0, {"shock": value})]) for value in (first, second)]
        shard = shard_with(rows)
        check_unhurt(shard)
        found.append([event.phase for event in events_of(shard) if (event.subject, event.rule) == ("bad", "zero")])
    assert found == [[Phase.RAISED]] * 2


@pytest.mark.parametrize(
    "time", ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e30", "-1", "0", '"9999-12-31T23:59:59.999Z"', "1e3"]
)
def test_a_time_at_the_ends_of_64_bits_is_refused(time):
    """Ends of windows are computed by adding to times: what could overflow must not get that far."""
    row_of_it = row([f'{{"metric":"temperature","value":9,"time":{time}}}'.encode()])
    shard = shard_with([row_of_it] * 9)
    books = shard.books()
    assert set(books.quarantined) <= {"impossible_time", "future_time", "wrong_type", "malformed"}
    assert sum(books.quarantined.values()) == 9
    check_unhurt(shard)


@pytest.mark.parametrize("time_ms", [2**63 - 1, -(2**63) + 1, 2**62, -(2**62), 0, -1, 253_402_300_799_999])
def test_a_packet_with_an_extreme_time_is_refused_by_the_evaluator(time_ms):
    """The same, past the decoder. (The least 64-bit integer means that a packet named no time.)"""
    bad = decoded([("shipment", "bad", 0, {"temperature": 9.0})])
    bad.packets.times_ms[0] = time_ms
    shard = shard_with([bad] * 9)
    assert set(shard.books().quarantined) <= {"impossible_time", "future_time"}
    assert sum(shard.books().quarantined.values()) == 9
    check_unhurt(shard)


@pytest.mark.long
def test_a_million_metrics_of_one_device_leave_no_trace_but_their_count():
    """A device that makes up names would fill the memory of everybody in its shard."""
    batches = []
    for number in range(10):
        names = {f"metric_{number}_{serial}": 1.0 for serial in range(100_000)}
        payloads = [json.dumps({"values": dict(list(names.items())[at : at + 10_000])}).encode() for at in range(0, 100_000, 10_000)]
        batches.append(row(payloads, second=number * 10))
    shard = shard_with(batches, count=10)
    books = shard.books()
    assert books.quarantined == {"unknown_metric": 1_000_000}
    assert books.accepted == sum(len(packet[3]) for number in range(14) for packet in neighbours(number * 10))
    check_unhurt(shard)


def test_thousands_of_made_up_devices_are_carried_and_the_neighbour_is_heard():
    """A device that calls itself something new with every message costs a series each time, and nobody else anything."""
    batches = [
        decoded([("shipment", f"made-up-{number}-{n}", number * 10, {"temperature": 5.0}) for n in range(300)]) for number in range(10)
    ]
    shard = shard_with(batches, count=300)
    assert shard.books().quarantined == {}
    assert len({reading[1] for reading in accepted(shard)}) == 3001
    check_unhurt(shard)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda text: text != NEIGHBOUR)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=6, unique=True), st.booleans())
def test_devices_and_subjects_of_any_unicode_are_carried_and_kept_apart(names, between_restarts):
    """A name that needs escaping somewhere must be told as it is, and must not become another's."""
    devices = [{"device": name, "subject": f"subject of {name}", "kind": "shipment", "tags": {name: name}} for name in names[::3]]
    rows = [
        decoded([("shipment", name, number * 10, {"temperature": 9.0 if index % 2 else 5.0}) for index, name in enumerate(names)])
        for number in range(3)
    ]
    shard = shard_with(rows, len(names), devices, between_restarts=between_restarts)
    subjects = {name: f"subject of {name}" if index % 3 == 0 else name for index, name in enumerate(names)}
    raised = {event.subject for event in events_of(shard) if event.rule == "warm"}
    assert raised == {subjects[name] for name in names[1::2]} | {NEIGHBOUR}
    assert {place[0][1:3] for place in final_windows(shard)} == {*((subjects[name], name) for name in names), (NEIGHBOUR, NEIGHBOUR)}
    check_unhurt(shard)


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_a_topic_of_any_text_is_read_or_refused(name):
    """Through the decoder a device's name is what its topic allows; everything else is quarantined as unmapped."""
    topic = f"vitalane/v1/shipment/{name}/readings".encode()
    body = encode_messages([topic], [encode_reading("temperature", 9.0, START_MS)], b"\0")
    row_of_it = decode_row(decode_messages(body), START_MS, CATALOGUE)
    shard = shard_with([row_of_it] * 3)
    books = shard.books()
    assert [len(row_of_it.packets.devices), len(row_of_it.refusals)] in ([1, 0], [0, 1])
    assert books.quarantined == ({} if row_of_it.packets.devices else {"unmapped": 3})
    check_unhurt(shard)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=8) | st.just(START_MS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("v", "metric", "value", "values", "readings", "time", "unit", "temperature", "x")), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60) | JSON.map(lambda tree: json.dumps(tree).encode()), min_size=1, max_size=8))
def test_payloads_of_any_bytes_never_crash_and_never_reach_a_neighbour(payloads):
    rows = [row(payloads, second=number * 10, form=form) for number, form in enumerate(("readings", "senml", "readings"))]
    shard = shard_with([item._replace(statuses=[]) for item in rows], count=len(payloads))
    check_unhurt(shard)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("temperature", "shock", "no_such_metric")),
            st.floats() | st.floats(-10, 20),
            st.integers(-(2**63), 2**63 - 1) | st.integers(START_MS - 10**6, START_MS + 10**6),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_packets_of_any_numbers_and_times_never_crash_and_never_reach_a_neighbour(items, between_restarts):
    """Every double and every 64-bit integer, past all decoders."""
    bad = decoded([("shipment", "bad", 0, {metric: value}) for metric, value, _ in items])
    for index, (_, _, time_ms) in enumerate(items):
        bad.packets.times_ms[index] = time_ms
    shard = shard_with([bad] * 3, count=len(items), between_restarts=between_restarts)
    assert shard.books().received >= 3 * len(items)
    for told in final_windows(shard).values():
        assert all(math.isfinite(told[name]) for name in told if name != "slope")
    check_unhurt(shard)
