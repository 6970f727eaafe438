"""What a demo came to: counted, found, missed, balanced, how fast. Read from the files that the services left, and from the truth."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from cli.configuration import Configuration
from cli.lag import Lag
from cli.places import ledger_path
from cli.verify import Check, alert_events, verified
from rules.reserved import RESERVED
from simulators.incidents import Incident, IncidentKind
from simulators.score import percentile
from simulators.truth import Breach
from sinks.ledger import DELIVERED
from telemetry import books
from telemetry.alert import AlertEvent, Phase
from telemetry.books import Books
from telemetry.clock import format_ms

BEFORE_MS, AFTER_MS = 5_000, 15 * 60_000
"""An alert is an incident's when it started so long before it at most, and so long after its end."""


class Finding(NamedTuple):
    """An incident of the truth, and the alert that found it."""

    incident: Incident
    breach: Breach | None  # what its readings showed
    alert: AlertEvent | None
    due: bool  # whether it was over when the demo ended: one that was not is no miss

    @property
    def delay_ms(self) -> int | None:
        """From the first reading past the limit (the first that is missing) to the reading (the moment) that decided."""
        if self.alert is None or self.breach is None:
            return None
        decided_ms = self.alert.detected_at_ms if self.incident.kind is IncidentKind.PROBE_SILENT else self.alert.time_ms
        return decided_ms - self.breach.start_ms


class Summary(NamedTuple):
    broker: str
    seconds: float
    sent: int  # messages published
    acknowledged: int  # of them by the broker
    counted: Books
    injected: dict[str, int]
    findings: list[Finding]
    unexpected: list[AlertEvent]  # raised without an incident
    latencies_ms: list[int]  # from received to delivered, of each alert event
    checks: list[Check]

    @property
    def balanced(self) -> bool:
        return not any(check.problem for check in self.checks)

    @property
    def missed(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.alert is None and finding.due]

    @property
    def good(self) -> bool:
        """Return whether every incident was found and everything is accounted for."""
        return self.balanced and not self.missed


def findings(
    incidents: Sequence[tuple[Incident, Breach | None, bool]], events: Sequence[AlertEvent]
) -> tuple[list[Finding], list[AlertEvent]]:
    """Match incidents, each with its breach and whether it was over, with the alerts raised; return also the alerts that are nobody's."""
    raised = [event for event in events if event.phase is Phase.RAISED and event.inhibited_by is None and event.rule not in RESERVED]
    found = []
    expected: set[str] = set()
    for incident, breach, due in incidents:
        mine = [event for event in raised if _is_of(event, incident, (incident.rule,))]
        expected |= {event.alert_id for event in raised if _is_of(event, incident, (incident.rule, *incident.also))}
        found.append(Finding(incident, breach, mine[0] if mine else None, due))
    return found, [event for event in raised if event.alert_id not in expected]


def _is_of(event: AlertEvent, incident: Incident, rules: tuple[str, ...]) -> bool:
    in_time = incident.start_ms - BEFORE_MS <= event.started_at_ms <= incident.end_ms + AFTER_MS
    return event.subject == incident.subject and event.rule in rules and in_time


def outbox_events(configuration: Configuration) -> list[AlertEvent]:
    """Return every alert event of the outbox."""
    with Lag(configuration.data_dir, configuration.settings.partitions) as lag:
        heads = lag.outbox_heads()
    return alert_events(configuration, {}, heads)[0]


def latencies(configuration: Configuration, channel: str, events: Sequence[AlertEvent]) -> list[int]:
    """Return how long each event took from ingest's commit until the channel had delivered it, milliseconds, sorted."""
    detected = {event.event_id: event.detected_at_ms for event in events}
    path = ledger_path(configuration.data_dir, channel)
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT event_id, settled_ms FROM deliveries WHERE state = ?", (DELIVERED,)).fetchall()
    return sorted(settled_ms - detected[event_id] for event_id, settled_ms in rows if event_id in detected)


def counted_books(configuration: Configuration) -> Books:
    with Lag(configuration.data_dir, configuration.settings.partitions) as lag:
        return books.total(lag.books())


