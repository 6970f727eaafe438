"""Decoding: what a message means, whatever stands next to it in its row."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders import wire
from decoders.decode import FLAG_TOO_LARGE, decode_row
from decoders.examine import examine
from decoders.packets import PacketBuilder, Plans
from decoders.topics import FORMS, parse
from journal.messages import FLAG_DUP, FLAG_RETAIN, decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Decoded
from telemetry.reasons import Reason

RECEIVED_MS = 1_763_674_000_123
TIME = 1_763_674_000_000
TOPIC = b"vitalane/v1/shipment/d1/readings"


def decode(payloads: Sequence[bytes], topics: Sequence[bytes] = (), flags: bytes = b"") -> Decoded:
    body = encode_messages(topics or [TOPIC] * len(payloads), payloads, flags or bytes(len(payloads)))
    return decode_row(decode_messages(body), RECEIVED_MS, CATALOGUE)


def said(decoded: Decoded) -> list[tuple]:
    """Return all that a row says, in the order of its messages, as plain tuples."""
    packets, at, out = decoded.packets, 0, []
    for i, names in enumerate(packets.metrics):
        values = packets.values[at : at + len(names)]
        at += len(names)
        out.append((packets.message[i], packets.kinds[i], packets.devices[i], names, packets.times_ms[i], tuple(values)))
    assert at == len(packets.values)
    return sorted([*out, *map(tuple, decoded.refusals), *map(tuple, decoded.statuses)], key=lambda item: item[0])


GOOD: dict[bytes, list[Any]] = {
    b'{"v":1,"metric":"temperature","value":4.2,"unit":"Cel","time":1763674000000}': [(("temperature",), TIME, (4.2,))],
    b'{"metric":"temperature","value":4}': [(("temperature",), NO_TIME, (4.0,))],
    b'{"metric":"temperature","value":40,"unit":"[degF]"}': [(("temperature",), NO_TIME, (pytest.approx(4.4444444444),))],
    b'{"metric":"temperature","value":277.15,"unit":"K"}': [(("temperature",), NO_TIME, (pytest.approx(4.0),))],
    b'{"metric":"spo2","value":0.5,"unit":"1"}': [(("spo2",), NO_TIME, (50.0,))],
    b'{"metric":"door","value":true}': [(("door",), NO_TIME, (1.0,))],
    b'{"metric":"door","value":0}': [(("door",), NO_TIME, (0.0,))],
    b'{"metric":"temperature","value":4,"device":"d1"}': [(("temperature",), NO_TIME, (4.0,))],
    b'{"metric":"temperature","value":4,"time":"2025-11-20T21:26:40Z"}': [(("temperature",), TIME, (4.0,))],
    b'{"metric":"temperature","value":4,"time":"2025-11-20t22:26:40.000000+01:00"}': [(("temperature",), TIME, (4.0,))],
    b' {"metric":"temperature",\n"value":4} ': [(("temperature",), NO_TIME, (4.0,))],
    b'{"time":1763674000000,"values":{"temperature":4.2,"humidity":40.1}}': [(("temperature", "humidity"), TIME, (4.2, 40.1))],
    b'{"values":{"temperature":4,"door":false}}': [(("temperature", "door"), NO_TIME, (4.0, 0.0))],
    b'{"readings":[{"metric":"temperature","value":4,"time":1763674000000},{"metric":"humidity","value":50,"time":1763674000000},'
    b'{"metric":"temperature","value":5,"time":1763674000000},{"metric":"temperature","value":6}]}': [
        (("temperature", "humidity"), TIME, (4.0, 50.0)),
        (("temperature",), TIME, (5.0,)),
        (("temperature",), NO_TIME, (6.0,)),
    ],
}

BAD = {
    b"": Reason.MALFORMED,
    b" ": Reason.MALFORMED,
    b"{": Reason.MALFORMED,
    b"\xff\xfe": Reason.MALFORMED,
    b"\xef\xbb\xbf{}": Reason.MALFORMED,
    b'{"metric":"temperature","value":4}{"metric":"temperature","value":4}': Reason.MALFORMED,
    b'{"metric":"temperature","value":4} x': Reason.MALFORMED,
    b"[" * 100_000: Reason.MALFORMED,
    b'{"value":' * 50_000: Reason.MALFORMED,
    b'{"metric":"temperature","value":' + b"9" * 5000 + b"}": Reason.MALFORMED,
    b"null": Reason.WRONG_TYPE,
    b"[]": Reason.WRONG_TYPE,
    b'"online"': Reason.WRONG_TYPE,
    b"{}": Reason.WRONG_TYPE,
    b'{"metric":"temperature"}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":null}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":"4"}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":true}': Reason.WRONG_TYPE,
    b'{"metric":1,"value":1}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":4,"unit":1}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":4,"time":1.5}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":4,"time":true}': Reason.WRONG_TYPE,
    b'{"metric":"temperature","value":4,"values":{"temperature":4}}': Reason.WRONG_TYPE,
    b'{"values":{}}': Reason.WRONG_TYPE,
    b'{"values":[]}': Reason.WRONG_TYPE,
    b'{"values":{"temperature":4},"unit":"Cel"}': Reason.WRONG_TYPE,
    b'{"readings":[]}': Reason.WRONG_TYPE,
    b'{"readings":[{"metric":"temperature","value":4}],"time":1763674000000}': Reason.WRONG_TYPE,
    b'{"v":0,"metric":"temperature","value":4}': Reason.WRONG_TYPE,
    b'{"v":3,"metric":"temperature","value":4}': Reason.UNSUPPORTED_VERSION,
    b'{"v":3,"shape":"unknown to us"}': Reason.UNSUPPORTED_VERSION,
    b'{"metric":"temperature","value":[4]}': Reason.WRONG_TYPE,
    b'{"v":2}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":39.6},"units":{"Temperature":"degF"}}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":39.6},"units":[]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4,5]},"times":[1763674000000,null]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":4},"every_ms":1000}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4]}}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4,5]},"times":[1763674000000]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4],"humidity":3},"times":[1763674000000]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4],"humidity":[3,4]},"times":[1763674000000]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4]},"time":1763674000000,"every_ms":0}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4]},"time":1763674000000,"every_ms":true}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":4},"units":{"temperature":1}}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":4},"readings":[{"metric":"temperature","value":4}]}': Reason.WRONG_TYPE,
    b'{"v":2,"values":{"temperature":[4,4]},"time":253402300799000,"every_ms":1000000}': Reason.IMPOSSIBLE_TIME,
    b'{"v":2,"values":{"temperature":[' + b"4," * 10_000 + b'4]},"time":1763674000000,"every_ms":1}': Reason.TOO_LARGE,
    b'{"device":"d2","metric":"temperature","value":4}': Reason.DEVICE_MISMATCH,
    b'{"metric":"temperature","value":4,"time":0}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":-1}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":99999999999999999999999}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":1763674000}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":"2025-11-20"}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":"2025-11-20T21:26:40"}': Reason.IMPOSSIBLE_TIME,
    b'{"metric":"temperature","value":4,"time":"2025-02-30T21:26:40Z"}': Reason.IMPOSSIBLE_TIME,
    b'{"values":{"temperature":4},"time":5}': Reason.IMPOSSIBLE_TIME,
    b'{"readings":[' + b",".join([b'{"metric":"temperature","value":4}'] * 10_001) + b"]}": Reason.TOO_LARGE,
}

BAD_READING = {
    b'{"metric":"temprature","value":4}': Reason.UNKNOWN_METRIC,
    b'{"metric":"temperature","value":4,"unit":"parsec"}': Reason.UNKNOWN_UNIT,
    b'{"metric":"temperature","value":4,"unit":"%"}': Reason.UNIT_MISMATCH,
    b'{"metric":"temperature","value":NaN}': Reason.NOT_FINITE,
    b'{"metric":"temperature","value":-Infinity}': Reason.NOT_FINITE,
    b'{"metric":"temperature","value":1e999}': Reason.NOT_FINITE,
    b'{"metric":"temperature","value":' + b"9" * 400 + b"}": Reason.NOT_FINITE,
    b'{"metric":"spo2","value":1.5e307,"unit":"1"}': Reason.NOT_FINITE,
    b'{"metric":"\\ud800","value":4}': Reason.UNKNOWN_METRIC,
}


@pytest.mark.parametrize("payload", GOOD)
def test_a_good_message(payload: bytes):
    assert said(decode([payload])) == [(0, "shipment", "d1", names, time, values) for names, time, values in GOOD[payload]]


@pytest.mark.parametrize("payload", [*BAD, *BAD_READING], ids=lambda payload: ascii(payload[:60]))
def test_a_bad_message_is_refused_with_its_reason(payload: bytes):
    decoded = decode([payload])
    assert not decoded.packets.metrics
    [refusal] = decoded.refusals
    assert refusal.reason == (BAD | BAD_READING)[payload], refusal
    assert (refusal.kind, refusal.device) == ("shipment", "d1")
    json.dumps(refusal.detail + refusal.metric, ensure_ascii=False).encode()  # what we store of it can be written
    assert len(refusal.detail) < 200


def test_one_bad_reading_does_not_cost_the_others_of_its_message():
    batch = {
        "readings": [
            {"metric": "temperature", "value": 4},
            {"metric": "temperature", "value": "4"},
            {"metric": "temprature", "value": 4},
            17,
            {"metric": "humidity", "value": 40, "colour": 1},
            {"metric": "humidity", "value": 40, "time": 5},
            {"metric": "humidity", "value": 40},
        ]
    }
    decoded = decode([json.dumps(batch).encode(), b'{"values":{"temperature":null,"humidity":50,"temprature":1,"light":true}}'])
    assert decoded.packets.metrics == [("temperature", "humidity"), ("humidity",), ("humidity",)]
    assert [(refusal.message, refusal.metric, refusal.reason) for refusal in decoded.refusals] == [
        (0, "temperature", Reason.WRONG_TYPE),
        (0, "temprature", Reason.UNKNOWN_METRIC),
        (0, "reading", Reason.WRONG_TYPE),
        (0, "colour", Reason.UNKNOWN_FIELD),
        (0, "humidity", Reason.IMPOSSIBLE_TIME),
        (1, "temperature", Reason.WRONG_TYPE),
        (1, "temprature", Reason.UNKNOWN_METRIC),
        (1, "light", Reason.WRONG_TYPE),
    ]


FRAGMENTS = [
    *list(GOOD)[:8],
    b"",
    b" ",
    b"{",
    b"}",
    b"{}",
    b'{"metric":"temperature"',
    b'"value":4}',
    b',"value":4}',
    b'{"values":{"temperature":1}',
    b'{"metric":"temperature","value":1}{"metric":"humidity","value":2}',
    b'{"metric":"temperature","value":1} {"metric":"humidity","value":2}',
    b'{"metric":"temperature","value":1}\r{"metric":"humidity","value":2}',
    b'{"metric":"temperature","value":3}',
    b'{"metric":"temperature","unit":"}',
    b'{","value":3}',
    b'{"metric":"temperature",\n"value":9}',
]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_message_shifts_or_changes_another(count: int):
    """Payloads that double or span lines together could make as many values as lines, each at the wrong device."""
    alone = {payload: [item[1:] for item in said(decode([payload]))] for payload in FRAGMENTS}
    for payloads in itertools.product(FRAGMENTS, repeat=count):
        expected = [(index, *item) for index, payload in enumerate(payloads) for item in alone[payload]]
        assert said(decode(payloads)) == expected, payloads


def test_a_message_means_the_same_in_any_row():
    """Rows are cut by load and timing; what a message means must not depend on that."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    pool = [
        *((TOPIC, payload) for payload in [*GOOD, *BAD, *BAD_READING, *FRAGMENTS] if len(payload) < 2000),
        (b"vitalane/v1/patient/p1/status", b"online"),
        (b"vitalane/v1/patient/p1/status", b"{"),
        (b"vitalane/v1/patient/p1/senml", b'[{"n":"temp","v":1}]'),
        (b"vitalane/v1/patient/p1/readings", b'{"values":{"spo2":97}}'),
        (b"other", b"x"),
    ]
    choices = [(topic, payload, flags) for topic, payload in pool for flags in (0, 0, FLAG_DUP, 16, FLAG_RETAIN, FLAG_TOO_LARGE)]
    for _ in range(200):
        row = rng.choices(choices, k=rng.randrange(1, 40))
        whole = decode([payload for _, payload, _ in row], [topic for topic, _, _ in row], bytes(flags for _, _, flags in row))
        expected, retained = [], 0
        for index, (topic, payload, flags) in enumerate(row):
            one = decode([payload], [topic], bytes([flags]))
            expected += [(index, *item[1:]) for item in said(one)]
            retained += one.retained
        assert said(whole) == expected
        assert whole.retained == retained


