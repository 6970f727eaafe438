"""The embedded store: readings, windows, alerts, quarantine and books in one SQLite file, where no InfluxDB is needed or wanted.

Everything is an upsert by what it is about, so twice is once; a write is one transaction with synchronous=FULL, so that the cursor, which
is kept elsewhere, never runs ahead of what is on the disk. `HistoryReader` is for whoever asks, in any process, meanwhile.
"""

import base64
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from journal.rows import Row, RowKind
from sinks.database import Database
from telemetry import alert, blocks, books
from telemetry.alert import AlertEvent
from telemetry.books import Books
from telemetry.errors import Rejected, VitalaneError
from telemetry.readings import SeriesKey

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, device TEXT NOT NULL, metric TEXT NOT NULL,
    UNIQUE (kind, subject, device, metric)
);
CREATE TABLE IF NOT EXISTS readings (series INTEGER, time_ms INTEGER, value REAL, PRIMARY KEY (series, time_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows (
    series INTEGER, opens_ms INTEGER, closes_ms INTEGER, count INTEGER, mean REAL, min REAL, max REAL, first REAL, last REAL, stddev REAL,
    sum REAL, median REAL, p95 REAL, range REAL, slope REAL, revision INTEGER,
    PRIMARY KEY (series, opens_ms, closes_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
    alert_id TEXT, revision INTEGER, phase TEXT, kind TEXT, subject TEXT, rule TEXT, severity TEXT,
    started_at_ms INTEGER, detected_at_ms INTEGER, body BLOB,
    PRIMARY KEY (alert_id, revision)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (detected_at_ms);
CREATE TABLE IF NOT EXISTS open_alerts (alert_id TEXT PRIMARY KEY, revision INTEGER, phase TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    partition INTEGER, position INTEGER, metric TEXT, reason TEXT, ordinal INTEGER,
    detail TEXT, kind TEXT, device TEXT, topic TEXT, payload BLOB, received_ms INTEGER,
    PRIMARY KEY (partition, position, metric, reason, ordinal)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quarantine_by_time ON quarantine (received_ms);
CREATE TABLE IF NOT EXISTS books (partition INTEGER PRIMARY KEY, position INTEGER, body BLOB);
"""

READING_VALUES = ("time_ms", "value")
WINDOW_VALUES = blocks.WINDOW_COLUMNS[1:]
PRUNE_ROWS = 20_000
PRUNE_EVERY_MS = 60_000
MAX_SERIES_IDS = 200_000
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)


class Quarantined(NamedTuple):
    partition: int  # of the telemetry journal
    offset: int
    metric: str  # empty: the whole message
    reason: str
    detail: str
    kind: str
    device: str
    topic: str
    payload: bytes
    received_ms: int


class History:
    """The store. One process serves the file."""

    def __init__(self, path: Path, *, keep_ms: int | None = None) -> None:
        """With `keep_ms`, readings, windows and quarantine older than that by the journal's clock are removed; alerts stay."""
        self._database = Database(path, SCHEMA, lock=True, synchronous="FULL")
        with self._database.transaction() as connection:
            _add_columns(connection)
        self._keep_ms = keep_ms
        self._pruned_ms = 0
        self._ids: dict[SeriesKey, int] = {}

    def write(self, rows: Sequence[Row]) -> None:
        unreadable: dict[int, str] = {}
        kept = False
        try:
            with self._database.transaction() as connection:
                for index, row in enumerate(rows):
                    try:
                        self._write_row(connection, row)
                    except UNREADABLE as error:
                        unreadable[index] = f"cannot be read: {type(error).__name__}: {error}"
                _refuse(unreadable)
                if rows and self._keep_ms is not None:
                    self._prune(connection, rows[-1].time_ms)
            kept = True
        finally:
            if not kept:
                self._ids.clear()  # some may have been given in the transaction that is now undone

    def close(self) -> None:
        self._database.close()

    def _write_row(self, connection: sqlite3.Connection, row: Row) -> None:
        if row.kind == RowKind.READINGS:
            self._write_block(connection, "readings", row.body, READING_VALUES)
        elif row.kind == RowKind.WINDOWS:
            self._write_windows(connection, row.body)
        elif row.kind == RowKind.ALERT:
            self._write_alert(connection, row.body)
        elif row.kind == RowKind.QUARANTINE:
            self._write_quarantine(connection, row.body)
        elif row.kind == RowKind.BOOKS:
            counted = books.from_json(row.body)
            connection.execute(
                "INSERT INTO books VALUES (?, ?, ?) ON CONFLICT (partition) DO UPDATE"
                " SET position = excluded.position, body = excluded.body WHERE excluded.position >= position",
                (counted.partition, counted.offset, row.body),
            )

    def _write_block(self, connection: sqlite3.Connection, table: str, body: bytes, names: Sequence[str]) -> blocks.Block:
        block = blocks.unpack(body)
        marks = ", ".join("?" * (1 + len(names)))
        series = self._series(connection, block)
        values = zip(series, *(block.columns[name] for name in names), strict=True)
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)  # noqa: S608 - names of tables
        return block

    def _write_windows(self, connection: sqlite3.Connection, body: bytes) -> None:
        """Write summaries; one that is told again replaces what was told of it, and one without readings withdraws it."""
        block = self._write_block(connection, "windows", body, WINDOW_VALUES)
        if max(block.columns["revision"], default=1) > 1:
            rows = zip(
                self._series(connection, block), *(block.columns[name] for name in ("opens_ms", "closes_ms", "revision")), strict=True
            )
            again = [(series, opens_ms, closes_ms) for series, opens_ms, closes_ms, revision in rows if revision > 1]
            connection.executemany("DELETE FROM windows WHERE series = ? AND opens_ms = ? AND closes_ms <> ?", again)
            connection.execute("DELETE FROM windows WHERE count = 0")

    def _series(self, connection: sqlite3.Connection, block: blocks.Block) -> list[int]:
        """Return the id of the series of each row of a block."""
        numbers = [self._ids.get(key) or self._new_id(connection, key) for key in block.series]
        return [numbers[index] for index in block.columns["series"]]

    def _new_id(self, connection: sqlite3.Connection, key: SeriesKey) -> int:
        connection.execute("INSERT OR IGNORE INTO series (kind, subject, device, metric) VALUES (?, ?, ?, ?)", key)
        (found,) = connection.execute("SELECT id FROM series WHERE (kind, subject, device, metric) = (?, ?, ?, ?)", key).fetchall()
        number = int(found[0])
        if len(self._ids) >= MAX_SERIES_IDS:
            self._ids.clear()
        self._ids[key] = number
        return number

    def _write_alert(self, connection: sqlite3.Connection, body: bytes) -> None:
        event = alert.from_json(body)
        connection.execute(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(event.alert_id, event.revision, event.phase.value, event.kind, event.subject, event.rule, event.severity.value),
                *(event.started_at_ms, event.detected_at_ms, body),
            ),
        )
        ((latest, newest),) = connection.execute(
            "SELECT revision, body FROM alerts WHERE alert_id = ? ORDER BY revision DESC LIMIT 1", (event.alert_id,)
        ).fetchall()
        last = alert.from_json(newest)
        if last.is_over():
            connection.execute("DELETE FROM open_alerts WHERE alert_id = ?", (event.alert_id,))
        else:
            connection.execute("INSERT OR REPLACE INTO open_alerts VALUES (?, ?, ?)", (event.alert_id, latest, last.phase.value))

    def _write_quarantine(self, connection: sqlite3.Connection, body: bytes) -> None:
        seen: dict[tuple[Any, ...], int] = {}
        for item in json.loads(body):
            place = (item["partition"], item["offset"], item["metric"], item["reason"])
            seen[place] = ordinal = seen.get(place, -1) + 1
            connection.execute(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(*place, ordinal, item["detail"], item["kind"], item["device"], item["topic"]),
                    *(base64.b64decode(item["payload"]), item["received_ms"]),
                ),
            )

    def _prune(self, connection: sqlite3.Connection, now_ms: int) -> None:
        if self._keep_ms is None or now_ms - self._pruned_ms < PRUNE_EVERY_MS:
            return
        before_ms = now_ms - self._keep_ms
        removed = 0
        for (series,) in connection.execute("SELECT id FROM series").fetchall():
            for table, column in (("readings", "time_ms"), ("windows", "opens_ms")):
                done = connection.execute(f"DELETE FROM {table} WHERE series = ? AND {column} < ?", (series, before_ms))  # noqa: S608
                removed += done.rowcount
            if removed >= PRUNE_ROWS:  # the rest with the next write, so that no write takes long
                return
        connection.execute("DELETE FROM quarantine WHERE received_ms < ?", (before_ms,))
        self._pruned_ms = now_ms


def _add_columns(connection: sqlite3.Connection) -> None:
    """Give the windows of an older store the columns that they lack."""
    known = {row[1] for row in connection.execute("PRAGMA table_info(windows)")}
    for name in WINDOW_VALUES:
        if name not in known:
            connection.execute(f"ALTER TABLE windows ADD COLUMN {name} {'INTEGER' if name == 'revision' else 'REAL'}")


def _refuse(unreadable: dict[int, str]) -> None:
    if unreadable:
        msg = f"{len(unreadable)} rows cannot be read"
        raise Rejected(msg, unreadable)


class HistoryReader:
    """Questions to the embedded store. Reads while it is written."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            msg = f"there is no history at {path}: `vitalane deliver` writes it"
            raise VitalaneError(msg)
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0, check_same_thread=False)
            self._connection.execute("SELECT 1 FROM open_alerts LIMIT 1")
        except sqlite3.Error as error:
            msg = f"the history at {path} cannot be read: {error}"
            raise VitalaneError(msg) from error

    def open_alerts(self) -> list[AlertEvent]:
        """Return the latest event of each alert that is not over, in the order of their start."""
        return self._events("SELECT body FROM alerts JOIN open_alerts USING (alert_id, revision) ORDER BY started_at_ms, alert_id", ())

    def alerts(
        self, since_ms: int = 0, until_ms: int = 2**62, *, rule: str | None = None, subject: str | None = None, limit: int = 1000
    ) -> list[AlertEvent]:
        """Return the latest event of each alert that started in [since, until), the latest start first."""
        return self._events(
            "SELECT body FROM alerts AS a WHERE started_at_ms >= ? AND started_at_ms < ? AND rule = coalesce(?, rule)"
            " AND subject = coalesce(?, subject) AND revision = (SELECT max(revision) FROM alerts WHERE alert_id = a.alert_id)"
            " ORDER BY started_at_ms DESC, alert_id LIMIT ?",
            (since_ms, until_ms, rule, subject, limit),
        )

    def events(self, alert_id: str | None = None, *, since_ms: int = 0, limit: int = 1000) -> list[AlertEvent]:
        """Return every event, of one alert or of all, detected since then, in the order of detection."""
        return self._events(
            "SELECT body FROM alerts WHERE alert_id = coalesce(?, alert_id) AND detected_at_ms >= ?"
            " ORDER BY detected_at_ms, alert_id, revision LIMIT ?",
            (alert_id, since_ms, limit),
        )

    def quarantine(
        self, *, since_ms: int = 0, reason: str | None = None, device: str | None = None, limit: int = 1000
    ) -> list[Quarantined]:
        """Return what was refused, with its raw bytes, the latest first."""
        rows = self._rows(
            "SELECT partition, position, metric, reason, detail, kind, device, topic, payload, received_ms FROM quarantine"
            " WHERE received_ms >= ? AND reason = coalesce(?, reason) AND device = coalesce(?, device)"
            " ORDER BY received_ms DESC, position DESC, ordinal LIMIT ?",
            (since_ms, reason, device, limit),
        )
        return [Quarantined(*row) for row in rows]

    def readings(
        self, subject: str, metric: str, since_ms: int = 0, until_ms: int = 2**62, *, limit: int = 10_000
    ) -> list[tuple[int, float, str]]:
        """Return (time, value, device) of a subject's readings in [since, until), in the order of time."""
        return self._rows(
            "SELECT time_ms, value, device FROM readings JOIN series ON series.id = readings.series"
            " WHERE subject = ? AND metric = ? AND time_ms >= ? AND time_ms < ? ORDER BY time_ms LIMIT ?",
            (subject, metric, since_ms, until_ms, limit),
        )

    def windows(self, subject: str, metric: str, since_ms: int = 0, until_ms: int = 2**62, *, limit: int = 10_000) -> list[dict[str, Any]]:
        """Return a subject's window summaries that open in [since, until), in the order of time."""
        names = ("device", *WINDOW_VALUES)
        rows = self._rows(
            f"SELECT {', '.join(names)} FROM windows JOIN series ON series.id = windows.series"  # noqa: S608 - names of columns
            " WHERE subject = ? AND metric = ? AND opens_ms >= ? AND opens_ms < ? ORDER BY opens_ms LIMIT ?",
            (subject, metric, since_ms, until_ms, limit),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def books(self) -> list[Books]:
        """Return the newest books of each partition."""
        return [books.from_json(body) for (body,) in self._rows("SELECT body FROM books ORDER BY partition", ())]

    def counts(self) -> dict[str, int]:
        """Return how many rows each table holds."""
        tables = ("series", "readings", "windows", "alerts", "open_alerts", "quarantine")
        return {table: int(self._rows(f"SELECT count(*) FROM {table}", ())[0][0]) for table in tables}  # noqa: S608 - names of tables

    def close(self) -> None:
        self._connection.close()

    def _events(self, query: str, parameters: Sequence[Any]) -> list[AlertEvent]:
        return [alert.from_json(body) for (body,) in self._rows(query, parameters)]

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        return self._connection.execute(query, parameters).fetchall()
