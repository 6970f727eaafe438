"""Faults do what they say, count what they did, and leave each other's dice alone; in any order."""

import itertools
import json
from collections import Counter, defaultdict

import pytest

from decoders.decode import decode_row
from decoders.wire import encode_values
from journal.messages import decode_messages, encode_messages
from simulators.faults import FaultKind, Message, Span, as_received, device_of
from simulators.faults_device import DAY_MS, BatteryDeath, ClockDayAhead, ClockDrift, ClockSkew, Frozen, Spike, Teleport, UnitMixUp
from simulators.faults_payload import Flood, GatewayMerge, Malformed, Schema, SchemaChange
from simulators.faults_way import Backlog, Disconnect, Distribution, Dropout, Duplicates, Latency, Reordering
from simulators.feeds import Disturbed, WorldSource
from simulators.mixture import CLASSES, Group, can_have, make
from simulators.patient import Patients
from simulators.payloads import readings
from simulators.shipment import Shipments
from telemetry.metrics import CATALOGUE

pytestmark = pytest.mark.long

START = 1_763_700_000_000
MINUTE, HOUR = 60_000, 3_600_000
EVERYTHING = Span(START, START + 100 * HOUR)
TRUCKS = [f"truck-{number:02d}" for number in range(1, 7)]


def fleet(hours=6):
    return WorldSource(Shipments(6, seed=4, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE)), START + hours * HOUR


def ward(hours=6):
    return WorldSource(Patients(6, seed=4, start_ms=START, tick_ms=MINUTE, report_ms=MINUTE)), START + hours * HOUR


def passed(faults, hours=6, world=fleet):
    """Return the parcels of a fleet after faults, in the order in which they are let go."""
    source, end_ms = world(hours)
    parcels = []
    disturbed = Disturbed(source, faults, end_ms=end_ms, seen=parcels.append, exact=True)
    messages = []
    while disturbed.next_ms is not None:
        messages += disturbed.take()
    assert messages == [parcel.message for parcel in parcels]
    assert [message.time_ms for message in messages] == sorted(message.time_ms for message in messages)
    return parcels, disturbed.tally


def of(parcels, device):
    return [parcel for parcel in parcels if parcel.device == device]


def every(kind, devices=TRUCKS[:2], seed=7, kind_of="shipment"):
    group = Group("truck", kind_of, tuple(TRUCKS), MINUTE)
    return make(kind, group, devices, Span(START + HOUR, START + 4 * HOUR), seed=seed)


SHIPMENT_KINDS = [kind for kind in FaultKind if can_have(kind, Group("truck", "shipment", tuple(TRUCKS), MINUTE))]


def test_there_is_a_fault_of_every_kind():
    assert set(CLASSES) == set(FaultKind)


@pytest.mark.parametrize("kind", SHIPMENT_KINDS)
def test_a_fault_touches_its_devices_in_its_span_and_says_how_many_messages(kind):
    fault = every(kind)
    before, _ = passed([])
    after, _ = passed([fault])
    assert 0 < fault.touched.total() <= sum(parcel.device in TRUCKS[:2] for parcel in before)
    assert set(fault.touched) <= set(TRUCKS[:2])
    for device in TRUCKS[2:]:
        assert of(after, device) == of(before, device)
    untouched = [parcel.message for parcel in before if not START + HOUR <= parcel.measured_ms < START + 4 * HOUR]
    assert Counter(untouched) <= Counter(parcel.message for parcel in after)


@pytest.mark.parametrize("kind", SHIPMENT_KINDS)
def test_nothing_is_sent_before_its_time(kind):
    assert all(parcel.message.time_ms >= parcel.measured_ms for parcel in passed([every(kind)])[0])


@pytest.mark.parametrize("kind", SHIPMENT_KINDS)
def test_a_seed_gives_the_same_and_another_seed_another(kind):
    one, same = ([parcel.message for parcel in passed([every(kind)])[0]] for _ in range(2))
    assert one == same
    thrown = {FaultKind.DUPLICATES, FaultKind.REORDERING, FaultKind.LATENCY, FaultKind.MALFORMED, FaultKind.SPIKE, FaultKind.DISCONNECT}
    if kind in thrown:
        assert [parcel.message for parcel in passed([every(kind, seed=8)])[0]] != one


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations([FaultKind.MALFORMED, FaultKind.DUPLICATES, FaultKind.SPIKE], 2)))
def test_adding_a_fault_does_not_change_the_dice_of_another(one, other):
    """Of the messages as they were measured, a fault picks the same ones, whatever else happens to them before or after."""

    def touched(kinds):
        hit = defaultdict(set)
        faults = [every(kind) for kind in kinds]
        for fault in faults:
            act = fault.act

            def noted(parcel, act=act, fault=fault):
                after = act(parcel)
                if len(after) != 1 or after[0] is not parcel:
                    hit[fault.kind].add(parcel.number)
                return after

            fault.act = noted
        passed(faults)
        return hit[one]

    alone = touched([one])
    for order in ([one, other], [other, one]):
        found = touched(order)
        assert found <= alone
        if {one, other} != {FaultKind.MALFORMED, FaultKind.SPIKE}:  # what is no message any more has no value to falsify
            assert found == alone


