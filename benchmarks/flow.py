"""The flow alone: a journal that is there already, through decoding, windows and rules into the outbox, recovery on, one process."""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flows.outbox import outbox_path
from flows.service import telemetry_path
from journal.messages import encode_messages
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from rules.control import DEFAULT_SETTINGS, registry_record, rules_record, settings_record
from rules.document import compile_rules
from telemetry import books

METRICS = ("temperature", "humidity", "light", "shock", "tilt", "battery", "speed", "door", "latitude", "longitude")
USUAL = (20.0, 40.0, 1.0, 1.0, 1.0, 50.0, 10.0, 0.0, 5.0, 5.0)
START_MS = 1_763_000_000_000
ONE_RUN = """
import sys, threading, time
from pathlib import Path
from flows.service import FlowSettings, run
began = time.perf_counter()
run(FlowSettings(Path(sys.argv[1]), 1, 250, to_end=True), threading.Event())
print(time.perf_counter() - began, time.process_time())
"""


def rules_text(count: int) -> str:
    """Return `count` rules: half on window means, half on readings with a duration; none of them holds for usual values."""
    lines = [
        f"  - {{id: r{n}, when: 'mean(temperature, 10 s, 10 s) > {30 + n / 10} Cel', severity: warning}}"
        if n % 2 == 0
        else f"  - {{id: r{n}, when: 'humidity > {90 + n / 100} %', for: 10 s, severity: warning}}"
        for n in range(count)
    ]
    return "rules:\n" + "\n".join(lines)


def settings(window_ms: int = 10_000):
    return DEFAULT_SETTINGS._replace(
        windows_ms={"shipment": window_ms}, grace_ms={"shipment": 1000}, store_readings=False, max_per_minute={"shipment": 10**9}
    )


def write(
    path: Path, devices: int, readings: int, metrics: int, rules: int, per_row: int = 200, *, late: float = 0.0, paced: bool = False
) -> None:
    """Write a journal of about `readings` readings, `metrics` a message, all in band; `paced` is a reading a second and device."""
    rng = random.Random(1)
    writer = JournalWriter(path, "telemetry", 1)
    controls = [settings_record(settings()), registry_record([]), rules_record(compile_rules([("bench", rules_text(rules))]), "bench")]
    writer.append([Entry(0, RowKind.CONTROL, 1, body) for body in controls], START_MS)
    now, device = START_MS, 0
    for _ in range(readings // metrics // per_row):
        now += max(1, 1000 * per_row // devices) if paced else 4
        topics, payloads = [], []
        for _ in range(per_row):
            device = (device + 1) % devices
            values = ",".join(f'"{name}":{usual + rng.random():.3f}' for name, usual in zip(METRICS[:metrics], USUAL, strict=False))
            topics.append(b"vitalane/v1/shipment/device-%05d/readings" % device)
            measured = now - (rng.randrange(2000, 120_000) if late and rng.random() < late else 0)
            payloads.append(f'{{"v":1,"time":{measured},"values":{{{values}}}}}'.encode())
        writer.append([Entry(0, RowKind.MESSAGES, per_row, encode_messages(topics, payloads, bytes(per_row)))], now + 5)
    writer.append([Entry(0, RowKind.TICK, 1, b"")], now + 60_000)
    writer.close()


def measure(devices: int, readings: int, metrics: int, rules: int) -> float:
    """Return readings per second of one run over one journal."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        write(telemetry_path(data_dir), devices, readings, metrics, rules)
        printed = subprocess.run([sys.executable, "-c", ONE_RUN, folder], capture_output=True, text=True, check=True).stdout
        reader = JournalReader(outbox_path(data_dir, 0))
        last = reader.last(0, RowKind.BOOKS)
        assert last is not None
        counted = books.from_json(last.body)
        assert counted.balances()
        assert counted.accepted == readings // metrics // 200 * 200 * metrics
        return counted.accepted / float(printed.split()[0])


def run() -> dict[str, tuple[float, str]]:
    return {
        "flow.readings_per_s": (measure(1000, 4_000_000, 10, 1), "1/s"),
        "flow.readings_per_s.1_a_message": (measure(1000, 600_000, 1, 1), "1/s"),
        "flow.readings_per_s.10k_devices_100_rules": (measure(10_000, 4_000_000, 10, 100), "1/s"),
    }


if __name__ == "__main__":
    began = time.perf_counter()
    for name, (value, unit) in run().items():
        print(f"{name:48} {value:12,.0f} {unit}")
    print(f"{time.perf_counter() - began:.0f} s")
