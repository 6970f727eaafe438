"""The metrics of the subjects of one shard: which series bring each, how far it is, and what of it is final. One row each, for ever."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rules.columns import NEVER, Columns, Integers


class Subject(NamedTuple):
    kind: str
    name: str
    tags: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        """Kind and name: a shipment and a patient may have the same name."""
        return f"{self.kind}/{self.name}"


class MetricTable(Columns):
    """`subjects[row]` and `names[row]` say of whom and what; a patient's SpO2 is one row, whichever monitors bring it."""

    spec = {
        "last_ms": (np.int64, NEVER),  # the latest event time
        "advanced_ms": (np.int64, NEVER),  # when that came, on the journal's clock
        "settled_ms": (np.int64, NEVER),  # what was measured until then is final
        "only": (np.int64, -1),  # the series that brings it, -1 where several do
    }
    derived = ("only",)
    last_ms: Integers
    advanced_ms: Integers
    settled_ms: Integers
    only: Integers

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[Subject] = []
        self.names: list[str] = []
        self.rows: dict[tuple[str, str, str], int] = {}  # kind, subject, metric
        self.series: dict[int, list[int]] = {}  # of those that several devices bring: in the order of the devices' names

    def add(self, subject: Subject, metric: str, series: int, devices: Sequence[str]) -> int:
        """Return the row of a subject's metric, which a series brings; `devices` are the names of devices, by series row."""
        key = subject.kind, subject.name, metric
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = len(self.names)
            self.subjects.append(subject)
            self.names.append(metric)
            self.extend(row + 1)
            self.only[row] = series
            return row
        self.subjects[row] = subject
        members = self.members(row)
        if series not in members:
            self.series[row] = sorted([*members, series], key=lambda member: devices[member])
            self.only[row] = -1
        return row

    def members(self, row: int) -> list[int]:
        """Return the series that bring a metric, in the order of their devices' names."""
        return self.series.get(row) or [int(self.only[row])]
