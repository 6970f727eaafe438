"""Judgements to alert events: everything that somebody needs to account for the alert, in one value."""

from typing import Any

from rules.condition import HAS, Comparison
from rules.judging import OFFSET_BITS, Decided
from rules.lifecycle import Observation
from rules.metrics import Subject
from rules.offences import Offence
from rules.rule import Rule
from rules.silence import Fallen, Orphan
from rules.track import Told
from rules.watch import Withdrawn
from telemetry.alert import SHADOW, AlertClass, AlertEvent, Evidence, Phase, Severity, alert_id

RAISED_REVISION, ENDED_REVISION = 1, 2


def value_event(
    decided: Decided, version: str, now_ms: int, historic_after_ms: int, inhibited_by: str | None, parts: tuple[Evidence, ...]
) -> AlertEvent:
    """Return the event of a rule on values; `parts` are what a derived signal was made of. Conditions combined have no value."""
    rule, subject, _, _, verdict = decided
    phase, told, seen, superseded_by = verdict
    assert isinstance(rule.when, Comparison)
    deciding = tuple(item for item in (told.started, told.decided, told.ended, told.resolved) if item is not None)
    if told.moved is not None and phase in {Phase.ESCALATED, Phase.DEESCALATED}:
        deciding = (*deciding, told.moved)
    last = deciding[-1]
    counts = rule.when.operator != HAS
    compared = rule.steps[told.level - 1].when if told.level else rule.when
    return AlertEvent(
        alert_id=told.alert_id,
        revision=told.revision,
        phase=phase,
        rule=rule.id,
        rule_version=version,
        severity=rule.severity_at(told.level),
        alert_class=rule.class_for(subject.kind),
        kind=subject.kind,
        subject=subject.name,
        tags=dict(subject.tags),
        signal=str(rule.when.signal),
        unit=rule.when.unit,
        comparison=str(compared),
        threshold=compared.threshold if counts else None,
        value=last.value if counts else None,
        peak=told.peak if counts else None,
        started_at_ms=told.started.time_ms,
        ended_at_ms=None if told.ended is None else told.ended.time_ms,
        time_ms=last.time_ms,
        detected_at_ms=now_ms,
        historic=now_ms - last.time_ms > historic_after_ms,
        message=rule.message,
        evidence=parts or _evidence(deciding),
        positions=tuple(dict.fromkeys(_place(item.position) for item in deciding)),
        correlation_id="{}-{}".format(*_place(seen.position)),
        superseded_by=superseded_by,
        inhibited_by=inhibited_by,
        escalated_at_ms=None if told.level_since is None else told.level_since.time_ms,
        latching=rule.latching,
        **_severities(rule, told),
    )


def silence_id(fallen: Fallen) -> str:
    """Return the id of an absence."""
    source = fallen.source
    identity = source.subject.identity
    name = f"{identity}/{source.device}" if source.device else identity
    return alert_id(fallen.rule.id, name, fallen.since_ms)


def silence_event(fallen: Fallen, version: str, partition: int, offset: int, now_ms: int) -> AlertEvent:
    """Return the event of an absence: raised when it has lasted long enough, resolved when something comes."""
    rule, source, since_ms, back, mistaken, revision = fallen
    ended = Phase.RETRACTED if mistaken else Phase.RESOLVED if revision == ENDED_REVISION else Phase.AMENDED
    return AlertEvent(
        alert_id=silence_id(fallen),
        revision=revision if back else RAISED_REVISION,
        phase=ended if back else Phase.RAISED,
        rule=rule.id,
        rule_version=version,
        severity=rule.severity,
        alert_class=rule.class_for(source.subject.kind),
        kind=source.subject.kind,
        subject=source.subject.name,
        tags=dict(source.subject.tags),
        signal=str(rule.when),
        unit="",
        comparison="",
        threshold=None,
        value=None,
        peak=None,
        started_at_ms=since_ms,
        ended_at_ms=now_ms if back else None,
        time_ms=now_ms,
        detected_at_ms=now_ms,
        historic=False,
        message=rule.message,
        evidence=(),
        positions=((partition, offset),),
        correlation_id=f"{partition}-{offset}",
        inhibited_by=SHADOW if rule.shadow else None,
    )


