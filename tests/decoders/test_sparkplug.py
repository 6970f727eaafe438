"""Sparkplug B as bytes: topics and payloads, whatever anybody sends."""

import json
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tahutils.tahu.sparkplug_b_pb2 import DataType
from tahutils.tahu.sparkplug_b_pb2 import Payload as Message

from decoders.packets import Unreadable
from decoders.sparkplug import NodeTopic, parse_topic, payload_of, read_payload, rebirth_command, says_offline, state, value_of
from decoders.wire import MAX_READINGS
from telemetry.reasons import Reason
from tests.edge_nodes import asks_for_rebirth


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("spBv1.0/plant/NBIRTH/line-1", NodeTopic("plant", "NBIRTH", "line-1", "")),
        ("spBv1.0/plant/NDEATH/line-1", NodeTopic("plant", "NDEATH", "line-1", "")),
        ("spBv1.0/plant/DDATA/line-1/probe.2", NodeTopic("plant", "DDATA", "line-1", "probe.2")),
    ],
)
def test_topics_name_the_node_and_the_device(topic, expected):
    assert parse_topic(topic.encode()) == expected


@pytest.mark.parametrize(
    "topic",
    [
        "spBv1.0/STATE/vitalane",
        "spBv1.0/plant/NCMD/line-1",
        "spBv1.0/plant/DCMD/line-1/probe",
        "spBv1.0/plant/NDATA/line-1/probe",
        "spBv1.0/plant/DDATA/line-1",
        "spBv1.0/plant/NDATA/line:1",
        "spBv1.0/plant:a/NDATA/line",
        "spBv1.0/-plant/NDATA/line",
        "spBv1.0/Plant 1/NDATA/line",
        f"spBv1.0/plant/NDATA/{'x' * 128}",
        "spBv1.0/plant/NDATA/",
        "spAv1.0/plant/NDATA/line",
    ],
)
def test_what_cannot_be_a_device_of_ours_is_none(topic):
    """Above all a `:` in a name: the device d of the node n and the node n:d would be one."""
    assert parse_topic(topic.encode()) is None


def test_names_of_devices_are_parts_with_colons():
    topic = parse_topic(b"spBv1.0/plant/DDATA/line-1/probe")
    assert topic is not None
    assert (topic.node_name, topic.name) == ("plant:line-1", "plant:line-1:probe")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_payload_or_unreadable(body):
    assert reason_of(body) in {None, Reason.MALFORMED, Reason.TOO_LARGE}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_in_a_payload_are_read_or_unreadable(data):
    """Beginning with what is one: pure noise seldom comes further than the first field."""
    message = Message(timestamp=1, seq=2)
    message.metrics.add(name="temperature", alias=3, datatype=10, double_value=4.5)
    message.metrics[0].properties.keys.append("engUnit")
    message.metrics[0].properties.values.add(type=12, string_value="Cel")
    body = bytearray(message.SerializeToString())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=4)):
        body[at] = byte
    assert reason_of(bytes(body)) in {None, Reason.MALFORMED, Reason.TOO_LARGE}


def test_a_name_that_is_no_utf_8_is_malformed():
    """protobuf, in its fast build, gives bytes for it where text is expected."""
    assert reason_of(b"\x12\x04\x0a\x02\xff\xfe") is Reason.MALFORMED


def test_too_many_metrics_and_too_long_names_are_refused():
    message = Message()
    for _ in range(MAX_READINGS + 1):
        message.metrics.add()
    with pytest.raises(Unreadable, match="more than 10000 metrics"):
        read_payload(message.SerializeToString())
    with pytest.raises(Unreadable, match="more than 1024 characters"):
        read_payload(Message(metrics=[Message.Metric(name="x" * 1025)]).SerializeToString())


