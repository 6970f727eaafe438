"""`vitalane decode`: what a person who maps a new device sees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decoders.mapping_model import MappingsModel
from decoders.suggest import group_of, suggest, topic_shape
from decoders.topics import Pattern
from documents import parse
from documents.tree import read_tree
from telemetry.metrics import CATALOGUE
from tests.decoders.reading import read, told, written

ROOT = Path(__file__).parents[2]


def decode(*arguments: str, message: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cli.main", "decode", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, input=message, capture_output=True, timeout=60, check=False)


def test_it_shows_what_was_read_what_was_ignored_and_why(tmp_path):
    message = b'{"temperature":27.34,"humidity":"wet","contact":false,"linkquality":120,"update":{"state":"idle"}}\n'
    ended = decode("--topic", "zigbee2mqtt/fridge", "--use", "zigbee2mqtt", message=message, folder=tmp_path)
    text = ended.stdout.decode()
    assert ended.returncode == 1, "something was refused"
    for line in (
        "read by: zigbee2mqtt",
        "temperature          temperature = 27.34: read",
        "humidity             humidity = wet: refused: wrong_type, the value of humidity is no number",
        "battery              battery: is not there",
        "ignored: linkquality, update.state",
        "reading  shipment fridge temperature = 27.34 Cel, when it is received",
        "reading  shipment fridge door = 1 {state}, when it is received",
        "refused  humidity: wrong_type, the value of humidity is no number",
    ):
        assert line in text, text


def test_bytes_may_be_written_in_hexadecimal_and_the_answer_in_json(tmp_path):
    message = b"0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F".hex().encode()
    ended = decode("--topic", "ruuvi/g/CB:B8", "--use", "ruuvi", "--hex", "--json", message=message, folder=tmp_path)
    answer = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert {item["metric"]: item["value"] for item in answer["readings"]}["temperature"] == 24.3
    assert answer["decoder"] == "ruuvi-df5"


def test_our_own_forms_need_no_mapping(tmp_path):
    message = b'{"values":{"spo2":97},"firmware":"2"}'
    ended = decode("--topic", "vitalane/v1/patient/m1/readings", message=message, folder=tmp_path)
    assert "read by: our own forms" in ended.stdout.decode()
    assert "refused  firmware: unknown_field" in ended.stdout.decode()


def test_what_nobody_reads_gets_a_mapping_to_begin_with(tmp_path):
    message = b'{"dev":{"id":"a1"},"ts":1741356882,"data":{"tempC":4.5,"rh":55}}'
    ended = decode("--topic", "acme/site1/sensor-77/data", message=message, folder=tmp_path)
    text = ended.stdout.decode()
    assert (ended.returncode, "read by: nobody" in text) == (1, True)
    (tmp_path / "acme.yaml").write_text(text[text.index("mappings:") :])
    again = decode("--topic", "acme/site1/sensor-77/data", "--use", "acme.yaml", message=message, folder=tmp_path)
    assert "reading  shipment sensor-77 temperature = 4.5 Cel, 2025-03-07T14:14:42.000Z" in again.stdout.decode()


@pytest.mark.parametrize("arguments", [(), ("--topic", "a", "--use", "nothing.yaml"), ("--topic", "a", "--hex")])
def test_what_is_wrong_with_the_question_is_one_sentence(tmp_path, arguments):
    ended = decode(*arguments, message=b"not hexadecimal", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr
    assert b"Traceback" not in ended.stderr


SHAPES = {
    ("tele/a1/SENSOR", "tele/b2/SENSOR"): "tele/{device}/SENSOR",
    ("v3/app@ttn/devices/dev1/up",): "v3/app@ttn/devices/{device}/up",
    ("plant/line/temp",): "plant/line/temp",
    ("gw/00:11:22:33:44:55/data",): "gw/{device}/data",
    ("a/1/b/2", "a/2/b/3"): "a/+/b/{device}",
}


@pytest.mark.parametrize("topics", SHAPES)
def test_the_device_in_a_topic_is_guessed(topics):
    assert topic_shape(topics) == SHAPES[topics]


def test_topics_of_one_shape_are_one_group():
    assert group_of("tele/a1/SENSOR") == group_of("tele/b22/SENSOR") != group_of("tele/a1/STATE")


@pytest.mark.parametrize(
    ("payload", "metrics"),
    [
        (b'{"temperature":4,"humidity":40}', {"temperature", "humidity"}),
        (b'{"sensors":[{"Temp":4.5}],"batt":80,"when":"x"}', {"temperature", "battery"}),
        (b'{"heart rate":70,"HeartRate":70,"SpO2":97}', {"heart_rate", "spo2"}),
        (b'{"a\\"b":{"temp":1}}', {"temperature"}),
        (b'{"nothing":"here"}', set()),
        (b"21.5", set()),
        (b"not JSON", set()),
        (b"\xff", set()),
    ],
)
def test_a_suggestion_is_a_mapping_that_works(payload, metrics):
    text = suggest(["acme/d1/data"], [payload], CATALOGUE)
    parse(text, "suggested.yaml", MappingsModel)
    decoded = read(written(text), ("acme/d1/data", payload))
    assert {item.metric for item in told(decoded)} == metrics


GUESSED = {
    '{"temp_f": 72.5}': {"temperature": ("temp_f", "[degF]")},
    '{"temperatureC": 4, "humidity_pct": 40, "HR bpm": 70}': {
        "temperature": ("temperatureC", "Cel"),
        "humidity": ("humidity_pct", "%"),
        "heart_rate": ('"HR bpm"', "/min"),
    },
    '{"tempf": 72.5, "tempc": 22.5}': {"temperature": ("tempf", "[degF]")},
    '[{"ts": 1741356882, "temp": 4}]': {"temperature": ("[0].temp", "Cel")},
    '{"it\'s": {"temp": 4}}': {"temperature": ('"it\'s".temp', "Cel")},
    '{"door": true, "oxygen": 1}': {"door": ("door", None), "oxygen": ("oxygen", None)},
    '{"battery_mv": 3012}': {},
    '{"battery": 3012}': {},
    '{"battery_v": 3.1}': {},
    '{"humidity_set_point": 40}': {},
    '{"temperature_alarm": 0}': {},
    '{"temperature": true}': {},
    '{"temperature": {"alarm": 0}}': {},
    '{"contact": true}': {},
    '{"oxygen": 97}': {},
    '{"light %": 40}': {},
}


@pytest.mark.parametrize("payload", GUESSED)
def test_only_what_a_whole_name_says_is_guessed_and_other_numbers_are_named(payload):
    text = suggest(["acme/d1/data"], [payload.encode()], CATALOGUE)
    [mapping] = parse(text, "suggested.yaml", MappingsModel).mappings
    assert {name: (reading.path, reading.unit) for name, reading in mapping.readings.items()} == GUESSED[payload], text
    if not GUESSED[payload]:
        assert "# numbers to look at: " in text


def test_a_bare_number_is_a_text_with_a_metric_to_name():
    lines = suggest(["acme/d1/temp"], [b"21.5"], CATALOGUE).splitlines()
    assert lines[-2:] == ["    payload: text", '    # readings: {temperature: "@"}']


TOPICS = {
    "a\n    kind: patient\n/d1": "a\n    kind: patient\n/{device}",
    "@home/# x: y/d1": "@home/+/{device}",
    "{device}/x": "+/x",
    'it\'s "so"\\/\x1b[m\u2028\U000e0001/d1': 'it\'s "so"\\/\x1b[m\u2028\U000e0001/{device}',
    "x" * 100 + "/d1": "x" * 100 + "/{device}",
    "-/null": "-/null",
}


@pytest.mark.parametrize("topic", TOPICS)
def test_nothing_of_a_topic_is_taken_for_yaml(topic):
    text = suggest([topic], [b'{"temp":4}'], CATALOGUE)
    assert all(line.isprintable() for line in text.split("\n"))
    [mapping] = parse(text, "suggested.yaml", MappingsModel).mappings
    assert (mapping.topic, mapping.kind, len(mapping.readings)) == (TOPICS[topic], "shipment", 1)


@pytest.mark.parametrize("topic", ["", "a\0b", "x" * 65_536, "\ud800/d"])
def test_a_topic_that_no_pattern_can_write_is_said_in_a_comment(topic):
    text = suggest([topic], [b'{"temp":4}'], CATALOGUE)
    assert text.startswith("# no mapping can name the topic ")
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert read_tree(text, "suggested.yaml").value is None


NAMES = st.one_of(st.text(), st.sampled_from(["temp", "temp_f", "battery", "time", "ts", "id", "device", "door", "@", "$", "a'b", 'a"b']))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
DOCUMENTS = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12)
LEVELS = st.one_of(st.text(), st.sampled_from(["@a", "{device}", "#", "+", "d1", "'", '"', "a: b", "- x", "a\nb", "null", "\x85\u2028"]))


@given(topic=st.lists(LEVELS, min_size=1, max_size=5).map("/".join), document=DOCUMENTS, as_ascii=st.booleans())
@example(topic="a\nmappings: []/d1", document=[{"\ud800": 1, "temp\n": 2}], as_ascii=True)
@example(topic="a/d1", document={"x" * 600: 1, "temp": 10**400, "time": float("nan")}, as_ascii=True)
def test_whatever_a_message_holds_its_suggestion_loads_and_reads_it(topic, document, as_ascii):
    payload = json.dumps(document, ensure_ascii=as_ascii).encode(errors="replace")
    text = suggest([topic], [payload], CATALOGUE)
    if text.startswith("# no mapping can name the topic "):
        assert not topic or "\0" in topic, topic
        assert read_tree(text, "suggested.yaml").value is None
        return
    [mapping] = parse(text, "suggested.yaml", MappingsModel).mappings
    assert Pattern(mapping.topic).match(topic) is not None, text
    decoded = read(written(text), (topic, payload))
    assert {item.metric for item in told(decoded)} <= mapping.readings.keys()
