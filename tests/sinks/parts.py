"""What the tests of the sinks are made of: events, rows, real outbox files, an HTTP receiver that answers as told, a channel that keeps."""

import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from journal.rows import Entry, Row, RowKind
from journal.writer import JournalWriter
from telemetry import alert, blocks, books
from telemetry.alert import AlertClass, AlertEvent, Evidence, Phase, Severity
from telemetry.blocks import Block
from telemetry.books import Books
from telemetry.readings import SeriesKey

START_MS = 1_763_674_000_000
PATIENCE_S = 20.0


def event(number: int = 1, revision: int = 1, **changes: Any) -> AlertEvent:
    """Return an alert event; `number` tells alerts apart."""
    fields: dict[str, Any] = {
        "alert_id": f"{number:016x}",
        "revision": revision,
        "phase": Phase.RAISED if revision == 1 else Phase.AMENDED,
        "rule": "vaccine-too-warm",
        "rule_version": "v1",
        "severity": Severity.CRITICAL,
        "alert_class": AlertClass.ENVIRONMENTAL,
        "kind": "shipment",
        "subject": f"shipment-{number}",
        "tags": {"product": "vaccine"},
        "signal": "temperature",
        "unit": "Cel",
        "comparison": "> 8",
        "threshold": 8.0,
        "value": 9.25,
        "peak": 9.5,
        "started_at_ms": START_MS - 60_000,
        "ended_at_ms": None,
        "time_ms": START_MS,
        "detected_at_ms": START_MS + 40,
        "historic": False,
        "message": "{subject}: {value:.1f} °C since {started_at}",
        "evidence": (Evidence(START_MS - 60_000, 8.5, f"logger-{number}"), Evidence(START_MS, 9.25, f"logger-{number}")),
        "positions": ((0, number),),
        "correlation_id": f"c{number}",
    }
    return AlertEvent(**(fields | changes))


def row(kind: RowKind, body: bytes, offset: int = 0) -> Row:
    return Row(0, offset, 1, kind, START_MS, body, offset, 0)


def alert_row(an_event: AlertEvent, offset: int = 0) -> Row:
    return row(RowKind.ALERT, alert.to_json(an_event), offset)


def series(number: int = 1, metric: str = "temperature") -> SeriesKey:
    return SeriesKey("shipment", f"shipment-{number}", f"logger-{number}", metric)


def readings(values: Sequence[float], *, keys: Sequence[SeriesKey] = (), first_ms: int = START_MS, step_ms: int = 1000) -> bytes:
    keys = list(keys) or [series()]
    numbers = [index % len(keys) for index in range(len(values))]
    times = [first_ms + index * step_ms for index in range(len(values))]
    return blocks.pack(Block(keys, {"series": array("i", numbers), "time_ms": array("q", times), "value": array("d", values)}))


def windows(count: int, *, keys: Sequence[SeriesKey] = (), stddev: float = 0.5, size_ms: int = 10_000, revision: int = 1) -> bytes:
    keys = list(keys) or [series()]
    opens = [START_MS + index * size_ms for index in range(count)]
    columns: dict[str, Any] = {
        "series": array("i", [index % len(keys) for index in range(count)]),
        "opens_ms": array("q", opens),
        "closes_ms": array("q", [time_ms + size_ms for time_ms in opens]),
        "count": array("q", [10] * count),
    }
    for number, name in enumerate(("mean", "min", "max", "first", "last", "sum", "median", "p95", "range", "slope")):
        columns[name] = array("d", [4.0 + number / 10 + index / 1000 for index in range(count)])
    columns["stddev"] = array("d", [stddev] * count)
    columns["revision"] = array("q", [revision] * count)
    return blocks.pack(Block(keys, columns))


def some_books(partition: int = 0, offset: int = 10) -> bytes:
    return books.to_json(
        Books(
            partition=partition,
            offset=offset,
            time_ms=START_MS,
            event_time_ms=START_MS,
            messages=offset,
            ticks=0,
            controls=0,
            retained=0,
            statuses=0,
            unreadable=1,
            received=offset,
            accepted=offset - 3,
            duplicate=1,
            late=0,
            quarantined={"malformed": 1, "implausible": 1},
            open_alerts=1,
            alerts={"vaccine-too-warm": 2},
        )
    )


class OutboxFile:
    """A real outbox file, written as the flow writes it."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self.path = path
        self.writer = JournalWriter(path, f"outbox-{number}", 1)

    def alerts(self, *events: AlertEvent) -> None:
        self.append(*[(RowKind.ALERT, alert.to_json(item)) for item in events])

    def append(self, *rows: tuple[RowKind, bytes]) -> list[int]:
        return self.writer.append([Entry(0, kind, 1, body) for kind, body in rows], START_MS)

    def close(self) -> None:
        self.writer.close()


class Kept:
    """A channel that keeps what it is told, or raises what its script says next for that event."""

    def __init__(self, name: str = "kept") -> None:
        self.name = name
        self.told: list[AlertEvent] = []
        self.attempts: list[str] = []
        self.script: dict[str, list[Exception]] = {}  # event id -> what to raise first
        self.always: Exception | None = None
        self.slow: dict[str, threading.Event] = {}  # event id -> wait for this
        self.closed = 0

    def send(self, an_event: AlertEvent) -> None:
        self.attempts.append(an_event.event_id)
        if an_event.event_id in self.slow:
            self.slow[an_event.event_id].wait(PATIENCE_S)
        if self.always is not None:
            raise self.always
        if self.script.get(an_event.event_id):
            raise self.script[an_event.event_id].pop(0)
        self.told.append(an_event)

    def close(self) -> None:
        self.closed += 1

    def has_told(self, count: int) -> bool:
        return len(self.told) >= count

    @property
    def ids(self) -> list[str]:
        return [an_event.event_id for an_event in self.told]


class Loop(Protocol):
    def run(self) -> None: ...


@contextmanager
def running(stop: threading.Event, *loops: Loop) -> Iterator[None]:
    """Run loops in threads; stop them at the end and raise what they raised."""
    pool = ThreadPoolExecutor(max(1, len(loops)))
    futures = [pool.submit(loop.run) for loop in loops]
    try:
        yield
    finally:
        stop.set()
        pool.shutdown(wait=False)
        for future in futures:
            future.result(PATIENCE_S)


def eventually(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return when the condition holds; fail when it does not for too long."""
    give_up_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up_s, "it never came to hold"
        time.sleep(0.005)


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    headers: dict[str, str] = {}
    delay_s: float = 0.0
    body: bytes = b""


class Receiver:
    """A real HTTP server on the loopback. Answers 204, or what `answers` holds next, or what `judge` says of a request."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.accepted: list[Request] = []  # those that were answered with 2xx
        self.answers: list[Answer] = []
        self.judge: Callable[[Request], Answer | None] = lambda _: None
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment an answer: no waiting for an acknowledgement in between

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body)
                receiver.requests.append(request)
                answer = receiver.judge(request) or (receiver.answers.pop(0) if receiver.answers else Answer(204))
                if answer.delay_s:
                    receiver.released.wait(answer.delay_s)
                if 200 <= answer.status < 300:
                    receiver.accepted.append(request)
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    if answer.status != 204:
                        self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:  # the other side has given up
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
