"""Advice on rules that are right in form: conditions that cannot hold, or always do, alerts that end as they begin, rules said twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from documents import format_duration
from rules.combining import conditions, metrics_of
from rules.condition import BOUNDED, HAS, SCORE, Comparison, Silence
from rules.rule import Rule
from telemetry.metrics import Metric

Published = Mapping[tuple[str, str], int | None]
"""By kind and metric, the usual time between two readings of a device, milliseconds; None where it is not known."""

HOUR_MS = 3_600_000
SIDES = ("when", "clear")


class Advice(NamedTuple):
    rule: str
    text: str


def advice(rules: Sequence[Rule], catalogue: Mapping[str, Metric], published: Published | None = None) -> list[Advice]:
    """Return what somebody who wrote these rules should look at again; `published` is what devices send, where that is known."""
    found = [Advice(rule.id, text) for rule in rules for text in _of_rule(rule, catalogue)]
    if published is not None:
        found += [Advice(rule.id, text) for rule in rules for text in _beside(rule, published)]
    first: dict[tuple[object, ...], str] = {}
    for rule in rules:
        same = first.setdefault(rule.meaning[1:], rule.id)
        if same != rule.id:
            found.append(Advice(rule.id, f"it means the same as `{same}`: two alerts for one thing"))
    return found


def _of_rule(rule: Rule, catalogue: Mapping[str, Metric]) -> Iterator[str]:
    pairs = conditions(rule)
    if not pairs:
        return
    when, clear = pairs[0]
    named = [(f"step {at}: {name}" if at else name, side) for at, pair in enumerate(pairs) for name, side in zip(SIDES, pair, strict=True)]
    for name, side in named:
        for leaf in side.leaves():
            if leaf.signal.held is not None and leaf.operator in {">", ">="} and leaf.threshold * HOUR_MS > leaf.signal.held.span_ms:
                yield f"`{name}` never holds where it says `{leaf.text()}`: the span is shorter"
            holds = _always(leaf, catalogue)
            metric = catalogue.get(leaf.signal.metric)
            if holds is None or metric is None:
                continue
            often = "always" if holds else "never"
            text = f"`{name}` {often} holds where it says `{leaf.text()}`: {metric.name} is {metric.low:g} to {metric.high:g} {metric.unit}"
            if name != "clear" or not holds:
                yield text + (", so it never clears" if name == "clear" and side is leaf else "")
    if isinstance(when, Comparison) and isinstance(clear, Comparison) and when.signal == clear.signal:
        both_hold = [value for value in _around(when, clear) if when.holds(value) and clear.holds(value)]
        if both_hold:
            yield f"`clear` holds where `when` does, at {both_hold[0]:g} for one: such an alert ends as it begins"
    for step in rule.steps:
        if isinstance(when, Comparison) and step.when.signal == when.signal and step.when.operator != HAS:
            tried = [value for value in _around(when, step.when) if step.when.holds(value)]
            if not any(when.holds(value) for value in tried):
                yield f"the step `{step.when.text()}` never holds while the rule does"
            elif not any(when.holds(value) and not step.when.holds(value) for value in _around(when, step.when)):
                yield f"the step `{step.when.text()}` holds whenever the rule does: its own severity is never told"
    if rule.within_ms and rule.max_gap_ms is not None and rule.max_gap_ms > rule.within_ms:
        yield "`max_gap` is longer than the span of `accumulated`"


def _beside(rule: Rule, published: Published) -> Iterator[str]:
    """Return what is odd about a rule beside what devices publish."""
    metrics = [rule.when.metric] if isinstance(rule.when, Silence) else metrics_of(rule.when.signal)
    kinds = [rule.kind] if rule.kind else sorted({kind for kind, _ in published})
    for metric in dict.fromkeys(metrics):
        if metric and not any((kind, metric) in published for kind in kinds):
            yield f"nobody publishes `{metric}`" + (f" of a {rule.kind}" if rule.kind else "")
    known = [(kind, metric, published.get((kind, metric))) for kind in kinds for metric in metrics]
    for kind, metric, interval_ms in known:
        if interval_ms is None:
            continue
        usual = f"`{metric}` of a {kind} comes every {format_duration(interval_ms)}"
        if isinstance(rule.when, Silence):
            if rule.when.duration_ms <= interval_ms:
                yield f"it is silent for {format_duration(rule.when.duration_ms)} all the time: {usual}"
        elif rule.for_ms and rule.gap_ms(kind) < interval_ms:
            yield f"`max_gap` is {format_duration(rule.gap_ms(kind))}, and {usual}: nothing is ever proved"
        elif 0 < rule.for_ms < interval_ms:
            yield f"`for` is {format_duration(rule.for_ms)}, and {usual}: the second reading decides"


def _around(*comparisons: Comparison) -> list[float]:
    """Return values at and beside thresholds."""
    step = max([1.0, *(abs(comparison.threshold) for comparison in comparisons)]) * 1e-6
    return [comparison.threshold + off for comparison in comparisons for off in (-step, 0.0, step)]


def _always(leaf: Comparison, catalogue: Mapping[str, Metric]) -> bool | None:
    """Return whether a comparison holds for all plausible values, or for none of them; None where it depends."""
    metric = catalogue.get(leaf.signal.metric)
    if metric is None or leaf.signal.aggregate == SCORE or (leaf.signal.aggregate and leaf.signal.aggregate not in BOUNDED):
        return None
    inside = [value for value in _around(leaf) if metric.low <= value <= metric.high]
    held = {leaf.holds(value) for value in (metric.low, metric.high, *inside)}
    return held.pop() if len(held) == 1 else None
