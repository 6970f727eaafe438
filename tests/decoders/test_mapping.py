"""Mappings: messages of other makes read as a document says, and everything that can be wrong with them."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.mapping_model import MappingsModel
from decoders.topics import Pattern, covers, is_filter
from documents import parse
from journal.messages import FLAG_RETAIN
from telemetry.errors import ConfigError
from telemetry.readings import DeviceStatus
from telemetry.reasons import Reason
from tests.decoders.reading import Told, read, refused, told, written


def one(text: str, topic: str, payload: object, **more):
    """Return what one message says by the mapping of a text, indented as under `mappings:`."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read(written("mappings:\n  - name: test\n" + text), (topic, body), **more)


PLAIN = """
    topic: a/{device}
    readings: {temperature: {path: t, unit: Cel}}
"""


@pytest.mark.parametrize(
    ("time", "value", "expected"),
    [
        ("{path: at}", "2026-01-31T08:00:00+01:00", datetime(2026, 1, 31, 7, tzinfo=UTC)),
        ("{path: at}", "2026-01-31T08:00:00.123456789Z", datetime(2026, 1, 31, 8, 0, 0, 123_000, tzinfo=UTC)),
        ("{path: at, form: s}", 1_769_846_400, datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("{path: at, form: s}", 1_769_846_400.25, datetime(2026, 1, 31, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("{path: at, form: s}", "1769846400", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("{path: at, form: ms}", 1_769_846_400_007, datetime(2026, 1, 31, 8, 0, 0, 7_000, tzinfo=UTC)),
        ("{path: at, form: us}", 1_769_846_400_007_999, datetime(2026, 1, 31, 8, 0, 0, 7_000, tzinfo=UTC)),
        ("{path: at, form: ns}", 1_769_846_400_007_999_999, datetime(2026, 1, 31, 8, 0, 0, 7_000, tzinfo=UTC)),
        ("{path: at, form: local, zone: Europe/Amsterdam}", "2026-07-31 08:00:00", datetime(2026, 7, 31, 6, tzinfo=UTC)),
        ("{path: at, form: local, zone: America/New_York}", "2026-07-31T08:00", datetime(2026, 7, 31, 12, tzinfo=UTC)),
        ("{path: at, form: local, zone: UTC, layout: '%d.%m.%Y %H:%M'}", "31.07.2026 08:00", datetime(2026, 7, 31, 8, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_the_form_that_the_device_writes(time, value, expected):
    decoded = one(f"{PLAIN}    time: {time}\n", "a/d", {"t": 4, "at": value})
    assert told(decoded) == [Told("d", "temperature", 4, round(expected.timestamp() * 1000))]


def test_the_hour_that_comes_twice_is_the_first_and_the_hour_that_is_left_out_is_read_as_before():
    """Two hours a year in which a local time says less than it seems to: what is meant is written down, not left to chance."""
    zone = "{path: at, form: local, zone: Europe/Amsterdam}"
    twice = told(one(f"{PLAIN}    time: {zone}\n", "a/d", {"t": 4, "at": "2026-10-25 02:30:00"}))[0].time_ms
    assert twice == round(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Etc/GMT-2")).timestamp() * 1000)
    never = told(one(f"{PLAIN}    time: {zone}\n", "a/d", {"t": 4, "at": "2026-03-29 02:30:00"}))[0].time_ms
    assert never == round(datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Etc/GMT-1")).timestamp() * 1000)


@pytest.mark.parametrize(
    ("time", "value", "reason"),
    [
        ("{path: at}", "2026-01-31T08:00:00", Reason.IMPOSSIBLE_TIME),
        ("{path: at}", 5, Reason.WRONG_TYPE),
        ("{path: at}", "x" * 100_000, Reason.WRONG_TYPE),
        ("{path: at, form: s}", 5, Reason.IMPOSSIBLE_TIME),
        ("{path: at, form: s}", 1e300, Reason.IMPOSSIBLE_TIME),
        ("{path: at, form: s}", True, Reason.WRONG_TYPE),
        ("{path: at, form: ms}", "soon", Reason.WRONG_TYPE),
        ("{path: at, form: ms}", [1], Reason.WRONG_TYPE),
        ("{path: at, form: local, zone: UTC}", "2026-02-30 08:00:00", Reason.IMPOSSIBLE_TIME),
        ("{path: at, form: local, zone: UTC}", "0001-01-01 00:00:00", Reason.IMPOSSIBLE_TIME),
        ("{path: at, form: local, zone: Asia/Tokyo}", "0001-01-01 00:00:00", Reason.IMPOSSIBLE_TIME),
    ],
)
def test_a_time_that_is_none_refuses_the_message(time, value, reason):
    decoded = one(f"{PLAIN}    time: {time}\n", "a/d", {"t": 4, "at": value})
    assert (told(decoded), refused(decoded.refusals)) == ([], [("", reason)])
    assert decoded.refusals[0].device == "d"


def test_the_first_time_that_is_there_is_taken_and_without_any_the_moment_of_receipt():
    text = f"{PLAIN}    time: [{{path: a, form: s}}, {{path: b, form: ms}}]\n"
    assert told(one(text, "a/d", {"t": 4, "a": 1_769_846_400, "b": 1}))[0].time_ms == 1_769_846_400_000
    assert told(one(text, "a/d", {"t": 4, "b": 1_769_846_400_001}))[0].time_ms == 1_769_846_400_001
    assert told(one(text, "a/d", {"t": 4, "a": None, "b": ""}))[0].time_ms is None


VALUES = """
    topic: a/{device}
    readings:
      temperature: {path: t, unit: degF, not_measured: [0, -1, n/a]}
      battery: {path: mv, scale: 0.1, shift: -300}
      door: {path: state, values: {open: 1, closed: 0, "3": 1}}
      humidity: {path: h, unit: {path: hu, otherwise: "%"}}
"""


@pytest.mark.parametrize(
    ("payload", "readings", "refusals"),
    [
        ({"t": 50}, [("temperature", 10)], []),
        ({"t": 0}, [], [("temperature", Reason.NOT_MEASURED)]),
        ({"t": -1.0, "mv": 3500}, [("battery", 50)], [("temperature", Reason.NOT_MEASURED)]),
        ({"t": "n/a"}, [], [("temperature", Reason.NOT_MEASURED)]),
        ({"t": False}, [], [("temperature", Reason.WRONG_TYPE)]),
        ({"t": "50"}, [], [("temperature", Reason.WRONG_TYPE)]),
        ({"t": [50]}, [], [("temperature", Reason.WRONG_TYPE)]),
        ({"t": None}, [], []),
        ({}, [], []),
        ([], [], []),
        ({"mv": 10**400}, [], [("battery", Reason.NOT_FINITE)]),
        ({"state": "open"}, [("door", 1)], []),
        ({"state": 3}, [("door", 1)], []),
        ({"state": 3.0}, [("door", 1)], []),
        ({"state": True}, [], [("door", Reason.WRONG_TYPE)]),
        ({"state": 2}, [], [("door", Reason.WRONG_TYPE)]),
        ({"state": "ajar"}, [], [("door", Reason.WRONG_TYPE)]),
        ({"h": 40}, [("humidity", 40)], []),
        ({"h": 0.4, "hu": "1"}, [("humidity", 40)], []),
        ({"h": 40, "hu": "Cel"}, [], [("humidity", Reason.UNIT_MISMATCH)]),
        ({"h": 40, "hu": "parsec", "t": 50}, [("temperature", 10)], [("humidity", Reason.UNKNOWN_UNIT)]),
    ],
)
def test_a_value_is_what_the_mapping_says_it_means(payload, readings, refusals):
    decoded = one(VALUES, "a/d", payload)
    assert [(item.metric, pytest.approx(item.value)) for item in told(decoded)] == readings
    assert refused(decoded.refusals) == refusals


def test_a_scale_of_a_tenth_gives_the_number_that_was_meant():
    """886 tenths are 88.6, not 88.60000000000001: a threshold of 88.6 must not be crossed by rounding."""
    decoded = one("    topic: a/{device}\n    readings: {humidity: {path: h, scale: 0.1}}\n", "a/d", {"h": 886})
    assert told(decoded)[0].value == 88.6


EACH = """
    topic: gw/{gateway}
    device: {path: id}
    each: list
    time: {path: $.start, form: s, step: {path: $.every, form: s}}
    names: {Kitchen fridge: fridge-1}
    readings: {temperature: {path: t, unit: Cel}}
"""


def test_each_sample_may_have_a_device_and_evenly_spaced_times():
    payload = {"start": 1_769_846_400, "every": 60, "list": [{"id": "a", "t": 1}, {"id": "Kitchen fridge", "t": 2}, {"id": 7, "t": 3}]}
    assert told(one(EACH, "gw/1", payload)) == [
        Told("a", "temperature", 1, 1_769_846_400_000),
        Told("fridge-1", "temperature", 2, 1_769_846_460_000),
        Told("7", "temperature", 3, 1_769_846_520_000),
    ]


def test_a_sample_that_is_wrong_costs_no_other_sample():
    payload = {
        "start": 1_769_846_400,
        "every": 60,
        "list": [{"id": "a b", "t": 1}, {"t": 2}, 5, {"id": "a", "t": "x"}, {"id": "a", "t": 4}],
    }
    decoded = one(EACH, "gw/1", payload)
    assert told(decoded) == [Told("a", "temperature", 4, 1_769_846_640_000)]
    assert refused(decoded.refusals) == [("sample", Reason.WRONG_TYPE)] * 3 + [("temperature", Reason.WRONG_TYPE)]


@pytest.mark.parametrize("every", [None, "x", -1, 1e12, True])
def test_a_spacing_that_is_none_is_named(every):
    decoded = one(EACH, "gw/1", {"start": 1_769_846_400, "every": every, "list": [{"id": "a", "t": 1}]})
    assert (told(decoded), refused(decoded.refusals)) == ([], [("time", Reason.WRONG_TYPE)])


def test_more_samples_than_a_message_may_have_are_refused_whole():
    decoded = one(EACH, "gw/1", {"start": 1_769_846_400, "every": 1, "list": [{"id": "a", "t": 1}] * 10_001})
    assert (told(decoded), refused(decoded.refusals)) == ([], [("", Reason.TOO_LARGE)])


def test_a_device_that_claims_to_be_another_is_refused():
    text = PLAIN + "    claims: me\n"
    assert len(told(one(text, "a/d", {"t": 1, "me": "d"}))) == 1
    assert len(told(one(text, "a/d", {"t": 1}))) == 1
    decoded = one(text, "a/d", {"t": 1, "me": "somebody"})
    assert (told(decoded), refused(decoded.refusals)) == ([], [("", Reason.DEVICE_MISMATCH)])
    assert (decoded.refusals[0].kind, decoded.refusals[0].device) == ("shipment", "d")


STATUS = """
    topic: a/{device}/lwt
    kind: patient
    payload: text
    status: {online: [Online, up], offline: [Offline]}
"""


@pytest.mark.parametrize(("payload", "online"), [(b"Online", True), (b" up\n", True), (b"Offline", False)])
def test_a_last_will_is_a_status(payload, online):
    assert one(STATUS, "a/d/lwt", payload).statuses == [DeviceStatus(0, "patient", "d", online)]


@pytest.mark.parametrize(("payload", "reason"), [(b"", Reason.WRONG_TYPE), (b"maybe", Reason.WRONG_TYPE), (b"\xff", Reason.MALFORMED)])
def test_a_status_that_is_none_is_refused(payload, reason):
    decoded = one(STATUS, "a/d/lwt", payload)
    assert (decoded.statuses, refused(decoded.refusals)) == ([], [("", reason)])


def test_a_retained_message_is_stored_state_and_not_read():
    decoded = one(PLAIN, "a/d", {"t": 1}, flags=FLAG_RETAIN)
    assert (told(decoded), decoded.retained) == ([], 1)


TWO = """
mappings:
  - {name: first, topic: "a/{device}", where: "v == `1`", readings: {temperature: t}}
  - {name: second, topic: "a/{device}", where: "v == `2`", readings: {humidity: t}}
"""


@pytest.mark.parametrize(("version", "metric"), [(1, "temperature"), (2, "humidity")])
def test_the_first_mapping_whose_condition_holds_reads_the_message(version, metric):
    decoded = read(written(TWO), ("a/d", json.dumps({"v": version, "t": 4}).encode()))
    assert told(decoded) == [Told("d", metric, 4, None)]


def test_what_one_mapping_refuses_no_other_takes():
    """Else a claim that is held against the topic would be worth nothing where a wider mapping follows."""
    by = written("""
mappings:
  - {name: narrow, topic: "a/{device}/data", claims: id, readings: {temperature: t}}
  - {name: wide, topic: "a/#", device: {path: id}, readings: {temperature: t}}
""")
    assert told(read(by, ("a/d1/data", b'{"id":"d1","t":5}'))) == [Told("d1", "temperature", 5, None)]
    decoded = read(by, ("a/d1/data", b'{"id":"d2","t":5}'))
    assert (told(decoded), refused(decoded.refusals)) == ([], [("", Reason.DEVICE_MISMATCH)])


def test_a_part_without_samples_needs_a_device_of_its_own():
    text = """
    topic: gw/samples
    device: {path: id}
    parts: [{each: s, readings: {temperature: v}}, {readings: {battery: bat}}]
"""
    decoded = one(text, "gw/samples", {"bat": 50, "s": [{"id": "a", "v": 1}]})
    assert told(decoded) == [Told("a", "temperature", 1, None)]
    assert refused(decoded.refusals) == [("sample", Reason.WRONG_TYPE)]


def test_a_row_with_too_many_cells_is_none():
    """A decimal comma in a file with commas: 4,2 is not 4."""
    text = "    topic: a/{device}\n    columns: {}\n    each: rows\n    readings: {temperature: temp}\n"
    decoded = one(text, "a/d", b"time,temp\nx,4,2\nx,5\n")
    assert [item.value for item in told(decoded)] == [5]
    assert refused(decoded.refusals) == [("sample", Reason.MALFORMED)]
    assert refused(one(text, "a/d", b"temp,temp\n4,5\n").refusals) == [("", Reason.MALFORMED)]


@pytest.mark.parametrize("space", ["\x1f", "\x1c", "\u2003", "\xa0", "\v"])
def test_white_space_of_any_kind_around_a_number_is_none_of_it(space):
    """Found by atheris: what Python strips from a text, and what it takes around a number, are not the same."""
    text = """
    topic: a/{device}
    columns: {delimiter: ";"}
    each: rows
    time: {path: at, form: s}
    readings: {temperature: t}
"""
    decoded = one(text, "a/d", f"at;t\n{space}1769846400{space};{space}4{space}\n".encode())
    assert [(item.value, item.time_ms) for item in told(decoded)] == [(4, 1_769_846_400_000)]


def test_half_of_a_surrogate_pair_is_no_text():
    """It cannot be written anywhere: what is made of it must not reach an alert."""
    assert refused(one(PLAIN, "a/d", b'{"t": 5, "\\ud801x": 3}').refusals) == [("", Reason.MALFORMED)]
    assert [item.value for item in told(one(PLAIN, "a/d", b'{"t": 5, "\\ud83d\\ude00": 3}'))] == [5]


def test_a_message_that_no_mapping_claims_is_unmapped():
    assert refused(read(written(TWO), ("a/d", b'{"v":3}'), ("b", b"{}")).refusals) == [("", Reason.UNMAPPED)] * 2


def test_bytes_are_numbers_at_their_places():
    text = """
    topic: a/{device}
    bytes:
      encoding: hex
      starts_with: "AA"
      fields:
        t: {at: 1, as: int16le}
        low: {at: 3, as: uint8, bits: [0, 3]}
        high: {at: 3, as: uint8, bits: [4, 7]}
        wide: {at: 4, as: uint24}
        beyond: {at: 7, as: uint8, optional: true}
    readings: {temperature: {path: t, scale: 0.01}, battery: low, humidity: high, light: wide, spo2: beyond}
"""
    decoded = one(text, "a/d", b"AA:9CFF:5A:000102")
    assert [(item.metric, item.value) for item in told(decoded)] == [
        ("temperature", -1.0), ("battery", 10), ("humidity", 5), ("light", 258),
    ]  # fmt: skip
    assert refused(one(text, "a/d", b"BB00").refusals) == [("", Reason.WRONG_TYPE)]
    assert refused(one(text, "a/d", b"AAA").refusals) == [("", Reason.MALFORMED)]
    assert refused(one(text, "a/d", b"AA9CFF5A").refusals) == [("", Reason.MALFORMED)], "a piece must not be read as the whole"
    assert refused(one(text, "a/d", b"").refusals) == [("", Reason.MALFORMED)]


def test_bytes_with_tags_are_read_until_a_tag_that_nobody_knows():
    """How long an unknown entry is, nobody knows: what follows must not be guessed."""
    text = """
    topic: a/{device}
    bytes:
      tag_bytes: 1
      tagged: {"01": {size: 2, fields: {t: {at: 0, as: int16}}}, "02": {size: 1, fields: {h: {at: 0, as: uint8}}}}
    readings: {temperature: t, humidity: h}
"""
    assert [item.value for item in told(one(text, "a/d", bytes.fromhex("0228010005")))] == [5, 40]
    unknown = one(text, "a/d", bytes.fromhex("0228FF010005"))
    assert ([item.value for item in told(unknown)], refused(unknown.refusals)) == ([40], [("tag ff", Reason.UNKNOWN_FIELD)])
    assert refused(one(text, "a/d", bytes.fromhex("01")).refusals) == [("", Reason.MALFORMED)]


def test_rows_with_columns_and_lines_by_patterns():
    columns = """
    topic: a/{device}
    columns: {delimiter: ";"}
    each: rows
    time: time
    readings: {temperature: {path: t, unit: Cel}, humidity: h}
"""
    decoded = one(columns, "a/d", b"time;t;h\r\n2026-01-31T08:00:00Z;4.5;\r\n2026-01-31T08:01:00Z;;40\r\n\r\nx;1;2\r\n")
    assert [(item.metric, item.value) for item in told(decoded)] == [("temperature", 4.5), ("humidity", 40)]
    assert refused(decoded.refusals) == [("time", Reason.IMPOSSIBLE_TIME)]
    lines = """
    topic: a/{gateway}
    device: {path: $.who}
    lines: {find: {who: 'logger (\\S+)'}, rows: '^(?P<t>[0-9.]+) C$'}
    each: rows
    readings: {temperature: t}
"""
    found = told(one(lines, "a/1", b"logger L7\n4.5 C\nnoise\n5 C"))
    assert [(item.device, item.value) for item in found] == [("L7", 4.5), ("L7", 5)]
    assert refused(one(lines, "a/1", b"4.5 C").refusals) == [("sample", Reason.WRONG_TYPE)]
    assert refused(one(columns, "a/d", b"  ").refusals) == [("", Reason.MALFORMED)]
    assert refused(one(columns, "a/d", b"a" * 10_001).refusals) == [("", Reason.TOO_LARGE)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("topic: a/{device}\n    readings: {temperature: 't['}", "is no JMESPath"),
        ("topic: a/+\n    readings: {temperature: t}", "the topic names no part {device}: say where the `device` stands"),
        ("topic: a/{device}/#/b", "is no topic"),
        ("topic: a/{device}/x{device}", "is no topic"),
        ("topic: '{device}/{device}'", "names a part twice"),
        ("topic: a/{device}\n    readings: {Temp: t}", "should match pattern"),
        ("topic: a/{device}\n    readings: {temperature: {path: t, unit: parsec}}", "unknown unit"),
        ("topic: a/{device}\n    time: {path: t, form: local, zone: Mars}", "is no time zone"),
        ("topic: a/{device}\n    payload: json\n    columns: {}", "a message has one form"),
        (
            "topic: a/{device}\n    readings: {temperature: t}\n    status: {online: [a], offline: [b]}",
            "write two mappings",
        ),
        ("topic: a/{device}\n    lines: {rows: '('}", "is no pattern of RE2"),
        ("topic: a/{device}\n    reading: {temperature: t}", "unknown key, did you mean `readings`"),
        ("topic: a/{device}\n    bytes: {tagged: {'01': {size: 1}}}", "has not 2 bytes"),
        ("topic: a/{device}\n    bytes: {fields: {x: {at: 0, as: int16, bits: [9, 3]}}}", "are first and last bit"),
        ("topic: a/{device}\n    bytes: {fields: {x: {at: 0, as: uint8, bits: [4, 20]}}}", "from 0 to 7"),
        ("topic: a/{device}\n    bytes: {tagged: {'0102': {size: 1, fields: {x: {at: 0, as: int16}}}}}", "lies beyond the 1 bytes"),
        ("topic: a/{device}\n    lines: {find: {t: 'temp=[0-9]+'}}", "has no group"),
        ("topic: a/{device}\n    lines: {rows: '([0-9]+)'}", "names no group"),
        ("topic: a/{device}\n    device: 'x-{device'", "has a brace that names no part"),
        ("topic: a/{device}\n    device: 'a}b'", "has a brace that names no part"),
        (
            "topic: a/{device}\n    readings: {temperature: to_numbr(t)}",
            "which there is not: did you mean to_number",
        ),
        ("topic: a/{device}\n    readings: {temperature: '[@,@][]|[@,@][]|[@,@][]|[@,@][]|[@,@][]'}", "makes more than 4 lists"),
        ("topic: a/{device}\n    readings: {temperature: {path: t, scale: 0}}", "is no factor"),
        ("topic: a/{device}\n    columns: {}", "write `each: rows`"),
        ("topic: a/+\n    device: {path: id}\n    claims: id", "leave it out"),
        ("topic: a/{device}\n    time: {path: t, form: local, zone: UTC, layout: '%Q'}", "is no layout of date and time"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_told_with_its_line(text, sentence):
    with pytest.raises(ConfigError, match=sentence.replace("{", r"\{")) as caught:
        parse(f"mappings:\n  - name: test\n    {text}\n", "mine.yaml", MappingsModel)
    assert all(problem.line >= 2 for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mappings: [{name: a, topic: 'a/{device}', readings: {co2: c}}]", "no metric is called `co2`: define it under `metrics`"),
        ("mappings: [{name: a, topic: 'a/{device}', time: {path: t, form: local}}]", "name no zone"),
        ("mappings: [{name: a, topic: 'a/{device}'}, {name: a, topic: 'b/{device}'}]", "another mapping has this name"),
        (
            "metrics: [{name: temperature, unit: V, low: 0, high: 1}]\nmappings: [{name: a, topic: 'a/{device}'}]",
            "is measured in Cel, not in V",
        ),
    ],
)
def test_what_is_missing_for_a_mapping_to_work_is_told(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        written(text)


@given(
    st.lists(st.sampled_from(["a", "b", "+", "#", "{x}"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4),
)
def test_a_pattern_matches_what_the_broker_would_deliver_for_its_filter(levels, topic):
    """Reference: MQTT's own matching, level by level. A subscription that a pattern does not match would be quarantined in vain."""
    text = "/".join(levels)
    if levels.count("{x}") > 1 or not is_filter(text.replace("{x}", "+")):
        return
    pattern = Pattern(text)
    wanted = _delivers(pattern.filter.split("/"), topic)
    assert (pattern.match("/".join(topic)) is not None) == wanted
    assert covers(pattern.filter, "/".join(topic)) == wanted


def _delivers(levels: list[str], topic: list[str]) -> bool:
    if levels[:1] == ["#"]:
        return True
    if not levels or not topic:
        return levels == topic
    return levels[0] in {"+", topic[0]} and _delivers(levels[1:], topic[1:])
