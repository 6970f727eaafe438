"""What a change of rules changes: which are new, which are gone, which mean something else, and which are only told otherwise."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from documents import format_duration
from rules.combining import conditions
from rules.condition import Comparison, Expression, Silence
from rules.rule import Rule, RuleSet, Step

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
        names = dict.fromkeys([*was, *now])
        fields = tuple((field, was.get(field, ""), now.get(field, "")) for field in names if was.get(field) != now.get(field))
        if not fields and old[name].meaning != rule.meaning:
            fields = (("meaning", "as it was", "another: of a place or a unit that is not shown"),)
        if fields:
            found.append(Change(name, "changed" if old[name].meaning != rule.meaning else "reworded", fields))
    return found + [Change(name, "removed", ()) for name in old if name not in new]


def shown(rule: Rule) -> dict[str, str]:
    """Return a rule in normal form, a text for each key."""
    return dict(_fields(rule))


def _fields(rule: Rule) -> Iterator[tuple[str, str]]:
    tags = ", ".join(f"{name}={value}" for name, value in rule.tags)
    yield "applies to", f"{rule.kind or 'every kind'}{f' with {tags}' if tags else ''}"
    pairs = conditions(rule)
    yield "when", str(rule.when) if isinstance(rule.when, Silence) else pairs[0][0].text()
    held = format_duration(rule.for_ms)
    if rule.for_limit:
        tag, unit_ms = rule.for_limit
        held = f"limit({tag}, {rule.for_ms / unit_ms:g} {format_duration(unit_ms).removeprefix('1 ')})"
    yield "for", f"{held} within {format_duration(rule.within_ms)}" if rule.within_ms else held
    yield "max gap", "by kind" if rule.max_gap_ms is None else format_duration(rule.max_gap_ms)
    clear = pairs[0][1].text() if pairs else "something is received"
    yield "clear", clear + (f", for {format_duration(rule.clear_for_ms)}" if rule.clear_for_ms else "")
    for number, place in enumerate(_places(rule), 1):
        yield f"place {number}", place
    for tag, scale, shift in _units(rule):
        yield f"unit of {tag}", f"the tag times {scale:g}" + (f" plus {shift:g}" if shift else "")
    yield "severity", str(rule.severity)
    yield "steps", "; ".join(_step(step, *pair) for step, pair in zip(rule.steps, pairs[1:], strict=True)) or "none"
    yield "active", "always" if rule.schedule is None else str(rule.schedule)
    yield "latching", "yes" if rule.latching else "no"
    yield "class", "by kind" if rule.alert_class is None else str(rule.alert_class)
    yield "mode", "shadow" if rule.shadow else "live"
    yield "message", rule.message


def _step(step: Step, when: Expression, clear: Expression) -> str:
    held = f" for {format_duration(step.for_ms)}" if step.for_ms else ""
    until = f" for {format_duration(step.clear_for_ms)}" if step.clear_for_ms else ""
    return f"{step.severity} when {when.text()}{held}, until {clear.text()}{until}"


def _leaves(rule: Rule) -> list[Comparison]:
    """Return the comparisons that a rule and its steps are made of."""
    return [leaf for pair in conditions(rule) for side in pair for leaf in side.leaves()]


def _places(rule: Rule) -> Iterator[str]:
    """Return the places that a rule names, and where they are, each once."""
    for where in dict.fromkeys(leaf.signal.where for leaf in _leaves(rule) if leaf.signal.where is not None):
        digest = blake2b(repr(where.places).encode(), digest_size=4).hexdigest()
        if where.tag:
            yield f"the one of {len(where.places)} that the tag {where.tag} names ({digest})"
        else:
            [(name, place)] = where.places
            shape = "inside of" if place.ring else f"{place.reach_m:g} m around"
            yield f"{name}: {shape} {len(place.points)} points from {place.points[0]} ({digest})"


def _units(rule: Rule) -> list[tuple[str, float, float]]:
    """Return the tags with a subject's own limits that are written in another unit than is compared."""
    found = [(leaf.limit, leaf.scale, leaf.shift) for leaf in _leaves(rule) if leaf.limit and (leaf.scale, leaf.shift) != (1.0, 0.0)]
    return list(dict.fromkeys(found))
