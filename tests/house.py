"""The whole house on one machine: a real configuration, `vitalane up` in its own process, real servers around it."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import yaml

from cli.places import outbox_paths
from journal.reader import JournalReader
from journal.rows import RowKind
from telemetry import alert
from telemetry.alert import AlertEvent
from tests.servers import Influx

ROOT = Path(__file__).parent.parent
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the published test vector's, not a secret
PATIENCE_S = 60.0


class Address(Protocol):
    """What a house must know of its broker."""

    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...


class House:
    """A configuration in a folder and the processes that run on it."""

    def __init__(self, directory: Path, broker: Address, **settings: Any) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.broker = broker
        self.data_dir = directory / "data"
        self.configuration = directory / "vitalane.yaml"
        self.environment = os.environ | {"BROKER_PASSWORD": broker.password, "WEBHOOK_SECRET": SECRET, "INFLUX_TOKEN": "any:token"}
        self.environment["VITALANE_CONFIG"] = str(self.configuration)
        self.log = directory / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        document = {
            "data_dir": "data",
            "partitions": 2,
            "broker": {"host": "127.0.0.1", "port": broker.port, "user": broker.user, "password": {"env": "BROKER_PASSWORD"}},
        } | settings
        self.partitions = int(str(document["partitions"]))
        self.configuration.write_text(yaml.safe_dump(document, sort_keys=False))

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "cli.main", "up", "-c", str(self.configuration)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of the program on this configuration."""
        command = [sys.executable, "-m", "cli.main", *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S * 2)
        assert not check or ended.returncode == 0, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}\n{self.told()}"
        return ended

    def status(self, service: str) -> dict[str, Any]:
        """Return what a service last said of itself, empty before it said anything."""
        try:
            return dict(json.loads((self.data_dir / "status" / f"{service}.json").read_text()))
        except (OSError, ValueError):
            return {}

    def events(self) -> list[AlertEvent]:
        """Return every alert event that was decided, by partition."""
        found = []
        for path in outbox_paths(self.data_dir, self.partitions).values():
            if path.exists():
                with JournalReader(path) as reader:
                    offset = 0
                    while rows := reader.read(0, offset):
                        found += [alert.from_json(row.body) for row in rows if row.kind == RowKind.ALERT]
                        offset = rows[-1].offset + rows[-1].count
        return found

    def told(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def __enter__(self) -> "House":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


def influx_store(influx: Influx) -> dict[str, Any]:
    """Return the `stores` of a configuration that writes to a test's InfluxDB."""
    return {"influxdb": {"url": influx.url, "bucket": influx.database, "org": influx.org, "token": {"env": "INFLUX_TOKEN"}}}


def webhook_channel(receiver: "Receiver") -> dict[str, Any]:
    return {
        "hook": {"type": "webhook", "url": receiver.url, "secret": {"env": "WEBHOOK_SECRET"}, "allow_private": True, "identifiers": True}
    }


class Receiver:
    """An HTTP server on the loopback that takes every webhook and remembers (id, body, when)."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any], float]] = []
        received = self.received

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.headers["webhook-id"], json.loads(body), time.time()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def ids(self) -> list[str]:
        return [webhook_id for webhook_id, _, _ in self.received]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def until(holds: Callable[[], Any], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds; fail saying what did not."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s in vain: {what() if callable(what) else what}"
        time.sleep(0.05)
