"""The evaluator: journal rows in, decisions out. One for each shard; it knows no Bytewax, no files, no network and no clock.

Theory of operation. The journal row, one group commit of ingest, is the atom: everything that a row brings is judged together, at the
row's time, and what comes out depends on the rows before it alone. So the same journal gives the same decisions however its rows are
batched, and whenever the process dies. Inside a row the readings are columns: admission, windows and the bands of the rules are a few array
operations; only readings that a rule may care about become Python objects (`rules/lifecycle.py`).
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rules.admission import Admitted, Readings, Refused, admit, flatten, refuse
from rules.columns import NEVER, Integers, begins
from rules.control import DEFAULT_SETTINGS, OTHER_GRACE_MS, OTHER_WINDOW_MS, Settings, read_catalogue, read_record, read_settings
from rules.document import compile_rules
from rules.events import silence_event, value_event, withdrawn_event
from rules.recent import RecentReadings
from rules.registry import Registry
from rules.series import SeriesTable
from rules.watch import Watch
from rules.windows import Closed, WindowTable
from telemetry.alert import AlertEvent, Phase
from telemetry.blocks import READING_COLUMNS, WINDOW_COLUMNS, Block
from telemetry.books import Books
from telemetry.metrics import CATALOGUE, Metric
from telemetry.readings import Decoded, SeriesKey
from telemetry.reasons import Reason
from telemetry.routing import partition_of

BOOKS_EVERY_MS = 1000
SNAPSHOT_VERSION = 1


class Quarantined(NamedTuple):
    """A message, or one reading of it, that was not taken."""

    message: int  # index in the journal row
    reason: Reason
    detail: str
    metric: str
    kind: str
    device: str


class Outcome(NamedTuple):
    """What one journal row led to, in the order in which it is to be told."""

    alerts: list[AlertEvent]
    windows: list[Block]
    readings: Block | None
    quarantined: list[Quarantined]
    books: Books | None


class Evaluator:
    """The state of one shard."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.series = SeriesTable()
        self.recent = RecentReadings()
        self.watch = Watch()
        self.settings: Settings = DEFAULT_SETTINGS
        self.catalogue: dict[str, Metric] = dict(CATALOGUE)
        self.registry = Registry()
        self.tables: dict[tuple[str, int], WindowTable] = {}  # by kind and window size
        self.controls: dict[str, str] = {}  # the control records in force, by type
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.latest_ms = 0
        self.books_ms = 0

    # -- rows in ---------------------------------------------------------------------------------------------------------------

    def on_messages(self, offset: int, count: int, now_ms: int, decoded: Decoded) -> Outcome:
        """Take a row of `count` messages, received at `now_ms`; `offset` is the first one's."""
        packets = decoded.packets
        self.counts["messages"] += count
        self.counts["retained"] += decoded.retained
        self.counts["statuses"] += len(decoded.statuses)
        self.counts["unreadable"] += sum(not refusal.metric for refusal in decoded.refusals)
        self.counts["received"] += len(packets.values) + len(decoded.refusals)
        refused = [Quarantined(*refusal) for refusal in decoded.refusals]
        alerts = self._statuses(offset, now_ms, decoded)
        readings, impossible = refuse(
            flatten(packets, self._rows(packets.kinds, packets.devices, packets.metrics, now_ms), now_ms),
            self.series, now_ms, self.settings.max_skew_ms,
        )  # fmt: skip
        refused += [self._quarantined(item) for item in impossible]
        for item in refused:
            self.quarantined[item.reason] += 1
        admitted = admit(readings, self.series, self.recent)
        self.counts["duplicate"] += admitted.duplicates
        self.counts["accepted"] += len(admitted.late)
        self.counts["late"] += int(admitted.late.sum())
        alerts += self._heard(offset, now_ms, readings)
        blocks = self._evaluate(offset, now_ms, admitted, alerts)
        block = self._readings_block(admitted.readings) if self.settings.store_readings else None
        return self._outcome(offset + count, now_ms, alerts, blocks, block, refused)

    def on_tick(self, offset: int, now_ms: int) -> Outcome:
        """Take a tick: nothing came until now."""
        self.counts["ticks"] += 1
        return self._outcome(offset + 1, now_ms, [], [], None, [])

    def on_control(self, offset: int, now_ms: int, body: bytes) -> Outcome:
        """Take a control record: rules, registry or settings to put in force, or that listening begins."""
        self.counts["controls"] += 1
        record = read_record(body)
        alerts: list[AlertEvent] = []
        blocks: list[Block] = []
        if record["type"] == "listening":
            self.watch.silence.listen(now_ms)
            for table in self.tables.values():
                table.resume_clock(self.series.last_ms, now_ms)
        elif record["type"] in {"rules", "registry", "settings"} and self.controls.get(record["type"]) != body.decode():
            before = self.watch
            if record["type"] == "settings":
                blocks = self._blocks([closed for table in self.tables.values() if (closed := table.close_all()) is not None])
                self.tables = {}
            self.controls[record["type"]] = body.decode()
            self._put_in_force(record)
            self._watch_all(now_ms)
            for orphan in self.watch.take_over(before):
                rule, position = before.rule(orphan.rule_id), (self.partition, offset)
                event = withdrawn_event(orphan, rule, before.rules.version, position, now_ms)
                alerts.append(event)
        self.books_ms = NEVER  # a control record is told of at once
        return self._outcome(offset + 1, now_ms, alerts, blocks, None, [])

    # -- what a row's readings lead to --------------------------------------------------------------------------------------------

    def _rows(self, kinds: list[str], devices: list[str], metrics: list[tuple[str, ...]], now_ms: int) -> list[int]:
        rows: list[int] = []
        known = self.series.packet_rows
        for shape in zip(kinds, devices, metrics, strict=True):
            found = known(shape)
            if found is None:
                before = self.series.length
                found = self.series.add_packet(shape, self.registry, self.catalogue)
                for row in range(before, self.series.length):
                    self._watch_series(row, now_ms)
            rows += found
        return rows

    def _watch_series(self, row: int, now_ms: int) -> None:
        key, tags = self.series.keys[row], self.series.tags[row]
        self.series.signal[row], self.series.silence[row], self.series.device_silence[row] = self.watch.add_series(key, tags, now_ms)
        for size_ms in {int(self.settings.windows_ms.get(key.kind, OTHER_WINDOW_MS)), *self.watch.window_sizes(key.kind)}:
            if (key.kind, size_ms) not in self.tables:
                grace_ms = min(self.settings.grace_ms.get(key.kind, OTHER_GRACE_MS), size_ms)
                self.tables[key.kind, size_ms] = WindowTable(size_ms, grace_ms)
        for table in self.tables.values():
            table.extend(row + 1)

    def _watch_all(self, now_ms: int) -> None:
        """Link every series, and every assigned device, to the rules in force."""
        self.series.describe_all(self.registry, self.catalogue)
        for row in range(self.series.length):
            self._watch_series(row, now_ms)
        for device, assignments in self.registry.assigned.items():
            assignment = assignments[-1]
            if partition_of(assignment.subject, self.partitions) == self.partition:
                self.watch.add_assigned(device, assignment, now_ms)

    def _statuses(self, offset: int, now_ms: int, decoded: Decoded) -> list[AlertEvent]:
        ended = []
        for status in decoded.statuses:
            assignment = self.registry.assignment(status.kind, status.device)
            source = self.watch.add_device(status.device, assignment, now_ms)
            if status.online:
                ended += self.watch.silence.heard(np.array([source]), now_ms)
            else:
                self.watch.silence.went_offline(source, now_ms)
        return [silence_event(fallen, self.watch.rules.version, self.partition, offset, now_ms) for fallen in ended]

    def _heard(self, offset: int, now_ms: int, readings: Readings) -> list[AlertEvent]:
        if not len(self.watch.silence.names) or not len(readings.rows):
            return []
        sources = np.concatenate([self.series.silence[readings.rows], self.series.device_silence[readings.rows]])
        ended = self.watch.silence.heard(sources, now_ms)
        return [silence_event(fallen, self.watch.rules.version, self.partition, offset, now_ms) for fallen in ended]

    def _evaluate(self, offset: int, now_ms: int, admitted: Admitted, alerts: list[AlertEvent]) -> list[Block]:
        readings, late, _ = admitted
        if not len(readings.rows):
            return []
        made_room: list[tuple[str, int, Closed]] = []
        for (kind, size_ms), table in self.tables.items():
            part = readings.take(self.series.kind[readings.rows] == self.series.kinds.index(kind)) if len(self.tables) > 1 else readings
            closed, _ = table.add(part.rows, part.times_ms, part.values, self.series.last_ms)
            made_room += [(kind, size_ms, item) for item in closed]
        touched = readings.rows[begins(readings.rows)]
        new = readings.take(~late) if late.any() else readings
        if len(new.rows):
            ends = np.flatnonzero(begins(new.rows[::-1])[::-1])
            self.series.last_ms[new.rows[ends]] = new.times_ms[ends]
            self.series.last_value[new.rows[ends]] = new.values[ends]
            self.latest_ms = max(self.latest_ms, int(new.times_ms.max()))
        self.series.last_received_ms[touched] = now_ms
        for table in self.tables.values():
            table.schedule(touched, self.series.last_ms, now_ms)
        self.recent.add(readings.rows, readings.times_ms, readings.values)
        alerts += self._judge(now_ms, self.series.signal[new.rows], new.times_ms, new.values, offset + new.messages, new.rows)
        return [block for kind, size_ms, closed in made_room for block in self._closed(kind, size_ms, closed, offset, now_ms, alerts)]

    def _judge(
        self, now_ms: int, signals: Integers, times_ms: Integers, values: Any, offsets: Integers, rows: Integers
    ) -> list[AlertEvent]:
        judgements = self.watch.signals.judge(signals, times_ms, values, offsets, rows, self.series.keys)
        version, after_ms = self.watch.rules.version, self.settings.historic_after_ms
        return [value_event(judgement, version, self.partition, now_ms, after_ms) for judgement in judgements]

    def _closed(self, kind: str, size_ms: int, closed: Closed, offset: int, now_ms: int, alerts: list[AlertEvent]) -> list[Block]:
        """Show closed windows to the rules; return their summaries where they are of the kind's own size."""
        for signal in self.watch.aggregates(kind, size_ms):
            signals = self.watch.aggregate_rows(signal, self.series.length)[closed.rows]
            offsets = np.full(len(closed.rows), offset)
            alerts += self._judge(now_ms, signals, closed.closes_ms, closed.values[signal.aggregate], offsets, closed.rows)
        own_size = self.settings.windows_ms.get(kind, OTHER_WINDOW_MS)
        return self._blocks([closed]) if size_ms == own_size else []

    # -- what goes out -----------------------------------------------------------------------------------------------------------

    def _outcome(
        self, end: int, now_ms: int, alerts: list[AlertEvent], windows: list[Block], readings: Block | None, refused: list[Quarantined]
    ) -> Outcome:
        for (kind, size_ms), table in self.tables.items():
            closed = table.close_due(now_ms)
            if closed is not None:
                windows += self._closed(kind, size_ms, closed, end - 1, now_ms, alerts)
        version = self.watch.rules.version
        alerts += [silence_event(item, version, self.partition, end - 1, now_ms) for item in self.watch.silence.due(now_ms)]
        self.alerts.update(event.rule for event in alerts if event.phase is Phase.RAISED)
        books = None
        if now_ms // BOOKS_EVERY_MS != self.books_ms // BOOKS_EVERY_MS:
            self.books_ms = now_ms
            books = self.books(end, now_ms)
        return Outcome(alerts, windows, readings, refused, books)

    def books(self, end: int, now_ms: int) -> Books:
        """Return the counts up to an offset, exclusive."""
        counted = ("messages", "ticks", "controls", "retained", "statuses", "unreadable", "received", "accepted", "duplicate", "late")
        return Books(
            partition=self.partition,
            offset=end,
            time_ms=now_ms,
            event_time_ms=self.latest_ms,
            quarantined=dict(sorted(self.quarantined.items())),
            open_alerts=self.watch.open_alerts(),
            alerts=dict(sorted(self.alerts.items())),
            **{name: self.counts[name] for name in counted},
        )

    def _quarantined(self, item: Refused) -> Quarantined:
        if item.row < 0:
            return Quarantined(item.message, item.reason, item.detail, "?", "", "")
        key = self.series.keys[item.row]
        return Quarantined(item.message, item.reason, item.detail, key.metric, self.series.topic_kinds[item.row], key.device)

    def _readings_block(self, readings: Readings) -> Block | None:
        if not len(readings.rows):
            return None
        series, keys = self._local(readings.rows)
        return Block(keys, dict(zip(READING_COLUMNS, (series, _array("q", readings.times_ms), _array("d", readings.values)), strict=True)))

    def _blocks(self, closed: Sequence[Closed]) -> list[Block]:
        blocks = []
        for item in closed:
            series, keys = self._local(item.rows)
            values = dict.fromkeys(WINDOW_COLUMNS[3:], np.full(len(item.rows), np.nan)) | item.values
            values |= {"count": values["count"].astype(np.int64), "revision": np.ones(len(item.rows), np.int64)}
            columns: dict[str, array[Any]] = {
                "series": series,
                "opens_ms": _array("q", item.opens_ms),
                "closes_ms": _array("q", item.closes_ms),
            }
            columns |= {name: _array("q" if name in {"count", "revision"} else "d", values[name]) for name in WINDOW_COLUMNS[3:]}
            blocks.append(Block(keys, columns))
        return blocks

    def _local(self, rows: Integers) -> "tuple[array[int], list[SeriesKey]]":
        """Return the index of each row among the different rows, and their keys. Rows are sorted."""
        first = begins(rows)
        local = np.cumsum(first) - 1
        return _array("i", local.astype(np.int32)), [self.series.keys[row] for row in rows[first].tolist()]

    # -- state --------------------------------------------------------------------------------------------------------------------

    def _put_in_force(self, record: dict[str, Any]) -> None:
        match record["type"]:
            case "settings":
                self.settings = read_settings(record)
            case "registry":
                self.registry = Registry(record["devices"])
                self.catalogue = read_catalogue(record)
        rules = self.watch.rules
        if record["type"] == "rules":
            rules = compile_rules([(name, text) for name, text in record["documents"]], self.catalogue)
        self.watch = Watch(rules)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and arrays, nothing shared with the live state. Durable: it grows by new keys."""
        return {
            "version": SNAPSHOT_VERSION,
            "controls": dict(self.controls),
            "names": self.series.names(),
            "series": self.series.dump(),
            "recent": self.recent.dump(),
            "windows": {key: (table.dump(), table.next_due_ms) for key, table in self.tables.items()},
            "episodes": self.watch.signals.dump_episodes(),
            "silence": self.watch.silence.dump_told(),
            "counts": dict(self.counts),
            "quarantined": dict(self.quarantined),
            "alerts": dict(self.alerts),
            "clock": (self.latest_ms, self.books_ms),
        }

    @classmethod
    def restore(cls, partition: int, partitions: int, state: dict[str, Any]) -> "Evaluator":
        """Return the evaluator that a snapshot was taken of. Raises ValueError for a snapshot of another version."""
        if state["version"] != SNAPSHOT_VERSION:
            msg = f"the recovery snapshot is of version {state['version']}, this program reads version {SNAPSHOT_VERSION}"
            raise ValueError(msg)
        self = cls(partition, partitions)
        self.controls = dict(state["controls"])
        for kind in ("settings", "registry", "rules"):  # the rules need the registry's metrics
            if kind in self.controls:
                self._put_in_force(read_record(self.controls[kind].encode()))
        for line in state["names"].splitlines():
            topic_kind, device, metric = line.split("\x1f")
            self.series.add(topic_kind, device, metric, self.registry, self.catalogue)
        self.series.restore(
            {name: column for name, column in state["series"].items() if name not in {"kind", "signal", "silence", "device_silence"}}
        )
        self._watch_all(0)
        for key, (dumped, next_due_ms) in state["windows"].items():
            self.tables[key].restore(dumped)
            self.tables[key].next_due_ms = next_due_ms
        self.recent.restore(state["recent"])
        self.watch.restore(state["episodes"], state["silence"])
        self.counts.update(state["counts"])
        self.quarantined.update(state["quarantined"])
        self.alerts.update(state["alerts"])
        self.latest_ms, self.books_ms = state["clock"]
        return self


def _array(typecode: str, values: "np.ndarray[Any, Any]") -> "array[Any]":
    column = array(typecode)
    column.frombytes(values.tobytes())
    return column
