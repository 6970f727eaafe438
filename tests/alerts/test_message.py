"""The words of notifications: only what the rule's author may say, bounded, and always with what it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.message import MAX_MESSAGE, NOTICE, compose_with, render
from alerts.privacy import Pseudonyms
from telemetry.alert import Phase, from_json, to_json
from telemetry.template import problems
from tests.sinks.parts import event


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{subject}: {value:.1f} °C since {started_at}", "shipment-1: 9.2 °C since 2025-11-20 21:25:40 UTC"),
        ("{rule}/{severity}/{phase}/{kind}", "vaccine-too-warm/critical/raised/shipment"),
        ("{signal} {value} {unit}, limit {threshold:.0f}", "temperature 9.25 Cel, limit 8"),
        ("{device} carries {tags[product]}", "logger-1 carries vaccine"),
        ("{tags[absent]} and {ended_at}", "- and -"),
        ("{{braces}}", "{braces}"),
        ("{value:>8.2f}|{value:+.0e}", "    9.25|+9e+00"),
        ("", "shipment-1: temperature is 9.25 Cel"),
    ],
)
def test_a_template_is_filled_in(template: str, expected: str) -> None:
    assert problems(template) == []
    assert render(event(message=template)) == expected


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{subject.__class__}", "the message names"),
        ("{tags}", "the message names"),
        ("{tags[a].b}", "the message names"),
        ("{0}", "the message names"),
        ("{}", "the message names"),
        ("{subjekt}", "the message names"),
        ("{value!r}", "conversions"),
        ("{value:999999999}", "format"),
        ("{value:{threshold}}", "format"),
        ("{value:.99f}", "format"),
        ("{subject:.1f}", "only value, threshold, peak"),
        ("{value", "expected '}'"),
        ("}", "plain braces"),
        ("x" * 1001, "at most 1000"),
    ],
)
def test_a_template_can_say_nothing_else(template: str, word: str) -> None:
    """A rule's author is not the program's author: no attributes, no widths that fill the memory."""
    assert len(problems(template)) == 1
    assert word in problems(template)[0]
    assert render(event(message=template)) == template[:MAX_MESSAGE][:999] + ("…" if len(template) > MAX_MESSAGE else "")


@given(st.text(max_size=200))
def test_any_template_renders_without_raising(template: str) -> None:
    """The alert goes out, whatever its words came to be."""
    text = render(event(message=template))
    assert len(text) <= MAX_MESSAGE
    assert "\n" not in text


def test_what_silence_decided_has_no_value() -> None:
    silent = event(value=None, threshold=None, peak=None, evidence=(), message="{device} {value:.1f} {threshold}")
    assert render(silent) == "- - -"
    assert "Value:" not in compose_with(None)(silent).text


def test_a_message_cannot_grow_or_break_lines() -> None:
    long = event(
        subject="s" * 500, tags={"a": "x\ny\r\x1b[31m"}, message="{subject}{subject}{subject}{subject}{subject}{subject} {tags[a]}"
    )
    text = render(long)
    assert len(text) <= MAX_MESSAGE
    assert render(long._replace(message="{tags[a]}")) == "x y [31m"


def test_every_body_ends_with_what_it_is_not() -> None:
    notice = compose_with(None)(event())
    assert notice.text.endswith(NOTICE)
    assert notice.event.message.endswith(NOTICE)
    assert notice.title == "[CRITICAL] vaccine-too-warm raised: shipment-1: 9.2 °C since 2025-11-20 21:25:40 UTC"


def test_the_body_says_what_a_person_needs() -> None:
    resolved = event(revision=3, phase=Phase.RESOLVED, ended_at_ms=event().time_ms, historic=True)
    text = compose_with(None)(resolved).text
    for line in (
        "Alert:    vaccine-too-warm, critical, environmental: resolved",
        "Subject:  shipment-1 (shipment)",
        "Signal:   temperature > 8",
        "Value:    9.25 Cel",
        "Peak:     9.5 Cel",
        "Started:  2025-11-20 21:25:40 UTC",
        "Ended:    2025-11-20 21:26:40 UTC",
        "Detected: 2025-11-20 21:26:40 UTC (long after it happened)",
        "product: vaccine",
        "Id:       0000000000000001, revision 3",
    ):
        assert line in text.splitlines()


def test_a_patient_is_not_named_where_the_channel_may_not() -> None:
    patient = event(kind="patient", subject="bed-7 Jane Doe", tags={"ward": "ICU-3"}, message="{subject} on {tags[ward]}, {device}")
    notice = compose_with(Pseudonyms(b"k" * 32))(patient)
    said = notice.title + notice.text + to_json(notice.event).decode()
    for secret in ("bed-7", "Jane", "ICU-3", "logger-1"):
        assert secret not in said
    assert "patient-" in notice.title
    assert notice.event.event_id == patient.event_id, "the same event, so that somebody allowed to can look it up"
    assert "Jane Doe" in compose_with(None)(patient).text


def test_a_notice_is_still_a_readable_event() -> None:
    notice = compose_with(Pseudonyms(b"k" * 32))(event(kind="patient"))
    assert from_json(to_json(notice.event)) == notice.event
