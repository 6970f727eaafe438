"""Judgements to alert events: everything that somebody needs to account for the alert, in one value."""

from rules.condition import Comparison
from rules.lifecycle import Change, Observation
from rules.rule import Rule
from rules.signals import Judgement
from rules.silence import Fallen
from rules.watch import OpenAlert
from telemetry.alert import AlertEvent, Evidence, Phase, alert_id

RAISED_REVISION, ENDED_REVISION = 1, 2


def value_event(judgement: Judgement, version: str, partition: int, now_ms: int, historic_after_ms: int) -> AlertEvent:
    """Return the event of a rule on values."""
    rule, watched, episode, change, seen = judgement
    assert isinstance(rule.when, Comparison)
    raised = change is Change.RAISED
    deciding = (episode.started, seen) if raised or episode.clearing is None else (episode.started, episode.clearing, seen)
    return AlertEvent(
        alert_id=alert_id(rule.id, watched.subject.name, episode.started.time_ms),
        revision=RAISED_REVISION if raised else ENDED_REVISION,
        phase=Phase.RAISED if raised else Phase.RESOLVED,
        rule=rule.id,
        rule_version=version,
        severity=rule.severity,
        alert_class=rule.class_for(watched.subject.kind),
        kind=watched.subject.kind,
        subject=watched.subject.name,
        tags=dict(watched.subject.tags),
        signal=str(watched.signal),
        unit=rule.when.unit,
        comparison=str(rule.when),
        threshold=rule.when.threshold,
        value=seen.value,
        peak=episode.peak,
        started_at_ms=episode.started.time_ms,
        ended_at_ms=None if raised or episode.clearing is None else episode.clearing.time_ms,
        time_ms=seen.time_ms,
        detected_at_ms=now_ms,
        historic=now_ms - seen.time_ms > historic_after_ms,
        message=rule.message,
        evidence=_evidence(deciding),
        positions=tuple(dict.fromkeys((partition, item.offset) for item in deciding)),
        correlation_id=f"{partition}-{seen.offset}",
    )


def silence_event(fallen: Fallen, version: str, partition: int, offset: int, now_ms: int) -> AlertEvent:
    """Return the event of an absence: raised when it has lasted long enough, resolved when something comes."""
    rule, source, since_ms, back = fallen
    name = f"{source.subject.name}/{source.device}" if source.device else source.subject.name
    return AlertEvent(
        alert_id=alert_id(rule.id, name, since_ms),
        revision=ENDED_REVISION if back else RAISED_REVISION,
        phase=Phase.RESOLVED if back else Phase.RAISED,
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
    )


def withdrawn_event(alert: OpenAlert, rule: Rule, version: str, position: tuple[int, int], now_ms: int) -> AlertEvent:
    """Return the event that ends an alert whose rule was withdrawn or changed, or whose subject is no longer watched by it."""
    subject = alert.subject
    name = f"{subject.name}/{alert.device}" if alert.device else subject.name
    comparison = rule.when if isinstance(rule.when, Comparison) else None
    return AlertEvent(
        alert_id=alert_id(rule.id, name, alert.started_at_ms),
        revision=ENDED_REVISION,
        phase=Phase.RETRACTED,
        rule=rule.id,
        rule_version=version,
        severity=rule.severity,
        alert_class=rule.class_for(subject.kind),
        kind=subject.kind,
        subject=subject.name,
        tags=dict(subject.tags),
        signal=str(comparison.signal if comparison else rule.when),
        unit=comparison.unit if comparison else "",
        comparison=str(comparison) if comparison else "",
        threshold=comparison.threshold if comparison else None,
        value=None,
        peak=None,
        started_at_ms=alert.started_at_ms,
        ended_at_ms=None,
        time_ms=now_ms,
        detected_at_ms=now_ms,
        historic=False,
        message=rule.message,
        evidence=(),
        positions=(position,),
        correlation_id=f"{position[0]}-{position[1]}",
    )


def _evidence(observations: tuple[Observation, ...]) -> tuple[Evidence, ...]:
    return tuple(dict.fromkeys(Evidence(item.time_ms, item.value, item.device) for item in observations))
