"""What one journal row led to, and how windows and readings become blocks of it."""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rules.admission import Readings, Refused
from rules.columns import Integers, begins
from rules.series import NO_SERIES, SeriesTable
from rules.windows import Closed
from telemetry.alert import AlertEvent
from telemetry.blocks import READING_COLUMNS, WINDOW_COLUMNS, Block
from telemetry.books import Books
from telemetry.readings import SeriesKey
from telemetry.reasons import Reason


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


def quarantined(item: Refused, series: SeriesTable) -> Quarantined:
    """Return a reading that was not taken, with the names of what it was of."""
    if item.row == NO_SERIES:
        return Quarantined(item.message, item.reason, item.detail, "?", "", "")
    key = series.keys[item.row]
    return Quarantined(item.message, item.reason, item.detail, key.metric, series.topic_kinds[item.row], key.device)


def readings_block(readings: Readings, series: SeriesTable) -> Block | None:
    """Return readings, sorted by series, as a block; None where there are none."""
    if not len(readings.rows):
        return None
    local, keys = _local(readings.rows, series)
    return Block(keys, dict(zip(READING_COLUMNS, (local, _array("q", readings.times_ms), _array("d", readings.values)), strict=True)))


def window_blocks(closed: Sequence[Closed], series: SeriesTable) -> list[Block]:
    """Return windows of series as blocks."""
    blocks = []
    for item in closed:
        local, keys = _local(item.units, series)
        values = {**item.values, "opens_ms": item.opens_ms, "closes_ms": item.closes_ms, "revision": item.revisions}
        columns = {name: _array("q" if values[name].dtype == np.int64 else "d", values[name]) for name in WINDOW_COLUMNS[1:]}
        blocks.append(Block(keys, {"series": local, **columns}))
    return blocks


def _local(rows: Integers, series: SeriesTable) -> "tuple[array[int], list[SeriesKey]]":
    """Return the index of each row among the different rows, and their keys. Equal rows stand together."""
    first = begins(rows)
    local = np.cumsum(first) - 1
    return _array("i", local.astype(np.int32)), [series.keys[row] for row in rows[first].tolist()]


def _array(typecode: str, values: "np.ndarray[Any, Any]") -> "array[Any]":
    column = array(typecode)
    column.frombytes(values.tobytes())
    return column
