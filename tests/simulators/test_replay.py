"""Replay says what the file says: every row once, grouped by time, at the times that were asked for, or a sentence with file and line."""

import io
import json

import pytest

from simulators.replay import ReplaySource, Row, grouped, rows, scan, shift_to_now, write_rows
from telemetry.errors import ConfigError

HEADER = "time,device,metric,value,unit"


@pytest.fixture
def file(tmp_path):
    def write(*lines, header=HEADER):
        path = tmp_path / "readings.csv"
        path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
        return path

    return write


def replayed(path, **options):
    return drain(ReplaySource(rows(path), **options))


def drain(source):
    messages = []
    while source.next_ms is not None:
        messages += source.take()
    assert source.take() == []
    return messages


def payloads(messages):
    return [(message.topic.split("/")[2:4], json.loads(message.payload)) for message in messages]


def test_rows_of_one_device_and_time_are_one_message(file):
    path = file("1000,t1,temperature,4.5,Cel", "1000,t1,humidity,40,%", "1000,t2,temperature,5,", "61000,t1,temperature,4.6,Cel")
    assert payloads(replayed(path)) == [
        (["shipment", "t1"], {"v": 1, "time": 1000, "values": {"temperature": 4.5, "humidity": 40.0}}),
        (["shipment", "t2"], {"v": 1, "time": 1000, "values": {"temperature": 5.0}}),
        (["shipment", "t1"], {"v": 1, "time": 61000, "values": {"temperature": 4.6}}),
    ]


def test_interleaved_devices_of_one_time_are_grouped(file):
    path = file("1000,a,temperature,1,", "1000,b,temperature,2,", "1000,a,humidity,3,", "1000,b,humidity,4,")
    assert [body["values"] for _, body in payloads(replayed(path))] == [
        {"temperature": 1.0, "humidity": 3.0},
        {"temperature": 2.0, "humidity": 4.0},
    ]


def test_a_metric_that_is_said_twice_is_sent_twice(file):
    """Cuff and arterial line: a map would keep only the last, and nobody would know."""
    path = file("1000,p,sbp,120,mm[Hg]", "1000,p,sbp,135,mm[Hg]", "1000,p,dbp,80,mm[Hg]")
    assert [body["values"] for _, body in payloads(replayed(path))] == [{"sbp": 120.0, "dbp": 80.0}, {"sbp": 135.0}]


def test_units_other_than_the_catalogues_go_along(file):
    path = file("1000,t,temperature,41,[degF]", "1000,t,humidity,40,%RH", "2000,t,temperature,5,°C")
    assert [body for _, body in payloads(replayed(path))] == [
        {
            "v": 1,
            "readings": [
                {"metric": "temperature", "value": 41.0, "unit": "[degF]", "time": 1000},
                {"metric": "humidity", "value": 40.0, "unit": "%RH", "time": 1000},
            ],
        },
        {"v": 1, "time": 2000, "values": {"temperature": 5.0}},
    ]


def test_what_is_unknown_is_sent_for_the_other_end_to_judge(file):
    path = file("1000,t,flux_capacity,1.21,GW")
    assert payloads(replayed(path))[0][1]["readings"] == [{"metric": "flux_capacity", "value": 1.21, "unit": "GW", "time": 1000}]


def test_times_are_rfc_3339_or_milliseconds_and_states_are_words_or_numbers(file):
    path = file("2022-11-08T04:49:00Z,t,door,true,", "2022-11-08T05:49:00.250+01:00,t,door,FALSE,", "1667882940500,t,door,1,")
    assert [(body["time"], body["values"]) for _, body in payloads(replayed(path))] == [
        (1667882940000, {"door": 1.0}),
        (1667882940250, {"door": 0.0}),
        (1667882940500, {"door": 1.0}),
    ]


def test_columns_stand_in_any_order_and_a_kind_column_decides(file):
    path = file("5,patient,m,1000,spo2", "6,,t,1000,temperature", header="value,kind,device,time,metric")
    assert [where for where, _ in payloads(replayed(path))] == [["patient", "m"], ["shipment", "t"]]
    assert [row.kind for row in rows(path, kind="patient")] == ["patient", "patient"]


def test_a_jump_back_in_time_is_sent_as_it_stands(file):
    """Real loggers do it (a clock set back by 55 minutes); sorting would hide it."""
    path = file("5000,t,temperature,1,", "1000,t,temperature,2,", "5000,t,temperature,3,")
    assert [message.time_ms for message in replayed(path)] == [5000, 1000, 5000]


def test_times_are_kept_or_shifted(file):
    path = file("1000,t,temperature,1,", "601000,t,temperature,2,")
    assert [body["time"] for _, body in payloads(replayed(path))] == [1000, 601000]
    assert [body["time"] for _, body in payloads(replayed(path, shift_ms=5_000))] == [6000, 606000]


@pytest.mark.parametrize(("speed", "first_at"), [(0.5, 0), (1, 0), (10, -540_000), (0, -600_000)])
def test_shifted_to_now_the_last_reading_is_sent_when_it_is_measured(file, speed, first_at):
    """At any speed: sooner would be from the future, later would be old news."""
    now = 1_763_700_000_000
    span = scan(file("1000,t,temperature,1,", "601000,t,temperature,2,"))
    shift = shift_to_now(span, speed, now)
    assert 1000 + shift - now == first_at
    plays_ms = 600_000 / speed if speed else 0
    assert span.last_ms + shift <= now + plays_ms


