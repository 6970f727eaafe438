"""The words of a notification: the rule's message filled in (`telemetry/template.py` says what it may name), one line, bounded. What goes
out always ends with what it is not.
"""

import re
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from alerts.privacy import Pseudonyms
from telemetry.alert import AlertEvent, Phase
from telemetry.template import problems

NOTICE = "Secondary notification: not a medical device, not a primary alarm."
DEFAULT_TEMPLATE = "{subject}: {signal} is {value} {unit}"

MAX_MESSAGE = 1000
MAX_VALUE = 200
ABSENT = "-"

CORRECTIONS = {
    Phase.AMENDED: "Readings that came late changed this alert; what is said above holds now.",
    Phase.RETRACTED: "This alert is taken back: late readings, or another rule or registry, show that it is none.",
}

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Notice(NamedTuple):
    """An event in the words of one channel."""

    title: str
    text: str
    event: AlertEvent  # identifiers replaced, its message rendered


def compose_with(pseudonyms: Pseudonyms | None) -> Callable[[AlertEvent], Notice]:
    """Return what a channel composes its notices with; without pseudonyms it shows identifiers."""

    def compose(event: AlertEvent) -> Notice:
        shown = pseudonyms.event(event) if pseudonyms else event
        message = render(shown)
        return Notice(_title(shown, message), _text(shown, message), shown._replace(message=f"{message}\n\n{NOTICE}"))

    return compose


def render(event: AlertEvent) -> str:
    """Return the event's message: its template filled in, one line, bounded. A template with problems is shown as it is written."""
    template = event.message or DEFAULT_TEMPLATE
    if problems(template):
        return _bounded(template, MAX_MESSAGE)
    values = _values(event)
    parts: list[str] = []
    for literal, name, spec, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            parts.append(_filled(values.get(name), spec or ""))
    return _bounded("".join(parts), MAX_MESSAGE)


def _values(event: AlertEvent) -> dict[str, str | float | None]:
    values: dict[str, str | float | None] = {
        "subject": event.subject,
        "device": event.evidence[-1].device if event.evidence else None,
        "rule": event.rule,
        "severity": event.severity.value,
        "signal": event.signal,
        "value": event.value,
        "threshold": event.threshold,
        "comparison": event.comparison,
        "peak": event.peak,
        "unit": event.unit,
        "started_at": instant(event.started_at_ms),
        "ended_at": None if event.ended_at_ms is None else instant(event.ended_at_ms),
        "since": instant(event.started_at_ms if event.escalated_at_ms is None else event.escalated_at_ms),
        "phase": event.phase.value,
        "kind": event.kind,
    }
    return values | {f"tags[{name}]": value for name, value in event.tags.items()}


def _filled(value: str | float | None, spec: str) -> str:
    if value is None or value == "":
        return ABSENT
    return _bounded(value, MAX_VALUE) if isinstance(value, str) else format(float(value), spec or "g")


def _title(event: AlertEvent, message: str) -> str:
    return f"[{event.severity.value.upper()}] {event.rule} {event.phase.value}: {_bounded(message, MAX_VALUE)}"


def _text(event: AlertEvent, message: str) -> str:
    unit = f" {event.unit}" if event.unit else ""
    lines = [
        message,
        "",
        f"Alert:    {event.rule}, {event.severity.value}, {event.alert_class.value}: {event.phase.value}",
        f"Subject:  {_bounded(event.subject, MAX_VALUE)} ({event.kind})",
        f"Signal:   {event.signal} {event.comparison}".rstrip(),
    ]
    if event.value is not None:
        lines.append(f"Value:    {event.value:g}{unit}")
    if event.peak is not None and event.peak != event.value:
        lines.append(f"Peak:     {event.peak:g}{unit}")
    lines.append(f"Started:  {instant(event.started_at_ms)}")
    if event.escalated_at_ms is not None:
        lines.append(f"{event.severity.value.capitalize()}: since {instant(event.escalated_at_ms)}")
    if event.ended_at_ms is not None:
        lines.append(f"Ended:    {instant(event.ended_at_ms)}")
    if event.latching and event.is_over():
        lines.append("Note:     It is over, and it is to be looked at all the same.")
    if event.phase in CORRECTIONS:
        lines.append(f"Note:     {_correction(event)}")
    lines.append(f"Detected: {instant(event.detected_at_ms)}{' (long after it happened)' if event.historic else ''}")
    lines += [f"{_bounded(name, 64)}: {_bounded(value, MAX_VALUE)}" for name, value in sorted(event.tags.items())[:20]]
    return "\n".join([*lines, f"Id:       {event.alert_id}, revision {event.revision}", "", NOTICE])


def _correction(event: AlertEvent) -> str:
    if event.superseded_by is not None:
        return f"Readings that came late show that this is part of alert {event.superseded_by}."
    if event.phase is Phase.AMENDED and event.ended_at_ms is None:
        return "Readings that came late changed this alert, which stands; what is said above holds now."
    return CORRECTIONS[event.phase]


def instant(time_ms: int) -> str:
    """Return an instant for people: `2026-01-31 08:00:00 UTC`."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _bounded(text: str, length: int) -> str:
    """Return the text as one line of at most `length` characters."""
    line = _CONTROLS.sub(" ", text)
    return line if len(line) <= length else f"{line[: length - 1]}…"
