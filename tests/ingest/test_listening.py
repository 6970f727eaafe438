"""Silence needs a listener: ticks only while connected, and a record before what each connection brings."""

import threading

import pytest

from ingest import service
from ingest.settings import BrokerSettings, IngestSettings
from journal.reader import JournalReader
from journal.rows import RowKind
from journal.writer import JournalWriter
from tests.house import until


@pytest.mark.servers
def test_each_connection_is_announced_and_no_clock_runs_without_one(tmp_path, mosquitto):
    writer = JournalWriter(tmp_path / "telemetry.db", "telemetry", 2)
    broker = BrokerSettings(host="127.0.0.1", port=mosquitto.port, user=mosquitto.user, password=mosquitto.password)
    stop, statuses = threading.Event(), []
    thread = threading.Thread(
        target=service.run,
        args=(IngestSettings(broker=broker, tick_ms=100), writer, None, [], stop, statuses.append),
        kwargs={"listening": b'{"type":"listening","version":"1"}'},
    )
    reader = JournalReader(tmp_path / "telemetry.db")

    def kinds() -> list[RowKind]:
        return [row.kind for row in reader.read(0, 0, max_rows=100_000)]

    thread.start()
    try:
        until(lambda: RowKind.TICK in kinds(), "a tick")
        assert kinds()[0] == RowKind.CONTROL
        mosquitto.stop()
        until(lambda: not statuses[-1].connected, "a lost connection")
        held = kinds()
        stop.wait(0.5)
        assert kinds() == held
        mosquitto.start()
        until(lambda: len(kinds()) > len(held) + 1, "rows after the return")
        assert kinds()[len(held) : len(held) + 2] == [RowKind.CONTROL, RowKind.TICK]
    finally:
        stop.set()
        thread.join(20)
        writer.close()
        reader.close()
