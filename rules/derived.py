"""Derived signals: what follows from several metrics of a subject. Conditions combined, and scores.

Theory of operation. A derived signal has a value at every time at which one of its metrics was measured: what was measured last of each,
not later and not longer ago than it is valid, decides. Of combined conditions the value is a sum of bits: the rule holds, the rule
clears; where it is not known whether it holds, there is no observation. So it is one more series of observations, judged, revised and
settled like any other. It is hosted by the row, in the metric table, of whichever of its metrics came first.

What makes it cheap: while every reading lies where it alone cannot make the signal hold, and those before that did are no longer valid,
nobody needs to ask. Only a signal with a `not` in it, or one of a trailing aggregate that can leave the band of its readings, is
always asked.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.aggregates import ACTIVATION_K, summarise
from rules.columns import FOREVER, NEVER, Flags, Floats, Integers
from rules.combining import FIRST_STEP, metrics_of
from rules.condition import CLEARS, HOLDS, SCORE, Comparison, Expression, Held, Logic, Signal, Where
from rules.geometry import distances_m
from rules.lifecycle import COMPARE, Observations, holds_all
from rules.metrics import MetricTable, Subject
from rules.past import MetricPast
from rules.places import LATITUDE, LONGITUDE
from rules.rule import Rule, gap_ms
from rules.scores import Parameter, Points, Score, Use, scores
from rules.signals import SignalTable

Truth = NDArray[np.int8]
"""1 true, 0 false, -1 not known."""

NO_ROW = -1
COVERING = {"slope", "delta", "rate", "mkt"}
COMBINE = {"and": np.logical_and, "or": np.logical_or}
GAS_CONSTANT = 8.31446261815324  # J/(mol K), CODATA 2018
HOUR_MS, DIGITS = 3_600_000, 9
ROUNDING = 6  # digits to which a value over its resolution is taken before it is rounded half up: 35.05 / 0.1 is 350.49999


class DerivedTable(SignalTable):
    """One derived signal; `host[row]` is the row, in the metric table, of the signal that the metric of a row is part of."""

    spec = SignalTable.spec | {
        "host": (np.int64, NO_ROW),
        "latest_ms": (np.int64, NEVER),  # of a host: the latest time at which one of its metrics was measured
        "valid_ms": (np.int64, 0),  # of a host: how long a reading stands for its metric
        "calm_low": (np.float64, np.inf),  # of a metric's row: between these a reading alone cannot make the signal hold
        "calm_high": (np.float64, -np.inf),
    }
    derived = (*SignalTable.derived, "host", "latest_ms", "valid_ms", "calm_low", "calm_high")
    host: Integers
    latest_ms: Integers
    valid_ms: Integers
    calm_low: Floats
    calm_high: Floats

    def __init__(self, signal: Signal, rules: tuple[Rule, ...]) -> None:
        super().__init__(signal, rules)
        assert signal.derived is not None
        self.made_of = signal
        self.bands_of: dict[tuple[tuple[str, str], ...], dict[str, tuple[float, float]]] = {}  # by tags
        self.hosts: dict[tuple[str, str], int] = {}
        self.sources: dict[int, dict[str, int]] = {}  # host -> metric -> row of the metric table
        self._rows: dict[str, Integers] = {}  # the same, by metric: row by host

    @cached_property
    def metrics(self) -> frozenset[str]:
        """The metrics that the signal is made of."""
        return frozenset(metrics_of(self.made_of))

    def link(self, row: int, subject: Subject, metric: str, rules: tuple[Rule, ...]) -> None:
        """Make a metric of a subject part of the signal, in the order of the rows."""
        self.extend(row + 1)
        if metric not in self.metrics or not any(rule.applies_to(subject.kind, dict(subject.tags)) for rule in rules):
            return
        host = self.hosts.setdefault((subject.kind, subject.name), row)
        self.host[row] = host
        if subject.tags not in self.bands_of:
            self.bands_of[subject.tags] = _calm(self.made_of, dict(subject.tags))
        self.calm_low[row], self.calm_high[row] = self.bands_of[subject.tags].get(metric, (np.inf, -np.inf))
        self.sources.setdefault(host, {})[metric] = row
        assert self.made_of.derived is not None
        valid_ms = self.made_of.derived.valid_ms
        self.valid_ms[host] = gap_ms(subject.kind) if valid_ms is None else valid_ms
        known = self._rows.get(metric, np.empty(0, np.int64))
        if len(known) <= host:
            known = self._rows[metric] = np.concatenate([known, np.full(max(len(known), host + 1), NO_ROW)])
        known[host] = row
        super().link(host, subject, self.made_of.metric, rules)

    def rows(self, hosts: Integers, metric: str) -> Integers:
        """Return the row of a metric beside each host, NO_ROW where it has not come yet."""
        known = self._rows.get(metric)
        if known is None:
            return np.full(len(hosts), NO_ROW)
        found: Integers = np.where(hosts < len(known), known[np.minimum(hosts, len(known) - 1)], NO_ROW)
        return found

    def refresh(self, metrics: MetricTable) -> None:
        """Take over how far the metrics are."""
        rows = np.flatnonzero(self.host[: self.length] != NO_ROW)
        np.maximum.at(self.latest_ms, self.host[rows], metrics.last_ms[rows])

    def floor_ms(self, host: int, metrics: MetricTable) -> int:
        """Return until when all that the signal is made of is final."""
        return max(int(metrics.settled_ms[row]) for row in self.sources[host].values())


class At(NamedTuple):
    """What was known at some times: one entry a (subject, time)."""

    values: Floats  # NaN: nothing valid
    times_ms: Integers  # of the reading
    positions: Integers  # NEVER: nothing valid


class DerivedPast:
    """The past of derived signals."""

    def __init__(self, past: MetricPast, metrics: MetricTable) -> None:
        self.past, self.metrics = past, metrics

    def at(self, table: DerivedTable, hosts: Integers, times_ms: Integers) -> tuple[Floats, Integers]:
        """Return a signal's value at each (host, time), NaN where it is not known, and the position of what was journalled last of it."""
        asked = _Asked(self, table, hosts, times_ms)
        made = table.made_of.derived
        assert made is not None
        if made.when is None:
            return asked.signal(table.made_of).values, asked.positions
        assert made.clear is not None
        holds, clears = asked.truth(made.when), asked.truth(made.clear)
        values = HOLDS * (holds == 1) + CLEARS * (clears == 1).astype(np.float64)
        for at, (when, clear) in enumerate(made.steps):
            values += (FIRST_STEP << 2 * at) * ((asked.truth(when) == 1) + 2.0 * (asked.truth(clear) == 1))
        return np.where((holds == -1) & (clears != 1), np.nan, values), asked.positions

    def observations(self, table: DerivedTable, host: int, after_ms: int) -> Observations:
        """Return the signal at all times after one."""
        rows = np.array(sorted(table.sources[host].values()))
        part = self.past.between(rows, np.full(len(rows), after_ms + 1), np.full(len(rows), FOREVER))
        found = [part.times_ms[start : start + count] for start, count in zip(part.starts.tolist(), part.counts.tolist(), strict=True)]
        times_ms = np.unique(np.concatenate(found))
        values, positions = self.at(table, np.full(len(times_ms), host), times_ms)
        known = ~np.isnan(values)
        return Observations(times_ms[known], values[known], ("",), positions[known])

    def parts(self, table: DerivedTable, host: int, time_ms: int) -> list[tuple[Signal, int, float]]:
        """Return (signal, time, value) of everything valid that the signal is made of at a time."""
        asked = _Asked(self, table, np.array([host]), np.array([time_ms]))
        made = table.made_of.derived
        assert made is not None
        leaves = made.when.leaves() if made.when is not None else ()
        signals = dict.fromkeys(leaf.signal for leaf in leaves) or {table.made_of: None}
        found = []
        for signal in signals:
            if signal.aggregate == SCORE:
                use = scores()[signal.metric]
                found += [(Signal(metric), asked.last(metric, use.score.valid_of(metric))) for metric in dict.fromkeys(use.score.metrics)]
            else:
                found.append((signal, asked.signal(signal)))
        return [(signal, int(at.times_ms[0]), float(at.values[0])) for signal, at in found if not np.isnan(at.values[0])]


