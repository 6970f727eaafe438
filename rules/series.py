"""The series of one shard: who they belong to, what came last, and what they can plausibly be. One row a series, for ever."""

from collections.abc import Mapping

import numpy as np

from rules.columns import NEVER, Columns, Floats, Integers
from rules.registry import Registry
from telemetry.metrics import Metric
from telemetry.readings import SeriesKey

MAX_SERIES = 2_000_000
MAX_REMEMBERED_PACKETS = 500_000
NO_SERIES = -1

PacketShape = tuple[str, str, tuple[str, ...]]
"""Kind, device and metrics of a packet: what decides which series its values belong to."""


class SeriesTable(Columns):
    """`keys[row]` names a series; the columns hold its state. Units and times as everywhere: catalogue units, milliseconds."""

    spec = {
        "last_ms": (np.int64, NEVER),  # the latest event time
        "last_value": (np.float64, np.nan),
        "last_received_ms": (np.int64, NEVER),
        "low": (np.float64, -np.inf),  # plausible bounds, inclusive
        "high": (np.float64, np.inf),
        "kind": (np.int64, -1),  # index in `kinds`
        "signal": (np.int64, -1),  # row in the signal table, -1 where no rule watches
        "silence": (np.int64, -1),  # row in the silence table, for the metric
        "device_silence": (np.int64, -1),  # for the whole device
    }
    last_ms: Integers
    last_value: Floats
    last_received_ms: Integers
    low: Floats
    high: Floats
    kind: Integers
    signal: Integers
    silence: Integers
    device_silence: Integers

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[SeriesKey] = []
        self.tags: list[tuple[tuple[str, str], ...]] = []
        self.rows: dict[tuple[str, str, str], int] = {}  # topic's kind, device, metric
        self.topic_kinds: list[str] = []
        self.kinds: list[str] = []  # of subjects
        self._rows_of_packet: dict[PacketShape, list[int]] = {}
        self._names, self._named = "", 0

    def packet_rows(self, shape: PacketShape) -> list[int] | None:
        """Return the rows of a packet's values, or None where some of its series are new."""
        return self._rows_of_packet.get(shape)

    def add_packet(self, shape: PacketShape, registry: Registry, catalogue: Mapping[str, Metric]) -> list[int]:
        """Return the rows of a packet's values, making the series that are new; NO_SERIES where the table is full."""
        kind, device, metrics = shape
        rows = [self.add(kind, device, metric, registry, catalogue) for metric in metrics]
        if len(self._rows_of_packet) >= MAX_REMEMBERED_PACKETS:
            self._rows_of_packet.clear()
        if NO_SERIES not in rows:
            self._rows_of_packet[shape] = rows
        return rows

    def add(self, kind: str, device: str, metric: str, registry: Registry, catalogue: Mapping[str, Metric]) -> int:
        """Return the row of a series, making it if it is new; NO_SERIES where the table is full."""
        known = self.rows.get((kind, device, metric))
        if known is not None:
            return known
        row = len(self.keys)
        if row >= MAX_SERIES:
            return NO_SERIES
        self.rows[kind, device, metric] = row
        self.topic_kinds.append(kind)
        self.keys.append(SeriesKey(kind, device, device, metric))
        self.tags.append(())
        self.extend(row + 1)
        self._describe(row, registry, catalogue)
        return row

    def describe_all(self, registry: Registry, catalogue: Mapping[str, Metric]) -> None:
        """Take over a changed registry or catalogue."""
        for row in range(self.length):
            self._describe(row, registry, catalogue)

    def _describe(self, row: int, registry: Registry, catalogue: Mapping[str, Metric]) -> None:
        key = self.keys[row]
        assignment = registry.assignment(self.topic_kinds[row], key.device)
        self.keys[row] = SeriesKey(assignment.kind, assignment.subject, key.device, key.metric)
        self.tags[row] = assignment.tags
        if assignment.kind not in self.kinds:
            self.kinds.append(assignment.kind)
        self.kind[row] = self.kinds.index(assignment.kind)
        if key.metric in catalogue:
            self.low[row], self.high[row] = catalogue[key.metric].low, catalogue[key.metric].high

    def names(self) -> str:
        """Return what a snapshot needs to find the rows again: topic's kind, device and metric of each, a line a row."""
        if self._named != self.length:
            self._names = "\n".join("\x1f".join(name) for name in self.rows)
            self._named = self.length
        return self._names
