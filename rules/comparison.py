"""What a change of rules changes: which are new, which are gone, which mean something else, and which are only told otherwise."""

from collections.abc import Iterator
from hashlib import blake2b
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
    both = sides(rule)
    yield "when", str(rule.when) if isinstance(rule.when, Silence) else both[0].text() if both else ""
    held = format_duration(rule.for_ms)
    if rule.for_limit:
        tag, unit_ms = rule.for_limit
        held = f"limit({tag}, {rule.for_ms / unit_ms:g} {format_duration(unit_ms).removeprefix('1 ')})"
    yield "for", f"{held} within {format_duration(rule.within_ms)}" if rule.within_ms else held
    yield "max gap", "by kind" if rule.max_gap_ms is None else format_duration(rule.max_gap_ms)
    clear = "something is received" if both is None else both[1].text()
    yield "clear", clear + (f", for {format_duration(rule.clear_for_ms)}" if rule.clear_for_ms else "")
    for number, (place, where) in enumerate(_places(rule)):
        yield f"place {number + 1}", f"{place}: {where}"
    for tag, scale, shift in _units(rule):
        yield f"unit of {tag}", f"the tag times {scale:g}" + (f" plus {shift:g}" if shift else "")
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


def _leaves(rule: Rule) -> list[Comparison]:
    """Return the comparisons that a rule and its steps are made of."""
    if isinstance(rule.when, Silence):
        return []
    assert rule.clear_when is not None
    made = rule.when.signal.derived
    if made is not None and made.when is not None:
        return [leaf for side in made.sides() for leaf in side.leaves()]
    return [rule.when, rule.clear_when, *(side for step in rule.steps for side in (step.when, step.clear_when))]


def _places(rule: Rule) -> list[tuple[str, str]]:
    """Return the places that a rule names, and where they are."""
    named = [place for leaf in _leaves(rule) if leaf.signal.where is not None for place in leaf.signal.where.places]
    return [(name, (f"{len(place.points)} points from {place.points[0]}, {place.reach_m:g} m {'inside' if place.ring else 'around'}, "
             f"{blake2b(repr(place).encode(), digest_size=4).hexdigest()}")) for name, place in dict.fromkeys(named)]  # fmt: skip


def _units(rule: Rule) -> list[tuple[str, float, float]]:
    """Return the tags with a subject's own limits that are written in another unit than is compared."""
    found = [(leaf.limit, leaf.scale, leaf.shift) for leaf in _leaves(rule) if leaf.limit and (leaf.scale, leaf.shift) != (1.0, 0.0)]
    return list(dict.fromkeys(found))
