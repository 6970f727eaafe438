"""A world in which the devices of one subject publish into different partitions: the same messages for any number of partitions."""

import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from flows.service import telemetry_path
from journal.messages import encode_messages
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from rules.control import DEFAULT_SETTINGS, registry_record, rules_record, settings_record
from rules.document import compile_rules
from telemetry import alert, blocks
from telemetry.alert import AlertEvent, Phase
from telemetry.routing import partition_of
from tests.flows.journals import START_MS, outbox_rows

STEP_MS, MINUTE_MS = 20_000, 60_000
RULES = """rules:
  - {id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, for: 2 min, clear: {when: temperature < 7.5}, severity: critical}
  - {id: humid, applies_to: {kind: shipment}, when: 'mean(humidity, 1 min, 1 min) > 60 %', severity: warning}
  - {id: low, applies_to: {kind: patient}, when: spo2 < 90 %, severity: warning}
  - {id: silent, applies_to: {kind: patient}, when: 'absent(spo2, 4 min)', severity: warning}
"""
SUBJECTS = {"shipment": ["van-1", "van-2", "van-3"], "patient": ["bed-1", "bed-2"]}
SOLO = [f"solo-{number}" for number in range(4)]  # devices that nobody assigned: each its own subject


def devices() -> list[dict]:
    """Return the registry: two devices for each subject, and one that is moved from a van to the next half-way."""
    listed: list[dict] = [
        {"device": f"{subject}-{number}", "subject": subject, "kind": kind}
        for kind, subjects in SUBJECTS.items()
        for subject in subjects
        for number in range(2)
    ]
    moved_ms = START_MS + 15 * MINUTE_MS
    listed.append({"device": "logger", "subject": "van-1", "kind": "shipment", "until_ms": moved_ms})
    listed.append({"device": "logger", "subject": "van-2", "kind": "shipment", "from_ms": moved_ms})
    return listed


def go_on(data_dir: Path, partitions: int) -> None:
    """Let the journal go on for a while: what came from a partition that was read last is told with the next row."""
    with JournalWriter(telemetry_path(data_dir), "telemetry", partitions) as writer:
        last_ms = writer.last_time_ms()
        for tick in range(1, 4):
            writer.append([Entry(at, RowKind.TICK, 1, b"") for at in range(partitions)], last_ms + tick * MINUTE_MS)


def write_mixed_world(data_dir: Path, partitions: int, steps: int, seed: int, *, late: bool = True) -> None:
    """Write a journal in which the messages of the registry's devices lie in any partition, and those of the others where they belong."""
    rng = random.Random(seed)
    controls = [settings_record(DEFAULT_SETTINGS), registry_record(devices()), rules_record(compile_rules([("r", RULES)]), "test")]
    names = sorted({(entry["device"], entry["kind"]) for entry in devices()}) + [(solo, "shipment") for solo in SOLO]
    level = dict.fromkeys(names, 0.0)
    with JournalWriter(telemetry_path(data_dir), "telemetry", partitions) as writer:
        writer.append([Entry(at, RowKind.CONTROL, 1, body) for at in range(partitions) for body in controls], START_MS)
        for step in range(1, steps + 1):
            now = START_MS + step * STEP_MS
            groups: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
            for name, kind in names:
                if name.startswith("bed-2") and step % 40 > 20:
                    continue  # nobody in that bed
                level[name, kind] = rng.choice([0.0, 1.0]) if rng.random() < 0.2 else level[name, kind]
                warm = level[name, kind] + rng.random() / 4
                values = (
                    {"spo2": round(94 - 6 * warm, 1)}
                    if kind == "patient"
                    else {"temperature": round(7 + 2 * warm, 1), "humidity": round(50 + 20 * warm)}
                )
                time_ms = now - (rng.choice([0, 0, 0, 30_000, 5 * MINUTE_MS]) if late else 0) - rng.randrange(1000)
                lies = rng.random()
                payload = json.dumps({"v": 1, "time": time_ms, "values": values}).encode()
                partition = partition_of(name, partitions) if name in SOLO else int(lies * partitions)
                groups[partition].append((f"vitalane/v1/{kind}/{name}/readings".encode(), payload))
            entries = []
            for partition in range(partitions):
                group = groups.get(partition, [])
                body = encode_messages([topic for topic, _ in group], [payload for _, payload in group], bytes(len(group)))
                entries.append(Entry(partition, RowKind.MESSAGES, len(group), body) if group else Entry(partition, RowKind.TICK, 1, b""))
            writer.append(entries, now + 700)
        for tick in range(1, 16):
            ticks = [Entry(partition, RowKind.TICK, 1, b"") for partition in range(partitions)]
            writer.append(ticks, START_MS + steps * STEP_MS + tick * MINUTE_MS)


def alerts(data_dir: Path, partitions: int) -> list[AlertEvent]:
    rows = [row for partition in range(partitions) for row in outbox_rows(data_dir, partition)]
    return [alert.from_json(row.body) for row in rows if row.kind is RowKind.ALERT]


def final_episodes(data_dir: Path, partitions: int) -> set[tuple]:
    """Return what stands in the end: each alert by its last revision, but for what was retracted.

    The peak of an alert that is still open is told with its next revision.
    """
    last: dict[str, AlertEvent] = {}
    for event in alerts(data_dir, partitions):
        if event.alert_id not in last or event.revision > last[event.alert_id].revision:
            last[event.alert_id] = event
    return {
        (event.rule, event.subject, event.started_at_ms, event.ended_at_ms, event.peak if event.ended_at_ms else None)
        for event in last.values()
        if event.phase is not Phase.RETRACTED
    }


def final_summaries(data_dir: Path, partitions: int) -> dict[tuple, tuple]:
    """Return the last revision of every window's summary, but for what was withdrawn."""
    last: dict[tuple, tuple[int, tuple]] = {}
    for partition in range(partitions):
        for row in outbox_rows(data_dir, partition):
            if row.kind is not RowKind.WINDOWS:
                continue
            block = blocks.unpack(row.body)
            columns = {name: np.array(column).tolist() for name, column in block.columns.items()}
            revisions, values = columns.pop("revision"), list(zip(*columns.values(), strict=True))
            for revision, (series, opens_ms, closes_ms, *rest) in zip(revisions, values, strict=True):
                key = (*block.series[series], opens_ms, closes_ms)
                if key not in last or revision >= last[key][0]:
                    last[key] = revision, tuple(map(str, rest))
    return {key: rest for key, (_, rest) in last.items() if rest[0] != "0"}
