"""Showing observations to rules: in order, one by one; where the past changed, by folding it anew.

Theory of operation. The observations of a journal row come as columns, and the first question is which of them a rule may care about; only
those become objects. Observations of a metric that come in order are stepped. As soon as one is late, the metric's whole past after what is
settled is folded anew for the rules that may notice, in-order newcomers included, for they are in the past already.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from rules.columns import Flags, Floats, Integers
from rules.cutting import Cutting
from rules.derived import NO_ROW, DerivedPast, DerivedTable, trailing
from rules.history import History
from rules.lifecycle import Observation, Observations, holds_all
from rules.metrics import MetricTable, Subject
from rules.past import MetricPast
from rules.rule import Rule
from rules.signals import Judge, SignalTable
from rules.track import Verdict
from rules.windows import Closed

OFFSET_BITS = 48
NO_READINGS = Observations(np.empty(0, np.int64), np.empty(0), ("",), np.empty(0, np.int64))


class Decided(NamedTuple):
    """A verdict of a rule on a row of the metric table."""

    rule: Rule
    subject: Subject
    table: SignalTable
    row: int
    verdict: Verdict


class Seen(NamedTuple):
    """Observations as columns, one entry each."""

    rows: Integers  # of the metric table
    times_ms: Integers
    values: Floats
    positions: Integers
    series: Integers | None  # whose device names each; None: no device, these are aggregates
    late: Flags  # not after everything that was there

    def take(self, index: Integers | Flags) -> "Seen":
        series = None if self.series is None else self.series[index]
        return Seen(self.rows[index], self.times_ms[index], self.values[index], self.positions[index], series, self.late[index])


class Judging:
    """Asks the rules of one shard; `applied` is from which journal position on a rule judges, where it was not there from the start."""

    def __init__(self, metrics: MetricTable, history: History, devices: list[str], cutting: Cutting, home: int) -> None:
        self.metrics, self.history, self.devices, self.cutting, self.home = metrics, history, devices, cutting, home
        self.past = MetricPast(history, metrics)
        self.derived = DerivedPast(self.past, metrics)
        self.applied: dict[str, int] = {}

    # -- readings, and aggregates at every reading -----------------------------------------------------------------------------------

    def on_readings(self, table: SignalTable, seen: Seen) -> list[Decided]:
        """Show readings, which the history holds already, to the rules on readings."""
        loud = table.loud(seen.rows, seen.times_ms, seen.values)
        return self._examine(table, seen, loud) if loud.any() else []

    def on_trailing(self, table: SignalTable, seen: Seen) -> list[Decided]:
        """Show what an aggregate over the trailing span is at readings to the rules on it."""
        assert table.signal is not None
        applies = table.applies[seen.rows]
        if not applies.any():
            return []
        if table.signal.smooth():
            outside = applies & ~((seen.values > table.low[seen.rows]) & (seen.values < table.high[seen.rows]))
            if outside.any():  # it stays in the span for a while
                until_ms = seen.times_ms[outside] + table.signal.trailing_ms - 1
                np.maximum.at(table.until_ms, seen.rows[outside], until_ms)
            asked = applies & (seen.times_ms <= np.maximum(table.until_ms, table.loud_ms)[seen.rows])
            if not asked.any():
                return []
            applies = table.among(seen.rows[asked], seen.rows)
        seen = seen.take(applies)
        pairs, which = np.unique(np.stack([seen.rows, seen.times_ms], axis=1), axis=0, return_inverse=True)
        late = np.zeros(len(pairs), np.bool_)
        np.logical_or.at(late, which.ravel(), seen.late)
        values, positions = trailing(self.past, table.signal, pairs[:, 0], pairs[:, 1])
        there = ~np.isnan(values) | late
        observed = Seen(pairs[:, 0], pairs[:, 1], values, positions, None, late).take(there)
        loud = table.loud(observed.rows, observed.times_ms, observed.values) | observed.late
        return self._examine(table, observed, loud) if loud.any() else []

    def on_windows(self, table: SignalTable, closed: Closed, *, late: bool) -> list[Decided]:
        """Show closed windows to the rules on them; `late` are those that were told before, or that come before others that were."""
        assert table.signal is not None
        assert table.signal.window is not None
        rows, times_ms, positions = closed.units, closed.closes_ms, closed.positions
        values = closed.values[table.signal.aggregate].astype(np.float64)
        if late and table.signal.window.gap_ms:  # a session that grew was seen at another time before, which is after it began
            rows, positions = np.concatenate([rows, rows]), np.concatenate([positions, positions])
            times_ms, values = np.concatenate([closed.opens_ms, times_ms]), np.concatenate([np.full(len(values), np.nan), values])
        seen = Seen(rows, times_ms, values, positions, None, np.full(len(rows), late))
        seen = seen.take(seen.late | ~np.isnan(seen.values))
        loud = table.applies[seen.rows] & table.loud(seen.rows, seen.times_ms, seen.values)
        return self._examine(table, seen, loud) if loud.any() else []

    def on_derived(self, table: DerivedTable, seen: Seen) -> list[Decided]:
        """Show what follows from readings, with others of their subjects, to the rules on it."""
        seen = seen.take(table.host[seen.rows] != NO_ROW)
        if not len(seen.rows):
            return []
        hosts, times_ms = table.host[seen.rows], seen.times_ms
        behind = times_ms <= table.latest_ms[hosts]
        np.maximum.at(table.latest_ms, hosts, times_ms)
        outside = ~((seen.values > table.calm_low[seen.rows]) & (seen.values < table.calm_high[seen.rows]))
        np.maximum.at(table.until_ms, hosts[outside], times_ms[outside] + table.made_of.trailing_ms)
        asked = times_ms <= np.maximum(table.until_ms, table.loud_ms)[hosts]
        if not asked.any():
            return []
        asked = table.among(hosts[asked], hosts)
        pairs, which = np.unique(np.stack([hosts[asked], times_ms[asked]], axis=1), axis=0, return_inverse=True)
        late = np.zeros(len(pairs), np.bool_)
        np.logical_or.at(late, which.ravel(), behind[asked])
        values, positions = self.derived.at(table, pairs[:, 0], pairs[:, 1])
        observed = Seen(pairs[:, 0], pairs[:, 1], values, positions, None, late).take(~np.isnan(values) | late)
        loud = table.loud(observed.rows, observed.times_ms, observed.values) | observed.late
        return self._examine(table, observed, loud) if loud.any() else []

    # -- one metric at a time --------------------------------------------------------------------------------------------------------

    def _examine(self, table: SignalTable, seen: Seen, loud: Flags) -> list[Decided]:
        seen = seen.take(table.among(seen.rows[loud], seen.rows))
        names = self.devices
        devices = [""] * len(seen.rows) if seen.series is None else [names[row] for row in seen.series.tolist()]
        rows, times_ms, *others = (column.tolist() for column in (seen.rows, seen.times_ms, seen.values, seen.positions, seen.late))
        columns = zip(rows, times_ms, devices, *others, strict=True)
        decided: list[Decided] = []
        for row, group in groupby(sorted(columns), key=itemgetter(0)):
            if row not in table.bands:
                continue
            observations: list[Observation] = []
            late = False
            for _, time_ms, device, value, position, is_late in group:
                observations.append(Observation(time_ms, value, device, position))
                late |= is_late
            verdicts = self._revise(table, row, observations) if late else self._show(table, row, observations)
            subject = self.metrics.subjects[row]
            for judge, verdict in verdicts:
                decided.append(Decided(judge.rule, subject, table, row, verdict))
            table.tidy(row, max(self._latest_ms(table, row) if late else 0, observations[-1].time_ms))
        return decided

    def _show(self, table: SignalTable, row: int, observations: list[Observation]) -> Iterator[tuple[Judge, Verdict]]:
        band, subject = table.bands[row], self.metrics.subjects[row].identity
        for seen in observations:
            held = table.tracks.get(row, {})
            for judge in band.asked(seen.value, [name for name, track in held.items() if not track.idle()]):
                if not self.applied or self._judges(judge, seen.position):
                    rule_id = judge.rule.id
                    track = held.get(rule_id) or table.track(row, rule_id)
                    verdict = track.show(judge.terms, (rule_id, subject), seen)
                    if verdict is not None:
                        yield judge, verdict

    def _revise(self, table: SignalTable, row: int, observations: list[Observation]) -> Iterator[tuple[Judge, Verdict]]:
        past = self.observations(table, row)
        trailing_ms = table.signal.trailing_ms if table.signal is not None else 0
        earliest_ms, latest_ms = observations[0].time_ms, observations[-1].time_ms + max(trailing_ms - 1, 0)
        low, high = past.times_ms.searchsorted(earliest_ms), past.times_ms.searchsorted(latest_ms, "right")
        touched, subject = past.values[max(low - 1, 0) : high], self.metrics.subjects[row].identity  # a run may go on over what is gone
        for judge in table.bands[row].judges.values():
            track = table.tracks.get(row, {}).get(judge.rule.id)
            noticed = track is not None and track.touched_by(judge.terms, earliest_ms, latest_ms)
            if not noticed and not holds_all(judge.terms.when, touched).any():
                continue
            track = table.track(row, judge.rule.id)
            for verdict in track.revise(judge.terms, (judge.rule.id, subject), self._visible(judge, past), observations[0]):
                yield judge, verdict

    def observations(self, table: SignalTable, row: int) -> Observations:
        """Return what there is to see of a signal after what is settled."""
        if isinstance(table, DerivedTable):
            return self.derived.observations(table, row, table.floor_ms(row, self.metrics))
        return _defined(self._observations(table, row, int(self.metrics.settled_ms[row])))

    def _observations(self, table: SignalTable, row: int, settled_ms: int) -> Observations:
        signal = table.signal
        if signal is None:
            return self.past.observations(row, settled_ms, self.devices)
        if signal.window is not None:
            windows = self.cutting.by_signal[table].get(self.metrics.subjects[row].kind)
            closed = None if windows is None else windows.all_closed(row, self.past)
            if closed is None:
                return NO_READINGS
            values = closed.values[signal.aggregate].astype(np.float64)
            return _chosen(Observations(closed.closes_ms, values, ("",), closed.positions), closed.closes_ms > settled_ms)
        times_ms = np.unique(self.past.observations(row, settled_ms, self.devices).times_ms)
        if not len(times_ms):
            return NO_READINGS
        values, positions = trailing(self.past, signal, np.full(len(times_ms), row), times_ms)
        return Observations(times_ms, values, ("",), positions)

    def _latest_ms(self, table: SignalTable, row: int) -> int:
        """Return a time that no observation so far is after."""
        if isinstance(table, DerivedTable):
            return int(table.latest_ms[row])
        window = table.signal.window if table.signal is not None else None
        return int(self.metrics.last_ms[row]) + (window.reach_ms if window is not None else 0)

    def _judges(self, judge: Judge, position: int) -> bool:
        since = self.applied.get(judge.rule.id, 0)
        return not since or position >> OFFSET_BITS != self.home or position >= since

    def _visible(self, judge: Judge, past: Observations) -> Observations:
        """Return the part of the past that a rule judges."""
        since = self.applied.get(judge.rule.id, 0)
        if not since:
            return past
        chosen = (past.positions >> OFFSET_BITS != self.home) | (past.positions >= since)
        return _chosen(past, chosen)

    # -- what becomes final ------------------------------------------------------------------------------------------------------------

    def settle(self, tables: Iterable[SignalTable], row: int, settled_ms: int) -> None:
        """Let rules take into account for good what was measured of a metric until a time."""
        for table in tables:
            if row not in table.bands:
                continue
            before_ms = table.floor_ms(row, self.metrics) if isinstance(table, DerivedTable) else int(self.metrics.settled_ms[row])
            if row not in table.tracks and table.loud_ms[row] <= before_ms:
                continue
            past = self.observations(table, row)
            count = int(past.times_ms.searchsorted(settled_ms, "right"))
            for judge in table.bands[row].judges.values():
                track = table.tracks.get(row, {}).get(judge.rule.id)
                if track is None and not holds_all(judge.terms.when, past.values[:count]).any():
                    continue
                visible = self._visible(judge, past)
                within = int(visible.times_ms.searchsorted(settled_ms, "right"))
                table.track(row, judge.rule.id).settle(judge.terms, visible, within, settled_ms)
            table.tidy(row, 0)


def _defined(past: Observations) -> Observations:
    return past if not np.isnan(past.values).any() else _chosen(past, ~np.isnan(past.values))


def _chosen(past: Observations, chosen: Flags) -> Observations:
    devices = past.devices
    if len(devices) > 1:
        devices = [device for device, kept in zip(devices, chosen.tolist(), strict=True) if kept] or ("",)
    return Observations(past.times_ms[chosen], past.values[chosen], devices, past.positions[chosen])
