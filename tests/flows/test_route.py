"""Routing: each reading goes to the shard of its subject, everything else stays, and nothing is lost or doubled on the way."""

import json
import pickle
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.keys import shard_key
from flows.route import Routes
from journal.messages import encode_messages
from journal.rows import Row, RowKind
from rules.control import registry_record
from rules.registry import Registry
from telemetry.metrics import Metric
from telemetry.routing import partition_of

NOW_MS, PARTITIONS, OWN = 1_763_000_000_000, 4, 1
OWN_METRIC = Metric("humming", "1", 0, 10, "humming")


def named(home: int, prefix: str = "dev") -> str:
    """Return a device, or a subject, that lives in a shard."""
    return next(name for name in (f"{prefix}-{number}" for number in range(1000)) if partition_of(name, PARTITIONS) == home)


HERE, THERE, YONDER = (named(home) for home in (OWN, 2, 3))


def row(*messages: tuple[str, object], form: str = "readings", offset: int = 10) -> Row:
    topics = [f"vitalane/v1/shipment/{device}/{form}".encode() for device, _ in messages]
    payloads = [content if isinstance(content, bytes) else json.dumps(content).encode() for _, content in messages]
    body = encode_messages(topics, payloads, bytes(len(messages)))
    return Row(OWN, offset, len(messages), RowKind.MESSAGES, NOW_MS, body, -1, 0)


def reading(value: float, time_ms: int | None = NOW_MS, **more: float) -> dict:
    return {"v": 1, "values": {"temperature": value, **more}} | ({} if time_ms is None else {"time": time_ms})


def control(body: bytes, offset: int = 0) -> Row:
    return Row(OWN, offset, 1, RowKind.CONTROL, NOW_MS, body, -1, 0)


def routed(*rows: Row, state=None):
    logic = Routes(PARTITIONS).build(state)
    addressed, done = logic.on_batch(list(rows))
    assert not done
    assert all(key == shard_key(part.home) for key, part in addressed)
    return [part for _, part in addressed]


def contents(part) -> list[tuple[int, str, int, float]]:
    """Return a part's readings: message, device, time, value."""
    packets, values = part.decoded.packets, list(part.decoded.packets.values)
    found = []
    for message, device, names, time_ms in zip(packets.message, packets.devices, packets.metrics, packets.times_ms, strict=True):
        found += [(message, device, time_ms, values.pop(0)) for _ in names]
    return found


def test_a_row_of_the_own_shard_goes_on_as_it_is():
    [part] = routed(row((HERE, reading(5.0)), (HERE, b'{"v":')))
    assert not part.foreign
    assert (part.home, part.origin, part.offset, part.end) == (OWN, OWN, 10, 12)
    assert contents(part) == [(0, HERE, NOW_MS, 5.0)]
    assert [refusal.message for refusal in part.decoded.refusals] == [1]


def test_readings_of_other_shards_are_split_off_and_keep_their_message_and_its_bytes():
    sent = row((THERE, reading(1.0, humidity=40)), (HERE, reading(2.0)), (YONDER, b'{"v":'), (THERE, reading(3.0)))
    own, other = routed(sent)
    assert not own.foreign
    assert contents(own) == [(1, HERE, NOW_MS, 2.0)]
    assert [refusal.message for refusal in own.decoded.refusals] == [2], "a refusal is counted where it was received"
    assert (other.home, other.origin, other.offset, other.end, other.foreign) == (2, OWN, 10, 14, True)
    assert contents(other) == [(0, THERE, NOW_MS, 1.0), (0, THERE, NOW_MS, 40.0), (3, THERE, NOW_MS, 3.0)]
    assert not other.decoded.refusals
    assert {index: json.loads(payload)["values"]["temperature"] for index, payload in other.payloads.items()} == {0: 1.0, 3: 3.0}
    assert set(other.topics) == {0, 3}


def test_a_status_goes_where_its_device_is_watched():
    own, other = routed(row((HERE, b"online"), (THERE, b"offline"), form="status"))
    assert [(status.device, status.online) for status in own.decoded.statuses] == [(HERE, True)]
    assert [(status.message, status.device, status.online) for status in other.decoded.statuses] == [(1, THERE, False)]
    assert other.home == 2


