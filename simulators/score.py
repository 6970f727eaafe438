"""Alerts held against the truth: what was found, how soon, what was missed, and what was told without a cause. Pure.

An alert is an incident's where it is of the incident's subject, by a rule that may find it, and began with the incident. Else it is a
fault's, where a fault touched its subject then and is of a kind that can cause such an alert; that is its cause, and no merit. Else it has
no cause. Recall counts the incidents that were long enough for their rule, of which enough arrived, and whose alert no fault had raised
already; precision is the share of incidents' alerts among those of incidents and of nobody.
"""

import re
from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

from simulators.faults import FaultKind
from simulators.incidents import IncidentKind
from simulators.route import DEPOT_S
from simulators.truth_file import FaultTold, IncidentTold, Told
from telemetry.alert import AlertEvent, Phase

BEFORE_MS, AFTER_MS = 5 * 60_000, 15 * 60_000
"""An alert is of what it begins with, from so long before until so long after: clocks are wrong, air cools, silence is noticed late.

What was on already when the cause came tells nothing of it: a rule that is always on would find everything."""

PROLONGED_MS = {IncidentKind.DWELL.value: round(DEPOT_S[1] * 1000)}
"""How long at most what an incident prolongs was there before: a vehicle stands where it then waits. What is decided since is its own."""

DAY_MS = 86_400_000
ABSENCE = re.compile(r"absent\(")
PLACE = re.compile(r"\b(inside|distance_from|latitude|longitude)\b")
OWN_CLOCK = ("device-", "unknown-device")
"""Rules of the engine's own: they tell of devices, on the receiver's clock."""


class Causes(NamedTuple):
    """What alerts a kind of fault can cause."""

    silence: bool = False
    values: bool = False  # of the metrics that it falsifies
    rules: tuple[str, ...] = ()


CAUSES = {
    FaultKind.DROPOUT: Causes(silence=True, rules=("device-too-late",)),
    FaultKind.DISCONNECT: Causes(silence=True),
    FaultKind.DUPLICATES: Causes(),
    FaultKind.REORDERING: Causes(rules=("device-too-late",)),
    FaultKind.LATENCY: Causes(silence=True, rules=("device-too-late",)),
    FaultKind.CLOCK_SKEW: Causes(silence=True, rules=("device-clock-ahead", "device-too-late")),
    FaultKind.CLOCK_DRIFT: Causes(silence=True, rules=("device-clock-ahead", "device-too-late")),
    FaultKind.CLOCK_JUMP: Causes(silence=True, rules=("device-clock-ahead", "device-too-late")),
    FaultKind.CLOCK_DAY_AHEAD: Causes(silence=True, rules=("device-clock-ahead",)),
    FaultKind.FROZEN: Causes(values=True),
    FaultKind.SPIKE: Causes(values=True, silence=True),
    FaultKind.UNIT_MIX_UP: Causes(values=True, silence=True),
    FaultKind.BATTERY_DEATH: Causes(values=True, silence=True),
    FaultKind.TELEPORT: Causes(values=True),
    FaultKind.FLOOD: Causes(rules=("device-flood",)),
    FaultKind.MALFORMED: Causes(silence=True, rules=("device-malformed",)),
    FaultKind.SCHEMA_CHANGE: Causes(silence=True, rules=("device-schema", "device-malformed")),
    FaultKind.GATEWAY_MERGE: Causes(silence=True, values=True, rules=("device-mismatch", "unknown-device")),
}
"""Which alerts which fault may cause. What is not here has no cause."""


class Alert(NamedTuple):
    """An alert as it stands in the end. `start_ms`, `end_ms` are event times, of silence and of devices the receiver's."""

    alert_id: str
    rule: str
    subject: str
    signal: str
    start_ms: int
    end_ms: int | None
    decided_ms: int  # the time of the reading that decided
    detected_ms: int  # on the receiver's clock

    @property
    def is_of_the_clock(self) -> bool:
        return ABSENCE.match(self.signal) is not None or self.rule.startswith(OWN_CLOCK)


class Found(NamedTuple):
    """An incident, and the alert that found it first; None where none did."""

    incident: IncidentTold
    alert: Alert | None
    delay_ms: int | None  # in event time, from when the first reading showed it
    faults: tuple[str, ...]  # kinds that touched its subject meanwhile

    @property
    def counts(self) -> bool:
        """Return whether it had to be found."""
        return self.incident.due and not self.incident.hidden_by

    @property
    def missed(self) -> bool:
        return self.counts and self.alert is None


