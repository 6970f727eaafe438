"""The vocabulary: what is written today is read in years, and units mean what they say."""

import math
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import alert, blocks, books
from telemetry.alert import AlertClass, AlertEvent, Evidence, Phase, Severity, alert_id
from telemetry.blocks import WINDOW_COLUMNS, Block, pack, unpack
from telemetry.books import Books
from telemetry.clock import format_ms, parse_ms
from telemetry.metrics import ALIASES, CATALOGUE, UNITS, conversion, unit_code
from telemetry.readings import SeriesKey
from telemetry.routing import partition_of
from telemetry.template import problems
from tests.goldens import assert_golden

GOLDEN = Path(__file__).parent.parent / "golden" / "telemetry"

EVENT = AlertEvent(
    alert_id=alert_id("vaccine-too-warm", "crate-1", 1_763_000_000_000),
    revision=2,
    phase=Phase.RESOLVED,
    rule="vaccine-too-warm",
    rule_version="b1f0c8817c78",
    severity=Severity.CRITICAL,
    alert_class=AlertClass.ENVIRONMENTAL,
    kind="shipment",
    subject="crate-1",
    tags={"product": "vaccine"},
    signal="temperature",
    unit="Cel",
    comparison="> 8",
    threshold=8.0,
    value=7.25,
    peak=11.5,
    started_at_ms=1_763_000_000_000,
    ended_at_ms=1_763_003_600_000,
    time_ms=1_763_003_900_000,
    detected_at_ms=1_763_003_900_250,
    historic=False,
    message="{subject}: {value:.1f} °C",
    evidence=(Evidence(1_763_000_000_000, 8.5, "truck-1"), Evidence(1_763_003_600_000, 7.4, "truck-1")),
    positions=((0, 12), (0, 99)),
    correlation_id="0-99",
)

BLOCK = Block(
    [SeriesKey("patient", "bed 1", "monitor-1", "spo2"), SeriesKey("shipment", "crate-é", "truck-1", "temperature")],
    {"series": array("i", [0, 1, 1]), "time_ms": array("q", [1, 2, 3]), "value": array("d", [97.0, -0.0, 1e-300])},
)

WINDOWS = Block(
    [SeriesKey("patient", "bed 1", "monitor-1", "spo2")],
    {
        "series": array("i", [0, 0]),
        **{name: array("q", [number, 2 * number]) for number, name in enumerate(("opens_ms", "closes_ms", "count"), 1)},
        **{name: array("d", [number / 2, number / 4]) for number, name in enumerate(WINDOW_COLUMNS[4:-1])},
        "revision": array("q", [1, 2]),
    },
)

BOOKS = Books(
    0, 30, 1_763_000_000_000, 1_762_999_999_000, 26, 3, 1, 1, 1, 2, 27, 20, 2, 1, {"malformed": 2, "implausible": 3}, 1, {"warm": 1}
)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("alert-v1.1.json", alert.to_json(EVENT)),
        ("readings-block-v1.bin", pack(BLOCK)),
        ("windows-block-v1.1.bin", pack(WINDOWS)),
        ("books-v1.1.json", books.to_json(BOOKS)),
    ],
)
def test_durable_formats_are_what_they_were(name, written):
    assert_golden(GOLDEN / name, written)


def test_what_was_written_before_a_field_was_added_is_still_read():
    """The files are as the first version wrote them, and are never written again."""
    assert alert.from_json((GOLDEN / "alert-v1.json").read_bytes()) == EVENT
    assert books.from_json((GOLDEN / "books-v1.json").read_bytes()) == BOOKS
    old = Block(WINDOWS.series, {name: column for name, column in WINDOWS.columns.items() if name not in WINDOW_COLUMNS[10:]})
    read = unpack(pack(old))
    assert set(read.columns) == set(WINDOW_COLUMNS)
    assert read.columns["revision"].tolist() == [1, 1]
    assert all(math.isnan(value) for name in WINDOW_COLUMNS[10:-1] for value in read.columns[name])


def test_an_event_is_read_back_as_written():
    assert alert.from_json(alert.to_json(EVENT)) == EVENT
    assert alert.from_json(alert.to_json(EVENT._replace(ended_at_ms=None, value=None))).ended_at_ms is None


def test_another_version_of_an_event_is_refused():
    with pytest.raises(ValueError, match="not an alert event of this version"):
        alert.from_json(alert.to_json(EVENT).replace(b"alert.v1", b"alert.v2"))


def test_an_alert_has_one_id_for_life_and_each_event_its_own():
    assert EVENT.alert_id == EVENT._replace(revision=1, phase=Phase.RAISED).alert_id
    assert EVENT.event_id != EVENT._replace(revision=1).event_id
    assert len({alert_id(rule, subject, 1) for rule in ("a", "ab") for subject in ("b", "bb", "")}) == 6


def test_a_block_is_read_back_as_written_and_rubbish_is_refused():
    assert unpack(pack(BLOCK)) == BLOCK
    with pytest.raises(ValueError, match="not a block"):
        unpack(b"VB2\x00rest")


def test_the_books_say_when_they_do_not_balance():
    assert BOOKS.balances()
    assert not BOOKS._replace(accepted=21).balances()
    assert not BOOKS._replace(offset=31).balances()
    assert books.total([BOOKS, BOOKS]).quarantined == {"malformed": 4, "implausible": 6}
    assert books.from_json(books.to_json(BOOKS)) == BOOKS
    assert blocks.MAGIC == b"VB1\x00"


@given(st.integers(0, 253_402_300_799_000))
def test_instants_are_written_exactly(time_ms):
    assert parse_ms(format_ms(time_ms)) == time_ms


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="names no time zone"):
        parse_ms("2026-01-31T08:00:00")


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (98.6, "[degF]", "Cel", 37.0),
        (37.0, "Cel", "[degF]", 98.6),
        (273.15, "K", "Cel", 0.0),
        (16.0, "kPa", "mm[Hg]", 120.00985),
        (0.97, "1", "%", 97.0),
        (36.0, "km/h", "m/s", 10.0),
    ],
)
def test_units_of_one_dimension_convert(value, source, target, expected):
    scale, shift = conversion(source, target) or (0, 0)
    assert value * scale + shift == pytest.approx(expected, abs=1e-5)


def test_units_of_different_dimensions_do_not():
    assert conversion("Cel", "mm[Hg]") is None
    assert unit_code("parsec") is None


def test_the_catalogue_and_the_aliases_use_known_units():
    assert {metric.unit for metric in CATALOGUE.values()} | set(ALIASES.values()) <= set(UNITS)
    assert all(metric.low < metric.high for metric in CATALOGUE.values())


def test_the_partition_of_a_subject_is_durable():
    assert [partition_of(name, 1000) for name in ("crate-1", "bed-1", "é")] == [412, 752, 326]


@pytest.mark.parametrize("text", ["{subject}: {value:.1f}", "{tags[product]} {peak:g}", "no fields", "{{braces}}"])
def test_templates_that_are_data_pass(text):
    assert problems(text) == []


@pytest.mark.parametrize("text", ["{subject.__class__}", "{value!r}", "{value:{unit}}", "{value:>99999}", "{", "{0}", "{tags[a][b]}"])
def test_templates_that_are_more_than_data_are_refused(text):
    assert problems(text)
