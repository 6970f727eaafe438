"""Which rules watch what: the rules in force, linked to the signals and silences of the subjects there are."""

from typing import NamedTuple

import numpy as np

from rules.columns import Integers
from rules.condition import WHOLE_DEVICE, Comparison, Signal
from rules.registry import Assignment
from rules.rule import NO_RULES, Rule, RuleSet
from rules.signals import NO_SIGNAL, SignalTable, Subject
from rules.silence import SilenceTable
from telemetry.readings import SeriesKey


class OpenAlert(NamedTuple):
    """An alert that nobody watches any more."""

    rule_id: str
    subject: Subject
    device: str
    started_at_ms: int


class Watch:
    """The links of one rule set; made anew when rules, registry or settings change."""

    def __init__(self, rules: RuleSet = NO_RULES) -> None:
        self.rules = rules
        self.signals = SignalTable()
        self.silence = SilenceTable()
        self._by_id = {rule.id: rule for rule in rules.rules}
        self._windowed = sorted(
            {rule.when.signal for rule in rules.rules if isinstance(rule.when, Comparison) and rule.when.signal.aggregate}
        )
        self._aggregate_rows: dict[Signal, Integers] = {signal: np.empty(0, np.int64) for signal in self._windowed}
        self._kinds: dict[Signal, set[str]] = {
            signal: {rule.kind for rule in rules.rules if isinstance(rule.when, Comparison) and rule.when.signal == signal}
            for signal in self._windowed
        }
        self._series = 0
        self._value_rules: dict[Signal, tuple[Rule, ...]] = {}
        self._silence_rules: dict[str, tuple[Rule, ...]] = {}
        for rule in rules.rules:
            if isinstance(rule.when, Comparison):
                self._value_rules[rule.when.signal] = (*self._value_rules.get(rule.when.signal, ()), rule)
            else:
                self._silence_rules[rule.when.metric] = (*self._silence_rules.get(rule.when.metric, ()), rule)

    def rule(self, rule_id: str) -> Rule:
        return self._by_id[rule_id]

    def window_sizes(self, kind: str) -> list[int]:
        """Return the window sizes that rules for a kind need, milliseconds."""
        return sorted({signal.size_ms for signal in self._windowed if self._kinds[signal] & {"", kind}})

    def aggregates(self, kind: str, size_ms: int) -> list[Signal]:
        """Return the aggregates over windows of a size that rules for a kind watch."""
        return [signal for signal in self._windowed if signal.size_ms == size_ms and self._kinds[signal] & {"", kind}]

    def aggregate_rows(self, signal: Signal, series: int) -> Integers:
        """Return the signal row of each series' aggregate, by series row."""
        rows = self._aggregate_rows[signal]
        if len(rows) < series:
            rows = np.concatenate([rows, np.full(max(series, 2 * len(rows)) - len(rows), NO_SIGNAL)])
            self._aggregate_rows[signal] = rows
        return rows

    def add_series(self, key: SeriesKey, tags: tuple[tuple[str, str], ...], now_ms: int) -> tuple[int, int, int]:
        """Link the next series; returns its signal row, and its silence rows for the metric and for the device."""
        subject = Subject(key.kind, key.subject, tags)
        row, self._series = self._series, self._series + 1
        for signal in self._windowed:
            if signal.metric == key.metric:
                self.aggregate_rows(signal, row + 1)[row] = self.signals.add(subject, signal, self._value_rules[signal])
        return (
            self.signals.add(subject, Signal(key.metric), self._value_rules.get(Signal(key.metric), ())),
            self._silence(subject, key.device, key.metric, now_ms),
            self.add_device(key.device, Assignment(key.subject, key.kind, tags), now_ms),
        )

    def add_device(self, device: str, assignment: Assignment, now_ms: int) -> int:
        """Wait for a device; returns its row, NO_SOURCE where no rule does."""
        subject = Subject(assignment.kind, assignment.subject, assignment.tags)
        for metric in self._silence_rules:  # a metric may be missed before it ever came
            self._silence(subject, device, metric, now_ms)
        return self._silence(subject, device, WHOLE_DEVICE, now_ms)

    add_assigned = add_device

    def _silence(self, subject: Subject, device: str, metric: str, now_ms: int) -> int:
        return self.silence.add(subject, device, metric, self._silence_rules.get(metric, ()), now_ms)

    def take_over(self, before: "Watch") -> list[OpenAlert]:
        """Take the state of the rules whose meaning is unchanged; returns the open alerts of the others."""
        meanings = {rule.id: rule.meaning for rule in before.rules.rules}
        unchanged = {rule.id for rule in self.rules.rules if meanings.get(rule.id) == rule.meaning}
        return self._keep(before.signals.dump_episodes(), before.silence.dump_told(), unchanged)

    def restore(self, episodes: list[tuple[object, ...]], silence: dict[str, object]) -> None:
        """Take the state of a snapshot made under the same rules."""
        orphans = self._keep(episodes, silence, set(self._by_id))
        assert not orphans, orphans

    def _keep(self, episodes: list[tuple[object, ...]], silence: dict[str, object], rules: set[str]) -> list[OpenAlert]:
        values = self.signals.keep_episodes(episodes, rules)
        absences = self.silence.keep_told(silence, rules)
        return [OpenAlert(rule_id, watched.subject, "", episode.started.time_ms) for rule_id, watched, episode in values] + [
            OpenAlert(item.rule_id, item.source.subject, item.source.device, item.since_ms) for item in absences
        ]

    def open_alerts(self) -> int:
        return self.signals.open_alerts() + self.silence.open_alerts()