@pytest.mark.parametrize(
    "order", list(itertools.permutations([FaultKind.DROPOUT, FaultKind.DUPLICATES, FaultKind.CLOCK_SKEW, FaultKind.LATENCY]))
)
def test_faults_compose_in_any_order_and_lose_nothing_that_they_should_not(order):
    faults = [every(kind) for kind in order]
    after, tally = passed(faults)
    said = Counter((device_of(parcel.message.topic), parcel.number) for parcel in after if parcel.number and not parcel.copy)
    assert set(said.values()) == {1}
    assert tally.messages == len(after)
    assert sum(not parcel.copy for parcel in after) == len(passed([])[0])


@pytest.mark.parametrize("backlog", [Backlog.OLDEST, Backlog.NEWEST])
def test_a_dropout_delivers_its_backlog_in_a_burst_with_its_stamps(backlog):
    span = Span(START + HOUR, START + 3 * HOUR)
    before, _ = passed([])
    after, _ = passed([Dropout(TRUCKS[:1], span, seed=1, backlog=backlog)])
    mine = of(after, TRUCKS[0])
    assert not [parcel for parcel in mine if span.start_ms <= parcel.message.time_ms < span.end_ms]
    assert Counter(parcel.message.payload for parcel in mine) == Counter(parcel.message.payload for parcel in of(before, TRUCKS[0]))
    late = [parcel for parcel in mine if parcel.message.time_ms != parcel.measured_ms]
    assert len(late) >= 120
    assert all(span.end_ms <= parcel.message.time_ms <= span.end_ms + 3 * MINUTE for parcel in late)
    stamps = [parcel.measured_ms for parcel in late]
    assert stamps == sorted(stamps, reverse=backlog is Backlog.NEWEST) or len(set(stamps)) < len(stamps)


def test_a_dropout_without_a_backlog_loses_what_was_measured():
    span = Span(START + HOUR, START + 3 * HOUR)
    mine = of(passed([Dropout(TRUCKS[:1], span, seed=1, backlog=Backlog.NONE)])[0], TRUCKS[0])
    assert not [parcel for parcel in mine if span.start_ms <= parcel.measured_ms < span.end_ms]


def test_latency_keeps_the_order_and_reordering_does_not():
    for distribution in Distribution:
        mine = of(passed([Latency(TRUCKS[:1], EVERYTHING, seed=1, mean_ms=3 * MINUTE, distribution=distribution)])[0], TRUCKS[0])
        stamps = [parcel.measured_ms for parcel in mine]
        assert stamps == sorted(stamps), distribution
        late = [parcel.message.time_ms - parcel.measured_ms for parcel in mine]
        assert sum(late) / len(late) > 2 * MINUTE, distribution
    mine = of(passed([Reordering(TRUCKS[:1], EVERYTHING, seed=1, within_ms=5 * MINUTE)])[0], TRUCKS[0])
    stamps = [parcel.measured_ms for parcel in mine]
    assert stamps != sorted(stamps)
    assert all(parcel.message.time_ms - parcel.measured_ms <= 5 * MINUTE for parcel in mine)


def test_a_connection_that_breaks_sends_what_was_in_flight_again_or_at_last():
    fault = Disconnect(TRUCKS[:1], EVERYTHING, seed=1, every_ms=10 * MINUTE, lasts_ms=2 * MINUTE)
    fault_in_flight = [parcel for parcel in of(passed([fault], hours=48)[0], TRUCKS[0]) if parcel.copy]
    for parcel in of(passed([fault], hours=48)[0], TRUCKS[0]):
        into_ms = (parcel.message.time_ms - START) % (10 * MINUTE)
        assert into_ms < 8 * MINUTE, "nothing comes while the connection is down"
    assert all((parcel.message.time_ms - START) % (10 * MINUTE) == 0 for parcel in fault_in_flight)


