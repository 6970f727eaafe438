"""An alert event: fat, self-contained and durable. It says what was decided, from which readings, by which rule at which version.

The JSON form is a CloudEvents 1.0 envelope; `AlertEvent` grows at its end only, for old events stay readable.
"""

import json
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

from telemetry.clock import format_ms, parse_ms

EVENT_TYPE = "io.vitalane.alert.v1"
ADDED = ("escalated_at", "worst_severity", "told_severities", "latching")
"""What later versions added to the data: left out where there is nothing of it."""

SEPARATOR = "\x1f"  # cannot occur in an id: decoders refuse control characters


SHADOW = "shadow"
"""What inhibits the alerts of a rule in shadow: they are for the record, not for people."""


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place among the severities, the mildest first."""
        return list(Severity).index(self)


class AlertClass(StrEnum):
    PHYSIOLOGICAL = "physiological"
    ENVIRONMENTAL = "environmental"
    TECHNICAL = "technical"


class Phase(StrEnum):
    RAISED = "raised"
    AMENDED = "amended"
    ESCALATED = "escalated"
    DEESCALATED = "deescalated"
    RESOLVED = "resolved"
    RETRACTED = "retracted"


class Evidence(NamedTuple):
    """One reading that decided."""

    time_ms: int
    value: float
    device: str
    signal: str = ""  # where the alert's own says less: what of several this was


class AlertEvent(NamedTuple):
    """One transition of one alert. Times are milliseconds since the epoch; `time_ms` is the deciding reading's own time."""

    alert_id: str  # the same from raised to resolved
    revision: int  # 1 for raised, then up
    phase: Phase
    rule: str
    rule_version: str
    severity: Severity
    alert_class: AlertClass
    kind: str
    subject: str
    tags: dict[str, str]
    signal: str  # as the rule writes it: `temperature`, `mean(spo2, 30 s)`
    unit: str  # UCUM
    comparison: str  # `> 8`
    threshold: float | None
    value: float | None  # None where silence decided
    peak: float | None  # the most extreme value of the episode so far
    started_at_ms: int  # event time of the first satisfying reading
    ended_at_ms: int | None  # event time of the first reading of the clearing run
    time_ms: int
    detected_at_ms: int  # journal time
    historic: bool  # detected long after the fact
    message: str  # the rule's template
    evidence: tuple[Evidence, ...]
    positions: tuple[tuple[int, int], ...]  # (journal partition, offset) of the messages that decided
    correlation_id: str  # one id over everything that follows from the deciding message
    superseded_by: str | None = None  # of a retracted alert: the alert that it became part of
    inhibited_by: str | None = None  # the open absence of the signal that it depends on, or SHADOW: for the record, not for people
    escalated_at_ms: int | None = None  # event time of the first reading of the run that put it at its severity; None at the rule's own
    worst_severity: Severity | None = None  # the highest that it has had; None: `severity`
    told_severities: tuple[Severity, ...] = ()  # those at which it was or is told, by rising severity; empty: `severity` alone
    latching: bool = False  # somebody must look, also when it is over

    @property
    def severities(self) -> tuple[Severity, ...]:
        """Those at which it was or is told: whoever heard of it is to hear how it goes on."""
        return self.told_severities or (self.severity,)

    @property
    def worst(self) -> Severity:
        """The highest severity that it has had."""
        return self.worst_severity or self.severity

    def is_over(self) -> bool:
        """Return whether the alert stands no longer. An amended one may stand again."""
        return self.phase in {Phase.RESOLVED, Phase.RETRACTED} or self.ended_at_ms is not None

    @property
    def event_id(self) -> str:
        """The idempotency key: the same decision always has the same id."""
        return f"{self.alert_id}-{self.revision}"


def alert_id(rule: str, subject: str, started_at_ms: int, number: int = 0) -> str:
    """Return the stable id of the alert of one rule for one subject that started at one instant: 16 hexadecimal digits.

    `number` tells alerts apart that once had the same start, because late readings moved the start of one of them.
    """
    parts = (rule, subject, str(started_at_ms), *([str(number)] if number else []))
    return blake2b(SEPARATOR.join(parts).encode(), digest_size=8).hexdigest()


def to_json(event: AlertEvent) -> bytes:
    """Return the event as a CloudEvents 1.0 JSON object, keys in a fixed order."""
    data = event._asdict()
    for key in ("started_at_ms", "ended_at_ms", "time_ms", "detected_at_ms", "escalated_at_ms"):
        data[key.removesuffix("_ms")] = None if data[key] is None else format_ms(data[key])
        del data[key]
    for key in [key for key in ADDED if not data[key]]:  # what most alerts have nothing of
        del data[key]
    data["evidence"] = [_evidence(item) for item in event.evidence]
    del data["correlation_id"]
    envelope = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"vitalane/rules/{event.rule}",
        "type": EVENT_TYPE,
        "subject": event.subject,
        "time": format_ms(event.detected_at_ms),
        "correlationid": event.correlation_id,
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _evidence(item: Evidence) -> dict[str, Any]:
    plain: dict[str, Any] = {"time": format_ms(item.time_ms), "value": item.value, "device": item.device}
    return plain | {"signal": item.signal} if item.signal else plain


def from_json(body: bytes) -> AlertEvent:
    """Return the event that `to_json` wrote. Raises ValueError or KeyError where it did not."""
    envelope: dict[str, Any] = json.loads(body)
    if envelope["type"] != EVENT_TYPE:
        msg = f"not an alert event of this version: {envelope['type']!r}"
        raise ValueError(msg)
    data = envelope["data"]
    for key in ("started_at", "ended_at", "time", "detected_at", "escalated_at"):
        text = data.pop(key, None) if key in ADDED else data.pop(key)
        data[f"{key}_ms"] = None if text is None else parse_ms(text)
    data["phase"] = Phase(data["phase"])
    data["severity"] = Severity(data["severity"])
    data["worst_severity"] = Severity(data["worst_severity"]) if "worst_severity" in data else None
    data["told_severities"] = tuple(Severity(name) for name in data.get("told_severities", ()))
    data["alert_class"] = AlertClass(data["alert_class"])
    data["evidence"] = tuple(
        Evidence(parse_ms(item["time"]), item["value"], item["device"], item.get("signal", "")) for item in data["evidence"]
    )
    data["positions"] = tuple((partition, offset) for partition, offset in data["positions"])
    data["correlation_id"] = envelope["correlationid"]
    return AlertEvent(**data)