class _Asked:
    """One question: a derived signal at some (host, time)."""

    def __init__(self, past: DerivedPast, table: DerivedTable, hosts: Integers, times_ms: Integers) -> None:
        self.past, self.table, self.hosts, self.times_ms = past.past, table, hosts, times_ms
        self.metrics, self.valid_ms = past.metrics, table.valid_ms[hosts]
        self.positions = np.full(len(hosts), NEVER)
        self._known: dict[Signal, At] = {}
        self._latest: dict[str, At] = {}

    def latest(self, metric: str) -> At:
        """Return what was measured last of a metric, for as long as that is valid in conditions."""
        if metric not in self._latest:
            self._latest[metric] = self.last(metric, self.valid_ms)
        return self._latest[metric]

    def last(self, metric: str, valid_ms: Integers | int) -> At:
        """Return what was measured last of a metric."""
        rows = self.table.rows(self.hosts, metric)
        there = np.flatnonzero(rows != NO_ROW)
        values, times_ms = np.full(len(rows), np.nan), np.full(len(rows), NEVER)
        positions = np.full(len(rows), NEVER)
        until_ms = self.times_ms[there] + 1
        part = self.past.between(rows[there], until_ms - 1 - np.broadcast_to(valid_ms, len(rows))[there], until_ms)
        some = part.counts > 0
        at = (part.starts + part.counts - 1)[some]
        values[there[some]], times_ms[there[some]], positions[there[some]] = part.values[at], part.times_ms[at], part.positions[at]
        self.positions = np.maximum(self.positions, positions)
        return At(values, times_ms, positions)

    def signal(self, signal: Signal) -> At:
        """Return what a signal was last."""
        if signal not in self._known:
            self._known[signal] = self._signal(signal)
        return self._known[signal]

    def _signal(self, signal: Signal) -> At:
        if signal.aggregate == SCORE:
            return At(self.score(scores()[signal.metric]), self.times_ms, self.positions)
        if signal.where is not None:
            return self._distance(signal.where)
        if signal.held is not None:
            return self._accumulated(signal.held)
        latest = self.latest(signal.metric)
        if not signal.aggregate:
            return latest
        there = np.flatnonzero(~np.isnan(latest.values))
        values = np.full(len(latest.values), np.nan)
        if len(there):
            rows = self.table.rows(self.hosts[there], signal.metric)
            values[there], positions = trailing(self.past, signal, rows, latest.times_ms[there])
            self.positions[there] = np.maximum(self.positions[there], positions)
        return latest._replace(values=values)

    def _distance(self, where: Where) -> At:
        """Return how far a subject is from its place: a position is a latitude and a longitude of one time."""
        latitude, longitude = (self.latest(metric) for metric in (LATITUDE, LONGITUDE))
        together = latitude.times_ms == longitude.times_ms
        values = np.full(len(self.hosts), np.nan)
        numbers = self._places(where)
        for number in np.unique(numbers[together & (numbers >= 0)]).tolist():
            there = together & (numbers == number)
            values[there] = distances_m(where.places[number][1], latitude.values[there], longitude.values[there])
        return latitude._replace(values=values)

    def _places(self, where: Where) -> Integers:
        """Return the number of each subject's place, -1 where it names none that there is."""
        if not where.tag:
            return np.zeros(len(self.hosts), np.int64)
        known = {name: number for number, (name, _) in enumerate(where.places)}
        named = [dict(self.metrics.subjects[host].tags).get(where.tag, "") for host in self.hosts.tolist()]
        return np.array([known.get(name, -1) for name in named], np.int64)

    def _accumulated(self, held: Held) -> At:
        """Return how many hours a condition held in the trailing span, as far as that is proved."""
        latest = self.latest(held.metric)
        there = np.flatnonzero(~np.isnan(latest.values))
        values = np.full(len(latest.values), np.nan)
        if len(there):
            rows = self.table.rows(self.hosts[there], held.metric)
            held_ms = accumulated_ms(self.past, held, rows, self.times_ms[there], self.valid_ms[there])
            values[there] = np.round(held_ms / HOUR_MS, DIGITS)  # as thresholds are
        return latest._replace(values=values)

    def truth(self, expression: Expression) -> Truth:
        """Return whether an expression holds (Kleene)."""
        if isinstance(expression, Comparison):
            values = self.signal(expression.signal).values
            return np.where(np.isnan(values), -1, self._holds(expression, values)).astype(np.int8)
        parts = [self.truth(part) for part in expression.parts]
        if expression.operator == "not":
            return np.where(parts[0] == -1, -1, 1 - parts[0]).astype(np.int8)
        decides = 0 if expression.operator == "and" else 1
        decided, unknown = (np.logical_or.reduce([part == sought for part in parts]) for sought in (decides, -1))
        return np.where(decided, decides, np.where(unknown, -1, 1 - decides)).astype(np.int8)

    def _holds(self, comparison: Comparison, values: Floats) -> Flags:
        """Return where a comparison holds, with the limits of each subject where it has some."""
        if not comparison.limit:
            return holds_all(comparison, values)
        subjects = [self.metrics.subjects[host] for host in self.hosts.tolist()]
        known = {subject.tags: comparison.of_subject(dict(subject.tags)).threshold for subject in dict.fromkeys(subjects)}
        holds: Flags = COMPARE[comparison.operator](values, np.array([known[subject.tags] for subject in subjects]))
        return holds

    def score(self, use: Use) -> Floats:
        """Return the points of a score, of what is known; NaN where nothing is."""
        score = use.score
        if score.ratio is not None:
            over, under = (self.last(metric, score.valid).values for metric in score.ratio)
            ratio: Floats = np.divide(over, under, out=np.full(len(over), np.nan), where=under > 0)
            return ratio
        points = np.stack([self._points(parameter, score) for parameter in score.parameters])
        known = ~np.isnan(points)
        total = np.where(known, points, 0).max(axis=0) if use.single else np.where(known, points, 0).sum(axis=0)
        return np.where(known.any(axis=0), total, np.nan)

    def _points(self, parameter: Parameter, score: Score) -> Floats:
        values = self.last(parameter.metric, parameter.valid).values
        points = looked_up(parameter.points, values, parameter.resolution)
        undecided = np.ones(len(values), np.bool_)
        for variant in parameter.variants:
            meant = np.array([variant.is_for(self.metrics.subjects[host].tags) for host in self.hosts.tolist()], np.bool_)
            for metric, value in variant.where.items():
                other = self.last(metric, score.valid_of(metric)).values
                points[meant & undecided & np.isnan(other)] = np.nan  # which variant it is, is not known
                meant &= other == value
            chosen = meant & undecided
            points[chosen] = looked_up(variant.points, values[chosen], parameter.resolution)
            undecided &= ~meant
        return points


