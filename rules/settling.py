"""What becomes final: what is behind the horizon. Late readings before it are refused, the history before it goes, a good part at once."""

import numpy as np

from rules.columns import FOREVER, Integers
from rules.control import OTHER_GRACE_MS, OTHER_HISTORY_READINGS, OTHER_HORIZON_MS, OTHER_MAX_PER_MINUTE, Settings
from rules.cutting import Cutting
from rules.derived import NO_ROW, DerivedTable
from rules.history import History
from rules.judging import Judging
from rules.metrics import MetricTable
from rules.series import SeriesTable
from rules.watch import Watch

SETTLE_EVERY_MS = 60_000
SETTLE_SHARE = 8  # what is behind the horizon by an eighth of it is settled
PATIENCE_MS = 24 * 3_600_000
"""A device that is silent for longer than this holds up no longer what becomes final of a metric that others bring too."""


class Settling:
    """The limits of each kind, as arrays by its index in `series.kinds`, and the moving of what is final."""

    def __init__(self, series: SeriesTable, metrics: MetricTable, history: History, judging: Judging, cutting: Cutting) -> None:
        self.series, self.metrics, self.history = series, metrics, history
        self.judging, self.cutting = judging, cutting
        self.horizon_ms = self.grace_ms = self.reach_ms = self.most_held = self.most_per_minute = np.empty(0, np.int64)

    def define(self, settings: Settings, watch: Watch) -> None:
        """Take over settings and rules, for the kinds there are."""
        self.horizon_ms = self._by_kind(settings.horizon_ms, OTHER_HORIZON_MS)
        self.grace_ms = self._by_kind(settings.grace_ms, OTHER_GRACE_MS)
        self.most_held = self._by_kind(settings.history_readings, OTHER_HISTORY_READINGS)
        self.most_per_minute = self._by_kind(settings.max_per_minute, OTHER_MAX_PER_MINUTE)
        self.reach_ms = np.array([max(watch.reach_ms(kind), self.cutting.reach_ms(kind)) for kind in self.series.kinds], np.int64)
        rows = slice(0, self.series.length)
        behind_ms = self.series.last_ms[rows] - self.horizon_ms[self.series.kind[rows]]
        self.series.oldest_ms[rows] = np.maximum(behind_ms, self.metrics.settled_ms[self.series.signal[rows]] + 1)

    def _by_kind(self, given: dict[str, int], other: int) -> Integers:
        return np.array([given.get(kind, other) for kind in self.series.kinds], np.int64)

    def retention_ms(self, settings: Settings) -> int:
        """Return how old, on the journal's clock, a chunk of the history may become before it can go."""
        needed = int((self.horizon_ms + self.reach_ms).max(initial=max(settings.horizon_ms.values(), default=OTHER_HORIZON_MS)))
        return 2 * needed + PATIENCE_MS + settings.max_skew_ms + 10 * SETTLE_EVERY_MS

    def settle(self, watch: Watch, now_ms: int) -> None:
        """Let what is behind the horizon become final, a good part of it at once."""
        series, metrics, history = self.series, self.metrics, self.history
        tables = list(watch.tables())
        due, until = self._due(now_ms, _together(watch.derived, metrics.length))
        if not len(due):
            return
        of, kinds = series.signal[: series.length], series.kind[: series.length]
        held, reach = history.counts(), self.reach_ms[kinds]
        for row in due.tolist():
            self.judging.settle(tables, row, int(until[row]))
        metrics.settled_ms[due] = np.maximum(metrics.settled_ms[due], until[due])
        of_due = np.zeros(metrics.length, np.bool_)
        of_due[due] = True
        members = np.flatnonzero(of_due[of])
        settled = metrics.settled_ms[of[members]]
        series.oldest_ms[members] = np.maximum(series.oldest_ms[members], settled + 1)
        floor_ms = np.minimum(settled - reach[members], self.cutting.settle(due, members, of, metrics.settled_ms))
        history.drop(members, np.where(held[members] > self.most_held[kinds[members]], settled - reach[members], floor_ms))

    def _due(self, now_ms: int, together: Integers) -> tuple[Integers, Integers]:
        """Return the metrics of which enough is behind the horizon, or too much is held, and until when each metric may be final.

        Metrics with one number in `together` become final at once.
        """
        series, metrics, history = self.series, self.metrics, self.history
        if not metrics.length:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        of, kinds = series.signal[: series.length], series.kind[: series.length]
        rows = np.arange(series.length)
        held = history.counts()
        watermark = series.last_ms[rows] + np.maximum(now_ms - series.advanced_ms[rows] - PATIENCE_MS, 0)
        until = metrics.last_ms[: metrics.length].copy()
        np.minimum.at(until, of, watermark - np.maximum(self.horizon_ms, self.grace_ms)[kinds] - 1)  # windows close first
        crowded = np.flatnonzero(4 * held > 5 * self.most_held[kinds])
        if len(crowded):
            cut = history.times_ms[history.end[crowded] - self.most_held[kinds[crowded]] - 1]
            np.maximum.at(until, of[crowded], np.minimum(cut, watermark[crowded] - self.grace_ms[kinds[crowded]] - 1))
        least = np.full(metrics.length, FOREVER)
        np.minimum.at(least, together, until)
        until = least[together]
        filled = np.flatnonzero(held > 0)
        oldest = np.full(metrics.length, FOREVER)
        np.minimum.at(oldest, of[filled], history.times_ms[history.first[filled]])
        wait_ms = self.reach_ms[kinds] + self.horizon_ms[kinds] // SETTLE_SHARE
        wait = np.zeros(metrics.length, np.int64)
        np.maximum.at(wait, of, wait_ms)
        np.minimum.at(wait, of[crowded], 0)
        some = np.zeros(metrics.length, np.bool_)
        some[together[(oldest < FOREVER) & (oldest + wait <= until)]] = True
        return np.flatnonzero(some[together]), until


def _together(derived: list[DerivedTable], count: int) -> Integers:
    """Return a number for each metric, the same for those that derived signals tie together."""
    numbers = np.arange(count)
    changed = bool(derived)
    while changed:
        before = numbers.copy()
        for table in derived:
            rows = np.flatnonzero(table.host[:count] != NO_ROW)
            hosts = table.host[rows]
            np.minimum.at(numbers, hosts, numbers[rows])
            numbers[rows] = numbers[hosts]
        changed = bool((numbers != before).any())
    return numbers