values = st.one_of(st.floats(allow_nan=True), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
times = st.one_of(st.none(), st.integers(), st.integers(9 * 10**11, 2 * 10**12), st.just("2025-11-20T21:26:40Z"), st.booleans())
names = st.sampled_from([*CATALOGUE, "temprature", ""])
units = st.sampled_from([None, "Cel", "%", "1", "K", "degF", "bool", "{state}", "parsec"])
readings = st.fixed_dictionaries({"metric": names}, optional={"value": values, "unit": units, "time": times})
messages = st.one_of(
    readings,
    st.fixed_dictionaries({}, optional={"values": st.dictionaries(names, values, max_size=4), "time": times, "unit": units}),
    st.fixed_dictionaries({"readings": st.lists(readings, max_size=4)}, optional={"v": st.integers(0, 2), "device": st.just("d1")}),
)


@given(messages)
@settings(max_examples=400)
def test_the_fast_path_and_the_careful_one_agree(message: dict):
    """Two ways to read one form are two formats unless they are held together."""
    payload = json.dumps(message).encode()
    topic = parse(TOPIC)
    assert topic is not None
    builder = PacketBuilder(Plans(CATALOGUE))
    examine(builder, 0, topic, payload)
    assert said(decode([payload])) == said(builder.decoded())


@given(st.lists(st.tuples(st.sampled_from(FORMS), st.binary(max_size=60), st.integers(0, 255)), max_size=5))
def test_no_bytes_raise(row: list[tuple[str, bytes, int]]):
    decoded = decode(
        [payload for _, payload, _ in row],
        [b"vitalane/v1/patient/p1/" + form.encode() for form, _, _ in row],
        bytes(flags for _, _, flags in row),
    )
    assert all(math.isfinite(value) for value in decoded.packets.values)
    assert len({item[0] for item in said(decoded)}) + decoded.retained == len(row)  # every message says something


@given(st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)))
def test_no_json_raises(document: object):
    payload = json.dumps(document).encode()
    for form in (b"readings", b"senml", b"status"):
        assert said(decode([payload], [b"vitalane/v1/patient/p1/" + form]))