def checked(configuration: Configuration) -> list[Check]:
    """Return the checks of `vitalane verify`."""
    return verified(configuration)


def as_json(summary: Summary) -> dict[str, Any]:
    counted = summary.counted
    return {
        "good": summary.good,
        "broker": summary.broker,
        "seconds": round(summary.seconds, 1),
        "messages": {
            "sent": summary.sent,
            "acknowledged": summary.acknowledged,
            "journalled": counted.messages,
            "retained": counted.retained,
        },
        "readings": {
            "received": counted.received,
            "accepted": counted.accepted,
            "duplicate": counted.duplicate,
            "late": counted.late,
            "conflicts": counted.conflicts,
            "quarantined": counted.quarantined,
        },
        "injected": summary.injected,
        "alerts": counted.alerts,
        "open_alerts": counted.open_alerts,
        "incidents": [_finding_json(finding) for finding in summary.findings],
        "unexpected_alerts": [{"rule": event.rule, "subject": event.subject, "id": event.alert_id} for event in summary.unexpected],
        "received_to_alert_ms": {
            "p50": percentile(summary.latencies_ms, 0.5),
            "p99": percentile(summary.latencies_ms, 0.99),
            "events": len(summary.latencies_ms),
        },
        "balanced": summary.balanced,
        "checks": [check._asdict() for check in summary.checks],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    incident, event, delay_ms = finding.incident, finding.alert, finding.delay_ms
    return {
        "incident": str(incident.kind),
        "subject": incident.subject,
        "rule": incident.rule,
        "outcome": outcome(finding),
        "breach_started_at": finding.breach and format_ms(finding.breach.start_ms),
        "alert": event
        and {"id": event.alert_id, "started_at": format_ms(event.started_at_ms), "detected_at": format_ms(event.detected_at_ms)},
        "delay_s": None if delay_ms is None else delay_ms / 1000,
    }


def outcome(finding: Finding) -> str:
    return "found" if finding.alert is not None else "missed" if finding.due else "not over yet"


def lines(summary: Summary) -> list[str]:
    """Return the summary for people."""
    counted, refused = summary.counted, summary.counted.quarantined
    total, journalled = sum(refused.values()), f"{counted.messages} journalled ({counted.retained} retained)"
    shown = [
        f"{summary.seconds:.0f} s on {summary.broker}",
        f"  messages    {summary.sent} published, {summary.acknowledged} acknowledged, {journalled}",
        f"  readings    {counted.received} received = {counted.accepted} accepted + {counted.duplicate} duplicate + {total} quarantined",
        f"  quarantined {', '.join(f'{reason} {n}' for reason, n in sorted(refused.items())) or 'nothing'}",
        f"  alerts      {', '.join(f'{rule} {n}' for rule, n in counted.alerts.items()) or 'none'}; {counted.open_alerts} open",
    ]
    shown += [f"  incident    {finding.incident.kind} of {finding.incident.subject}: {_found(finding)}" for finding in summary.findings]
    if summary.unexpected:
        named = ", ".join(f"{event.rule} for {event.subject}" for event in summary.unexpected[:5])
        shown.append(f"  unexpected  {len(summary.unexpected)} alerts without an incident: {named}")
    if summary.latencies_ms:
        p50, p99 = percentile(summary.latencies_ms, 0.5), percentile(summary.latencies_ms, 0.99)
        shown.append(f"  speed       received to delivered: p50 {p50} ms, p99 {p99} ms over {len(summary.latencies_ms)} alert events")
    shown += [
        f"  {'BAD' if check.problem else 'ok '} {check.what}: {check.shown}" + (f" ({check.problem})" if check.problem else "")
        for check in summary.checks
    ]
    balanced, found = "yes" if summary.balanced else "NO", "NO" if summary.missed else "yes"
    return [*shown, f"  everything accounted for: {balanced}; every incident found: {found}"]


def _found(finding: Finding) -> str:
    if finding.alert is None:
        return outcome(finding)
    delay_ms = finding.delay_ms
    return f"found by {finding.alert.rule}" + ("" if delay_ms is None else f", {delay_ms / 1000:.0f} s of the sensor's time after it began")
