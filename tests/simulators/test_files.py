"""The readers give what real files say. Counted by other means where the files are there, and on small copies of their form where not."""

import csv
import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from simulators.files import clif_rows, clif_stays, qtag_rows, start_together
from simulators.replay import ReplaySource, Row
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError

DATA = Path(os.environ.get("VITALANE_DATA") or Path(__file__).parents[3] / "shared" / "data")


def real(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real data set {name} is not here: set VITALANE_DATA to the folder that has it")
    return path


def test_the_real_logger_has_124_readings_ten_minutes_apart():
    rows = list(qtag_rows(real("qtag-logger/qtag_clm_RCPJ00010_run02.txt")))
    assert len(rows) == 124
    assert (rows[0].time_ms, rows[-1].time_ms) == (parse_ms("2022-11-08T04:49:00Z"), parse_ms("2022-11-09T01:19:00Z"))
    assert {b.time_ms - a.time_ms for a, b in itertools.pairwise(rows)} == {600_000}
    assert {(row.device, row.metric, row.unit, row.kind) for row in rows} == {("RCPJ00010", "temperature", "Cel", "shipment")}
    values = [row.value for row in rows]
    assert (min(values), max(values)) == (0.9, 24.3)  # as the logger's own results say
    assert round(sum(values) / len(values), 3) == 5.461


def test_a_logger_that_keeps_only_daily_results_has_no_readings():
    assert list(qtag_rows(real("qtag-logger/fridgetag2_130400191544.txt"))) == []


def test_the_real_ward_has_73_stays_and_loses_no_row():
    path = real("clif-vitals/vitals.csv")
    rows = clif_rows(path)
    with path.open(newline="") as file:
        categories = Counter(row["vital_category"] for row in csv.DictReader(file))
    renamed = {"body_temperature": "temp_c"}
    told = Counter(renamed.get(row.metric, row.metric) for row in rows)
    assert told == {name: count for name, count in categories.items() if name not in {"weight_kg", "height_cm"}}
    assert len({row.device for row in rows}) == len(clif_stays(path)) == 73
    assert [row.time_ms for row in rows] == sorted(row.time_ms for row in rows)


def test_chosen_stays_of_the_real_ward_replay_with_every_row():
    path = real("clif-vitals/vitals.csv")
    stays = clif_stays(path)[:10]
    rows = clif_rows(path, stays)
    source = ReplaySource(start_together(rows, 0))
    told = Counter()
    while source.next_ms is not None:
        for message in source.take():
            told[message.topic.split("/")[3]] += len(json.loads(message.payload)["values"])
    assert set(told) == set(stays)
    assert told == Counter(row.device for row in rows)


def test_a_logger_export_in_small(tmp_path):
    path = tmp_path / "export.txt"
    path.write_bytes(
        b"Device: Q\r\nConf:\r\n Serial: AB12\r\nData:\r\n\t2022-11-08 04:49\t2.1\t\r\n\t2022-11-08 04:59\t-0.5\tx\r\n Serial: other\r\n"
    )
    assert [(row.time_ms, row.device, row.value) for row in qtag_rows(path)] == [
        (parse_ms("2022-11-08T04:49:00Z"), "AB12", 2.1),
        (parse_ms("2022-11-08T04:59:00Z"), "AB12", -0.5),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\t2022-11-08 04:49\t2.1\t\n", r"export.txt:1:0: a reading stands before the logger's serial number"),
        (" Serial: A\n\t2022-13-08 04:49\t2.1\t\n", r"export.txt:2:0: .*2022-13-08"),
        (" Serial: A\n\t2022-11-08 04:49\twarm\t\n", r"export.txt:2:0: .*warm"),
    ],
)
def test_a_logger_export_that_cannot_be_read_names_its_line(tmp_path, text, says):
    path = tmp_path / "export.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        list(qtag_rows(path))


VITALS = """hospitalization_id,recorded_dttm,vital_name,vital_category,vital_value,meas_site_name
2,2113-08-25T17:32:00Z,Heart Rate,heart_rate,80.0,
1,2113-08-25T17:32:00Z,Temperature Fahrenheit,temp_c,98.6,
1,2113-08-25T16:32:00Z,Weight,weight_kg,70.0,
1,2113-08-25T17:00:00Z,SpO2,spo2,97,
1,2113-08-25T17:32:00Z,Temperature Celsius,temp_c,37.0,
"""


def test_vitals_in_small_keep_their_dirt_and_their_doubles(tmp_path):
    path = tmp_path / "vitals.csv"
    path.write_text(VITALS)
    rows = clif_rows(path)
    assert [(row.device, row.metric, row.value, row.unit, row.kind) for row in rows] == [
        ("1", "spo2", 97.0, "%", "patient"),
        ("1", "body_temperature", 98.6, "Cel", "patient"),
        ("1", "body_temperature", 37.0, "Cel", "patient"),
        ("2", "heart_rate", 80.0, "/min", "patient"),
    ]
    assert clif_stays(path) == ["2", "1"]
    assert {row.device for row in clif_rows(path, ["2"])} == {"2"}


def test_vitals_that_cannot_be_read_name_their_line(tmp_path):
    path = tmp_path / "vitals.csv"
    path.write_text(VITALS + "1,2113-08-25T17:32:00,Heart Rate,heart_rate,80.0,\n")
    with pytest.raises(ConfigError, match=r"vitals.csv:7:0: .*names no time zone"):
        clif_rows(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="no CLIF vitals: the columns hospitalization_id"):
        clif_rows(path)
    for read in (clif_rows, clif_stays, lambda path: list(qtag_rows(path))):
        with pytest.raises(ConfigError, match="No such file"):
            read(tmp_path / "absent")


def test_stays_decades_apart_are_laid_side_by_side():
    rows = [Row(9_000_000, "b", "spo2", 1.0), Row(1_000, "a", "spo2", 2.0), Row(61_000, "a", "spo2", 3.0), Row(9_030_000, "b", "spo2", 4.0)]
    assert [(row.time_ms, row.device) for row in start_together(rows, 500)] == [(500, "a"), (500, "b"), (30_500, "b"), (60_500, "a")]
