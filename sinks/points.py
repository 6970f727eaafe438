"""Rows of the outbox as points of InfluxDB: which measurements, tags and fields there are. Dashboards are written against this page.

All times are nanoseconds. A point is the same whenever it is made from the same row, so writing twice is writing once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from journal.rows import Row, RowKind
from sinks import lineprotocol
from sinks.lineprotocol import READING_FIELDS, SERIES_TAGS, WINDOW_FIELDS, FieldValue, Unencodable
from telemetry import alert, blocks, books
from telemetry.blocks import Block
from telemetry.readings import SeriesKey

ALERT_TAGS = ("class", "kind", "phase", "rule", "severity", "subject")
ALERT_FIELDS = (
    *("alert_id", "comparison", "correlation_id", "detected_at_ms", "ended_at_ms", "event_id", "historic", "peak", "revision"),
    *("rule_version", "signal", "started_at_ms", "threshold", "time_ms", "unit", "value"),
)
BOOKS_TAGS = ("partition",)
BOOKS_FIELDS = (
    *("accepted", "alerts_raised", "conflicts", "controls", "duplicate", "event_time_ms", "late", "messages", "offset", "open_alerts"),
    *("quarantined", "received", "retained", "series", "state_bytes", "statuses", "ticks", "unreadable"),
)  # and quarantined_<reason> for each reason met
"""Alerts have superseded_by, inhibited_by, escalated_at_ms and worst_severity besides, where that is so."""

MEASUREMENTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "readings": (SERIES_TAGS, READING_FIELDS),  # at the reading's own time
    "windows": (SERIES_TAGS, WINDOW_FIELDS),  # at the window's start
    "alerts": (ALERT_TAGS, ALERT_FIELDS),  # when it was detected, one point an event
    "books": (BOOKS_TAGS, BOOKS_FIELDS),  # the flow's counters at a journal time
}
"""Measurement -> (tags, fields)."""

MAX_SERIES = 200_000
"""Beginnings of lines kept; beyond that they are made anew."""

LineMaker = Callable[[Block, Sequence[str]], list[str]]


class Encoded(NamedTuple):
    lines: list[str]
    refused: list[tuple[str, str]]  # (what, why): what the line protocol cannot say


class Encoder:
    def __init__(self) -> None:
        self._heads: dict[tuple[str, SeriesKey], str] = {}

    def encode(self, row: Row) -> Encoded:
        """Return the lines of a row, none for kinds that are no points. Raises ValueError or KeyError where it cannot be read."""
        if row.kind == RowKind.READINGS:
            return self._block(row, "readings", lineprotocol.reading_lines, READING_FIELDS)
        if row.kind == RowKind.WINDOWS:
            return self._block(row, "windows", lineprotocol.window_lines, ())
        if row.kind == RowKind.ALERT:
            return _point(*alert_point(row))
        if row.kind == RowKind.BOOKS:
            return _point(*books_point(row))
        return Encoded([], [])

    def _block(self, row: Row, name: str, lines_of: LineMaker, needed: Sequence[str]) -> Encoded:
        block = blocks.unpack(row.body)
        heads: list[str] = []
        bad_series: dict[int, str] = {}
        for index, series in enumerate(block.series):
            try:
                heads.append(self._head(name, series))
            except Unencodable as error:
                heads.append("")
                bad_series[index] = str(error)
        lines = lines_of(block, heads)
        bad_rows = dict.fromkeys(lineprotocol.unsayable(block, needed), "a value that is not finite") if needed else {}
        if bad_series:
            bad_rows |= {index: bad_series[number] for index, number in enumerate(block.columns["series"]) if number in bad_series}
        if not bad_rows:
            return Encoded(lines, [])
        refused = [(f"{block.series[block.columns['series'][index]]} {lines[index]}", why) for index, why in bad_rows.items()]
        return Encoded([line for index, line in enumerate(lines) if index not in bad_rows], refused)

    def _head(self, name: str, series: SeriesKey) -> str:
        head = self._heads.get((name, series))
        if head is None:
            if len(self._heads) >= MAX_SERIES:
                self._heads.clear()
            head = self._heads[(name, series)] = lineprotocol.series_head(name, series)
        return head


Point = tuple[str, list[tuple[str, str]], list[tuple[str, FieldValue]], int]


def alert_point(row: Row) -> Point:
    """Return an alert event as a point. The journal offset within the millisecond keeps two events of one instant apart."""
    event = alert.from_json(row.body)
    tags = {
        "class": event.alert_class.value,
        "kind": event.kind,
        "phase": event.phase.value,
        "rule": event.rule,
        "severity": event.severity.value,
        "subject": event.subject,
    }
    fields: dict[str, FieldValue | None] = {
        "alert_id": event.alert_id,
        "comparison": event.comparison,
        "correlation_id": event.correlation_id,
        "detected_at_ms": float(event.detected_at_ms),
        "ended_at_ms": _number(event.ended_at_ms),
        "event_id": event.event_id,
        "historic": event.historic,
        "peak": _number(event.peak),
        "revision": float(event.revision),
        "rule_version": event.rule_version,
        "signal": event.signal,
        "started_at_ms": float(event.started_at_ms),
        "threshold": _number(event.threshold),
        "time_ms": float(event.time_ms),
        "unit": event.unit,
        "value": _number(event.value),
        "superseded_by": event.superseded_by,
        "inhibited_by": event.inhibited_by,
        "escalated_at_ms": _number(event.escalated_at_ms),
        "worst_severity": event.worst_severity and event.worst_severity.value,
    }
    known = [(name, value) for name, value in fields.items() if value is not None]
    return "alerts", list(tags.items()), known, event.detected_at_ms * 1_000_000 + row.offset % 1_000_000


def books_point(row: Row) -> Point:
    counted = books.from_json(row.body)
    numbers = counted._asdict()
    quarantined, alerts = numbers.pop("quarantined"), numbers.pop("alerts")
    partition, time_ms = numbers.pop("partition"), numbers.pop("time_ms")
    fields: list[tuple[str, FieldValue]] = [(name, float(n)) for name, n in numbers.items()]
    fields += [("quarantined", float(sum(quarantined.values()))), ("alerts_raised", float(sum(alerts.values())))]
    fields += [(f"quarantined_{reason}", float(n)) for reason, n in sorted(quarantined.items())]
    return "books", [("partition", str(partition))], fields, time_ms * 1_000_000


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _point(name: str, tags: list[tuple[str, str]], fields: list[tuple[str, FieldValue]], time_ns: int) -> Encoded:
    try:
        return Encoded([lineprotocol.point(name, tags, fields, time_ns)], [])
    except Unencodable as error:
        return Encoded([], [(f"{name} {tags} {fields} {time_ns}", str(error))])
