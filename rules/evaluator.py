"""The evaluator: journal rows in, decisions out. One for each shard; it knows no Bytewax, no files, no network and no clock.

Theory of operation. The journal row, one group commit of ingest, is the atom: everything that a row brings is judged together, at the
row's time, and what comes out depends on the rows before it alone. So the same journal gives the same decisions however its rows are
batched, and whenever the process dies. Inside a row the readings are columns: admission, the history and the bands of the rules are a few
array operations; only readings that a rule may care about become Python objects (`rules/judging.py`). The history of each series is the
state from which windows and, where a reading is late, episodes are made (docs/design/007).
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from rules import in_force, recovery
from rules.admission import Admitted, Readings, Refused, admit, flatten, refuse, shed
from rules.columns import FOREVER, NEVER, Integers, begins
from rules.control import DEFAULT_SETTINGS, Settings, read_record
from rules.counting import Counting
from rules.cutting import Cutting, Ruled
from rules.events import offence_event, silence_event
from rules.history import History, HistoryChunk
from rules.judging import OFFSET_BITS, Decided, Judging, Seen
from rules.metrics import MetricTable, Subject
from rules.offences import Offences
from rules.outcome import Outcome, Quarantined, quarantined, readings_block, window_blocks
from rules.overdue import Overdue
from rules.registry import Registry
from rules.rule import NO_RULES, RuleSet
from rules.series import NO_SERIES, SeriesTable
from rules.settling import SETTLE_EVERY_MS, Settling
from rules.telling import Telling
from rules.watch import Watch
from rules.windows import Closed
from telemetry.alert import AlertEvent
from telemetry.blocks import Block
from telemetry.books import Books
from telemetry.metrics import CATALOGUE, Metric
from telemetry.readings import NO_TIME, Decoded
from telemetry.reasons import Reason

BOOKS_EVERY_MS = 1000


class Row(NamedTuple):
    """Where in the journal the evaluator is."""

    partition: int
    offset: int
    now_ms: int
    home: bool = True  # of the shard's own partition: its clock moves


class Evaluator:
    """The state of one shard."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.settings: Settings = DEFAULT_SETTINGS
        self.catalogue: dict[str, Metric] = dict(CATALOGUE)
        self.registry = Registry()
        self.controls: dict[str, str] = {}  # the control records in force, by type
        self.rules: RuleSet = NO_RULES
        self.watch = Watch(self.rules)
        self.offences = Offences()
        self.overdue = Overdue()
        self.hold(SeriesTable(), MetricTable())
        self.counting = Counting()
        self.latest_ms = self.books_ms = self.settle_ms = self.clock_ms = 0  # the clock: of the shard's own rows
        self.registry_due_ms = FOREVER  # an assignment begins or ends

    def hold(self, series: SeriesTable, metrics: MetricTable) -> None:
        """Build what works on the series, which have nothing in common with those before."""
        self.series, self.metrics, self.history = series, metrics, History()
        self.cutting = Cutting(series, metrics, self.history)
        self.judging = Judging(metrics, self.history, series.devices, self.cutting, self.partition)
        self.telling = Telling(series, metrics, self.judging)
        self.settling = Settling(series, metrics, self.history, self.judging, self.cutting)
        self.define()

    # -- rows in ---------------------------------------------------------------------------------------------------------------

    def on_messages(self, offset: int, count: int, now_ms: int, decoded: Decoded, origin: int | None = None) -> Outcome:
        """Take a row of `count` messages, received at `now_ms`; `offset` is the first one's.

        `origin` is the partition that carried it where that is not the shard's own: nobody's clock moves then.
        """
        row = Row(self.partition if origin is None else origin, offset, now_ms, home=origin is None)
        self.counting.messages(count, decoded)
        refused = [Quarantined(*refusal) for refusal in decoded.refusals]
        alerts = self._statuses(row, decoded) + self._misbehaved(row, decoded)
        readings = flatten(decoded.packets, self._rows(decoded, now_ms), now_ms)
        readings, impossible = refuse(readings, self.series, now_ms, self.settings.max_skew_ms)
        refused += [quarantined(item, self.series) for item in impossible]
        self.counting.quarantined.update(item.reason for item in refused)
        alerts += self._offended(row, impossible)
        admitted = admit(readings, self.series, self.history)
        back = self._heard(row, readings)
        alerts += back
        kept = self.overdue.received(decoded.promises, readings, self.series, self.registry, now_ms, _position(row, 0))
        alerts += [offence_event(offence, self.watch.rules.version, now_ms) for offence in kept]
        if len(admitted.late):
            admitted, left_out = shed(admitted, self.series, self.settling.most_per_minute)
            if len(left_out):
                alerts += self._flooded(row, left_out)
        self.counting.admitted(admitted)
        if len(admitted.late):
            alerts += self._evaluate(row, admitted)
        if back:
            alerts += self.telling.after_all(self.watch, self.settings, row.now_ms)
        stored = readings_block(admitted.readings, self.series) if self.settings.store_readings else None
        return self._outcome(row, offset + count, alerts, [], stored, refused)

    def on_tick(self, offset: int, now_ms: int) -> Outcome:
        """Take a tick: nothing came until now."""
        self.counting.counts["ticks"] += 1
        return self._outcome(Row(self.partition, offset, now_ms), offset + 1, [], [], None, [])

    def on_control(self, offset: int, now_ms: int, body: bytes) -> Outcome:
        """Take a control record: rules, registry or settings to put in force, or that listening begins."""
        self.counting.counts["controls"] += 1
        row, record = Row(self.partition, offset, now_ms), read_record(body)
        alerts: list[AlertEvent] = []
        blocks: list[Block] = []
        if record["type"] == "listening":
            self.watch.silence.listen(now_ms)
            self.overdue.listen(now_ms)
            self.series.advanced_ms[: self.series.length] = now_ms
            self.metrics.advanced_ms[: self.metrics.length] = now_ms
            self.cutting.reschedule()
        elif record["type"] in {"rules", "registry", "settings"} and self.controls.get(record["type"]) != body.decode():
            self.controls[record["type"]] = body.decode()
            alerts, blocks = in_force.put_in_force(self, record, (row.partition, row.offset), now_ms)
        self.books_ms = NEVER  # a control record is told of at once
        return self._outcome(row, offset + 1, alerts, blocks, None, [])

    # -- what a row's readings lead to --------------------------------------------------------------------------------------------

    def _rows(self, decoded: Decoded, now_ms: int) -> list[int]:
        """Return the series of every value, in order, making those that are new."""
        packets, timed = decoded.packets, self.registry.timed
        known = self.series.packet_rows(zip(packets.kinds, packets.devices, packets.metrics, strict=True))
        for number, found in enumerate(known):
            if found is None:
                before = self.series.length
                kind, device, metrics = packets.kinds[number], packets.devices[number], packets.metrics[number]
                time_ms = now_ms if packets.times_ms[number] == NO_TIME else packets.times_ms[number]
                assignment = self.registry.assignment(kind, device, time_ms)
                known[number] = self.series.add_packet((kind, device, metrics), assignment, self.catalogue, timed=device in timed)
                self._link(range(before, self.series.length), now_ms)
        return list(chain.from_iterable(known))  # type: ignore[arg-type]  # none is None by now

    def _link(self, rows: range, now_ms: int) -> None:
        """Connect new series to their metrics, the rules and the windows."""
        series, metrics = self.series, self.metrics
        for row in rows:
            key, tags = series.keys[row], series.tags[row]
            subject = Subject(key.kind, key.subject, tags)
            metric = series.signal[row] = metrics.add(subject, key.metric, row, series.devices)
            series.oldest_ms[row] = metrics.settled_ms[metric] + 1
            self.watch.link(metric, subject, key.metric)
            in_force.await_series(self, row, now_ms)
        self.history.extend(series.length)
        self.cutting.extend()
        for kind in sorted({series.keys[row].kind for row in rows} - self.cutting.told.keys()):
            self.cutting.add_kind(kind)
            self.settling.define(self.settings, self.watch)

    def _statuses(self, row: Row, decoded: Decoded) -> list[AlertEvent]:
        ended = []
        for status in decoded.statuses:
            assignment = self.registry.assignment(status.kind, status.device, row.now_ms)
            source = self.watch.add_device(status.device, assignment, row.now_ms)
            if status.online:
                ended += self.watch.silence.heard(np.array([source]), row.now_ms, home=row.home)
            else:
                self.watch.silence.went_offline(source, row.now_ms)
        return [silence_event(fallen, self.watch.rules.version, row.partition, row.offset, row.now_ms) for fallen in ended]

    def _heard(self, row: Row, readings: Readings) -> list[AlertEvent]:
        silence = self.watch.silence
        if not len(silence.names) or not len(readings.rows):
            return []
        sources = np.concatenate([self.series.silence[readings.rows], self.series.device_silence[readings.rows]])
        ended = silence.heard(sources, row.now_ms, home=row.home)
        return [silence_event(fallen, self.watch.rules.version, row.partition, row.offset, row.now_ms) for fallen in ended]

    def _offended(self, row: Row, refused: list[Refused]) -> list[AlertEvent]:
        noted = [
            self.offences.note(
                item.reason, self.series.keys[item.row], self.series.tags[item.row], row.now_ms, _position(row, item.message)
            )
            for item in refused
            if item.row != NO_SERIES
        ]
        return [offence_event(offence, self.watch.rules.version, row.now_ms) for offence in noted if offence is not None]

    def _misbehaved(self, row: Row, decoded: Decoded) -> list[AlertEvent]:
        """Return the offences that whole messages begin."""
        if not (decoded.refusals or decoded.changes or decoded.shed):
            return []
        noted = self.offences.of_messages(decoded, self.registry, row.now_ms, _position(row, 0))
        return [offence_event(offence, self.watch.rules.version, row.now_ms) for offence in noted]

    def _flooded(self, row: Row, left_out: Integers) -> list[AlertEvent]:
        self.counting.quarantined[Reason.FLOOD] += len(left_out)
        return self._offended(row, [Refused(Reason.FLOOD, series, 0, "") for series in np.unique(left_out).tolist()])

    def _evaluate(self, row: Row, admitted: Admitted) -> list[AlertEvent]:
        readings, late, _, _ = admitted
        rows, times_ms, values, messages = readings
        metrics = self.series.signal[rows]
        positions = messages + _position(row, 0)
        behind = times_ms <= self.metrics.last_ms[metrics]
        self.history.take(rows, times_ms, values, positions, late)
        if self.offences.open:
            self.offences.heard((self.series.devices[series] for series in rows.tolist()), row.now_ms)
        self._advance(row, readings.take(~late) if late.any() else readings)
        seen = Seen(metrics, times_ms, values, positions, rows, behind)
        decided = self.judging.on_readings(self.watch.readings, seen)
        for table in self.watch.trailing:
            decided += self.judging.on_trailing(table, seen)
        for derived in self.watch.derived:
            decided += self.judging.on_derived(derived, seen)
        self.cutting.arrived(rows, times_ms, row.now_ms if row.home else self.clock_ms)
        return self.telling.events(self.watch, self.settings, decided, row.now_ms)

    def _advance(self, row: Row, new: Readings) -> None:
        """Move the clocks of series and metrics to their newest readings."""
        if not len(new.rows):
            return
        ends = np.flatnonzero(begins(new.rows[::-1])[::-1])
        touched, newest_ms = new.rows[ends], new.times_ms[ends]
        series, metrics = self.series, self.metrics
        series.last_ms[touched], series.last_value[touched], series.advanced_ms[touched] = newest_ms, new.values[ends], row.now_ms
        self.latest_ms = max(self.latest_ms, int(newest_ms.max()))
        of = series.signal[touched]
        series.oldest_ms[touched] = np.maximum(newest_ms - self.settling.horizon_ms[series.kind[touched]], metrics.settled_ms[of] + 1)
        if metrics.series:
            ahead = newest_ms > metrics.last_ms[of]
            of, newest_ms = of[ahead], newest_ms[ahead]
            np.maximum.at(metrics.last_ms, of, newest_ms)
        else:
            metrics.last_ms[of] = newest_ms
        metrics.advanced_ms[of] = row.now_ms

    def _windows_told(self, row: Row, due: tuple[list[Closed], list[Ruled]], windows: list[Block]) -> list[AlertEvent]:
        """Add windows to those that are to be told, and show them to the rules."""
        told, ruled = due
        windows += window_blocks(told, self.series)
        decided: list[Decided] = []
        for signals, closed, late in ruled:
            for table in signals:
                decided += self.judging.on_windows(table, closed, late=late)
        return self.telling.events(self.watch, self.settings, decided, row.now_ms)

    # -- what goes out -----------------------------------------------------------------------------------------------------------

    def _outcome(
        self, row: Row, end: int, alerts: list[AlertEvent], windows: list[Block], readings: Block | None, refused: list[Quarantined]
    ) -> Outcome:
        books = None
        if row.home:
            self.clock_ms = row.now_ms
            alerts += self._on_the_clock(row, end)  # absences first: what a stale window says is for the record only
            settles = row.now_ms // SETTLE_EVERY_MS != self.settle_ms // SETTLE_EVERY_MS
            revised = self.cutting.revise_due(FOREVER if settles else row.now_ms)  # what is to become final must be told before
            alerts += self._windows_told(row, revised, windows)
            alerts += self._windows_told(row, self.cutting.close_due(row.now_ms), windows)
            if settles:
                self.settle_ms = row.now_ms
                self.settling.settle(self.watch, row.now_ms)
            if row.now_ms // BOOKS_EVERY_MS != self.books_ms // BOOKS_EVERY_MS:
                self.books_ms = row.now_ms
                books = self.books(end, row.now_ms)
        self.counting.raised(alerts)
        return Outcome(alerts, windows, readings, refused, books)

    def _on_the_clock(self, row: Row, end: int) -> list[AlertEvent]:
        """Return what follows from the time alone: absences, broken promises, offences that are over, assignments that begin or end."""
        version, now_ms = self.watch.rules.version, row.now_ms
        position = self.partition, end - 1
        alerts = in_force.expect(self, version, position, now_ms) if now_ms >= self.registry_due_ms else []
        alerts += [silence_event(item, version, *position, now_ms) for item in self.watch.silence.due(now_ms)]
        due = self.overdue.due(self.series, self.registry, now_ms)
        alerts += [offence_event(offence, version, now_ms) for offence in [*due, *self.offences.over(now_ms)]]
        return alerts

    def books(self, end: int, now_ms: int) -> Books:
        """Return the counts up to an offset, exclusive."""
        return self.counting.books(
            self.partition,
            end,
            now_ms,
            event_time_ms=self.latest_ms,
            open_alerts=self.watch.open_alerts() + len(self.offences.open) + len(self.overdue.open),
            series=self.series.length,
            state_bytes=self.state_bytes(),
        )

    def subjects(self) -> int:
        """Return of how many subjects something was measured."""
        return len({subject.identity for subject in self.metrics.subjects})

    def state_bytes(self) -> int:
        """Return the memory that the shard's arrays take, the history included."""
        columns = [self.series, self.metrics, *self.watch.tables(), *self.cutting.told.values(), *self.cutting.ruled.values()]
        return self.history.size_bytes() + sum(table.size_bytes() for table in columns)

    def define(self) -> list[Closed]:
        """Work out what follows from settings and rules; returns the windows that end with it."""
        closed = self.cutting.define(self.settings, self.watch.windowed)
        self.judging.applied = self.watch.applied
        self.settling.define(self.settings, self.watch)
        return closed

    # -- state --------------------------------------------------------------------------------------------------------------------

    @property
    def retention_ms(self) -> int:
        """How old, on the journal's clock, a chunk of the history may become before it can go."""
        return self.settling.retention_ms(self.settings)

    def take_history(self) -> HistoryChunk | None:
        """Return what was accepted since this was last asked for; `restore` needs all of it that is younger than `retention_ms`."""
        return self.history.take_new()

    def snapshot(self) -> dict[str, Any]:
        """Return the state without the history, as plain values and arrays, nothing shared with the live state (`rules/recovery.py`)."""
        return recovery.dump(self)

    @classmethod
    def restore(cls, partition: int, partitions: int, state: dict[str, Any], history: Iterable[HistoryChunk]) -> "Evaluator":
        """Return the evaluator that a snapshot was taken of. Raises ValueError for a snapshot of another version."""
        self = cls(partition, partitions)
        recovery.load(self, state, history)
        return self


def _position(row: Row, message: int) -> int:
    return (row.partition << OFFSET_BITS) + row.offset + message