@pytest.mark.parametrize(
    ("datatype", "field", "sent", "expected"),
    [
        ("Int8", "int_value", 0xFB, -5),
        ("Int8", "int_value", 0xFFFFFFFB, -5),
        ("Int8", "int_value", 127, 127),
        ("Int16", "int_value", 0x8000, -32768),
        ("Int16", "int_value", 0xFFFF8000, -32768),
        ("Int32", "int_value", 0xFFFFFFFF, -1),
        ("Int32", "long_value", 0xFFFFFFFFFFFFFFFF, -1),
        ("Int64", "long_value", 0xFFFFFFFFFFFFFFFF, -1),
        ("Int64", "long_value", 2**63 - 1, 2**63 - 1),
        ("Int64", "int_value", 0xFFFFFFFF, -1),
        ("UInt8", "int_value", 255, 255),
        ("UInt16", "int_value", 65535, 65535),
        ("UInt32", "int_value", 2**32 - 1, 2**32 - 1),
        ("UInt32", "long_value", 2**32 - 1, 2**32 - 1),
        ("UInt64", "long_value", 2**64 - 1, 2**64 - 1),
        ("Boolean", "int_value", 1, True),
        ("Boolean", "boolean_value", False, False),
        ("Double", "double_value", 8.1, 8.1),
        ("Float", "float_value", 8.1, 8.1),
    ],
)
def test_a_value_is_what_its_datatype_says(datatype, field, sent, expected):
    assert value(datatype, field, sent) == expected


@pytest.mark.parametrize(
    ("datatype", "field", "sent"),
    [("Int8", "int_value", 128 + 255), ("UInt8", "int_value", 256), ("UInt32", "long_value", 2**32), ("Int16", "int_value", 0xFFFF0000)],
)
def test_a_value_with_more_bits_than_its_datatype_is_not_guessed_at(datatype, field, sent):
    with pytest.raises(Unreadable, match="more than"):
        value(datatype, field, sent)


@pytest.mark.parametrize("datatype", ["Unknown", "DateTime", "DataSet"])
def test_a_whole_number_of_no_known_datatype_is_not_guessed_at(datatype):
    with pytest.raises(Unreadable, match="no known datatype"):
        value(datatype, "long_value", 5)


@given(st.floats(width=32))
def test_a_float_of_32_bits_is_the_shortest_number_that_it_can_be(sent):
    """A device that measures 8.1 must not breach a limit of 8.1."""
    found = value("Float", "float_value", sent)
    assert struct.pack("<f", found) == struct.pack("<f", sent) or found != found


@given(st.integers(-(10**6), 10**6), st.integers(0, 3))
def test_short_decimals_survive_a_float_of_32_bits(digits, places):
    number = round(digits / 10**places, places)
    assert value("Float", "float_value", number) == pytest.approx(number, abs=0) or abs(digits) > 999_999


def reason_of(body: bytes) -> Reason | None:
    """Return why a payload cannot be read, None where it can."""
    read = payload_of(body)
    return read.reason if isinstance(read, Unreadable) else None


def value(datatype: str, field: str, sent: object) -> object:
    """Return what a value of protobuf's means, sent and received."""
    message = Message(metrics=[Message.Metric(name="m", datatype=DataType.Value(datatype), **{field: sent})])
    [metric] = read_payload(message.SerializeToString()).metrics
    return value_of(metric, "m", metric.datatype)


def test_a_rebirth_is_asked_for_as_the_specification_says():
    assert asks_for_rebirth(rebirth_command(5))


def test_the_state_of_a_host_is_json():
    assert json.loads(state(online=True, time_ms=7)) == {"online": True, "timestamp": 7}
    assert says_offline(state(online=False, time_ms=7))
    assert not says_offline(state(online=True, time_ms=7))
    assert not any(says_offline(body) for body in (b"", b"OFFLINE", b"[]", b"\xff", b"[" * 100_000, b'{"online": 0}'))


def test_a_process_without_sparkplug_does_not_load_protobuf():
    program = "import sys, flows.route, ingest.routing; print('google.protobuf' in sys.modules, 'tahutils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False False\n"
