"""Rows as points: which measurements, tags and fields InfluxDB gets."""

import math
import re

import pytest

from journal.rows import RowKind
from sinks.points import MEASUREMENTS, Encoder
from telemetry.readings import SeriesKey
from tests.sinks.parts import START_MS, alert_row, event, readings, row, series, some_books, windows

ROWS = {
    "readings": row(RowKind.READINGS, readings([4.0, 5.0])),
    "windows": row(RowKind.WINDOWS, windows(2)),
    "alerts": alert_row(event(ended_at_ms=START_MS)),
    "books": row(RowKind.BOOKS, some_books()),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_has_the_tags_and_fields_that_dashboards_may_ask_for(name: str) -> None:
    tags, fields = MEASUREMENTS[name]
    encoded = Encoder().encode(ROWS[name])
    assert encoded.refused == []
    for line in encoded.lines:
        found = re.fullmatch(r"(\S+) (.*) (\d{19})", line)
        assert found is not None
        head, said, time_ns = found.groups()
        assert head.split(",")[0] == name
        assert tuple(tag.split("=")[0] for tag in head.split(",")[1:]) == tuple(tags)
        names = {part.split("=")[0] for part in re.sub(r'"[^"]*"', '""', said).split(",")}
        assert {field for field in names if not field.startswith("quarantined_")} == set(fields)
        assert int(time_ns) // 1_000_000 in {START_MS, START_MS + 40, START_MS + 1000, START_MS + 10_000}


def test_two_alerts_of_one_millisecond_do_not_overwrite_each_other() -> None:
    encoder = Encoder()
    (first,) = encoder.encode(alert_row(event(1), offset=7)).lines
    (second,) = encoder.encode(alert_row(event(1), offset=8)).lines
    assert first.split(" ")[-1] == f"{START_MS + 40}000007"
    assert second.split(" ")[-1] == f"{START_MS + 40}000008"


def test_what_an_alert_does_not_have_is_absent() -> None:
    (line,) = Encoder().encode(alert_row(event(value=None, threshold=None, peak=None))).lines
    assert not re.search(r"[ ,](value|threshold|peak|ended_at_ms)=", line)


def test_quarantine_is_no_point() -> None:
    assert Encoder().encode(row(RowKind.QUARANTINE, b"[]")).lines == []


def test_a_series_that_cannot_be_said_is_refused_with_its_rows_and_no_others() -> None:
    bad = SeriesKey("shipment", "back\\", "slash", "temperature")
    encoded = Encoder().encode(row(RowKind.READINGS, readings([1.0, 2.0, 3.0], keys=[series(1), bad])))
    assert [line.split(" ")[1] for line in encoded.lines] == ["value=1.0", "value=3.0"]
    ((what, why),) = encoded.refused
    assert "back" in what
    assert why == "a name cannot end in a backslash"


def test_a_reading_that_is_not_finite_is_refused_alone() -> None:
    encoded = Encoder().encode(row(RowKind.READINGS, readings([1.0, math.nan, 3.0])))
    assert len(encoded.lines) == 2
    assert [why for _, why in encoded.refused] == ["a value that is not finite"]


def test_the_same_row_is_always_the_same_points() -> None:
    """So that writing it twice is writing it once."""
    for some_row in ROWS.values():
        assert Encoder().encode(some_row) == Encoder().encode(some_row)


@pytest.mark.parametrize("kind", [RowKind.READINGS, RowKind.WINDOWS, RowKind.ALERT, RowKind.BOOKS])
def test_a_body_that_is_something_else_is_an_error_of_the_row(kind: RowKind) -> None:
    with pytest.raises((ValueError, KeyError)):
        Encoder().encode(row(kind, b"something else"))