def test_a_promise_goes_where_its_reading_goes():
    own, other = routed(row(*((device, b'[{"n":"temp","v":4,"ut":60}]') for device in (HERE, THERE)), form="senml"))
    assert [(promise.message, promise.device) for promise in own.decoded.promises] == [(0, HERE)]
    assert [(promise.message, promise.device) for promise in other.decoded.promises] == [(1, THERE)]
    assert other.home == 2


def test_the_subject_of_the_readings_own_time_decides():
    """An exchanged logger uploads what it measured on the pallet before."""
    before, after = named(2, "pallet"), named(OWN, "pallet")
    registry = registry_record(
        [
            {"device": HERE, "subject": before, "kind": "shipment", "from_ms": NOW_MS - 2000, "until_ms": NOW_MS - 1000},
            {"device": HERE, "subject": after, "kind": "shipment", "from_ms": NOW_MS - 1000},
        ]
    )
    sent = row((HERE, reading(1.0, NOW_MS - 1500)), (HERE, reading(2.0, NOW_MS - 1000)), (HERE, reading(3.0, None)))
    _, own, other = routed(control(registry), sent)
    assert [value for *_, value in contents(own)] == [2.0, 3.0]
    assert [value for *_, value in contents(other)] == [1.0]


def test_control_records_and_ticks_stay_with_their_partition():
    tick = Row(OWN, 1, 1, RowKind.TICK, NOW_MS, b"", -1, 0)
    registry = registry_record([{"device": THERE, "subject": HERE, "kind": "shipment"}])
    parts = routed(control(registry), tick, row((THERE, reading(1.0)), offset=2))
    assert [(part.home, part.kind, part.body) for part in parts] == [
        (OWN, RowKind.CONTROL, registry),
        (OWN, RowKind.TICK, b""),
        (OWN, RowKind.MESSAGES, b""),
    ]


def test_the_registry_in_force_outlives_the_process():
    """What it says of devices and of metrics is needed from the first row on that a restored flow reads."""
    logic = Routes(PARTITIONS).build(None)
    registry = registry_record([{"device": HERE, "subject": THERE, "kind": "shipment"}], [OWN_METRIC])
    logic.on_batch([control(registry)])
    state = pickle.loads(pickle.dumps(logic.snapshot()))
    own, other = routed(row((HERE, {"v": 1, "metric": "humming", "value": 3.0})), state=state)
    assert not contents(own)
    assert contents(other) == [(0, HERE, -(2**63), 3.0)]
    assert contents(routed(row((HERE, reading(1.0))), state=Routes(PARTITIONS).build(None).snapshot())[0])


def test_partitions_share_one_decoder():
    """It remembers what it worked out: with one each, every partition would work it out anew."""
    routes = Routes(PARTITIONS)
    logics = [routes.build(None) for _ in range(2)]
    for logic in logics:
        logic.on_batch([control(registry_record([], [OWN_METRIC]))])
    assert logics[0].decoder is logics[1].decoder
    assert "humming" in logics[0].decoder.catalogue


assignments = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 7), st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5)), max_size=12
)
messages = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(-6, 6), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(assignments, messages)
def test_every_reading_arrives_once_where_the_registry_says(assigned, sent):
    devices = [
        {
            "device": f"dev-{device}", "subject": f"subject-{subject}", "kind": "shipment",
            "from_ms": None if begin is None else NOW_MS + begin, "until_ms": None if end is None else NOW_MS + end,
        }
        for device, subject, begin, end in assigned
    ]  # fmt: skip
    registry = Registry(devices)
    pairs = [
        (f"dev-{device}", reading(float(number), None if time is None else NOW_MS + time, **({"humidity": 1.0} if two else {})))
        for number, (device, time, two) in enumerate(sent)
    ]
    _, *parts = routed(control(registry_record(devices)), row(*pairs))
    assert [part.home for part in parts if not part.foreign] == [OWN]
    found = Counter((part.home, *one) for part in parts for one in contents(part))
    [whole] = Routes(1).build(None).on_batch([row(*pairs)])[0]
    expected = Counter(
        (registry.home(device, NOW_MS if time_ms == -(2**63) else time_ms, PARTITIONS), message, device, time_ms, value)
        for message, device, time_ms, value in contents(whole[1])
    )
    assert found == expected
    assert all([message for message, *_ in contents(part)] == sorted(message for message, *_ in contents(part)) for part in parts)
    assert all(pickle.loads(pickle.dumps(part)) == part for part in parts)
