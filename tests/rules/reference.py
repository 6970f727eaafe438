"""What the engine must say, from the definitions (DESIGN.md, 4 and 5) and the complete set of readings, sorted: no state, no shortcuts."""

import math
import operator
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rules.registry import Registry
from telemetry.readings import SeriesKey

OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
AGGREGATES: dict[str, Callable[[list[float], list[float]], float]] = {  # of sorted readings: values, seconds since the first
    "count": lambda values, _: len(values),
    "sum": lambda values, _: math.fsum(values),
    "mean": lambda values, _: math.fsum(values) / len(values),
    "min": lambda values, _: min(values),
    "max": lambda values, _: max(values),
    "stddev": lambda values, _: statistics.pstdev(values),
    "first": lambda values, _: values[0],
    "last": lambda values, _: values[-1],
    "median": lambda values, _: statistics.median(values),
    "p95": lambda values, _: float(np.percentile(values, 95)),
    "range": lambda values, _: max(values) - min(values),
    "slope": lambda values, seconds: statistics.linear_regression(seconds, values).slope if seconds[-1] else math.nan,
}

Reading = tuple[str, str, str, int, float]
"""Kind, device, metric, milliseconds, value."""
Span = tuple[int, int]
"""What an aggregate covers, milliseconds: (size, every) of closed windows, (size, 0) of trailing ones, (0, gap) of sessions."""
Episode = tuple[str, str, int, int | None, float, int | None, int, int | None, int]
"""Rule, subject, start, end, peak, duration, level in the end, since when, the highest level that it had."""


class Point(NamedTuple):
    """A reading of one signal, or an observation of it (then without a device). Points sort as the definitions order them."""

    time_ms: int
    device: str
    value: float


class Bound(NamedTuple):
    operator: str
    threshold: float

    def holds(self, point: Point) -> bool:
        return bool(OPERATORS[self.operator](point.value, self.threshold))


class StepOf(NamedTuple):
    when: Bound
    clear: Bound
    for_ms: int = 0
    clear_for_ms: int = 0


class RuleOf(NamedTuple):
    id: str
    kind: str
    metric: str
    aggregate: str  # empty: the readings themselves
    span: Span
    when: Bound
    clear: Bound
    max_gap_ms: int
    for_ms: int = 0
    clear_for_ms: int = 0
    within_ms: int = 0  # above 0: `for_ms` accumulated within this
    steps: tuple[StepOf, ...] = ()  # of rising severity


def aggregate(name: str, points: Sequence[Point]) -> float:
    """Return one aggregate of sorted readings, NaN where there is none."""
    return AGGREGATES[name]([point.value for point in points], [(point.time_ms - points[0].time_ms) / 1000 for point in points])


