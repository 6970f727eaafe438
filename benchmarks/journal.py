"""How fast the journal takes and gives messages: 150-byte payloads, groups of 200 over four partitions, each group on the disk (fsync)."""

import tempfile
import time
from pathlib import Path

from journal.messages import decode_messages, encode_messages
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter

PARTITIONS = 4
GROUP = 200
PAYLOAD_BYTES = 150
SECONDS = 3.0


def run() -> dict[str, tuple[float, str]]:
    """Return the journal's numbers. Encoding and decoding the bodies is part of them."""
    share = GROUP // PARTITIONS
    topics = [[b"vitalane/v1/shipment/truck-%04d/readings" % (p * share + i) for i in range(share)] for p in range(PARTITIONS)]
    payloads = [[b'{"v":1,"metric":"temperature","value":%d}'.ljust(PAYLOAD_BYTES) % i for i in range(share)] for _ in range(PARTITIONS)]
    flags = bytes([1 << 4]) * share
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:  # where a journal would be: /tmp may be memory
        path = Path(directory) / "telemetry.db"
        with JournalWriter(path, "telemetry", PARTITIONS) as writer:
            started = time.perf_counter()
            written = 0
            while time.perf_counter() - started < SECONDS:
                bodies = [encode_messages(topics[p], payloads[p], flags) for p in range(PARTITIONS)]
                writer.append([Entry(p, RowKind.MESSAGES, share, body) for p, body in enumerate(bodies)], written)
                written += GROUP
            append_s = time.perf_counter() - started
        with JournalReader(path) as reader:
            started = time.perf_counter()
            read = sum(_read_all(reader, partition) for partition in range(PARTITIONS))
            read_s = time.perf_counter() - started
    assert read == written
    return {
        "journal.append_messages_per_s": (written / append_s, "messages/s"),
        "journal.read_messages_per_s": (read / read_s, "messages/s"),
    }


def _read_all(reader: JournalReader, partition: int) -> int:
    offset, total = 0, 0
    while rows := reader.read(partition, offset):
        for row in rows:
            total += len(decode_messages(row.body).payloads)
        offset = rows[-1].offset + rows[-1].count
    return total


if __name__ == "__main__":
    for name, (value, unit) in run().items():
        print(f"{name:40} {value:14,.0f} {unit}")
