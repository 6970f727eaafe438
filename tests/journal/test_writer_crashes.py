"""Crashes: what was said to be durable is there, and what is there is whole."""

import random
import shutil
import subprocess
import sys
import threading
import zlib

import pytest

from journal.reader import JournalReader
from journal.verify import verify
from journal.writer import JournalWriter
from tests.journal.samples import fill, message_entry, read_all

FRAME = 24 + 4096
CHILD = """
import random, sys, zlib
from pathlib import Path
from journal.writer import JournalWriter
from tests.journal.samples import message_entry

rng = random.Random(int(sys.argv[2]))
with JournalWriter(Path(sys.argv[1]), "telemetry", 3) as writer:
    print("open", flush=True)
    for number in range(1_000_000):
        entries = [message_entry(rng.randrange(3), rng.randrange(1, 50), str(number), size=rng.choice([10, 500, 5000])) for _ in range(3)]
        offsets = writer.append(entries, number)
        for entry, offset in zip(entries, offsets):
            print(entry.partition, offset, entry.count, zlib.crc32(entry.body), flush=True)
        if number % 7 == 6:
            floor = {partition: writer.next_offset(partition) - 400 for partition in range(3)}
            writer.trim(max_age_ms=None, max_bytes=1 << 20, now_ms=0, floor=floor)
"""


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(5))
def test_kill_9_loses_nothing_that_was_durable(tmp_path, attempt):
    """A writer killed at a random instant, three times over one journal, while it appends, checkpoints and trims."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    path = tmp_path / "j.db"
    for _ in range(3):
        durable = _run_and_kill(path, rng)
        assert verify(path).problem == ""
        with JournalReader(path) as reader:
            held = {(row.partition, row.offset): row for partition in range(3) for row in read_all(reader, partition)}
            for partition, offset, count, digest in durable:
                if offset >= reader.first(partition):
                    row = held[partition, offset]
                    assert (row.count, str(zlib.crc32(row.body))) == (count, digest)
                else:
                    assert offset + count <= reader.head(partition) - 400 + 50, "only rows below the floor may have been trimmed"


def _run_and_kill(path, rng) -> list[tuple[int, int, int, str]]:
    """Return every row that the child said was durable before it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(rng.randrange(1 << 30))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    killer = threading.Timer(rng.uniform(0.0, 0.35), child.kill)
    killer.start()
    lines = [line.split() for line in child.stdout if line.endswith("\n")]
    child.wait(30)
    killer.join()
    return [(int(partition), int(offset), int(count), digest) for partition, offset, count, digest in lines]


@pytest.fixture
def crashed(tmp_path):
    """A journal as a crash leaves it, its last transaction in the log only: (directory, length of the log without it)."""
    live = tmp_path / "live"
    fill(live / "j.db", 5)
    image = tmp_path / "image"
    image.mkdir()
    log = live / "j.db-wal"
    with JournalWriter(live / "j.db", "telemetry", 2) as writer:
        writer.append([message_entry(0, 3, "before")], 10_000)
        before = log.stat().st_size
        writer.append([message_entry(partition, 3, "last", size=900) for partition in range(2)], 11_000)
        for name in ("j.db", "j.db-wal"):
            shutil.copy(live / name, image / name)
    return image, before


def check_prefix(path, whole: bool) -> None:
    """The journal opens, holds all up to the last transaction or that as well, is proved, and goes on."""
    with JournalWriter(path, "telemetry", 2) as writer:
        ends = [writer.next_offset(partition) for partition in range(2)]
        assert ends == ([21, 18] if whole else [18, 15])
        writer.append([message_entry(1, 1)], 12_000)
    found = verify(path)
    assert (found.problem, found.rows) == ("", 14 if whole else 12)


@pytest.mark.long
def test_a_log_torn_anywhere_leaves_a_prefix(crashed, tmp_path):
    """A power cut keeps the log up to some byte of the last transaction: all of it counts, or none."""
    image, before = crashed
    log = (image / "j.db-wal").read_bytes()
    edges = {at + near for at in range(before, len(log) + 1, FRAME) for near in (-1, 0, 1, 8, 23, 24, 25)}
    cuts = sorted(cut for cut in edges | set(range(before, len(log) + 1, 97)) if before <= cut <= len(log))
    assert len(cuts) > 150
    path = tmp_path / "torn" / "j.db"
    path.parent.mkdir()
    for cut in cuts:
        for leftover in path.parent.iterdir():
            leftover.unlink()
        shutil.copy(image / "j.db", path)
        (path.parent / "j.db-wal").write_bytes(log[:cut])
        check_prefix(path, whole=cut == len(log))


def test_a_log_with_a_garbled_tail_leaves_a_prefix(crashed, tmp_path):
    """Disks write sectors in any order: what was not synced may be anything."""
    image, before = crashed
    log = (image / "j.db-wal").read_bytes()
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(60):
        path = tmp_path / f"garbled-{number}" / "j.db"
        path.parent.mkdir()
        garbled = bytearray(log)
        at = rng.randrange(before // 512 * 512 + 512, len(log), 512)
        garbled[at : at + 512] = rng.choice([bytes(512), rng.randbytes(512)])[: len(garbled) - at]
        shutil.copy(image / "j.db", path)
        (path.parent / "j.db-wal").write_bytes(garbled)
        check_prefix(path, whole=bytes(garbled) == log)


def test_a_reader_of_a_crashed_journal_reads_its_log(crashed):
    """`vitalane journal verify` after a crash, before any service has started again."""
    image, _ = crashed
    with JournalReader(image / "j.db") as reader:
        assert reader.head(0) == 21
    assert verify(image / "j.db").ok