def trailing(past: MetricPast, signal: Signal, rows: Integers, times_ms: Integers) -> tuple[Floats, Integers]:
    """Return a trailing aggregate at each (row, time), NaN where it is not defined, and the position of what was journalled last of it."""
    part = past.between(rows, times_ms - signal.trailing_ms + 1, times_ms + 1)
    activation_k = signal.activation * 1000 / GAS_CONSTANT if signal.activation else ACTIVATION_K
    summary = summarise(part.starts, part.counts, part.times_ms, part.values, (signal.aggregate,), activation_k)
    values = summary[signal.aggregate].astype(np.float64)
    if signal.aggregate in COVERING:  # of readings that span half of what is asked
        covered = part.times_ms[part.starts + part.counts - 1] - part.times_ms[part.starts]
        values = np.where(2 * covered >= signal.trailing_ms, values, np.nan)
    return values, part.latest_positions()


def accumulated_ms(past: MetricPast, held: Held, rows: Integers, times_ms: Integers, gaps_ms: Integers) -> Integers:
    """Return for how long a condition is proved to have held within the trailing span of each (row, time).

    It holds between two readings that both satisfy it and are no longer apart than the gap of their row.
    """
    found = np.zeros(len(rows), np.int64)
    for row in np.unique(rows).tolist():
        asked = np.flatnonzero(rows == row)
        at, since, gap_ms = times_ms[asked], times_ms[asked] - held.span_ms, int(gaps_ms[asked[0]])
        part = past.between(np.array([row]), since.min(keepdims=True) - gap_ms, at.max(keepdims=True) + 1)
        chosen = slice(int(part.starts[0]), int(part.starts[0] + part.counts[0]))
        seen_ms, holds = part.times_ms[chosen], _holds_at(held.condition, part.values[chosen])
        lasted = np.diff(seen_ms, prepend=seen_ms[:1])
        proved = np.where(holds & np.concatenate([[False], holds[:-1]]) & (lasted <= gap_ms), lasted, 0)
        total = np.concatenate([[0], np.cumsum(proved)])
        first, end = seen_ms.searchsorted(since), seen_ms.searchsorted(at, "right")
        begun = np.minimum(proved[np.minimum(first, len(seen_ms) - 1)], seen_ms[np.minimum(first, len(seen_ms) - 1)] - since)
        found[asked] = np.where(first < end, total[end] - total[np.minimum(first + 1, end)] + begun, 0)
    return found