class Score(NamedTuple):
    found: list[Found]
    of_incidents: list[Alert]
    of_faults: list[tuple[Alert, FaultTold]]
    of_nobody: list[Alert]
    retracted: int  # told, and taken back
    faults: list[FaultTold]
    device_days: float

    @property
    def recall(self) -> float:
        """Return the share of the incidents that had to be found; 1 where there were none."""
        counted = [item for item in self.found if item.counts]
        return sum(item.alert is not None for item in counted) / len(counted) if counted else 1.0

    @property
    def precision(self) -> float:
        """Return the share of incidents' alerts among those of incidents and of nobody; 1 where there were none."""
        told = len(self.of_incidents) + len(self.of_nobody)
        return len(self.of_incidents) / told if told else 1.0

    @property
    def false_per_device_day(self) -> float:
        return len(self.of_nobody) / self.device_days if self.device_days else 0.0


class Line(NamedTuple):
    """The incidents of one kind, or those during which one kind of fault acted."""

    name: str
    incidents: int
    hidden: int
    found: int
    missed: int
    p50_ms: int | None
    p95_ms: int | None
    alerts: int  # caused: by incidents of the kind, or by faults of the kind
    messages: int = 0  # that faults of the kind touched

    @property
    def recall(self) -> float:
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0


def score(told: Told, events: Iterable[AlertEvent]) -> Score:
    """Hold alert events against the truth of a run."""
    standing, retracted = alerts_of(events)
    found = [_found(told, incident, standing) for incident in told.incidents]
    of_incidents = [alert for alert in standing if any(_is_of(told, alert, incident) for incident in told.incidents)]
    mine = {alert.alert_id for alert in of_incidents}
    of_faults, of_nobody = [], []
    for alert in standing:
        if alert.alert_id in mine:
            continue
        causes = [fault for fault in told.faults if _can_cause(told, fault, alert)]
        cause = min(causes, key=lambda fault: (abs(_as_told(told, alert, fault.start_ms) - alert.start_ms), fault.kind), default=None)
        if cause is None:
            of_nobody.append(alert)
        else:
            of_faults.append((alert, cause))
    days = told.run.devices * (told.run.end_ms - told.run.start_ms) / DAY_MS
    return Score(found, of_incidents, of_faults, of_nobody, retracted, told.faults, days)


def merged(results: Sequence[Score]) -> Score:
    """Return what several runs come to together."""
    return Score(
        [item for result in results for item in result.found],
        [item for result in results for item in result.of_incidents],
        [item for result in results for item in result.of_faults],
        [item for result in results for item in result.of_nobody],
        sum(result.retracted for result in results),
        [item for result in results for item in result.faults],
        sum(result.device_days for result in results),
    )


def alerts_of(events: Iterable[AlertEvent]) -> tuple[list[Alert], int]:
    """Return the alerts that stand in the end, by their beginnings, and how many were taken back; those for the record do not count."""
    first: dict[str, AlertEvent] = {}
    last: dict[str, AlertEvent] = {}
    for event in events:
        if event.alert_id not in first or event.revision < first[event.alert_id].revision:
            first[event.alert_id] = event
        if event.alert_id not in last or event.revision > last[event.alert_id].revision:
            last[event.alert_id] = event
    told = [event for event in last.values() if event.inhibited_by is None]
    standing = [
        Alert(
            event.alert_id,
            event.rule,
            event.subject,
            event.signal,
            event.started_at_ms,
            event.ended_at_ms,
            first[event.alert_id].time_ms,
            first[event.alert_id].detected_at_ms,
        )
        for event in told
        if event.phase is not Phase.RETRACTED
    ]
    return sorted(standing, key=lambda alert: (alert.start_ms, alert.alert_id)), len(told) - len(standing)


def by_incident(result: Score) -> list[Line]:
    """Return a line for each kind of incident, in order of name."""
    kinds = sorted({item.incident.kind for item in result.found})
    return [_line(kind, [item for item in result.found if item.incident.kind == kind], _caused(result, kind)) for kind in kinds]


def by_fault(result: Score) -> list[Line]:
    """Return a line for each kind of fault, with the incidents of the subjects that it touched meanwhile; `none` are the others."""
    lines = [_line("none", [item for item in result.found if not item.faults], 0)]
    for kind in sorted({fault.kind for fault in result.faults}):
        alerts = sum(fault.kind == kind for _, fault in result.of_faults)
        messages = sum(fault.messages for fault in result.faults if fault.kind == kind)
        lines.append(_line(kind, [item for item in result.found if kind in item.faults], alerts)._replace(messages=messages))
    return lines


def total(result: Score) -> Line:
    """Return the line of all incidents."""
    return _line("all", result.found, len(result.of_incidents))


