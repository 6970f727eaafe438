"""A rule, as a validated value: for whom it is, when it fires and when it clears."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from rules.condition import Comparison, Silence
from rules.schedule import Active, Schedule
from telemetry.alert import AlertClass, Severity

DEFAULT_MAX_GAP_MS = {"shipment": 15 * 60_000, "patient": 60_000}
"""A gap longer than this freezes a rule's timers where it names no `max_gap`: three of the usual recording intervals (EN 12830 asks for
5 minutes on transports under a day), and for monitors one minute."""

OTHER_MAX_GAP_MS = 15 * 60_000


def gap_ms(kind: str) -> int:
    """Return the longest time between two readings of a kind of subject that still proves something, where a rule does not say."""
    return DEFAULT_MAX_GAP_MS.get(kind, OTHER_MAX_GAP_MS)


class Terms(NamedTuple):
    """What of a rule the lifecycle needs, for one kind of subject."""

    when: Comparison
    clear_when: Comparison
    for_ms: int  # of a rule on accumulated time: the amount
    clear_for_ms: int
    max_gap_ms: int
    within_ms: int = 0  # accumulated time: the trailing span; 0: the condition must hold without a break
    steps: tuple["Terms", ...] = ()  # of the more severe levels, by severity
    active: Active | None = None  # None: always


class Step(NamedTuple):
    """A more severe level of a rule's alert."""

    when: Comparison
    for_ms: int
    clear_when: Comparison
    clear_for_ms: int
    severity: Severity


class Rule(NamedTuple):
    id: str
    when: Comparison | Silence
    for_ms: int  # how long `when` must be proved without a break; of a rule on accumulated time, the amount
    max_gap_ms: int | None  # None: by kind, DEFAULT_MAX_GAP_MS
    clear_when: Comparison | None  # None only where `when` is a Silence: a reading clears it
    clear_for_ms: int
    severity: Severity
    alert_class: AlertClass | None  # None: by kind
    kind: str  # empty: every kind
    tags: tuple[tuple[str, str], ...]  # all of them must be the subject's
    message: str  # template
    within_ms: int = 0  # accumulated time: the trailing span in which the amount is to be proved; 0: without a break
    shadow: bool = False  # its alerts are for the record, not for people
    steps: tuple[Step, ...] = ()  # by severity, all above the rule's own
    schedule: Schedule | None = None  # when it judges; None: always
    latching: bool = False  # somebody must look, also when it is over
    for_limit: tuple[str, int] | None = None  # of accumulated time: the tag whose number takes the place of `for_ms`, and its unit in ms

    def applies_to(self, kind: str, tags: Mapping[str, str]) -> bool:
        """Return whether the rule is for a subject."""
        return self.kind in {"", kind} and all(tags.get(name) == value for name, value in self.tags)

    def of_subject(self, tags: Mapping[str, str]) -> "Rule":
        """Return the rule with the limits of a subject."""
        if not isinstance(self.when, Comparison) or self.clear_when is None:
            return self
        for_ms = self.for_ms
        if self.for_limit is not None:
            with suppress(KeyError, ValueError, OverflowError):
                own_ms = round(float(tags[self.for_limit[0]]) * self.for_limit[1])
                for_ms = min(max(own_ms, 0), self.within_ms)
        steps = (step._replace(when=step.when.of_subject(tags), clear_when=step.clear_when.of_subject(tags)) for step in self.steps)
        when, clear_when = self.when.of_subject(tags), self.clear_when.of_subject(tags)
        return self._replace(when=when, clear_when=clear_when, for_ms=for_ms, steps=tuple(steps))

    def gap_ms(self, kind: str) -> int:
        """Return the longest time between two readings that still proves something, milliseconds."""
        if self.max_gap_ms is not None:
            return self.max_gap_ms
        window = self.when.signal.window if isinstance(self.when, Comparison) else None
        return max(gap_ms(kind), 0 if window is None else 3 * window.step_ms)

    def terms(self, kind: str, tags: Mapping[str, str]) -> Terms:
        """Return what the lifecycle needs of the rule, for subjects of one kind and tags."""
        assert isinstance(self.when, Comparison)
        assert self.clear_when is not None
        gap_ms, active = self.gap_ms(kind), None if self.schedule is None else self.schedule.of_subject(tags)
        steps = tuple(Terms(step.when, step.clear_when, step.for_ms, step.clear_for_ms, gap_ms, active=active) for step in self.steps)
        return Terms(self.when, self.clear_when, self.for_ms, self.clear_for_ms, gap_ms, self.within_ms, steps, active)

    def severity_at(self, level: int) -> Severity:
        """Return the severity of an alert at a level, 0 being the rule's own."""
        return self.steps[level - 1].severity if level else self.severity

    def class_for(self, kind: str) -> AlertClass:
        if self.alert_class is not None:
            return self.alert_class
        if isinstance(self.when, Silence):
            return AlertClass.TECHNICAL
        return AlertClass.PHYSIOLOGICAL if kind == "patient" else AlertClass.ENVIRONMENTAL

    @property
    def meaning(self) -> tuple[object, ...]:
        """What the rule decides, without how it is told: state is kept over a change of rules where this is unchanged."""
        what = self.when, self.for_ms, self.max_gap_ms, self.clear_when, self.clear_for_ms, self.within_ms, self.for_limit
        steps = tuple(step._replace(severity=Severity.INFO) for step in self.steps)  # how severe is how it is told
        return (self.id, self.kind, self.tags, self.schedule, *what, steps)


class RuleSet(NamedTuple):
    """The rules in force, and the version that alerts name: a digest of the documents' text, 12 hexadecimal digits."""

    version: str
    rules: tuple[Rule, ...]
    documents: tuple[tuple[str, str], ...]  # (name, text) as applied

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.documents)


NO_RULES = RuleSet("0" * 12, (), ())
