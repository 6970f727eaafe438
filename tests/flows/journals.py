"""Telemetry journals for the flow's tests: a small world written as ingest would write it."""

import json
import random
import shutil
import threading
from pathlib import Path

from flows.outbox import outbox_path
from flows.service import FlowSettings, run, telemetry_path
from journal.messages import encode_messages
from journal.reader import JournalReader
from journal.rows import Entry, Row, RowKind
from journal.writer import JournalWriter
from rules.control import DEFAULT_SETTINGS, registry_record, rules_record, settings_record
from rules.document import compile_rules
from telemetry import books
from telemetry.routing import partition_of

GOLDEN = Path(__file__).parent.parent / "golden" / "flows"
START_MS = 1_763_000_000_000
RULES = """rules:
  - {id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, for: 2 min, clear: {when: temperature < 7.5}, severity: critical}
  - {id: low, applies_to: {kind: patient}, when: spo2 < 90 %, severity: warning}
  - {id: silent, applies_to: {kind: patient}, when: 'absent(spo2, 4 min)', severity: warning}
"""


def write_world(data_dir: Path, partitions: int, rows: int, seed: int) -> int:
    """Write a journal of some rows a partition; returns how many messages it holds."""
    rng = random.Random(seed)
    writer = JournalWriter(telemetry_path(data_dir), "telemetry", partitions)
    controls = [settings_record(DEFAULT_SETTINGS), registry_record([]), rules_record(compile_rules([("r", RULES)]), "test")]
    writer.append([Entry(at, RowKind.CONTROL, 1, body) for at in range(partitions) for body in controls], START_MS)
    written = 0
    for number in range(rows):
        now = START_MS + number * 60_000
        entries = []
        groups: list[list[tuple[bytes, bytes]]] = [[] for _ in range(partitions)]
        for device in range(6):
            kind = "patient" if device % 2 else "shipment"
            values = {"spo2": rng.choice([88.0, 95, 97])} if device % 2 else {"temperature": rng.choice([5, 9.0, 9.5]), "humidity": 40}
            if device == 5 and number % 11 > 4:
                continue
            payload = json.dumps({"v": 1, "time": now - rng.choice([0, 0, 500, 90_000]), "values": values}).encode()
            topic = f"vitalane/v1/{kind}/dev-{device}/readings".encode()
            groups[partition_of(f"dev-{device}", partitions)].append((topic, payload if rng.random() > 0.05 else b'{"v":'))
        for partition, group in enumerate(groups):
            if group:
                body = encode_messages([topic for topic, _ in group], [payload for _, payload in group], bytes(len(group)))
                entries.append(Entry(partition, RowKind.MESSAGES, len(group), body))
                written += len(group)
            else:
                entries.append(Entry(partition, RowKind.TICK, 1, b""))
        writer.append(entries, now + 700)
    writer.close()
    return written


def copy_of_the_journal(world: Path, data_dir: Path) -> None:
    data_dir.mkdir(exist_ok=True)
    for name in ("telemetry.db", "telemetry.db-wal"):
        if (world / name).exists():
            shutil.copy(world / name, data_dir / name)


def run_to_end(data_dir: Path, partitions: int, epoch_ms: int = 0) -> None:
    run(FlowSettings(data_dir, partitions, epoch_ms, to_end=True), threading.Event())


def outbox_rows(data_dir: Path, partition: int) -> list[Row]:
    reader = JournalReader(outbox_path(data_dir, partition))
    rows: list[Row] = []
    while found := reader.read(0, rows[-1].offset + 1 if rows else 0):
        rows += found
    reader.close()
    return rows


def lanes(data_dir: Path, partitions: int) -> list[list[tuple[int, int, int, bytes]]]:
    """Return what the outbox holds, alerts and the rest apart: kind, place in the telemetry journal, body."""
    told = []
    for partition in range(partitions):
        rows = [
            (int(row.kind), row.source_offset, row.source_part, without_memory(row.kind, row.body))
            for row in outbox_rows(data_dir, partition)
        ]
        told += [[row for row in rows if row[0] == RowKind.ALERT], [row for row in rows if row[0] != RowKind.ALERT]]
    return told


def without_memory(kind: int, body: bytes) -> bytes:
    """Return a body without the memory that the state takes, if it tells it: that depends on how arrays grew; restored ones did not."""
    return books.to_json(books.from_json(body)._replace(state_bytes=0)) if kind == RowKind.BOOKS else body
