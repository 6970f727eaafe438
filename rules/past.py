"""The past of series and of signals, by time: what windows, trailing aggregates and folds are made of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rules.columns import FOREVER, Floats, Integers
from rules.history import History, spans
from rules.lifecycle import Observations
from rules.metrics import MetricTable


class Slices(NamedTuple):
    """Readings in groups: group `i` is `counts[i]` readings from `starts[i]` on, in the order (time, device, value). Groups may overlap."""

    starts: Integers
    counts: Integers
    times_ms: Integers
    values: Floats
    positions: Integers

    def latest_positions(self) -> Integers:
        """Return the journal position of the message of each group that was journalled last; groups must not be empty."""
        if not len(self.counts):
            return np.empty(0, np.int64)
        taken = self.positions[spans(self.starts, self.counts)]
        return np.maximum.reduceat(taken, np.cumsum(self.counts) - self.counts)

    def take(self, index: Integers) -> "Slices":
        return self._replace(starts=self.starts[index], counts=self.counts[index])


class SeriesPast:
    """The past of single series; a unit is a series' row."""

    def __init__(self, history: History) -> None:
        self.history = history

    def between(self, units: Integers, from_ms: Integers, until_ms: Integers) -> Slices:
        """Return the readings of each unit in `[from_ms, until_ms)`."""
        history = self.history
        starts = history.at_or_after(units, from_ms)
        counts = history.at_or_after(units, until_ms) - starts
        return Slices(starts, np.maximum(counts, 0), history.times_ms, history.values, history.positions)

    def first_from(self, units: Integers, from_ms: Integers) -> Integers:
        """Return the time of each unit's first reading at or after a time, FOREVER where there is none."""
        at = self.history.at_or_after(units, from_ms)
        there = at < self.history.end[units]
        return np.where(there, self.history.times_ms[np.where(there, at, 0)], FOREVER)


class MetricPast:
    """The past of the metrics of subjects, whichever devices brought them; a unit is a row of the metric table."""

    def __init__(self, history: History, metrics: MetricTable) -> None:
        self.history, self.metrics = history, metrics
        self.single = SeriesPast(history)

    def between(self, units: Integers, from_ms: Integers, until_ms: Integers) -> Slices:
        """Return the readings of each unit in `[from_ms, until_ms)`."""
        only = self.metrics.only[units]
        if (only >= 0).all():
            return self.single.between(only, from_ms, until_ms)
        members = [self.metrics.members(unit) for unit in units.tolist()]
        each = np.fromiter(map(len, members), np.int64, len(members))
        series = np.array([row for rows in members for row in rows], np.int64)
        parts = self.single.between(series, np.repeat(from_ms, each), np.repeat(until_ms, each))
        index = spans(parts.starts, parts.counts)
        times_ms = parts.times_ms[index]
        group = np.repeat(np.repeat(np.arange(len(units)), each), parts.counts)
        index = index[np.lexsort((times_ms, group))]  # stable: a device's readings stay together, devices in the order of their names
        counts = np.bincount(group, minlength=len(units))
        return Slices(
            np.cumsum(counts) - counts, counts, self.history.times_ms[index], self.history.values[index], self.history.positions[index]
        )

    def first_from(self, units: Integers, from_ms: Integers) -> Integers:
        """Return the time of each unit's first reading at or after a time, FOREVER where there is none."""
        only = self.metrics.only[units]
        if (only >= 0).all():
            return self.single.first_from(only, from_ms)
        return np.array([
            min(self.single.first_from(np.array([row]), np.array([since]))[0] for row in self.metrics.members(unit))
            for unit, since in zip(units.tolist(), from_ms.tolist(), strict=True)
        ])  # fmt: skip

    def observations(self, row: int, after_ms: int, devices: Sequence[str]) -> Observations:
        """Return the readings of a metric after a time; `devices` are the names of the series' devices, by series row."""
        members = self.metrics.members(row)
        if len(members) == 1:
            only = members[0]
            part = self.single.between(np.array([only]), np.array([after_ms + 1]), np.array([FOREVER]))
            at = slice(int(part.starts[0]), int(part.starts[0] + part.counts[0]))
            return Observations(part.times_ms[at], part.values[at], (devices[only],), part.positions[at])
        parts = self.single.between(np.array(members), np.full(len(members), after_ms + 1), np.full(len(members), FOREVER))
        index = spans(parts.starts, parts.counts)
        names = np.repeat(np.arange(len(members)), parts.counts)
        order = np.argsort(parts.times_ms[index], kind="stable")
        index, names = index[order], names[order]
        told = [devices[members[number]] for number in names.tolist()]
        return Observations(parts.times_ms[index], parts.values[index], told or ("",), parts.positions[index])
