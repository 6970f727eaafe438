"""Versions of our JSON: what an old device says means the same for ever, and what a form does not know costs no more than itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.packets import Unreadable
from decoders.versions import KEYS, NEWEST, UPCASTERS, upcast
from decoders.wire import WireMessage, WireSeries, encode_series
from telemetry.reasons import Reason
from tests.decoders.reading import Told, decoder, read, refused, told

TOPIC = "vitalane/v1/shipment/d1/readings"
T = 1_763_674_000_000
OURS = decoder()


def said(document: object) -> list[tuple[str, float, int | None]]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    decoded = read(OURS, (TOPIC, payload))
    assert not decoded.refusals
    return [(item.metric, item.value, item.time_ms) for item in told(decoded)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"metric": "temperature", "value": 4, "time": T}, {"v": 2, "values": {"temperature": 4}, "time": T}),
        (
            {"metric": "temperature", "value": 39.2, "unit": "degF"},
            {"v": 2, "values": {"temperature": 39.2}, "units": {"temperature": "degF"}},
        ),
        ({"metric": "door", "value": True}, {"v": 2, "values": {"door": True}}),
        ({"time": T, "values": {"temperature": 4, "humidity": 40}}, {"v": 2, "time": T, "values": {"temperature": 4, "humidity": 40}}),
        ({"readings": [{"metric": "spo2", "value": 97, "time": T}]}, {"v": 2, "readings": [{"metric": "spo2", "value": 97, "time": T}]}),
    ],
)
def test_version_1_means_what_version_2_says_in_its_words(first, second):
    """A device that nobody updates is read by a program that has moved on."""
    assert said(first) == said({"v": 1, **first}) == said(second)


def test_every_version_below_the_newest_has_an_upcaster_and_its_keys():
    """Whoever adds a version must say what the one before means in it."""
    assert sorted(UPCASTERS) == list(range(1, NEWEST))
    assert sorted(KEYS) == list(range(1, NEWEST + 1))
    assert {1: set(WireMessage.__struct_fields__), 2: set(WireSeries.__struct_fields__)} == {v: set(keys) for v, keys in KEYS.items()}


def test_units_of_version_2_in_a_message_of_version_1_are_not_passed_over():
    """39.6 degrees Fahrenheit are 4 Celsius: to read the value without its unit would wake people."""
    decoded = read(OURS, (TOPIC, b'{"values":{"temperature":39.6},"units":{"temperature":"degF"}}'))
    assert not told(decoded)
    assert refused(decoded.refusals)[-1] == ("", Reason.WRONG_TYPE)


def test_null_is_what_was_not_measured():
    assert said({"v": 2, "values": {"temperature": None, "humidity": 40}}) == [("humidity", 40, None)]


def test_series_are_read_at_their_times():
    even = {"v": 2, "time": T, "every_ms": 1000, "values": {"spo2": [97, None, 95], "heart_rate": [70, 71, 72]}}
    assert said(even) == [
        ("spo2", 97, T), ("heart_rate", 70, T), ("heart_rate", 71, T + 1000), ("spo2", 95, T + 2000), ("heart_rate", 72, T + 2000),
    ]  # fmt: skip
    uneven = encode_series({"spo2": [97, None], "heart_rate": [70, 71]}, [T, T + 5])
    assert said(uneven) == [("spo2", 97, T), ("heart_rate", 70, T), ("heart_rate", 71, T + 5)]


@given(
    values=st.dictionaries(
        st.sampled_from(["spo2", "heart_rate", "temperature"]), st.lists(st.none() | st.floats(0, 60), min_size=4, max_size=4), min_size=1
    )
)
def test_a_series_is_its_readings_one_by_one(values):
    """Reference: the batch of version 1."""
    times = [T + 7 * number for number in range(4)]
    singly = [
        {"metric": name, "value": series[at], "time": times[at]}
        for at in range(4)
        for name, series in values.items()
        if series[at] is not None
    ]
    if singly:
        assert said(encode_series(values, times)) == said({"readings": singly})


@pytest.mark.parametrize(
    ("document", "read_all_the_same", "unknown"),
    [
        ({"metric": "temperature", "value": 4, "firmware": "2.1"}, [("temperature", 4)], ["firmware"]),
        ({"values": {"temperature": 4}, "rssi": -80, "snr": 7}, [("temperature", 4)], ["rssi", "snr"]),
        ({"v": 2, "values": {"temperature": 4}, "metric": "x"}, [("temperature", 4)], ["metric"]),
        (
            {"readings": [{"metric": "spo2", "value": 97, "quality": 1}, {"metric": "spo2", "value": 96, "quality": 1, "time": T}]},
            [("spo2", 97), ("spo2", 96)],
            ["quality"],
        ),
    ],
)
def test_an_unknown_key_costs_nothing_but_itself(document, read_all_the_same, unknown):
    """A firmware that says more than before must not silence the device."""
    decoded = read(OURS, (TOPIC, json.dumps(document).encode()))
    assert [(item.metric, item.value) for item in told(decoded)] == read_all_the_same
    assert refused(decoded.refusals) == [(name, Reason.UNKNOWN_FIELD) for name in unknown]


def test_a_misspelt_value_is_named_and_not_read_as_none():
    decoded = read(OURS, (TOPIC, b'{"metric":"temperature","vlaue":4}'))
    assert not told(decoded)
    assert refused(decoded.refusals) == [("vlaue", Reason.UNKNOWN_FIELD), ("", Reason.WRONG_TYPE)]


def test_keys_of_one_message_are_named_only_so_often():
    decoded = read(OURS, (TOPIC, json.dumps({"values": {"spo2": 97}} | {f"k{n}": n for n in range(1000)}).encode()))
    assert told(decoded) == [Told("d1", "spo2", 97, None)]
    assert len(decoded.refusals) == 20


def test_upcasting_refuses_what_breaks_the_rules_of_its_version():
    with pytest.raises(Unreadable, match="exactly one of metric, values and readings"):
        upcast({"metric": "spo2", "value": 1, "values": {}}, 1)