def _line(name: str, found: Sequence[Found], alerts: int) -> Line:
    delays = sorted(item.delay_ms for item in found if item.delay_ms is not None and item.counts)
    return Line(
        name,
        incidents=len(found),
        hidden=sum(item.incident.due and bool(item.incident.hidden_by) for item in found),
        found=sum(item.counts and item.alert is not None for item in found),
        missed=sum(item.missed for item in found),
        p50_ms=percentile(delays, 0.5),
        p95_ms=percentile(delays, 0.95),
        alerts=alerts,
    )


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """Return the value that a share of the sorted values does not exceed (nearest rank)."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


def _caused(result: Score, kind: str) -> int:
    return sum(item.alert is not None for item in result.found if item.incident.kind == kind)


def _found(told: Told, incident: IncidentTold, standing: Sequence[Alert]) -> Found:
    mine = [alert for alert in standing if alert.rule == incident.rule and _is_of(told, alert, incident)]
    first = min(mine, key=lambda alert: (alert.detected_ms, alert.start_ms), default=None)
    start_ms = incident.start_ms if incident.breach is None else incident.breach[0]
    faults = {
        fault.kind
        for fault in told.faults
        if incident.subject in fault.subjects and fault.start_ms <= incident.end_ms and fault.end_ms >= incident.start_ms
    }
    if first is None and incident.due and not incident.hidden_by:
        incident = incident._replace(hidden_by=_covered_by(told, incident, standing))
    delay_ms = None
    if first is not None:
        if told.run.speed == 1.0:
            delay_ms = first.detected_ms - start_ms
        elif first.is_of_the_clock:
            delay_ms = round((first.detected_ms - told.run.on_the_clock(start_ms)) * told.run.speed)
        else:
            delay_ms = first.decided_ms - start_ms
    return Found(incident, first, delay_ms, tuple(sorted(faults)))


def _covered_by(told: Told, incident: IncidentTold, standing: Sequence[Alert]) -> tuple[str, ...]:
    """Return the kinds of faults that had raised the rule's alert already, so that it had nothing new to tell when the incident came."""
    on = [
        alert
        for alert in standing
        if (alert.subject, alert.rule) == (incident.subject, incident.rule)
        and alert.start_ms < _as_told(told, alert, incident.start_ms)
        and (alert.end_ms is None or alert.end_ms >= _as_told(told, alert, incident.start_ms))
    ]
    return tuple(sorted({str(fault.kind) for fault in told.faults for alert in on if _can_cause(told, fault, alert)}))


def _is_of(told: Told, alert: Alert, incident: IncidentTold) -> bool:
    if alert.subject != incident.subject or alert.rule not in (incident.rule, *incident.also):
        return False
    ends_ms = max(incident.end_ms, incident.end_ms if incident.breach is None or incident.breach[1] is None else incident.breach[1])
    spans = [(incident.start_ms, ends_ms), *([] if incident.stamps is None else [incident.stamps])]  # a clock may have been wrong
    prolonged_ms = PROLONGED_MS.get(incident.kind, 0)
    return any(
        _began_within(told, alert, first_ms, last_ms)
        or (alert.decided_ms >= first_ms and _began_within(told, alert, first_ms - prolonged_ms, last_ms))
        for first_ms, last_ms in spans
    )


def _began_within(told: Told, alert: Alert, first_ms: int, last_ms: int) -> bool:
    """Return whether an alert began between two event times, or nearly so."""
    return _as_told(told, alert, first_ms - BEFORE_MS) <= alert.start_ms <= _as_told(told, alert, last_ms + AFTER_MS)


def _as_told(told: Told, alert: Alert, time_ms: int) -> int:
    """Return an event time on the clock that an alert tells of."""
    return told.run.on_the_clock(time_ms) if alert.is_of_the_clock else time_ms


def _can_cause(told: Told, fault: FaultTold, alert: Alert) -> bool:
    causes = CAUSES[FaultKind(fault.kind)]
    first_ms, last_ms = (fault.start_ms, fault.until_ms) if alert.is_of_the_clock else fault.stamps
    if alert.subject not in fault.subjects or not _began_within(told, alert, first_ms, last_ms):
        return False
    if ABSENCE.match(alert.signal):
        return causes.silence
    if alert.rule.startswith(OWN_CLOCK):
        return alert.rule in causes.rules
    return causes.values and any(_is_on(alert.signal, metric) for metric in fault.metrics)


def _is_on(signal: str, metric: str) -> bool:
    """Return whether a signal is made of a metric."""
    if metric == "*" or re.search(rf"\b{re.escape(metric)}\b", signal):
        return True
    if metric in {"latitude", "longitude"}:
        return PLACE.search(signal) is not None
    return re.search(rf"\b({'|'.join(SCORES.get(metric, ('-',)))})", signal) is not None


SCORES = {
    "heart_rate": ("news2", "mews", "shock_index"),
    "spo2": ("news2",),
    "respiratory_rate": ("news2", "mews", "qsofa"),
    "sbp": ("news2", "mews", "qsofa", "shock_index"),
    "body_temperature": ("news2", "mews"),
}
"""The scores that a metric is part of."""
