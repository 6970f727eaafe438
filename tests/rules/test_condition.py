"""Conditions: units converted or refused, mistakes shown with what was probably meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.condition import Comparison, Condition, Signal, Silence
from rules.parsing import parse_condition
from rules.window import Window
from telemetry.metrics import CATALOGUE


def read(text: str) -> Condition:
    return parse_condition(text, CATALOGUE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temperature > 8 Cel", Comparison(Signal("temperature"), ">", 8.0, "Cel")),
        ("temperature<=46.4 degF", Comparison(Signal("temperature"), "<=", 8.0, "Cel")),
        ("temperature > -70", Comparison(Signal("temperature"), ">", -70.0, "Cel")),
        ("map < 8 kPa", Comparison(Signal("map"), "<", 60.004926068, "mm[Hg]")),
        ("spo2<90%", Comparison(Signal("spo2"), "<", 90.0, "%")),
        ("spo2 < 0.9 /", Comparison(Signal("spo2"), "<", 90.0, "%")),
        ("mean(spo2, 10 s, 10 s) < 90 %", Comparison(Signal("spo2", "mean", window=Window(10_000, 10_000, 0)), "<", 90.0, "%")),
        ("count(spo2, 1 min, 1 min) < 30", Comparison(Signal("spo2", "count", window=Window(60_000, 60_000, 0)), "<", 30.0, "1")),
        (
            "stddev(temperature, 1 min, 1 min) > 1.8 degF",
            Comparison(Signal("temperature", "stddev", window=Window(60_000, 60_000, 0)), ">", 1.0, "Cel"),
        ),
        ("mean(spo2, 30 s) < 90 %", Comparison(Signal("spo2", "mean", 30_000), "<", 90.0, "%")),
        ("p95(spo2, 60 s, 10 s) < 90 %", Comparison(Signal("spo2", "p95", window=Window(60_000, 10_000, 0)), "<", 90.0, "%")),
        ("count(shock, session 5 min) > 3", Comparison(Signal("shock", "count", window=Window(0, 0, 300_000)), ">", 3.0, "1")),
        ("absent(spo2, 60 s)", Silence("spo2", 60_000)),
        ("absent(device, 5 min)", Silence("", 300_000)),
    ],
)
def test_a_condition_reads_as_written(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("temprature > 8", "unknown metric `temprature`, did you mean `temperature`?"),
        ("temperature > 8 mmHg", "does not measure what temperature is"),
        ("temperature > 8 parsec", "unknown unit `parsec`"),
        ("temperature >", "is not understood at column"),
        ("temperature > 1e999", "too large a number"),
        ("meen(temperature, 1 s, 1 s) > 1", "unknown aggregate `meen`, did you mean `mean`?"),
        ("mean(temperature, 5 s, 7 s) > 1", "cannot begin every 7 s"),
        ("absent(spo2, 10 ms)", "shorter than one second"),
        ("", "is not understood at column 1"),
        ("temperature > 8 Cel and", "is not understood at column 24, at its end"),
        ("temperature > 8 Cel or sp02 < 90 %", r"unknown metric `sp02`, did you mean `spo2`? (column 24)"),
        ("absent(spo2, 60 s) and temperature > 8 Cel", "is not understood at column 20"),
        ("mean(spo2, 10 s, 10 s) < 90 % or spo2 < 80 %", "which do not combine"),
        ("news3 >= 7", "did you mean `news2`?"),
        ("rate(temperature, 10 min) > 1 Cel", "write the unit as `Cel/min`"),
        ("mkt(humidity, 1 h) > 1", "is a mean of temperatures"),
        ("mkt(temperature, 1 h, 1 h) > 1", "is of a trailing span"),
        (" and ".join(["temperature > 8"] * 31), "is too much for one rule"),
    ],
)
def test_a_mistake_is_explained(text, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        read(text)


@given(st.sampled_from([">", "<", ">=", "<=", "==", "!="]), st.floats(-50, 50), st.floats(-50, 50))
def test_inside_the_band_a_comparison_never_holds(operator, threshold, value):
    """The quiet path skips the rules for what lies inside the band: it must never skip a breach."""
    comparison = Comparison(Signal("temperature"), operator, threshold, "Cel")
    low, high = comparison.band()

    assert not (low < value < high and comparison.holds(value))
    assert comparison.inverse().holds(value) is not comparison.holds(value)


@given(st.text(max_size=60))
def test_no_text_escapes_as_another_error(text):
    try:
        read(text)
    except ValueError:
        return
    assert text.strip()
