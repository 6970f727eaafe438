"""One line an event."""

from alerts.message import compose_with
from alerts.privacy import Pseudonyms
from sinks.terminal import Terminal
from tests.sinks.parts import event


def test_an_event_is_one_line() -> None:
    lines: list[str] = []
    Terminal("screen", lines.append, compose_with(None)).send(event(message="{subject}\nis {value:.1f}"))
    assert lines == ["2025-11-20T21:26:40.000Z  [CRITICAL] vaccine-too-warm raised: shipment-1 is 9.2"]


def test_a_screen_may_show_patients_or_not() -> None:
    lines: list[str] = []
    Terminal("screen", lines.append, compose_with(Pseudonyms(b"k" * 16))).send(event(kind="patient", subject="Jane"))
    assert "Jane" not in lines[0]
    assert "patient-" in lines[0]
