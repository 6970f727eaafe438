"""What a change of rules changes: which are new, which are gone, which mean something else, and which are only told otherwise."""

from collections.abc import Iterator
from typing import NamedTuple

from documents import format_duration
from rules.advice import sides
from rules.condition import Comparison, Silence
from rules.rule import Rule, RuleSet

TOLD = ("severity", "latching", "class", "message", "mode")
"""What of a rule can change without its state being lost."""


class Change(NamedTuple):
    """One rule of two sets. `fields` are (name, before, after)."""

    rule: str
    what: str  # added, removed, changed (its state begins anew), reworded (its state is kept)
    fields: tuple[tuple[str, str, str], ...]


def changes(before: RuleSet, after: RuleSet) -> list[Change]:
    """Return what differs, in the order of the new set, what is gone last."""
    old, new = {rule.id: rule for rule in before.rules}, {rule.id: rule for rule in after.rules}
    found = []
    for name, rule in new.items():
        if name not in old:
            found.append(Change(name, "added", ()))
            continue
        was, now = shown(old[name]), shown(rule)
        fields = tuple((field, was[field], now[field]) for field in was if was[field] != now[field])
        if fields:
            found.append(Change(name, "changed" if old[name].meaning != rule.meaning else "reworded", fields))
    return found + [Change(name, "removed", ()) for name in old if name not in new]


def shown(rule: Rule) -> dict[str, str]:
    """Return a rule in normal form, a text for each key."""
    return dict(_fields(rule))


def _fields(rule: Rule) -> Iterator[tuple[str, str]]:
    tags = ", ".join(f"{name}={value}" for name, value in rule.tags)
    yield "applies to", f"{rule.kind or 'every kind'}{f' with {tags}' if tags else ''}"
    both = sides(rule)
    yield "when", str(rule.when) if isinstance(rule.when, Silence) else both[0].text() if both else ""
    held = format_duration(rule.for_ms)
    held = f"limit({rule.for_limit[0]}, {held})" if rule.for_limit else held
    yield "for", f"{held} within {format_duration(rule.within_ms)}" if rule.within_ms else held
    yield "max gap", "by kind" if rule.max_gap_ms is None else format_duration(rule.max_gap_ms)
    clear = "something is received" if both is None else both[1].text()
    yield "clear", clear + (f", for {format_duration(rule.clear_for_ms)}" if rule.clear_for_ms else "")
    yield "severity", str(rule.severity)
    steps = zip(rule.steps, _steps(rule), strict=True)
    yield "steps", "; ".join(f"{step.severity} when {text}" for step, text in steps) or "none"
    yield "active", "always" if rule.schedule is None else str(rule.schedule)
    yield "latching", "yes" if rule.latching else "no"
    yield "class", "by kind" if rule.alert_class is None else str(rule.alert_class)
    yield "mode", "shadow" if rule.shadow else "live"
    yield "message", rule.message


def _steps(rule: Rule) -> Iterator[str]:
    """Return the steps of a rule, as they are written."""
    made = rule.when.signal.derived if isinstance(rule.when, Comparison) else None
    for at, step in enumerate(rule.steps):
        when, clear = made.steps[at] if made is not None and made.steps else (step.when, step.clear_when)
        held = f" for {format_duration(step.for_ms)}" if step.for_ms else ""
        until = f" for {format_duration(step.clear_for_ms)}" if step.clear_for_ms else ""
        yield f"{when.text()}{held}, until {clear.text()}{until}"
