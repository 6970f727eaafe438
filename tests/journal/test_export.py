"""Lines of JSON."""

import base64
import json
from array import array
from typing import Any

import pytest

from journal.export import export
from journal.messages import FLAG_DUP, FLAG_RETAIN, encode_messages
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from telemetry.blocks import Block, pack
from telemetry.readings import SeriesKey


@pytest.fixture
def path(tmp_path):
    payloads = [b'{"v":1}', b"\xff\0\n", b""]
    flags = bytes([1 << 4, FLAG_RETAIN, 2 << 4 | FLAG_DUP])
    columns: dict[str, array[Any]] = {"series": array("i", [0]), "time_ms": array("q", [5]), "value": array("d", [float("nan")])}
    block = pack(Block([SeriesKey("shipment", "s", "d", "temperature")], columns))
    with JournalWriter(tmp_path / "j.db", "telemetry", 2) as writer:
        writer.append([Entry(0, RowKind.MESSAGES, 3, encode_messages([b"a/b", b"\xfe", b"c"], payloads, flags))], 7)
        writer.append([Entry(0, RowKind.TICK, 1, b""), Entry(1, RowKind.CONTROL, 1, '{"type":"rules","name":"é"}'.encode())], 8)
        writer.append([Entry(1, RowKind.READINGS, 1, block, 3, 2), Entry(1, RowKind.WINDOWS, 1, b"no block")], 9)
    return tmp_path / "j.db"


def exported(path, **options):
    with JournalReader(path) as reader:
        return [json.loads(line) for line in export(reader, **options)]


def test_every_message_and_row_is_a_line(path):
    lines = exported(path)
    assert [(line["partition"], line["offset"], line["kind"], line["time_ms"]) for line in lines] == [
        (0, 0, "messages", 7),
        (0, 1, "messages", 7),
        (0, 2, "messages", 7),
        (0, 3, "tick", 8),
        (1, 0, "control", 8),
        (1, 1, "readings", 9),
        (1, 2, "windows", 9),
    ]


def test_messages_come_out_as_they_went_in(path):
    """An export that lost a byte would be no evidence: what is not text is base64."""
    first, second, third = exported(path)[:3]
    assert (first["topic"], first["payload"], first["qos"], first["retain"], first["dup"]) == ("a/b", '{"v":1}', 1, False, False)
    assert base64.b64decode(second["topic_base64"]) == b"\xfe"
    assert base64.b64decode(second["payload_base64"]) == b"\xff\0\n"
    assert (second["qos"], second["retain"]) == (0, True)
    assert (third["payload"], third["qos"], third["dup"]) == ("", 2, True)


def test_bodies_are_opened_where_they_can_be(path):
    control, readings, windows = exported(path)[4:]
    assert control["body"] == {"type": "rules", "name": "é"}
    assert readings["body"] == {
        "series": [["shipment", "s", "d", "temperature"]],
        "columns": {"series": [0], "time_ms": [5], "value": ["nan"]},
    }
    assert (readings["source_offset"], readings["source_part"]) == (3, 2)
    assert windows["body"] == "no block"
    assert "source_offset" not in control


def test_without_payloads_lines_say_what_there_is(path):
    """For a person who may see that something came, but not what it says of whom."""
    lines = exported(path, payload=False)
    assert [line.get("bytes") for line in lines[:4]] == [7, 3, 0, 0]
    assert not any({"payload", "payload_base64", "body", "body_base64"} & line.keys() for line in lines)


def test_export_begins_where_it_is_told_or_where_retention_left(path):
    assert [(line["partition"], line["offset"]) for line in exported(path, first=1)] == [(0, 3), (1, 1), (1, 2)]
    with JournalWriter(path, "telemetry", 2) as writer:
        writer.trim(max_age_ms=0, max_bytes=None, now_ms=100, floor={1: 2})
    assert [(line["partition"], line["offset"]) for line in exported(path, first=0)] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2)]


def test_a_long_partition_is_read_in_pieces(tmp_path):
    with JournalWriter(tmp_path / "j.db", "telemetry", 1) as writer:
        writer.append([Entry(0, RowKind.TICK, 1, b"") for _ in range(200)], 1)
    assert [line["offset"] for line in exported(tmp_path / "j.db")] == list(range(200))