def test_duplicates_are_the_same_message_again():
    fault = Duplicates(TRUCKS[:2], EVERYTHING, seed=1, probability=0.5, within_ms=MINUTE)
    after, tally = passed([fault])
    copies = [parcel for parcel in after if parcel.copy]
    assert len(copies) == fault.touched.total()
    assert tally.copied == sum(len(readings(parcel.message.payload)) for parcel in copies)
    payloads = Counter((parcel.message.topic, parcel.message.payload) for parcel in after)
    assert set(payloads.values()) == {1, 2}
    originals = sum(parcel.device in TRUCKS[:2] and not parcel.copy for parcel in after)
    assert 0.4 < len(copies) / originals < 0.6


@pytest.mark.parametrize(
    ("fault", "offset"),
    [
        (ClockSkew(TRUCKS[:1], EVERYTHING, seed=1, offset_ms=-90_000), lambda _: -90_000),
        (ClockDayAhead(TRUCKS[:1], EVERYTHING, seed=1), lambda _: DAY_MS),
        (ClockDrift(TRUCKS[:1], EVERYTHING, seed=1, ppm=1000), lambda since_ms: round(since_ms * 0.001)),
    ],
    ids=["skew", "day ahead", "drift"],
)
def test_a_clock_changes_the_stamps_and_nothing_else(fault, offset):
    before, after = (of(passed(faults)[0], TRUCKS[0]) for faults in ([], [fault]))
    for one, other in zip(before, after, strict=True):
        assert other.message.time_ms == one.message.time_ms
        said, heard = json.loads(one.message.payload), json.loads(other.message.payload)
        assert heard["time"] - said["time"] == offset(one.measured_ms - START) == other.offset_ms
        assert heard["values"] == said["values"]


def test_a_frozen_sensor_says_what_it_said_first_and_the_others_go_on():
    span = Span(START + HOUR, START + 3 * HOUR)
    mine = of(passed([Frozen(TRUCKS[:1], span, seed=1, metric="temperature")])[0], TRUCKS[0])
    during = [json.loads(parcel.message.payload)["values"] for parcel in mine if span.start_ms <= parcel.measured_ms < span.end_ms]
    assert len({values["temperature"] for values in during if "temperature" in values}) == 1
    assert len({values["humidity"] for values in during if "humidity" in values}) > 10


def test_a_unit_is_mistaken_without_a_word():
    before, after = (of(passed(faults)[0], TRUCKS[0]) for faults in ([], [UnitMixUp(TRUCKS[:1], EVERYTHING, seed=1, metric="temperature")]))
    for one, other in zip(before, after, strict=True):
        said, heard = (json.loads(parcel.message.payload)["values"] for parcel in (one, other))
        if "temperature" in said:
            assert heard["temperature"] == pytest.approx(said["temperature"] * 9 / 5 + 32, abs=1e-3)
    with pytest.raises(ValueError, match="'door'"):
        UnitMixUp(TRUCKS[:1], EVERYTHING, seed=1, metric="door")


def test_a_battery_runs_down_and_then_nothing_comes_until_it_is_exchanged():
    span = Span(START + HOUR, START + 3 * HOUR)
    mine = of(passed([BatteryDeath(TRUCKS[:1], span, seed=1)])[0], TRUCKS[0])
    charge = [
        json.loads(p.message.payload)["values"]["battery"]
        for p in mine
        if b"battery" in p.message.payload and p.measured_ms in range(*span)
    ]
    assert charge[0] > 60 > 10 > charge[-1]
    assert charge == sorted(charge, reverse=True)
    assert not [parcel for parcel in mine if START + 2 * HOUR <= parcel.measured_ms < span.end_ms]
    assert [parcel for parcel in mine if parcel.measured_ms >= span.end_ms]


def test_a_position_from_elsewhere_is_on_the_globe():
    before, after = (of(passed(faults)[0], TRUCKS[0]) for faults in ([], [Teleport(TRUCKS[:1], EVERYTHING, seed=1, degrees=20)]))
    moved = 0
    for one, other in zip(before, after, strict=True):
        said, heard = (json.loads(parcel.message.payload)["values"] for parcel in (one, other))
        if "latitude" in said:
            moved += 1
            assert abs(abs(heard["latitude"] - said["latitude"]) - 20) < 1e-4
            assert abs(heard["latitude"]) < 90
    assert moved > 50


