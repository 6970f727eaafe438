"""The series of one shard: who they belong to, what came last, and what they can plausibly be. One row a series, for ever."""

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rules.columns import NEVER, Columns, Floats, Integers
from rules.registry import Assignment, Registry
from telemetry.metrics import Metric
from telemetry.readings import SeriesKey

MAX_SERIES = 2_000_000
NAMES_A_CHUNK = 1000
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
    derived = ("oldest_ms", "low", "high", "kind", "signal")
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
        self._names: list[bytes] = []  # of the first `_named` rows
        self._named = 0
        self._tags: list[tuple[tuple[str, str], ...]] = []
        self._tagged = np.empty(0, np.int32)  # by row: index in `_tags`

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
        self._tagged = np.empty(0, np.int32)
        for row, key in enumerate(self.keys):
            for assignment in registry.assigned.get(key.device, ()):
                if (assignment.kind, assignment.subject) == (key.kind, key.subject):
                    self.tags[row] = assignment.tags
            self._bound(row, catalogue)

    def _bound(self, row: int, catalogue: Mapping[str, Metric]) -> None:
        metric = self.keys[row].metric
        if metric in catalogue:
            self.low[row], self.high[row] = catalogue[metric].low, catalogue[metric].high

    def names(self) -> dict[str, Any]:
        """Return what a snapshot needs to make the rows again: their keys, packed a thousand at a time, and their tags."""
        while self._named + NAMES_A_CHUNK <= self.length:
            self._names.append(self._packed_names(self._named, self._named + NAMES_A_CHUNK))
            self._named += NAMES_A_CHUNK
        if len(self._tagged) != self.length:
            different = {tags: number for number, tags in enumerate(dict.fromkeys(self.tags))}
            self._tags, self._tagged = list(different), np.array([different[tags] for tags in self.tags], np.int32)
        return {"keys": [*self._names, self._packed_names(self._named, self.length)], "tags": self._tags, "tagged": self._tagged.copy()}

    def _packed_names(self, begin: int, end: int) -> bytes:
        keys = [(*key, kind) for key, kind in zip(self.keys[begin:end], self.topic_kinds[begin:end], strict=True)]
        return zlib.compress(json.dumps(keys).encode(), 1)

    @classmethod
    def again(cls, names: dict[str, Any], columns: dict[str, Any], catalogue: Mapping[str, Metric]) -> "SeriesTable":
        """Return the table that `names` and `dump` were taken of."""
        self = cls()
        keys = [key for packed in names["keys"] for key in json.loads(zlib.decompress(packed))]
        for (kind, subject, device, metric, topic_kind), number in zip(keys, names["tagged"].tolist(), strict=True):
            self.add(SeriesKey(kind, subject, device, metric), topic_kind, names["tags"][number], catalogue)
        self.restore(columns)
        return self