def _holds_at(expression: Expression, values: Floats) -> Flags:
    """Return where an expression on one metric holds."""
    if isinstance(expression, Comparison):
        return holds_all(expression, values)
    parts = [_holds_at(part, values) for part in expression.parts]
    combined: Flags = ~parts[0] if expression.operator == "not" else COMBINE[expression.operator].reduce(parts)
    return combined


def looked_up(points: Points, values: Floats, resolution: float) -> Floats:
    """Return the points of values, rounded half up to the resolution of the chart; NaN of NaN."""
    bounds, given = np.array(list(points.up_to)), np.array([*points.up_to.values(), points.above], np.float64)
    charted = np.floor(np.round(values / resolution, ROUNDING) + 0.5)
    at = np.searchsorted(np.floor(np.round(bounds / resolution, ROUNDING) + 0.5), charted)
    found: Floats = np.where(np.isnan(values), np.nan, given[np.minimum(at, len(given) - 1)])
    return found


def _calm(signal: Signal, tags: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Return, by metric, for a subject with some tags, the open interval in which a reading alone cannot make a signal hold.

    Nothing where one alone does not decide.
    """
    made = signal.derived
    assert made is not None
    if made.when is None or _has_not(made.when):
        return {}
    bands: dict[str, tuple[float, float]] = {}
    for leaf in made.when.leaves():
        if not leaf.signal.smooth():
            return {}
        low, high = leaf.of_subject(tags).band()
        known = bands.get(leaf.signal.metric, (-np.inf, np.inf))
        bands[leaf.signal.metric] = max(known[0], low), min(known[1], high)
    for side in made.sides():  # what only clears, or is a step, is no matter while nothing is open
        for metric in (metric for leaf in side.leaves() for metric in metrics_of(leaf.signal)):
            bands.setdefault(metric, (-np.inf, np.inf))
    return bands


def _has_not(expression: Expression) -> bool:
    return isinstance(expression, Logic) and (expression.operator == "not" or any(map(_has_not, expression.parts)))