def test_what_a_simulator_encodes_is_what_is_decoded():
    payloads = [
        wire.encode_reading("temperature", 4.2, TIME, "Cel"),
        wire.encode_reading("door", True),
        wire.encode_values({"temperature": 4.2, "humidity": 40.1}, TIME),
        wire.encode_batch([wire.Sample("temperature", 4.0, TIME), wire.Sample("temperature", 41.0, TIME + 1, "degF")]),
    ]
    assert said(decode(payloads)) == [
        (0, "shipment", "d1", ("temperature",), TIME, (4.2,)),
        (1, "shipment", "d1", ("door",), NO_TIME, (1.0,)),
        (2, "shipment", "d1", ("temperature", "humidity"), TIME, (4.2, 40.1)),
        (3, "shipment", "d1", ("temperature",), TIME, (4.0,)),
        (3, "shipment", "d1", ("temperature",), TIME + 1, (5.0,)),
    ]


@pytest.mark.parametrize(
    ("payload", "online"),
    [(wire.ONLINE, True), (wire.OFFLINE, False), (b"online", True), (b" offline\n", False), (b'{"status":"offline","device":"d1"}', False)],
)
def test_a_status(payload: bytes, online: bool):
    decoded = decode([payload], [b"vitalane/v1/patient/d1/status"])
    assert said(decoded) == [(0, "patient", "d1", online)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"Online", Reason.MALFORMED),
        (b'{"status":"asleep"}', Reason.WRONG_TYPE),
        (b'{"status":1}', Reason.WRONG_TYPE),
        (b'{"v":2,"status":"online"}', Reason.UNSUPPORTED_VERSION),
        (b'{"status":"online","device":"d2"}', Reason.DEVICE_MISMATCH),
    ],
)
def test_a_status_that_is_none(payload: bytes, reason: Reason):
    assert [refusal.reason for refusal in decode([payload], [b"vitalane/v1/patient/d1/status"]).refusals] == [reason]


