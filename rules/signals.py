"""What rules watch: one row per subject and signal, with the rules on it and the band in which none of them can hold.

The band is what makes a quiet reading cheap: inside it, on a signal without an episode, every rule says no, so nobody needs to ask them.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rules.columns import Columns, Flags, Floats, Integers
from rules.condition import Comparison, Signal
from rules.lifecycle import Change, Episode, Observation, State, Terms, step
from rules.rule import Rule
from telemetry.readings import SeriesKey

NO_SIGNAL = -1


class Subject(NamedTuple):
    kind: str
    name: str
    tags: tuple[tuple[str, str], ...]


class Watched(NamedTuple):
    """One signal of one subject."""

    subject: Subject
    signal: Signal


class Judgement(NamedTuple):
    """A change in the life of an alert."""

    rule: Rule
    watched: Watched
    episode: Episode
    change: Change
    seen: Observation


class Band(NamedTuple):
    """The rules on a signal, and the open interval in which none of them can hold."""

    rules: tuple[tuple[Rule, Terms], ...]
    low: float
    high: float


def _band(subject: Subject, rules: tuple[Rule, ...]) -> Band:
    chosen: list[tuple[Rule, Terms]] = []
    low, high = -np.inf, np.inf
    for rule in rules:
        if not rule.applies_to(subject.kind, dict(subject.tags)):
            continue
        assert isinstance(rule.when, Comparison)
        assert rule.clear_when is not None
        chosen.append((rule, Terms(rule.when, rule.clear_when, rule.for_ms, rule.clear_for_ms, rule.gap_ms(subject.kind))))
        below, above = rule.when.band()
        low, high = max(low, below), min(high, above)
    return Band(tuple(chosen), low, high)


class SignalTable(Columns):
    """`watched[row]` names a signal; `rules[row]` are the value rules on it."""

    spec = {
        "low": (np.float64, -np.inf),  # inside (low, high) no rule's condition holds
        "high": (np.float64, np.inf),
        "busy": (np.bool_, False),  # has an episode
    }
    low: Floats
    high: Floats
    busy: Flags

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[Watched] = []
        self.rules: list[tuple[tuple[Rule, Terms], ...]] = []
        self.rows: dict[Watched, int] = {}
        self.episodes: dict[tuple[str, int], Episode] = {}  # (rule id, signal row)
        self._bands: dict[tuple[str, tuple[tuple[str, str], ...], Signal], Band] = {}  # subjects of one kind and tags share them

    def add(self, subject: Subject, signal: Signal, rules: tuple[Rule, ...]) -> int:
        """Return the row of a subject's signal, making it if it is new; `rules` are those on the signal. NO_SIGNAL where none applies."""
        watched = Watched(subject, signal)
        known = self.rows.get(watched)
        if known is not None:
            return known
        band = self._bands.get((subject.kind, subject.tags, signal))
        if band is None:
            band = self._bands[subject.kind, subject.tags, signal] = _band(subject, rules)
        if not band.rules:
            return NO_SIGNAL
        row = len(self.watched)
        self.rows[watched] = row
        self.watched.append(watched)
        self.rules.append(band.rules)
        self.extend(row + 1)
        self.low[row], self.high[row] = band.low, band.high
        return row

    def judge(
        self, signals: Integers, times_ms: Integers, values: Floats, offsets: Integers, series: Integers, keys: Sequence[SeriesKey]
    ) -> list[Judgement]:
        """Show observations to the rules; returns what changed, in the order of time.

        All arrays have one entry an observation: its signal row, time, value, journal offset and series row, which is an index of `keys`.
        """
        watched = signals >= 0
        loud = watched & ~((values > self.low[signals]) & (values < self.high[signals]) & ~self.busy[signals])
        if not loud.any():
            return []
        asked = np.zeros(self.length, np.bool_)
        asked[signals[loud]] = True
        chosen = np.flatnonzero(watched & asked[signals])
        chosen = chosen[np.lexsort((offsets[chosen], times_ms[chosen]))]
        judgements: list[Judgement] = []
        for row, time_ms, value, offset, series_row in zip(
            signals[chosen].tolist(),
            times_ms[chosen].tolist(),
            values[chosen].tolist(),
            offsets[chosen].tolist(),
            series[chosen].tolist(),
            strict=True,
        ):
            judgements += self._show(row, Observation(time_ms, value, keys[series_row].device, offset))
        return judgements

    def _show(self, row: int, seen: Observation) -> Iterator[Judgement]:
        for rule, terms in self.rules[row]:
            key = (rule.id, row)
            episode, change = step(terms, self.episodes.get(key), seen)
            if episode is None or change is Change.RESOLVED:
                self.episodes.pop(key, None)
            else:
                self.episodes[key] = episode
            if episode is not None and change is not None:
                yield Judgement(rule, self.watched[row], episode, change, seen)
        self.busy[row] = any((rule.id, row) in self.episodes for rule, _ in self.rules[row])

    def open_alerts(self) -> int:
        return sum(episode.state is not State.PENDING for episode in self.episodes.values())

    def dump_episodes(self) -> list[tuple[Any, ...]]:
        """Return the episodes as plain values."""
        return [(rule_id, *self.watched[row], episode) for (rule_id, row), episode in self.episodes.items()]

    def keep_episodes(self, dumped: list[tuple[Any, ...]], rules: Collection[str]) -> list[tuple[str, Watched, Episode]]:
        """Take over what `dump` returned, of the signals still watched and of the rules named; returns the other open alerts."""
        orphans = []
        rows = {(watched.subject.kind, watched.subject.name, watched.signal): row for watched, row in self.rows.items()}
        for rule_id, subject, signal, episode in dumped:
            watched = Watched(subject, signal)
            row = rows.get((subject.kind, subject.name, signal), NO_SIGNAL)  # tags may have changed
            if rule_id in rules and row != NO_SIGNAL and any(rule.id == rule_id for rule, _ in self.rules[row]):
                self.episodes[rule_id, row] = episode
                self.busy[row] = True
            elif episode.state is not State.PENDING:
                orphans.append((rule_id, watched, episode))
        return orphans