def decoded(parcels):
    """Return what the decoder refuses of messages."""
    messages = [parcel.message for parcel in parcels]
    body = encode_messages([m.topic.encode() for m in messages], [m.payload for m in messages], bytes(len(messages)))
    return decode_row(decode_messages(body), START + 7 * HOUR, CATALOGUE)


@pytest.mark.parametrize(
    "fault",
    [
        Malformed(TRUCKS[:2], EVERYTHING, seed=1, probability=0.6),
        *(SchemaChange(TRUCKS[:2], EVERYTHING, seed=1, schema=schema) for schema in Schema),
        GatewayMerge(TRUCKS[:3], EVERYTHING, seed=1),
    ],
    ids=["malformed", *Schema, "gateway_merge"],
)
def test_what_must_be_refused_is_refused_for_its_reason_and_nothing_else_is(fault):
    after, tally = passed([fault])
    refused = Counter(refusal.reason for refusal in decoded(after).refusals)
    assert refused == tally.refused
    assert refused.total() > 100


@pytest.mark.parametrize("value", [850.0, 45.0])
def test_a_spike_is_refused_where_it_cannot_be(value):
    fault = Spike(TRUCKS[:2], EVERYTHING, seed=1, metric="temperature", value=value, probability=0.3)
    after, tally = passed([fault])
    heard = [heard for parcel in after for metric, _, heard in readings(parcel.message.payload) if metric == "temperature"]
    assert heard.count(value) == fault.touched.total() > 50
    assert tally.refused.total() == (heard.count(value) if value > 100 else 0)


def test_a_message_from_the_future_is_refused_by_when_it_is_received():
    """What waited for longer than its clock is ahead is not from the future any more."""
    message = Message(START, "vitalane/v1/shipment/truck-01/readings", encode_values({"temperature": 4.0, "humidity": 50.0}, START))
    way = Disturbed(ReplayOf([message]), [ClockDayAhead(["truck-01"], EVERYTHING, seed=1)])
    way.take()
    assert way.tally.refused == {"future_time": 2}
    fault = ClockDayAhead(["truck-01"], EVERYTHING, seed=1)
    [parcel] = passed_one(fault, message)
    assert as_received(parcel, START + DAY_MS).refused == ()
    assert as_received(parcel, START + DAY_MS - 6 * MINUTE).refused == (("future_time", 2),)


def passed_one(fault, message):
    parcels = []
    Disturbed(ReplayOf([message]), [fault], seen=parcels.append, received_ms=lambda _: START + 30 * DAY_MS).take()
    return parcels


class ReplayOf:
    """Messages as a source."""

    def __init__(self, messages):
        self.left = list(messages)

    @property
    def next_ms(self):
        return self.left[0].time_ms if self.left else None

    def take(self):
        return [self.left.pop(0)]


def test_a_flood_is_far_more_readings_of_one_metric_within_the_minute():
    fault = Flood(TRUCKS[:1], EVERYTHING, seed=1, most=2, per_minute=2_000)
    before, after = passed([])[0], passed([fault])[0]
    more = [item for parcel in after for item in readings(parcel.message.payload)]
    assert len(more) - sum(len(readings(parcel.message.payload)) for parcel in before) == 2 * 2_000
    assert len(set(more)) == len(more)
    assert not decoded(after).refusals


def test_a_gateway_that_says_nothing_gives_one_device_the_readings_of_others():
    after, tally = passed([GatewayMerge(TRUCKS[:3], EVERYTHING, seed=1, named=False)])
    topics = Counter(device_of(parcel.message.topic) for parcel in after)
    assert set(topics) == {TRUCKS[0], *TRUCKS[3:]}
    assert not tally.refused


def test_what_waits_at_the_end_comes_at_the_end():
    after, _ = passed([Dropout(TRUCKS[:1], Span(START + 5 * HOUR, START + 50 * HOUR), seed=1)])
    assert len(after) == len(passed([])[0])
    assert max(parcel.message.time_ms for parcel in after) == START + 6 * HOUR


def test_a_ward_can_have_what_a_monitor_has():
    group = Group("monitor", "patient", tuple(f"monitor-{n:02d}" for n in range(1, 7)), MINUTE)
    kinds = [kind for kind in FaultKind if can_have(kind, group)]
    assert {FaultKind.BATTERY_DEATH, FaultKind.TELEPORT}.isdisjoint(kinds)
    for kind in kinds:
        fault = make(kind, group, group.devices[:2], Span(START, START + 5 * HOUR), seed=3)
        passed([fault], world=ward)
        assert fault.touched, kind