def withdrawn_event(alert: Withdrawn, version: str, position: tuple[int, int], now_ms: int) -> AlertEvent:
    """Return the event that ends an alert whose rule was withdrawn or changed, or no longer applies to its subject."""
    when, told = alert.rule.when, alert.told
    assert isinstance(when, Comparison)
    return _ended_by_change(alert.rule, alert.subject, version, position, now_ms)._replace(
        alert_id=told.alert_id,
        revision=told.revision + 1,
        signal=str(alert.signal),
        unit=when.unit,
        comparison=str(when),
        threshold=when.threshold if when.operator != HAS else None,
        started_at_ms=told.started.time_ms,
        severity=alert.rule.severity_at(told.level),
        inhibited_by=told.inhibited_by or None,
        **_severities(alert.rule, told),
    )


def orphan_event(orphan: Orphan, rule: Rule, version: str, position: tuple[int, int], now_ms: int) -> AlertEvent:
    """Return the event that ends an absence whose rule was withdrawn or changed, or whose source nobody watches any more."""
    fallen = Fallen(rule, orphan.source, orphan.since_ms, back=True)
    return _ended_by_change(rule, orphan.source.subject, version, position, now_ms)._replace(
        alert_id=silence_id(fallen), revision=ENDED_REVISION, signal=str(rule.when), started_at_ms=orphan.since_ms
    )


def offence_event(offence: Offence, version: str, now_ms: int) -> AlertEvent:
    """Return the event of a device that misbehaves, or does so no longer."""
    key, over = offence.key, offence.ended_ms is not None
    position = _place(offence.position)
    name = f"{key.kind}/{key.subject}/{key.device}"
    return AlertEvent(
        alert_id=alert_id(offence.rule, name, offence.since_ms),
        revision=ENDED_REVISION if over else RAISED_REVISION,
        phase=Phase.RESOLVED if over else Phase.RAISED,
        rule=offence.rule,
        rule_version=version,
        severity=Severity.WARNING,
        alert_class=AlertClass.TECHNICAL,
        kind=key.kind,
        subject=key.subject,
        tags=dict(offence.tags),
        signal=key.metric,
        unit="",
        comparison="",
        threshold=None,
        value=None,
        peak=None,
        started_at_ms=offence.since_ms,
        ended_at_ms=offence.ended_ms,
        time_ms=now_ms,
        detected_at_ms=now_ms,
        historic=False,
        message=offence.message,
        evidence=(),
        positions=(position,),
        correlation_id="{}-{}".format(*position),
    )


def _ended_by_change(rule: Rule, subject: Subject, version: str, position: tuple[int, int], now_ms: int) -> AlertEvent:
    return AlertEvent(
        alert_id="",
        revision=0,
        phase=Phase.RETRACTED,
        rule=rule.id,
        rule_version=version,
        severity=rule.severity,
        alert_class=rule.class_for(subject.kind),
        kind=subject.kind,
        subject=subject.name,
        tags=dict(subject.tags),
        signal="",
        unit="",
        comparison="",
        threshold=None,
        value=None,
        peak=None,
        started_at_ms=0,
        ended_at_ms=None,
        time_ms=now_ms,
        detected_at_ms=now_ms,
        historic=False,
        message=rule.message,
        evidence=(),
        positions=(position,),
        correlation_id="{}-{}".format(*position),
    )


def _severities(rule: Rule, told: Told) -> dict[str, Any]:
    """Return what an event says of the severities that its alert has had: nothing where its rule has no steps."""
    if not rule.steps:
        return {}
    heard = told.heard | told.reached | 1 << told.level
    return {
        "worst_severity": rule.severity_at(told.reached.bit_length() - 1),
        "told_severities": tuple(rule.severity_at(level) for level in range(len(rule.steps) + 1) if heard >> level & 1),
    }


def _place(position: int) -> tuple[int, int]:
    """Return partition and offset of a journal position."""
    return position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)


def _evidence(observations: tuple[Observation, ...]) -> tuple[Evidence, ...]:
    return tuple(dict.fromkeys(Evidence(item.time_ms, item.value, item.device) for item in observations))