def test_what_the_broker_kept_is_counted_and_not_read():
    """A retained message is an old value delivered as if new: it must neither be windowed nor raise an alert."""
    good = next(iter(GOOD))
    decoded = decode([good, good, b"junk"], [TOPIC, TOPIC, b"other"], bytes([FLAG_RETAIN | 16, 16, FLAG_RETAIN]))
    assert decoded.retained == 2
    assert [item[0] for item in said(decoded)] == [1]


def test_a_payload_that_was_cut_is_refused_even_if_its_beginning_reads_well():
    good = next(iter(GOOD))
    [refusal] = decode([good], flags=bytes([FLAG_TOO_LARGE])).refusals
    assert refusal.reason == Reason.TOO_LARGE


def test_a_topic_of_nobody_is_unmapped():
    [refusal] = decode([b"{}"], [b"a/\xff\n"]).refusals
    assert (refusal.reason, refusal.kind, refusal.device) == (Reason.UNMAPPED, "", "")
    assert refusal.detail.isprintable()


def test_an_empty_row_says_nothing():
    assert said(decode([])) == []


def test_another_catalogue_means_other_names():
    """The catalogue is an argument: what was worked out for one must not answer for another."""
    few = {"temperature": CATALOGUE["temperature"]}
    payload = b'{"values":{"humidity":40}}'
    row = decode_messages(encode_messages([TOPIC], [payload], bytes(1)))
    assert len(decode_row(row, RECEIVED_MS, CATALOGUE).packets.values) == 1
    assert decode_row(row, RECEIVED_MS, few).refusals[0].reason == Reason.UNKNOWN_METRIC
    assert len(decode_row(row, RECEIVED_MS, CATALOGUE).packets.values) == 1
