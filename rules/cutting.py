"""All windows of one shard: those that are told of every series of a kind, and those that rules watch of the metrics of subjects."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from rules.columns import FOREVER, Integers, begins
from rules.control import OTHER_GRACE_MS, OTHER_WINDOW_MS, Settings
from rules.history import History
from rules.metrics import MetricTable
from rules.past import MetricPast, SeriesPast
from rules.series import SeriesTable
from rules.signals import SignalTable
from rules.window import AGGREGATES, Window, window
from rules.windows import Closed, WindowTable


class Ruled(NamedTuple):
    """Closed windows that rules watch."""

    signals: list[SignalTable]
    closed: Closed
    late: bool  # they were closed before, or should have been


class Cutting:
    """`told` are the windows of series, by kind; `ruled` those of metrics, by kind and form."""

    def __init__(self, series: SeriesTable, metrics: MetricTable, history: History) -> None:
        self.series, self.metrics = series, metrics
        self.series_past, self.metric_past = SeriesPast(history), MetricPast(history, metrics)
        self.told: dict[str, WindowTable] = {}
        self.ruled: dict[tuple[str, Window], WindowTable] = {}
        self.by_signal: dict[SignalTable, dict[str, WindowTable]] = {}  # a rule's signal and a kind -> its windows
        self._signals: dict[Window, list[SignalTable]] = {}
        self._settings: Settings | None = None

    def define(self, settings: Settings, windowed: Collection[SignalTable]) -> list[Closed]:
        """Take over settings and rules; returns what was open of windows that have another form from now on."""
        ended: list[Closed | None] = []
        for kind, table in list(self.told.items()):
            if (table.window, table.grace_ms) != _form(settings, kind):
                ended += [table.revise_due(FOREVER, self.series_past), table.close_all(self.series_past)]
                del self.told[kind]
        for key, table in list(self.ruled.items()):
            if table.grace_ms != _grace_ms(settings, key[0], table.window):
                del self.ruled[key]
        self._settings = settings
        self._signals = {}
        for signals in windowed:
            assert signals.signal is not None
            assert signals.signal.window is not None
            self._signals.setdefault(signals.signal.window, []).append(signals)
        self.by_signal = {signals: {} for signals in windowed}
        for key in [key for key in self.ruled if key[1] not in self._signals]:
            del self.ruled[key]
        for kind in self.series.kinds:
            self.add_kind(kind)
        return [closed for closed in ended if closed is not None]

    def add_kind(self, kind: str) -> None:
        """Cut the series of a kind too."""
        assert self._settings is not None
        if kind not in self.told:
            self.told[kind] = WindowTable(*_form(self._settings, kind), AGGREGATES)
        for form, tables in self._signals.items():
            wanted = {table.signal.aggregate for table in tables if table.signal is not None}
            grace_ms = _grace_ms(self._settings, kind, form)
            table = self.ruled.setdefault((kind, form), WindowTable(form, grace_ms, wanted))
            table.wanted = tuple(sorted(wanted))
            for signals in tables:
                self.by_signal[signals][kind] = table
        self.extend()

    def extend(self) -> None:
        """Make room for new series and metrics."""
        for table in self.told.values():
            table.extend(self.series.length)
        for table in self.ruled.values():
            table.extend(self.metrics.length)

    def arrived(self, rows: Integers, times_ms: Integers, now_ms: int) -> None:
        """Take note of readings, sorted by series and time, that the history holds already."""
        kinds = self.series.kind[rows] if len(self.told) > 1 else None
        for kind, table in self.told.items():
            if kinds is None:
                units, times = rows, times_ms
            else:
                chosen = kinds == self.series.kinds.index(kind)
                units, times = rows[chosen], times_ms[chosen]
            if len(units):
                table.arrived(units, times, now_ms)
                table.schedule(units[begins(units)], self.series.last_ms, self.series.advanced_ms)
                self._arrived_ruled(kind, self.series.signal[units], times, now_ms)

    def _arrived_ruled(self, kind: str, units: Integers, times_ms: Integers, now_ms: int) -> None:
        for form, signals in self._signals.items():
            table = self.ruled[kind, form]
            watched = signals[0].applies[units]
            for other in signals[1:]:
                watched = watched | other.applies[units]
            chosen, times = units[watched], times_ms[watched]
            if not len(chosen):
                continue
            if self.metrics.series:  # readings of one metric may lie apart
                order = np.lexsort((times, chosen))
                chosen, times = chosen[order], times[order]
            table.arrived(chosen, times, now_ms)
            table.schedule(chosen[begins(chosen)], self.metrics.last_ms, self.metrics.advanced_ms)

    def revise_due(self, now_ms: int) -> tuple[list[Closed], list[Ruled]]:
        """Return the closed windows that late readings changed, where it is time to tell. To be judged before others close."""
        told = [table.revise_due(now_ms, self.series_past) for table in self.told.values()]
        ruled = [(self._signals[form], table.revise_due(now_ms, self.metric_past)) for (_, form), table in self.ruled.items()]
        return [closed for closed in told if closed is not None], [
            Ruled(of, closed, late=True) for of, closed in ruled if closed is not None
        ]

    def close_due(self, now_ms: int) -> tuple[list[Closed], list[Ruled]]:
        """Return the windows that close at a time of the journal's clock."""
        series, metrics, past = self.series, self.metrics, self.metric_past
        told = [table.close_due(now_ms, series.last_ms, series.advanced_ms, self.series_past) for table in self.told.values()]
        ruled = [
            (self._signals[form], table.close_due(now_ms, metrics.last_ms, metrics.advanced_ms, past))
            for (_, form), table in self.ruled.items()
        ]
        return [closed for closed in told if closed is not None], [
            Ruled(of, closed, late=False) for of, closed in ruled if closed is not None
        ]

    def reschedule(self) -> None:
        """Work out anew what is due when: the clocks were set."""
        for table in self.told.values():
            table.reschedule(self.series.last_ms, self.series.advanced_ms)
        for table in self.ruled.values():
            table.reschedule(self.metrics.last_ms, self.metrics.advanced_ms)

    def settle(self, metrics: Integers, series: Integers, of: Integers, settled_ms: Integers) -> Integers:
        """Take note up to when some metrics, and the series that bring them, are final; `of` is the metric of every series.

        Returns for each of the series the time before which its readings may go.
        """
        until_ms = np.full(len(series), FOREVER)
        for table in self.told.values():
            until_ms = np.minimum(until_ms, table.settle(series, settled_ms[of[series]]))
        by_metric = np.full(self.metrics.length, FOREVER)
        for table in self.ruled.values():
            by_metric[metrics] = np.minimum(by_metric[metrics], table.settle(metrics, settled_ms[metrics]))
        needed: Integers = np.minimum(until_ms, by_metric[of[series]]) - 1
        return needed

    def reach_ms(self, kind: str) -> int:
        """Return how far back of its end a window of a kind reaches that is told."""
        assert self._settings is not None
        return _form(self._settings, kind)[0].reach_ms

    def dump(self) -> dict[Any, Any]:
        """Return the state as plain values and arrays."""
        told = {kind: table.dump_told() for kind, table in self.told.items()}
        return told | {(kind, *form): table.dump_told() for (kind, form), table in self.ruled.items()}

    def restore(self, dumped: dict[Any, Any]) -> None:
        """Take what `dump` returned."""
        for key, state in dumped.items():
            told = isinstance(key, str)
            table = self.told[key] if told else self.ruled[key[0], Window(*key[1:])]
            table.restore_told(state)
            clocks = self.series if told else self.metrics
            if not table.window.gap_ms:
                table.reschedule(clocks.last_ms, clocks.advanced_ms)


def _form(settings: Settings, kind: str) -> tuple[Window, int]:
    form = window(settings.windows_ms.get(kind, OTHER_WINDOW_MS))
    return form, _grace_ms(settings, kind, form)


def _grace_ms(settings: Settings, kind: str, form: Window) -> int:
    return min(settings.grace_ms.get(kind, OTHER_GRACE_MS), form.reach_ms)
