"""The series of one shard: who they belong to, what came last, and what they can plausibly be. One row a series, for ever."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rules.columns import NEVER, Columns, Floats, Integers
from rules.registry import Assignment, Registry
from telemetry.metrics import Metric
from telemetry.readings import SeriesKey

MAX_SERIES = 2_000_000
MAX_REMEMBERED_PACKETS = 500_000
NO_SERIES = -1
LARGEST = float(np.finfo(np.float64).max)

PacketShape = tuple[str, str, tuple[str, ...]]
"""Topic's kind, device and metrics of a packet: with the assignment of the device, what decides which series its values belong to."""


class SeriesTable(Columns):
    """`keys[row]` names a series; the columns hold its state. Units and times as everywhere: catalogue units, milliseconds."""

    spec = {
        "last_ms": (np.int64, NEVER),  # the latest event time
        "last_value": (np.float64, np.nan),
        "advanced_ms": (np.int64, NEVER),  # when that came, on the journal's clock
        "oldest_ms": (np.int64, NEVER),  # a reading before this is too late
        "low": (np.float64, -LARGEST),  # plausible bounds, inclusive
        "high": (np.float64, LARGEST),
        "kind": (np.int64, -1),  # index in `kinds`
        "signal": (np.int64, -1),  # row of its metric in the signal table
        "silence": (np.int64, -1),  # row in the silence table, for the metric
        "device_silence": (np.int64, -1),  # for the whole device
        "minute_ends_ms": (np.int64, NEVER),  # the end of the latest minute of event time, and how many readings that minute brought
        "in_minute": (np.int64, 0),
    }
    derived = ("kind", "signal")  # not in the snapshot: they follow from the rest
    last_ms: Integers
    last_value: Floats
    advanced_ms: Integers
    oldest_ms: Integers
    low: Floats
    high: Floats
    kind: Integers
    signal: Integers
    silence: Integers
    device_silence: Integers
    minute_ends_ms: Integers
    in_minute: Integers

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[SeriesKey] = []
        self.devices: list[str] = []
        self.tags: list[tuple[tuple[str, str], ...]] = []
        self.topic_kinds: list[str] = []
        self.rows: dict[SeriesKey, int] = {}
        self.kinds: list[str] = []  # of subjects
        self._rows_of_packet: dict[tuple[PacketShape, str] | PacketShape, list[int]] = {}
        self._names: tuple[str, list[Any], list[int]] | None = None

    def packet_rows(self, shapes: Iterable[PacketShape]) -> list[list[int] | None]:
        """Return for each packet the rows of its values, or None where some of its series are new or depend on the time."""
        return list(map(self._rows_of_packet.get, shapes))

    def add_packet(self, shape: PacketShape, assignment: Assignment, catalogue: Mapping[str, Metric], *, timed: bool) -> list[int]:
        """Return the rows of a packet's values, making the series that are new; NO_SERIES where the table is full.

        `timed` says that the device's subject depends on the time of the packet.
        """
        name: tuple[PacketShape, str] | PacketShape = (shape, assignment.subject) if timed else shape
        known = self._rows_of_packet.get(name)
        if known is not None:
            return known
        kind, device, metrics = shape
        rows = [
            self.add(SeriesKey(assignment.kind, assignment.subject, device, metric), kind, assignment.tags, catalogue) for metric in metrics
        ]
        if len(self._rows_of_packet) >= MAX_REMEMBERED_PACKETS:
            self._rows_of_packet.clear()
        if NO_SERIES not in rows:
            self._rows_of_packet[name] = rows
        return rows

    def add(self, key: SeriesKey, topic_kind: str, tags: tuple[tuple[str, str], ...], catalogue: Mapping[str, Metric]) -> int:
        """Return the row of a series, making it if it is new; NO_SERIES where the table is full."""
        known = self.rows.get(key)
        if known is not None:
            return known
        row = len(self.keys)
        if row >= MAX_SERIES:
            return NO_SERIES
        self.rows[key] = row
        self.keys.append(key)
        self.devices.append(key.device)
        self.tags.append(tags)
        self.topic_kinds.append(topic_kind)
        self.extend(row + 1)
        if key.kind not in self.kinds:
            self.kinds.append(key.kind)
        self.kind[row] = self.kinds.index(key.kind)
        self._bound(row, catalogue)
        return row

    def take_over(self, registry: Registry, catalogue: Mapping[str, Metric]) -> None:
        """Take over a changed registry or catalogue. A device that watches another subject from now on gets new series."""
        self._rows_of_packet.clear()
        self._names = None
        for row, key in enumerate(self.keys):
            for assignment in registry.assigned.get(key.device, ()):
                if (assignment.kind, assignment.subject) == (key.kind, key.subject):
                    self.tags[row] = assignment.tags
            self._bound(row, catalogue)

    def _bound(self, row: int, catalogue: Mapping[str, Metric]) -> None:
        metric = self.keys[row].metric
        if metric in catalogue:
            self.low[row], self.high[row] = catalogue[metric].low, catalogue[metric].high

    def names(self) -> tuple[str, list[Any], list[int]]:
        """Return what a snapshot needs to make the rows again: their keys as JSON, the different tags, and which of them each row has."""
        if self._names is None or len(self._names[2]) != self.length:
            different = {tags: number for number, tags in enumerate(dict.fromkeys(self.tags))}
            keys = json.dumps([(*key, kind) for key, kind in zip(self.keys, self.topic_kinds, strict=True)])
            self._names = keys, list(different), [different[tags] for tags in self.tags]
        return self._names

    def dump_state(self) -> dict[str, Any]:
        """Return copies of the columns that do not follow from the rest."""
        return {name: column for name, column in self.dump().items() if name not in self.derived}

    @classmethod
    def again(cls, names: tuple[str, list[Any], list[int]], columns: dict[str, Any], catalogue: Mapping[str, Metric]) -> "SeriesTable":
        """Return the table that `names` and `dump_state` were taken of."""
        self = cls()
        keys, different, numbers = names
        for (kind, subject, device, metric, topic_kind), number in zip(json.loads(keys), numbers, strict=True):
            self.add(SeriesKey(kind, subject, device, metric), topic_kind, different[number], catalogue)
        self.restore({name: column for name, column in columns.items() if name not in cls.derived})
        return self
