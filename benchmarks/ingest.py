"""How fast ingest journals what a real Mosquitto brings: QoS 1, every group on the disk (fsync) before it is acknowledged, four partitions.

Load (one raw socket, pre-encoded packets), broker and ingest share the machine's cores. Both receivers and both protocol versions, in one
run; and for the default the time from publish to durable at steady rates.

`python -m benchmarks.ingest` prints the table of the variants.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from benchmarks.load import Packets, Publisher, broker, encode
from decoders.wire import encode_values
from ingest.service import run as run_ingest
from ingest.settings import BrokerSettings, IngestSettings, IngestStatus
from journal.messages import decode_messages
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter

PARTITIONS = 4
DEVICES = 1000
MESSAGES = 200_000
WARM_UP = 20_000
VARIANTS = (("tap", "3.1.1"), ("tap", "5"), ("callback", "3.1.1"), ("callback", "5"))
RATES = (1_000, 5_000, 20_000)
PACED_SECONDS = 4
TIME_MS = 1_763_674_000_000


def run() -> dict[str, tuple[float, str]]:
    """Return the figures of all variants; `ingest.messages_per_s` is the default's."""
    results: dict[str, tuple[float, str]] = {}
    packets = messages(WARM_UP + MESSAGES)
    for receiver, protocol in VARIANTS:
        measured = measure(packets, receiver, protocol)
        name = f"ingest.{receiver}.{protocol.replace('.', '')}"
        results[f"{name}.messages_per_s"] = (measured["messages_per_s"], "messages/s")
        results[f"{name}.cpu_s_per_100k_messages"] = (measured["cpu_s_per_100k"], "s")
        if (receiver, protocol) == VARIANTS[0]:
            results["ingest.messages_per_s"] = results[f"{name}.messages_per_s"]
            results["ingest.messages_per_row"] = (measured["messages_per_row"], "messages")
    for rate in RATES:
        latencies = sorted(pace(packets, rate))
        name = f"ingest.publish_to_durable.{rate // 1000}k"
        results[f"{name}.p50_ms"] = (latencies[len(latencies) // 2], "ms")
        results[f"{name}.p99_ms"] = (latencies[len(latencies) * 99 // 100], "ms")
    return results


def messages(count: int, metrics: Iterable[str] = ("temperature",)) -> Packets:
    """Return messages of many devices, one value of each metric: packets of 105 bytes with one metric, 240 with ten."""
    names = list(metrics)
    return encode(
        (
            b"vitalane/v1/shipment/truck-%04d/readings" % (number % DEVICES),
            encode_values(dict.fromkeys(names, 4 + number % 97 / 16), TIME_MS + number),
        )
        for number in range(count)
    )


def measure(packets: Packets, receiver: str, protocol: str) -> dict[str, float]:
    """Send everything as fast as it goes, after a warm-up; return what ingest did, as it saw it itself."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, broker(Path(folder)) as port:
        child = _start("full", folder, port, receiver, protocol, len(packets))
        with Publisher(port) as publisher:
            publisher.blast(packets, 0, WARM_UP)
            publisher.blast(packets, WARM_UP, len(packets))
            out, _ = child.communicate()
    return dict(json.loads(out.splitlines()[-1]))


def pace(packets: Packets, rate: int) -> list[float]:
    """Send at a steady rate; return for each message the milliseconds until it was durable."""
    count = rate * PACED_SECONDS
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, broker(Path(folder)) as port:
        child = _start("paced", folder, port, *VARIANTS[0], count)
        with Publisher(port) as publisher:
            sent = publisher.pace(packets, rate, 0, count)
            out, _ = child.communicate()
    durable = json.loads(out.splitlines()[-1])["durable_ns"]
    return [(durable[str(TIME_MS + number)] - sent[number]) / 1e6 for number in range(rate // 2, count)]


def _start(paced: str, folder: str, port: int, receiver: str, protocol: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.ingest", "child", paced, folder, str(port), receiver, protocol, str(count)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if child.stdout.readline() != "connected\n":
        sys.exit("ingest did not connect")
    return child


class Watched(JournalWriter):
    """A writer that notes when each group was durable and with how much CPU, and stops ingest when all has come."""

    def __init__(self, path: Path, wanted: int, stop: threading.Event) -> None:
        super().__init__(path, "telemetry", PARTITIONS)
        self.rows: list[Entry] = []
        self.durable_ns: list[int] = []  # of each row
        self.marks: list[tuple[int, int, float]] = []  # after each group: messages so far, ns, CPU seconds
        self._wanted = wanted
        self._stop = stop
        self._received = 0

    def append(self, entries: Sequence[Entry], time_ms: int) -> list[int]:
        offsets = super().append(entries, time_ms)
        now = time.time_ns()
        rows = [entry for entry in entries if entry.kind == RowKind.MESSAGES]
        self.rows += rows
        self.durable_ns += [now] * len(rows)
        self._received += sum(row.count for row in rows)
        self.marks.append((self._received, now, sum(os.times()[:2])))
        if self._received >= self._wanted:
            self._stop.set()
        return offsets

    def __enter__(self) -> Self:
        return self


def child(paced: str, folder: str, port: str, receiver: str, protocol: str, count: str) -> None:
    """Be the ingest that is measured, and print what was seen."""
    stop, told = threading.Event(), threading.Event()
    settings = IngestSettings(broker=BrokerSettings(port=int(port), receiver=receiver, protocol=protocol))  # type: ignore[arg-type]

    def tell(status: IngestStatus) -> None:
        if status.connected and not told.is_set():
            told.set()
            print("connected", flush=True)

    with Watched(Path(folder) / "telemetry.db", int(count), stop) as writer:
        run_ingest(settings, writer, None, [], stop, tell)
    if paced == "paced":
        durable = {
            json.loads(payload)["time"]: at
            for row, at in zip(writer.rows, writer.durable_ns, strict=True)
            for payload in decode_messages(row.body).payloads
        }
        print(json.dumps({"durable_ns": durable}))
        return
    first = next(mark for mark in writer.marks if mark[0] >= WARM_UP)
    last = writer.marks[-1]
    figures = {
        "messages_per_s": (last[0] - first[0]) / (last[1] - first[1]) * 1e9,
        "cpu_s_per_100k": (last[2] - first[2]) / (last[0] - first[0]) * 100_000,
        "messages_per_row": sum(row.count for row in writer.rows) / len(writer.rows),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        for key, (value, unit) in run().items():
            print(f"{key:48} {value:14,.2f} {unit}", flush=True)
