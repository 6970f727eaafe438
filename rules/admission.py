"""Which readings are taken: what can be true and in time, each once, and no more of a series than it may have."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.columns import Flags, Floats, Integers, begins, lengths
from rules.history import History
from rules.series import NO_SERIES, SeriesTable
from telemetry.clock import format_ms
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Packets
from telemetry.reasons import Reason

EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z: no device that publishes over MQTT measured before
LATEST_MS = 253_402_300_799_000  # 9999-12-31T23:59:59Z: the last that RFC 3339 can write
TIME_BITS = 42  # 139 years: the times of one journal row lie closer together, for they are after 2000 and not in the future
MINUTE_MS = 60_000
SHED_EVERY_MS = 1000


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
    """Return the readings that can be true and are in time, and the others with the first reason that speaks against each."""
    rows, times_ms, values, _ = readings
    lost = rows == NO_SERIES
    early = times_ms < np.maximum(series.oldest_ms[rows], EARLIEST_MS)
    future = times_ms > min(now_ms + max_skew_ms, LATEST_MS)
    implausible = ~((values >= series.low[rows]) & (values <= series.high[rows]))
    bad = lost | early | future | implausible
    if not bad.any():
        return readings, []
    refused = []
    for at in np.flatnonzero(bad).tolist():
        reason, detail = _why(at, readings, series, bool(future[at]), bool(early[at]))
        refused.append(Refused(reason, int(rows[at]), int(readings.messages[at]), detail))
    return readings.take(~bad), refused


def _why(at: int, readings: Readings, series: SeriesTable, future: bool, early: bool) -> tuple[Reason, str]:
    row, time_ms = int(readings.rows[at]), int(readings.times_ms[at])
    if row == NO_SERIES:
        return Reason.TOO_MANY_SERIES, "this shard holds as many series as it may"
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        return Reason.IMPOSSIBLE_TIME, f"time {time_ms} ms is before 2000 or after 9999"
    if future:
        return Reason.FUTURE_TIME, f"time {format_ms(time_ms)} is ahead of the clock by more than is allowed"
    metric = series.keys[row].metric
    low, high = series.low[row], series.high[row]
    if not low <= readings.values[at] <= high:
        unit = CATALOGUE[metric].unit if metric in CATALOGUE else ""
        return Reason.IMPLAUSIBLE, f"{metric} {readings.values[at]:g} {unit} is outside {low:g} to {high:g}"
    assert early
    oldest = format_ms(int(series.oldest_ms[row]))
    return Reason.TOO_LATE, f"time {format_ms(time_ms)} is before {oldest}: what {metric} was until then is final"


class Admitted(NamedTuple):
    """Readings sorted by series, time and value, each once."""

    readings: Readings
    late: NDArray[np.bool_]  # not after the last one of its series
    duplicates: int
    conflicts: int  # readings with another value than one of the same series and time


def admit(readings: Readings, series: SeriesTable, history: History) -> Admitted:
    """Sort readings and leave out those that are there already."""
    readings, tied = _sorted(readings)
    rows, times_ms, values, _ = readings
    behind = times_ms <= series.last_ms[rows]
    some_behind = bool(behind.any())
    if not some_behind and not tied:
        return Admitted(readings, behind, 0, 0)
    duplicate, conflict = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    if some_behind:
        at = np.flatnonzero(behind)
        duplicate[at], conflict[at] = history.holds(rows[at], times_ms[at], values[at])
    if tied:
        same_time = (rows[1:] == rows[:-1]) & (times_ms[1:] == times_ms[:-1])
        duplicate[1:] |= same_time & (values[1:] == values[:-1])
        conflict[1:] |= same_time
    kept = ~duplicate
    conflicts = int((conflict & kept).sum())
    return Admitted(readings.take(kept), behind[kept], int(duplicate.sum()), conflicts)


def _sorted(readings: Readings) -> tuple[Readings, bool]:
    """Return readings in the order (series, time, value), and whether some share series and time."""
    rows, times_ms, values, _ = readings
    if len(rows) < 2:
        return readings, False
    key = (rows << TIME_BITS) + (times_ms - times_ms.min())
    order = np.argsort(key)
    ordered = key[order]
    tied = bool((ordered[1:] == ordered[:-1]).any())
    return readings.take(np.lexsort((values, key)) if tied else order), tied


def shed(admitted: Admitted, series: SeriesTable, most: Integers) -> tuple[Admitted, Integers]:
    """Leave out what is more than a series may have in a minute of its own time; `most` is by kind. Returns the series of what was.

    Of a series that has had its number, the last reading of a journal row is kept, at most one a second of its time.
    """
    rows, times_ms, _, _ = admitted.readings
    starts = np.flatnonzero(begins(rows))
    touched, counts = rows[starts], lengths(starts, len(rows))
    ends_ms = series.minute_ends_ms[touched]
    first_ms, last_ms = times_ms[starts], times_ms[starts + counts - 1]
    inside = series.in_minute[touched] + counts
    allowed = most[series.kind[touched]] if len(most) > 1 else most[0]
    unusual = (inside > allowed) | (last_ms >= ends_ms) | (first_ms < ends_ms - MINUTE_MS)
    if not unusual.any():
        series.in_minute[touched] = inside
        return admitted, rows[:0]
    fresh = unusual & (first_ms >= ends_ms) & (first_ms // MINUTE_MS == last_ms // MINUTE_MS) & (counts <= allowed)
    inside[fresh] = counts[fresh]
    ends_ms[fresh] = (first_ms[fresh] // MINUTE_MS + 1) * MINUTE_MS
    alone = unusual & (counts == 1) & (last_ms < ends_ms - MINUTE_MS)  # a late one: its own minute is not counted any more
    inside[alone] -= 1
    kept = np.ones(len(rows), np.bool_)
    for at in np.flatnonzero(unusual & ~fresh & ~alone).tolist():
        group = slice(int(starts[at]), int(starts[at] + counts[at]))
        row, minute = int(touched[at]), int(last_ms[at]) // MINUTE_MS
        most_here, before = int(most[series.kind[row]]), int(series.in_minute[row])
        known = int(ends_ms[at]) // MINUTE_MS - 1
        kept[group] = _thinned(times_ms[group], most_here, before, known, int(series.last_ms[row]))
        latest = max(minute, known)
        inside[at] = (before if latest == known else 0) + int((times_ms[group] // MINUTE_MS == latest).sum())
        ends_ms[at] = (latest + 1) * MINUTE_MS
    series.in_minute[touched], series.minute_ends_ms[touched] = inside, ends_ms
    if kept.all():
        return admitted, rows[:0]
    return Admitted(admitted.readings.take(kept), admitted.late[kept], admitted.duplicates, admitted.conflicts), rows[~kept]


def _thinned(times_ms: Integers, allowed: int, before: int, minute: int, last_ms: int) -> Flags:
    """Return which readings of one series are kept, in order of time; `before` were in `minute`, its latest was at `last_ms`."""
    kept = np.ones(len(times_ms), np.bool_)
    minutes = times_ms // MINUTE_MS
    for one in np.unique(minutes).tolist():
        at = np.flatnonzero(minutes == one)
        free = max(allowed - (before if one == minute else 0), 0)
        if len(at) <= free:
            continue
        kept[at[free:]] = False
        previous_ms = int(times_ms[at[free - 1]]) if free else last_ms
        kept[at[-1]] = int(times_ms[at[-1]]) >= previous_ms + SHED_EVERY_MS
    return kept
