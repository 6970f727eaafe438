"""Which rules watch what: the rules in force, linked to the metrics and silences of the subjects there are."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rules.columns import FOREVER
from rules.condition import WHOLE_DEVICE, Comparison, Signal
from rules.derived import DerivedTable
from rules.metrics import MetricTable, Subject
from rules.registry import Assignment, Registry
from rules.rule import NO_RULES, Rule, RuleSet
from rules.signals import SignalTable
from rules.silence import NO_SOURCE, Fallen, Orphan, SilenceTable
from rules.track import Told, Track
from telemetry.readings import SeriesKey


class Withdrawn(NamedTuple):
    """An open alert of a rule that is no longer there, or means something else."""

    rule: Rule
    subject: Subject
    signal: Signal
    told: Told


class Watch:
    """The links of one rule set; made anew when rules or registry change."""

    def __init__(self, rules: RuleSet = NO_RULES) -> None:
        self.rules = rules
        self.silence = SilenceTable()
        self.applied: dict[str, int] = {}  # rule id -> journal position from which on it judges; none: from the start
        self._by_id = {rule.id: rule for rule in rules.rules}
        self._on_readings: dict[str, tuple[Rule, ...]] = {}
        self._on_silence: dict[str, tuple[Rule, ...]] = {}
        on_aggregates: dict[Signal, tuple[Rule, ...]] = {}
        on_derived: dict[Signal, tuple[Rule, ...]] = {}
        for rule in rules.rules:
            if not isinstance(rule.when, Comparison):
                self._on_silence[rule.when.metric] = (*self._on_silence.get(rule.when.metric, ()), rule)
            elif rule.when.signal.derived is not None:
                on_derived[rule.when.signal] = (*on_derived.get(rule.when.signal, ()), rule)
            elif rule.when.signal.aggregate:
                on_aggregates[rule.when.signal] = (*on_aggregates.get(rule.when.signal, ()), rule)
            else:
                metric = rule.when.signal.metric
                self._on_readings[metric] = (*self._on_readings.get(metric, ()), rule)
        self.readings = SignalTable()
        self.aggregates = [SignalTable(signal, on_aggregates[signal]) for signal in sorted(on_aggregates, key=str)]
        self.derived = [DerivedTable(signal, on_derived[signal]) for signal in sorted(on_derived, key=repr)]
        self.trailing = [table for table in self.aggregates if table.signal is not None and table.signal.window is None]
        self.windowed = [table for table in self.aggregates if table.signal is not None and table.signal.window is not None]

    def rule(self, rule_id: str) -> Rule:
        return self._by_id[rule_id]

    def tables(self) -> Iterator[SignalTable]:
        """Return the signals: the readings themselves first."""
        yield self.readings
        yield from self.aggregates
        yield from self.derived

    def reach_ms(self, kind: str) -> int:
        """Return how far back of an observation the readings lie that rules for a kind need."""
        return max((rule.when.signal.reach_ms for table in [*self.aggregates, *self.derived] for rule in table.rules
                    if isinstance(rule.when, Comparison) and rule.kind in {"", kind}), default=0)  # fmt: skip

    def link(self, row: int, subject: Subject, metric: str) -> None:
        """Put the rules on a row of the metric table."""
        self.readings.link(row, subject, metric, self._on_readings.get(metric, ()))
        for table in self.aggregates:
            assert table.signal is not None
            table.link(row, subject, metric, table.rules if table.signal.metric == metric else ())
        for derived in self.derived:
            derived.link(row, subject, metric, derived.rules)

    def add_series(self, key: SeriesKey, tags: tuple[tuple[str, str], ...], now_ms: int) -> tuple[int, int]:
        """Wait for a series; returns its rows in the silence table, for the metric and for the device."""
        if not self._on_silence:
            return NO_SOURCE, NO_SOURCE
        subject = Subject(key.kind, key.subject, tags)
        return (
            self._await(subject, key.device, key.metric, now_ms),
            self.add_device(key.device, Assignment(key.subject, key.kind, tags), now_ms),
        )

    def add_device(self, device: str, assignment: Assignment, now_ms: int) -> int:
        """Wait for a device; returns its row in the silence table, NO_SOURCE where no rule does."""
        subject = Subject(assignment.kind, assignment.subject, assignment.tags)
        for metric in self._on_silence:  # a metric may be missed before it ever came
            self._await(subject, device, metric, now_ms)
        return self._await(subject, device, WHOLE_DEVICE, now_ms)

    def expect(self, registry: Registry, now_ms: int, is_here: Callable[[str], bool]) -> list[Fallen]:
        """Wait for the devices that are assigned now, and no longer for those that were; returns the absences that end with it.

        `is_here` says whether a subject is of this shard.
        """
        ended: list[Fallen] = []
        present = registry.subjects_at(now_ms)
        for device, assignments in registry.assigned.items():
            held = registry.held(device, now_ms)
            for assignment in assignments:
                subject = assignment.subject
                if not is_here(subject):
                    continue
                if assignment is held:
                    self.add_device(device, assignment, now_ms)
                    if device in registry.timed:
                        self.silence.expect(subject, device, now_ms)
                elif assignment.from_ms <= now_ms and (device if held is None else held.subject) != subject:  # over, or in another's shadow
                    ended += self.silence.release(subject, device, metrics=subject not in present)
        return ended

    def _await(self, subject: Subject, device: str, metric: str, now_ms: int) -> int:
        return self.silence.add(subject, device, metric, self._on_silence.get(metric, ()), now_ms)

    # -- state --------------------------------------------------------------------------------------------------------------------

    def take_over(self, before: "Watch", metrics: MetricTable, position: int) -> tuple[list[Withdrawn], list[Orphan]]:
        """Take the state of the rules whose meaning is unchanged; returns the open alerts of the others.

        A rule that is new judges what is journalled at `position` or after it.
        """
        meanings = {rule.id: rule.meaning for rule in before.rules.rules}
        unchanged = {rule.id for rule in self.rules.rules if meanings.get(rule.id) == rule.meaning}
        for rule in self.rules.rules:
            since = before.applied.get(rule.id, 0) if rule.id in unchanged else position
            if since and metrics.length:
                self.applied[rule.id] = since
        withdrawn: list[Withdrawn] = []
        for table in before.tables():
            heir = next((mine for mine in self.tables() if mine.signal == table.signal), None)
            if heir is not None:
                heir.last_ms[: table.length] = table.last_ms[: table.length]
            for row, tracks in table.tracks.items():
                for rule_id, track in tracks.items():
                    if heir is not None and rule_id in unchanged and row in heir.bands and rule_id in heir.bands[row].judges:
                        heir.tracks.setdefault(row, {})[rule_id] = track
                    elif (told := track.open_alert()) is not None:
                        rule = before.rule(rule_id)
                        assert isinstance(rule.when, Comparison)
                        withdrawn.append(Withdrawn(rule, metrics.subjects[row], rule.when.signal, told))
        self.refresh(metrics)
        for table in self.tables():  # a new rule may care about what an old one did not
            self._all_loud(table, metrics)
        return withdrawn, self.silence.keep_told(before.silence.dump_told(), unchanged)

    def _all_loud(self, table: SignalTable, metrics: MetricTable) -> None:
        """Let every observation so far be looked at once more should one come late."""
        rows, window = slice(0, table.length), None if table.signal is None else table.signal.window
        last_ms = table.latest_ms[rows] if isinstance(table, DerivedTable) else metrics.last_ms[rows]
        latest_ms = last_ms + (0 if window is None else window.reach_ms)
        table.loud_ms[rows] = np.maximum(table.last_ms[rows], latest_ms)
        table.until_ms[rows] = last_ms + (0 if table.signal is None else table.signal.trailing_ms)
        for row, tracks in table.tracks.items():
            if not all(track.idle() for track in tracks.values()):
                table.loud_ms[row] = FOREVER

    def refresh(self, metrics: MetricTable) -> None:
        """Take over how far the metrics are that derived signals are made of."""
        for table in self.derived:
            table.refresh(metrics)

    def dump_state(self) -> dict[str, Any]:
        """Return the state as plain values and arrays."""
        return {
            "applied": dict(self.applied),
            "silence": self.silence.dump_told(),
            "signals": [(table.dump(), _plain(table.tracks)) for table in self.tables()],
        }

    def await_again(self, state: dict[str, Any]) -> None:
        """Wait for what a snapshot waited for, in its order. Comes before anything else is awaited."""
        for kind, name, tags, device, metric in state["silence"]["sources"]:
            self._await(Subject(kind, name, tags), device, metric, 0)

    def restore(self, state: dict[str, Any], metrics: MetricTable) -> None:
        """Take the state of a snapshot made under the same rules, every row being linked."""
        self.applied = dict(state["applied"])
        for table, (columns, tracks) in zip(self.tables(), state["signals"], strict=True):
            table.restore(columns)
            table.tracks = {row: {rule_id: Track(*parts) for rule_id, parts in held.items()} for row, held in tracks.items()}
        self.refresh(metrics)
        orphans = self.silence.keep_told(state["silence"], set(self._by_id))
        assert not orphans, orphans

    def open_peaks(self) -> dict[str, float]:
        """Return the most extreme value so far of each alert on values that is open, by its id: it may not have been told yet."""
        found = {}
        for table in self.tables():
            for row, rule_id, told in table.open_alerts():
                episode = table.tracks[row][rule_id].life.episode
                if episode is not None:
                    found[told.alert_id] = episode.peak
        return found

    def open_alerts(self) -> int:
        return sum(1 for table in self.tables() for _ in table.open_alerts()) + self.silence.open_alerts()


def _plain(tracks: dict[int, dict[str, Track]]) -> dict[int, dict[str, tuple[Any, ...]]]:
    return {row: {name: (held.life, held.settled, tuple(held.told)) for name, held in of.items()} for row, of in tracks.items()}