def windows(span: Span, points: Sequence[Point]) -> list[tuple[int, int, list[Point]]]:
    """Return (opens, closes, readings) of every closed window or session that holds readings, in order."""
    size, every = span
    if size:
        starts = {number * every for time, *_ in points for number in range((time - size) // every + 1, time // every + 1)}
        return [(start, start + size, [point for point in points if start <= point.time_ms < start + size]) for start in sorted(starts)]
    first = [at for at, point in enumerate(points) if at == 0 or point.time_ms - points[at - 1].time_ms >= every]
    return [(points[a].time_ms, points[b - 1].time_ms + every, list(points[a:b])) for a, b in pairwise([*first, len(points)])]


def observations(rule: RuleOf, points: Sequence[Point]) -> Sequence[Point]:
    """Return what a rule sees of its signal's sorted readings."""
    if not rule.aggregate:
        return points
    size, every = rule.span
    if every:
        covered = [(closes, inside) for _, closes, inside in windows(rule.span, points)]
    else:
        covered = [(end, [point for point in points if end - size < point.time_ms <= end]) for end in sorted({p.time_ms for p in points})]
    least = size / 2 if rule.aggregate == "slope" and not every else 0
    seen = [Point(end, "", aggregate(rule.aggregate, inside)) for end, inside in covered if inside[-1].time_ms - inside[0].time_ms >= least]
    return [point for point in seen if not math.isnan(point.value)]


def proved_ms(seen: Sequence[Point], bound: Bound, max_gap_ms: int, since_ms: float) -> float:
    """Return how much of the time since some instant is proved to be within a bound. A longer gap adds nothing and breaks nothing."""
    pairs = [(one.time_ms, two.time_ms) for one, two in pairwise(seen) if bound.holds(one) and bound.holds(two)]
    return sum(max(0, end - max(begin, since_ms)) for begin, end in pairs if end - begin <= max_gap_ms)


def first_run(seen: Sequence[Point], begin: int, bound: Bound, gap_ms: int, enough_ms: int, within_ms: int = 0) -> tuple[int, int] | None:
    """Return the first run within a bound that is proved for long enough: where it begins, and where it is long enough."""
    first = begin
    for at in range(begin, len(seen)):
        judged, since_ms = (seen[: at + 1], seen[at].time_ms - within_ms) if within_ms else (seen[first : at + 1], -math.inf)
        if not bound.holds(seen[at]):
            first = at + 1
        elif proved_ms(judged, bound, gap_ms, since_ms) >= enough_ms:
            return first, at
    return None


def raised(rule: RuleOf, seen: Sequence[Point], begin: int) -> tuple[int, int] | None:
    """Return the first run that is proved, by the rule's own terms or by one of its steps'."""
    runs = [first_run(seen, begin, rule.when, rule.max_gap_ms, rule.for_ms, rule.within_ms)]
    within = [at for at in range(begin, len(seen)) if rule.when.holds(seen[at])]
    for first in [at for at in within if at - 1 not in within]:
        last = next((at for at in range(first, len(seen)) if at not in within), len(seen))
        for step in rule.steps:
            run = first_run(seen[:last], first, step.when, rule.max_gap_ms, step.for_ms)
            runs.append(run and (first, run[1]))
    return min((run for run in runs if run), key=lambda run: run[1], default=None)


def levels(rule: RuleOf, seen: Sequence[Point], first: int, fired: int, end: int) -> tuple[int, int | None, int]:
    """Return the level of an episode at its last observation, since when it is at it, and the highest that it had once it was raised."""
    at_level = [(0, 0)] * end
    for level, step in enumerate(rule.steps, 1):
        begin = first
        while run := first_run(seen[:end], begin, step.when, rule.max_gap_ms, step.for_ms):
            over = first_run(seen[:end], run[1] + 1, step.clear, rule.max_gap_ms, step.clear_for_ms)
            begin = over[1] + 1 if over else end
            for at in range(run[1], begin - 1 if over else end):
                at_level[at] = level, seen[run[0]].time_ms
    level, since = at_level[end - 1]
    return level, since if level else None, max(level for level, _ in at_level[fired:end])


def episodes_of(rule: RuleOf, subject: str, seen: Sequence[Point]) -> Iterator[Episode]:
    begin = 0
    while run := raised(rule, seen, begin):
        first, fired = run
        cleared = first_run(seen, fired + 1, rule.clear, rule.max_gap_ms, rule.clear_for_ms)
        begin = len(seen) if cleared is None else cleared[1] + 1
        values = [seen[at].value for at in range(first, begin) if at <= fired or not rule.clear.holds(seen[at])]
        peak = {">": max, "<": min}.get(rule.when.operator[0], lambda values: values[-1])(values)
        start, end = seen[first].time_ms, None if cleared is None else seen[cleared[0]].time_ms
        yield rule.id, subject, start, end, peak, None if end is None else end - start, *levels(rule, seen, first, fired, begin)


def grouped(readings: Iterable[Reading], registry: Registry) -> dict[SeriesKey, set[Point]]:
    series: defaultdict[SeriesKey, set[Point]] = defaultdict(set)
    for kind, device, metric, time, value in readings:
        assigned = registry.assignment(kind, device, time)
        series[SeriesKey(assigned.kind, assigned.subject, device, metric)].add(Point(time, device, value))
    return series


def episodes(rules: Iterable[RuleOf], readings: Iterable[Reading], registry: Registry) -> set[Episode]:
    """Return what must have been told in the end."""
    signals: defaultdict[tuple[str, str, str], set[Point]] = defaultdict(set)
    for key, points in grouped(readings, registry).items():
        signals[key.kind, key.metric, key.subject] |= points  # of all the subject's devices
    watched = [(rule, key, sorted(points)) for rule in rules for key, points in signals.items() if key[:2] == (rule.kind, rule.metric)]
    return {episode for rule, key, points in watched for episode in episodes_of(rule, key[2], observations(rule, points))}


def summaries(spans: dict[str, Span], readings: Iterable[Reading], registry: Registry) -> dict[tuple[SeriesKey, int], dict[str, float]]:
    """Return what every window of every series must say in the end, by series and opening."""
    told = [(key, *window) for key, points in grouped(readings, registry).items() for window in windows(spans[key.kind], sorted(points))]
    return {(key, start): {"closes_ms": end} | {name: aggregate(name, inside) for name in AGGREGATES} for key, start, end, inside in told}
