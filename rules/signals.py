"""What rules watch: a signal of every subject that has it, with the rules on it and the band in which none of them can hold.

The band is what makes a quiet reading cheap: inside it, after `loud_ms`, every rule says no and holds nothing, so nobody needs to ask.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from rules.columns import FOREVER, NEVER, Columns, Flags, Floats, Integers
from rules.condition import Comparison, Signal
from rules.metrics import Subject
from rules.rule import Rule, Terms
from rules.track import Told, Track


class Judge(NamedTuple):
    """A rule on a signal."""

    rule: Rule
    terms: Terms


class Band(NamedTuple):
    """The rules on a signal of subjects of one kind and tags."""

    judges: dict[str, Judge]  # by rule id
    above: tuple[tuple[float, str], ...]  # rules that hold above a threshold, by threshold
    below: tuple[tuple[float, str], ...]  # below
    others: tuple[str, ...]
    low: float  # inside (low, high) none of them can hold
    high: float

    def asked(self, value: float, held: Iterable[str]) -> Iterator[Judge]:
        """Return the rules that a value may matter to: those it may satisfy, and those that hold something."""
        names = [name for _, name in self.above[: bisect_right(self.above, value, key=itemgetter(0))]]
        names += [name for _, name in self.below[bisect_left(self.below, value, key=itemgetter(0)) :]]
        names += self.others
        names += [name for name in held if name not in names]
        return (self.judges[name] for name in names)


def _band(kind: str, tags: tuple[tuple[str, str], ...], rules: tuple[Rule, ...]) -> Band:
    judges: dict[str, Judge] = {}
    above, below, others = [], [], []
    low, high = -np.inf, np.inf
    for given in rules:
        if not given.applies_to(kind, dict(tags)):
            continue
        rule = given.of_subject(dict(tags))
        assert isinstance(rule.when, Comparison)
        judges[rule.id] = Judge(rule, rule.terms(kind, dict(tags)))
        under, over = rule.when.band()
        low, high = max(low, under), min(high, over)
        if under == -np.inf:
            above.append((over, rule.id))
        elif over == np.inf:
            below.append((under, rule.id))
        else:
            others.append(rule.id)
    return Band(judges, tuple(sorted(above)), tuple(sorted(below)), tuple(others), low, high)


class SignalTable(Columns):
    """One signal, or all readings themselves; rows are those of the metric table. `tracks[row]` is what rules hold there, by rule id."""

    spec = {
        "low": (np.float64, -np.inf),
        "high": (np.float64, np.inf),
        "loud_ms": (np.int64, NEVER),  # observations in band after this change nothing; FOREVER while a rule holds something
        "until_ms": (np.int64, NEVER),  # of a trailing aggregate: a reading out of band is in its span until then
        "last_ms": (np.int64, NEVER),  # the latest observation that was shown to a rule
        "applies": (np.bool_, False),  # some rule does
    }
    derived: tuple[str, ...] = ("low", "high", "applies")
    low: Floats
    high: Floats
    loud_ms: Integers
    until_ms: Integers
    last_ms: Integers
    applies: Flags

    def __init__(self, signal: Signal | None = None, rules: tuple[Rule, ...] = ()) -> None:
        super().__init__()
        self.signal = signal  # None: the readings of every metric, whose rules are given with each row
        self.rules = rules
        self.bands: dict[int, Band] = {}
        self.tracks: dict[int, dict[str, Track]] = {}
        self._bands: dict[tuple[object, ...], Band] = {}  # subjects of one kind and tags share them

    def link(self, row: int, subject: Subject, metric: str, rules: tuple[Rule, ...]) -> None:
        """Put the rules that apply to a subject on a row."""
        self.extend(row + 1)
        if not rules:
            return
        key = subject.kind, subject.tags, metric
        if key not in self._bands:
            self._bands[key] = _band(subject.kind, subject.tags, rules)
        band = self._bands[key]
        if band.judges:
            self.bands[row] = band
            self.low[row], self.high[row], self.applies[row] = band.low, band.high, True

    def loud(self, rows: Integers, times_ms: Integers, values: Floats) -> Flags:
        """Return which observations a rule may care about."""
        quiet: Flags = (values > self.low[rows]) & (values < self.high[rows]) & (times_ms > self.loud_ms[rows])
        return ~quiet

    def among(self, some: Integers, rows: Integers) -> Flags:
        """Return which of the rows are among some of them."""
        asked = np.zeros(self.length, np.bool_)
        asked[some] = True
        return asked[rows]

    def track(self, row: int, rule_id: str) -> Track:
        """Return what a rule holds on a signal, to be changed; `tidy` must follow."""
        tracks = self.tracks.setdefault(row, {})
        if rule_id not in tracks:
            tracks[rule_id] = Track()
        return tracks[rule_id]

    def tidy(self, row: int, seen_ms: int) -> None:
        """Forget the tracks that hold nothing, and note until when the signal is loud, given the latest observation that was shown."""
        tracks = self.tracks.get(row, {})
        for rule_id in [rule_id for rule_id, track in tracks.items() if track.empty()]:
            del tracks[rule_id]
        if row in self.tracks and not tracks:
            del self.tracks[row]
        self.last_ms[row] = max(int(self.last_ms[row]), seen_ms)
        before = int(self.loud_ms[row])
        quiet_from = max(int(self.last_ms[row]), before if before < FOREVER else NEVER)
        self.loud_ms[row] = quiet_from if all(track.idle() for track in tracks.values()) else FOREVER

    def open_alerts(self) -> Iterator[tuple[int, str, Told]]:
        """Return row, rule and what was told of every alert that is open."""
        for row, tracks in self.tracks.items():
            for rule_id, track in tracks.items():
                told = track.open_alert()
                if told is not None:
                    yield row, rule_id, told
