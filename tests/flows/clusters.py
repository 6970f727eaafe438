"""The flow as processes of one cluster, on the loopback: started together, killed at some place of their work, started again."""

import random
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

from flows.outbox import outbox_path
from journal.reader import JournalReader
from telemetry.errors import VitalaneError
from tests.tools import free_port

EPOCH_MS = 20
ONE_PROCESS = f"""
import sys, threading
from pathlib import Path
from flows.service import FlowSettings, run
folder, partitions, number, *addresses = sys.argv[1:]
cluster = dict(process_id=int(number), addresses=tuple(addresses)) if addresses else dict()
run(FlowSettings(Path(folder), int(partitions), {EPOCH_MS}, to_end=True, **cluster), threading.Event())
"""
POLL_S = 0.002
PATIENCE_S, GRACE_S = 60.0, 1.0


def start(data_dir: Path, partitions: int, processes: int) -> list[subprocess.Popen[bytes]]:
    """Start a flow that runs to the journal's end; several processes are a cluster."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(processes)] if processes > 1 else []
    arguments = [sys.executable, "-c", ONE_PROCESS, str(data_dir), str(partitions)]
    return [subprocess.Popen([*arguments, str(number), *addresses], stderr=subprocess.DEVNULL) for number in range(processes)]


def decided(data_dir: Path, partitions: int) -> int:
    """Return how many rows the outboxes hold."""
    rows = 0
    for partition in range(partitions):
        with suppress(VitalaneError), closing(JournalReader(outbox_path(data_dir, partition))) as reader:
            rows += reader.head(0)
    return rows


def run_killing_one(data_dir: Path, partitions: int, processes: int, rows: int, rng: random.Random) -> bool:
    """Run a cluster, kill -9 one of its processes once the outboxes hold so many rows; return False where it had ended before."""
    running, waiting = start(data_dir, partitions, processes), threading.Event()
    while decided(data_dir, partitions) < rows and any(process.poll() is None for process in running):
        waiting.wait(POLL_S)
    victim = rng.choice(running)
    killed = victim.poll() is None
    victim.kill()
    for process in running:
        try:
            process.wait(GRACE_S)  # the others end by themselves, but for one that still waits to be connected
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return killed


def run_cluster_to_end(data_dir: Path, partitions: int, processes: int) -> list[int]:
    """Run a cluster to the journal's end; return the exit statuses."""
    return [process.wait(PATIENCE_S) for process in start(data_dir, partitions, processes)]
