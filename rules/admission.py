"""Admission: which readings are taken, which are the same again, and which come behind their series. Nothing leaves uncounted.

A reading is refused when its value cannot be what the metric measures, or its time cannot be when it was measured. Of the others, one that
is not newer than its series' last is a duplicate where the very same was seen before, and late where not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.columns import Flags, Floats, Integers
from rules.recent import RecentReadings
from rules.series import NO_SERIES, SeriesTable
from telemetry.clock import format_ms
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Packets
from telemetry.reasons import Reason

EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z: no device that publishes over MQTT measured before
LATEST_MS = 253_402_300_799_000  # 9999-12-31T23:59:59Z: the last that RFC 3339 can write


class Readings(NamedTuple):
    """Readings as columns, one entry a reading."""

    rows: Integers  # series
    times_ms: Integers
    values: Floats
    messages: Integers  # index in the journal row

    def take(self, index: Integers | Flags) -> "Readings":
        return Readings(self.rows[index], self.times_ms[index], self.values[index], self.messages[index])


class Refused(NamedTuple):
    """A reading that was not taken."""

    reason: Reason
    row: int
    message: int
    detail: str


def flatten(packets: Packets, rows: list[int], now_ms: int) -> Readings:
    """Return packets as readings; `rows` are the series of all values, in order. A packet without a time was measured now."""
    times_ms = np.frombuffer(packets.times_ms, np.int64) if len(packets.times_ms) else np.empty(0, np.int64)
    messages = np.frombuffer(packets.message, np.int64) if len(packets.message) else np.empty(0, np.int64)
    values = np.frombuffer(packets.values, np.float64) if len(packets.values) else np.empty(0)
    if len(values) != len(times_ms):
        sizes = np.fromiter(map(len, packets.metrics), np.int64, len(times_ms))
        times_ms, messages = np.repeat(times_ms, sizes), np.repeat(messages, sizes)
    if len(times_ms) and times_ms.min() == NO_TIME:
        times_ms = np.where(times_ms == NO_TIME, now_ms, times_ms)
    return Readings(np.array(rows, np.int64), times_ms, values, messages)


def refuse(readings: Readings, series: SeriesTable, now_ms: int, max_skew_ms: int) -> tuple[Readings, list[Refused]]:
    """Return the readings that can be true, and the others with the first reason that speaks against each."""
    rows, times_ms, values, _ = readings
    lost = rows == NO_SERIES
    impossible = (times_ms < EARLIEST_MS) | (times_ms > LATEST_MS)
    future = times_ms > now_ms + max_skew_ms
    implausible = ~((values >= series.low[rows]) & (values <= series.high[rows]))
    bad = lost | impossible | future | implausible
    if not bad.any():
        return readings, []
    refused = []
    for at in np.flatnonzero(bad).tolist():
        reason, detail = _why(at, readings, series, lost, impossible, future)
        refused.append(Refused(reason, int(rows[at]), int(readings.messages[at]), detail))
    return readings.take(~bad), refused


def _why(at: int, readings: Readings, series: SeriesTable, lost: Flags, impossible: Flags, future: Flags) -> tuple[Reason, str]:
    if lost[at]:
        return Reason.TOO_MANY_SERIES, "this shard holds as many series as it may"
    if impossible[at]:
        return Reason.IMPOSSIBLE_TIME, f"time {int(readings.times_ms[at])} ms is before 2000 or after 9999"
    if future[at]:
        return Reason.FUTURE_TIME, f"time {format_ms(int(readings.times_ms[at]))} is ahead of the clock by more than is allowed"
    metric = series.keys[readings.rows[at]].metric
    unit = CATALOGUE[metric].unit if metric in CATALOGUE else ""
    low, high = series.low[readings.rows[at]], series.high[readings.rows[at]]
    return Reason.IMPLAUSIBLE, f"{metric} {readings.values[at]:g} {unit} is outside {low:g} to {high:g}"


class Admitted(NamedTuple):
    """Readings sorted by series, time and arrival, less the duplicates. `late` marks those that are behind their series."""

    readings: Readings
    late: NDArray[np.bool_]
    duplicates: int


def admit(readings: Readings, series: SeriesTable, recent: RecentReadings) -> Admitted:
    """Tell duplicates and late readings apart. A second value for the same series and time is kept, as late: the first one stands."""
    order = np.lexsort((readings.times_ms, readings.rows))
    readings = readings.take(order)
    rows, times_ms, values, _ = readings
    behind = times_ms <= series.last_ms[rows]
    duplicate = np.zeros(len(rows), np.bool_)
    if behind.any():
        at = np.flatnonzero(behind)
        same_as_last = (times_ms[at] == series.last_ms[rows[at]]) & (values[at] == series.last_value[rows[at]])
        duplicate[at[same_as_last]] = True
        asked = at[~same_as_last]
        if len(asked):
            duplicate[asked] = recent.holds(rows[asked], times_ms[asked], values[asked])
    again = np.flatnonzero((rows[1:] == rows[:-1]) & (times_ms[1:] == times_ms[:-1])) + 1
    if len(again):
        _within_row(again, readings, behind, duplicate)
    if duplicate.any():
        kept = ~duplicate
        return Admitted(readings.take(kept), behind[kept], int(duplicate.sum()))
    return Admitted(readings, behind, 0)


def _within_row(again: Integers, readings: Readings, behind: Flags, duplicate: Flags) -> None:
    """Mark what repeats a series and time inside one journal row: the same value is a duplicate, another one is late."""
    seen: dict[tuple[int, int], set[float]] = {}
    for at in again.tolist():
        key = int(readings.rows[at]), int(readings.times_ms[at])
        values = seen.setdefault(key, {float(readings.values[at - 1])})
        value = float(readings.values[at])
        if value in values:
            duplicate[at] = True
        else:
            behind[at] = True
            values.add(value)
