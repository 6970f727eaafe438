"""Ingest under a test's control: in a thread or a process, with its journal, and a wire on which its acknowledgements are seen."""

import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from decoders.decode import decode_row
from ingest import service
from ingest.settings import BrokerSettings, IngestSettings, IngestStatus
from journal.messages import decode_messages
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from journal.writer import JournalWriter
from telemetry.metrics import CATALOGUE
from telemetry.readings import Decoded
from tests.servers import Broker

PATIENCE_S = 30.0
PARTITIONS = 2
TOPIC = "vitalane/v1/shipment/{}/readings"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds; fail with words where it never does."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < give_up_at, f"never: {what}"
        time.sleep(0.005)
    return value


def broker_settings(broker: Broker, **more: Any) -> BrokerSettings:
    told: dict[str, Any] = {"port": broker.port, "user": broker.user, "password": broker.password, "backoff_first_s": 0.05}
    return BrokerSettings(**told | more)


class Journal:
    """What has been journalled so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, kind: RowKind | None = RowKind.MESSAGES) -> list[Row]:
        found: list[Row] = []
        if not self.path.exists():
            return found
        with JournalReader(self.path) as reader:
            for partition in range(reader.partitions):
                offset = reader.first(partition)
                while batch := reader.read(partition, offset, max_rows=1000):
                    found += [row for row in batch if kind is None or row.kind == kind]
                    offset = batch[-1].offset + batch[-1].count
        return found

    def messages(self) -> list[tuple[str, bytes, int]]:
        """Return (topic, payload, flags) of every message, by partition in its order."""
        out: list[tuple[str, bytes, int]] = []
        for row in self.rows():
            messages = decode_messages(row.body)
            out += [
                (t.decode("utf-8", "replace"), p, f) for t, p, f in zip(messages.topics, messages.payloads, messages.flags, strict=True)
            ]
        return out

    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.messages()]

    def decoded(self) -> list[Decoded]:
        return [decode_row(decode_messages(row.body), row.time_ms, CATALOGUE) for row in self.rows()]

    def ends(self) -> list[int]:
        """Return the next offset of each partition."""
        with JournalReader(self.path) as reader:
            return [reader.head(partition) for partition in range(reader.partitions)]


class Running:
    """Ingest in a thread."""

    def __init__(
        self,
        directory: Path,
        settings: IngestSettings,
        *,
        partitions: int = PARTITIONS,
        controls: Sequence[bytes] = (),
        max_bytes: int | None = None,
        listening: bytes = b"",
    ) -> None:
        self._listening = listening
        self.path = directory / "telemetry.db"
        self.journal = Journal(self.path)
        self.statuses: list[IngestStatus] = []
        self.failure: BaseException | None = None
        self._settings = settings
        self._controls = controls
        self._max_bytes = max_bytes
        self._partitions = partitions
        self._offsets_path = directory / "offsets.db"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest")
        self._thread.start()

    def _run(self) -> None:
        try:
            with (
                JournalWriter(self.path, "telemetry", self._partitions, max_bytes=self._max_bytes, reserve_bytes=0) as writer,
                ConsumerOffsets(self._offsets_path) as offsets,
            ):
                service.run(self._settings, writer, offsets, self._controls, self._stop, self.statuses.append, listening=self._listening)
        except BaseException as error:
            self.failure = error
            raise

    @property
    def status(self) -> IngestStatus:
        return self.statuses[-1] if self.statuses else IngestStatus(0, 0, 0, 0, connected=False, error="")

    def connected(self) -> "Running":
        try:
            until(lambda: self.status.connected or self.failure, "connected")
            return self
        except AssertionError:
            self.stop()
            raise

    def said(self, words: str) -> str:
        """Wait for an error that holds these words; return it."""
        return str(until(lambda: next((s.error for s in self.statuses if words in s.error), ""), f"{words!r}: {self.statuses}"))

    def commit_offsets(self) -> bool:
        """Do as if the flow had read everything; return False, for `until` to go on."""
        with ConsumerOffsets(self._offsets_path) as offsets:
            offsets.commit("telemetry", "flow", dict(enumerate(self.journal.ends())))
        return False

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.failure is None, self.failure


class Process:
    """Ingest in a process that can be killed at any instant. Its file is this one."""

    def __init__(self, directory: Path, broker: BrokerSettings) -> None:
        self.journal = Journal(directory / "telemetry.db")
        self._directory = directory
        self._broker = broker
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        settings = json.dumps(asdict(replace(self._broker, tls=None)) | {"topics": list(self._broker.topics)})
        command = [sys.executable, "-m", "tests.ingest.running", str(self._directory), settings]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "connected\n":
                return
        raise AssertionError("ingest did not connect")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Wire:
    """Stands between ingest and the broker and passes everything on; sees what is acknowledged, and can be cut."""

    def __init__(self, broker_port: int) -> None:
        self.acknowledged: list[int] = []  # packet ids, in order
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire")
        self._rest = b""

    def cut(self) -> None:
        """End the connection that there is, without a word to anybody."""
        self._cut.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            client, _ = self._listener.accept()
            self._cut.clear()
            self._rest = b""
            with client, socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
                self._pass_on(client, broker)

    def _pass_on(self, client: socket.socket, broker: socket.socket) -> None:
        while not self._ended.is_set() and not self._cut.is_set():
            for sock in select.select([client, broker], [], [], 0.02)[0]:
                try:
                    data = sock.recv(65_536)
                    (broker if sock is client else client).sendall(data)
                except OSError:
                    return
                if not data:
                    return
                if sock is client:
                    self._look(data)

    def _look(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while at + 2 <= len(data):
            size = 2 + data[at + 1]
            if data[at + 1] > 127:  # CONNECT and SUBSCRIBE may be as long as that
                size = 3 + (data[at + 1] & 127 | data[at + 2] << 7)
            if at + size > len(data):
                break
            if data[at] in (0x40, 0x50):
                self.acknowledged.append(int.from_bytes(data[at + 2 : at + 4], "big"))
            at += size
        self._rest = data[at:]

    def __enter__(self) -> "Wire":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()


@contextmanager
def publisher(broker: Broker, client_id: str = "", **will: Any) -> Iterator[paho.Client]:
    """A client of paho's that publishes and stays, whatever happens to the broker."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
    client.username_pw_set(broker.user, broker.password)
    client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(1000)
    if will:
        client.will_set(**will)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def main(directory: str, settings: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    told = threading.Event()

    def tell(status: IngestStatus) -> None:
        if status.connected and not told.is_set():
            told.set()
            print("connected", flush=True)

    broker = BrokerSettings(**json.loads(settings))
    with JournalWriter(Path(directory) / "telemetry.db", "telemetry", PARTITIONS) as writer:
        service.run(IngestSettings(broker=broker), writer, None, [], stop, tell)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
