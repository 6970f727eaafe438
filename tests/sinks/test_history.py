"""The embedded store: upserts, so that twice is once, and the questions that people ask it."""

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journal.rows import RowKind
from sinks.history import History, HistoryReader
from telemetry.alert import Phase
from telemetry.errors import Rejected, VitalaneError
from tests.sinks.parts import START_MS, alert_row, event, readings, row, series, some_books, windows


def quarantine(*reasons: str, offset: int = 5) -> bytes:
    items = [
        {
            "partition": 0,
            "offset": offset,
            "reason": reason,
            "detail": "why",
            "metric": "",
            "kind": "shipment",
            "device": f"logger-{offset}",
            "topic": "vitalane/v1/shipment/logger/readings",
            "payload": base64.b64encode(b"\x00raw").decode(),
            "received_ms": START_MS + offset,
        }
        for reason in reasons
    ]
    return json.dumps(items).encode()


ROWS = [
    row(RowKind.READINGS, readings([4.0, 5.0, 6.0], keys=[series(1), series(2)])),
    row(RowKind.WINDOWS, windows(4)),
    alert_row(event(1, 1)),
    alert_row(event(2, 1)),
    alert_row(event(1, 2, phase=Phase.RESOLVED, ended_at_ms=START_MS)),
    row(RowKind.QUARANTINE, quarantine("malformed", "malformed", "implausible")),
    row(RowKind.BOOKS, some_books(0, 10)),
    row(RowKind.BOOKS, some_books(1, 12)),
]
COUNTS = {"series": 2, "readings": 3, "windows": 4, "alerts": 3, "open_alerts": 1, "quarantine": 3}


def test_twice_is_once(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    history.write(ROWS)
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.counts() == COUNTS
    history.write(ROWS)
    history.write([])
    assert reader.counts() == COUNTS
    history.close()
    reader.close()


def test_a_reopened_store_goes_on(tmp_path: Path) -> None:
    """The ids of series are the file's, not the process's."""
    for _ in range(2):
        history = History(tmp_path / "history.db")
        history.write(ROWS)
        history.close()
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.counts() == COUNTS
    reader.close()


def test_questions_have_answers(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    history.write(ROWS)
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.open_alerts() == [event(2, 1)]
    assert [(item.alert_id, item.revision) for item in reader.alerts()] == [(event(1).alert_id, 2), (event(2).alert_id, 1)]
    assert reader.alerts(subject="shipment-2", rule="vaccine-too-warm") == [event(2, 1)]
    assert reader.alerts(rule="other") == []
    assert reader.alerts(since_ms=START_MS) == []
    assert [item.revision for item in reader.events(event(1).alert_id)] == [1, 2]
    assert len(reader.events(limit=2)) == 2
    assert reader.readings("shipment-1", "temperature") == [(START_MS, 4.0, "logger-1"), (START_MS + 2000, 6.0, "logger-1")]
    assert reader.readings("shipment-1", "temperature", START_MS + 1) == [(START_MS + 2000, 6.0, "logger-1")]
    first = reader.windows("shipment-1", "temperature")[0]
    assert (first["device"], first["opens_ms"], first["count"], first["mean"]) == ("logger-1", START_MS, 10, 4.0)
    (only,) = reader.quarantine(reason="implausible")
    assert (only.partition, only.offset, only.payload, only.device) == (0, 5, b"\x00raw", "logger-5")
    assert reader.quarantine(device="nobody") == []
    assert [books.partition for books in reader.books()] == [0, 1]
    history.close()
    reader.close()


def test_the_last_revision_decides_whether_an_alert_is_open(tmp_path: Path) -> None:
    """In whatever order the rows of a batch are written again."""
    history = History(tmp_path / "history.db")
    history.write([alert_row(event(1, 2, phase=Phase.RESOLVED)), alert_row(event(1, 1))])
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.open_alerts() == []
    history.write([alert_row(event(1, 3, phase=Phase.RAISED))])
    assert [item.revision for item in reader.open_alerts()] == [3]
    history.write([alert_row(event(1, 4, phase=Phase.RETRACTED))])
    assert reader.open_alerts() == []
    history.close()
    reader.close()


def test_a_row_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    with pytest.raises(Rejected) as raised:
        history.write([ROWS[0], row(RowKind.ALERT, b"{"), ROWS[1], row(RowKind.WINDOWS, readings([1.0]))])
    assert set(raised.value.reasons) == {1, 3}
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.counts()["readings"] == 0
    history.write([ROWS[0]])
    assert reader.readings("shipment-2", "temperature") == [(START_MS + 1000, 5.0, "logger-2")], (
        "the series of the undone write are not trusted"
    )
    history.close()
    reader.close()


def test_older_books_do_not_overwrite_newer_ones(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    history.write([row(RowKind.BOOKS, some_books(0, 20)), row(RowKind.BOOKS, some_books(0, 10))])
    reader = HistoryReader(tmp_path / "history.db")
    assert [books.offset for books in reader.books()] == [20]
    history.close()
    reader.close()


def test_what_is_too_old_goes_by_the_clock_of_the_journal_and_alerts_stay(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", keep_ms=60_000)
    history.write(ROWS)
    later = row(RowKind.READINGS, readings([7.0], first_ms=START_MS + 600_000))._replace(time_ms=START_MS + 600_000)
    history.write([later])
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.counts() == COUNTS | {"readings": 1, "windows": 0, "quarantine": 0}
    history.close()
    reader.close()


def test_without_a_history_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VitalaneError, match="there is no history at"):
        HistoryReader(tmp_path / "absent.db")
    (tmp_path / "b.db").write_bytes(b"something else")
    with pytest.raises(VitalaneError, match="cannot be read"):
        HistoryReader(tmp_path / "b.db")


def test_an_amended_alert_stands_again_or_no_longer(tmp_path: Path) -> None:
    """Late readings may show that an alert that had ended goes on, or that one that stood had ended."""
    history = History(tmp_path / "history.db")
    history.write([alert_row(event(1)), alert_row(event(1, 2, phase=Phase.RESOLVED, ended_at_ms=START_MS))])
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.open_alerts() == []
    history.write([alert_row(event(1, 3, phase=Phase.AMENDED))])
    assert [item.revision for item in reader.open_alerts()] == [3]
    history.write([alert_row(event(1, 4, phase=Phase.AMENDED, ended_at_ms=START_MS))])
    assert reader.open_alerts() == []
    history.close()


def test_a_window_that_is_told_again_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """A session that grew closes later; one that became part of another is withdrawn."""
    history = History(tmp_path / "history.db")
    history.write([row(RowKind.WINDOWS, windows(2))])
    history.write([row(RowKind.WINDOWS, windows(1, size_ms=25_000, revision=2))])
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        found = connection.execute("SELECT closes_ms - opens_ms, revision FROM windows ORDER BY opens_ms").fetchall()
    assert found == [(25_000, 2), (10_000, 1)]
    history.close()


def test_an_older_store_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE windows (series INTEGER, opens_ms INTEGER, closes_ms INTEGER, count INTEGER, mean REAL, min REAL, max REAL,"
            " first REAL, last REAL, stddev REAL, PRIMARY KEY (series, opens_ms, closes_ms)) WITHOUT ROWID"
        )
    for _ in range(2):
        history = History(path)
        history.write([row(RowKind.WINDOWS, windows(2))])
        history.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT median, revision FROM windows").fetchall() == [(4.6, 1), (4.601, 1)]