def test_scan_tells_what_a_file_holds(file):
    assert scan(file("2000,a,temperature,1,", "1000,b,humidity,2,", "3000,a,temperature,3,")) == (
        3,
        1000,
        3000,
        {"a": "shipment", "b": "shipment"},
        ("temperature", "humidity"),
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("yesterday,t,temperature,4,", "time 'yesterday' is neither RFC 3339 with a zone nor milliseconds since 1970"),
        ("2022-11-08T04:49:00,t,temperature,4,", "time '2022-11-08T04:49:00' is neither"),
        ("-5,t,temperature,4,", "time '-5' is neither"),
        ("99999999999999999999,t,temperature,4,", "time '99999999999999999999' is neither"),
        ("1000,t/#,temperature,4,", "device 't/#' cannot stand in a topic"),
        ("1000,,temperature,4,", "device '' cannot stand in a topic"),
        ("1000,t,,4,", "metric '' is no name"),
        ("1000,t,temperature,warm,", "value 'warm' is not a finite number"),
        ("1000,t,temperature,nan,", "value 'nan' is not a finite number"),
        ("1000,t,temperature,1e999,", "value '1e999' is not a finite number"),
        ("1000,t,temperature", "3 fields where the header has 5"),
        ("1000,t,temperature,4,Cel,more", "6 fields where the header has 5"),
    ],
)
def test_a_row_that_is_none_is_named_with_file_line_and_value(file, line, says):
    path = file("1000,t,temperature,4,", "", line)
    for read in (lambda: list(rows(path)), lambda: scan(path)):
        with pytest.raises(ConfigError) as caught:
            read()
        (problem,) = caught.value.problems
        assert (problem.file, problem.line) == (str(path), 4)
        assert problem.message.startswith(says)


def test_a_kind_that_is_none_is_named(file):
    with pytest.raises(ConfigError, match=r"readings.csv:2:0: kind 'freight' is none of shipment, patient"):
        scan(file("1000,t,temperature,4,freight", header="time,device,metric,value,kind"))


def test_scan_tells_all_problems_at_once_but_no_flood(file):
    with pytest.raises(ConfigError) as caught:
        scan(file(*["x,t,temperature,4,"] * 3))
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]
    with pytest.raises(ConfigError) as caught:
        scan(file(*["x,t,temperature,4,"] * 1000))
    assert len(caught.value.problems) == 20


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("time,device,metric", "the header lacks 'value'"),
        ("1000,t,temperature,4", "the header lacks 'time', 'device', 'metric', 'value'"),
        ("time,device,metric,value,colour", "the header has the unknown 'colour'"),
        ("time,device,metric,value,value", "the header has twice 'value'"),
        ("", "the header lacks"),
    ],
)
def test_a_header_that_is_none_is_explained(file, header, says):
    with pytest.raises(ConfigError) as caught:
        scan(file("1000,t,temperature,4", header=header))
    assert caught.value.problems[0].line == 1
    assert caught.value.problems[0].message.startswith(says)


def test_files_that_are_none_are_a_sentence(file, tmp_path):
    with pytest.raises(ConfigError, match="there are no readings in it"):
        scan(file())
    with pytest.raises(ConfigError, match="No such file"):
        scan(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"time,device,metric,value\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as CSV text"):
        scan(binary)
    endless = tmp_path / "endless.csv"
    endless.write_text(HEADER + '\n1000,t,temperature,"' + "4" * 200_000)
    with pytest.raises(ConfigError, match="cannot be read as CSV text"):
        scan(endless)


def test_reading_is_a_stream(tmp_path):
    """The first message is there although the file's end is not: files are larger than memory."""
    path = tmp_path / "long.csv"
    with path.open("w") as out:
        out.write(HEADER + "\n")
        out.writelines(f"{1000 * n},t,temperature,4,\n" for n in range(50_000))
        out.write("broken\n")
    source = ReplaySource(rows(path))
    for expected in range(1000):
        assert [message.time_ms for message in source.take()] == [1000 * expected]
    with pytest.raises(ConfigError, match=r"long.csv:50002"):
        drain(source)


def test_what_is_written_is_read_back(tmp_path):
    some = [Row(1, "a", "temperature", 0.1 + 0.2, "Cel", "shipment"), Row(1_763_700_000_123, "b", "spo2", 97.0, "", "patient")]
    out = io.StringIO()
    assert write_rows(some, out) == 2
    path = tmp_path / "out.csv"
    path.write_text(out.getvalue())
    assert list(rows(path)) == some


def test_a_header_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfTime,Device,Metric,Value\r\n1000,t,temperature,4\r\n")
    assert scan(path).rows == 1


def test_grouping_keeps_every_row():
    many = [Row(1000, f"d{n % 7}", f"metric{n % 3}", float(n)) for n in range(500)]
    told = [value for message in grouped(many, "shipment") for value in json.loads(message.payload)["values"].values()]
    assert sorted(told) == [float(n) for n in range(500)]
