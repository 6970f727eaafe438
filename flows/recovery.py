"""The recovery store: made whole or anew, held by one execution, and marked with where the outbox stood when its evaluation began.

What the outbox held before was told by an earlier evaluation of the same journal (the store was moved away, to evaluate it anew): up to
that place nothing is told a second time.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from bytewax.recovery import init_db_dir

from journal.rows import RowKind
from journal.writer import JournalWriter
from telemetry.errors import VitalaneError

RECOVERY_PARTITIONS = (
    1  # fixed for the life of a recovery directory; each costs three syncs an epoch, and one serves any number of processes
)
POLL_S = 0.02


class Began(NamedTuple):
    """Where one partition's outbox stood when the evaluation began."""

    offset: int = 0  # its next row
    alerts: tuple[int, int] = (-1, -1)  # the last place in the telemetry journal of which it held an alert


def recovery_path(data_dir: Path) -> Path:
    """Return the folder of the recovery store."""
    return data_dir / "recovery"


def prepare(recovery: Path, outboxes: Sequence[Path]) -> None:
    """Make the store where there is none, or where a crash left one half made: `complete` is there once it is whole."""
    complete = recovery / "complete"
    if complete.exists():
        return
    recovery.mkdir(parents=True, exist_ok=True)
    for part in recovery.glob("part-*.sqlite3*"):
        part.unlink()
    init_db_dir(recovery, RECOVERY_PARTITIONS)  # type: ignore[no-untyped-call]
    building = recovery / "complete.new"
    building.write_text(json.dumps([_standing(path, partition) for partition, path in enumerate(outboxes)]))
    building.rename(complete)


def began(recovery: Path, partition: int) -> Began:
    """Return where a partition's outbox stood when the store was made."""
    told = (recovery / "complete").read_text()
    stood = json.loads(told)[partition] if told else None
    return Began() if stood is None else Began(stood[0], (stood[1][0], stood[1][1]))


def await_prepared(recovery: Path, stop: threading.Event) -> bool:
    """Wait until another process of the cluster has made the store; False where told to stop meanwhile."""
    while not (recovery / "complete").exists():
        if stop.wait(POLL_S):
            return False
    return True


@contextmanager
def held(recovery: Path, process_id: int | None, addresses: Sequence[str]) -> Iterator[None]:
    """Keep every other execution off the store: Bytewax would let both write it. The processes of one cluster share it."""
    recovery.mkdir(parents=True, exist_ok=True)
    with (recovery / ".lock").open("a+") as lock:
        if process_id is None:
            _lock(lock, fcntl.LOCK_EX, recovery)
            _sign(lock, str(os.getpid()))
            yield
        else:
            with (recovery / f".lock-{process_id}").open("a+") as place:
                _lock(place, fcntl.LOCK_EX, recovery)
                _join(lock, ";".join(addresses), recovery)
                yield


def _join(lock: IO[str], cluster: str, recovery: Path) -> None:
    """Hold the lock together with the processes of this cluster, and no others."""
    with (recovery / ".lock-joining").open("a+") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # for a moment: whoever joins sees nobody half joined
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(lock, cluster)  # the first of them
        except BlockingIOError:
            pass
        _lock(lock, fcntl.LOCK_SH, recovery)
        lock.seek(0)
        if lock.read() != cluster:
            raise _occupied(recovery)


def _lock(file: IO[str], how: int, recovery: Path) -> None:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _occupied(recovery) from error


def _sign(lock: IO[str], holder: str) -> None:
    lock.truncate(0)
    lock.write(holder)
    lock.flush()


def _occupied(recovery: Path) -> VitalaneError:
    return VitalaneError(f"another flow is running on {recovery}: stop it first")


def _standing(outbox: Path, partition: int) -> Began | None:
    """Return where an outbox stands, None where there is none yet."""
    if not outbox.exists():
        return None
    with JournalWriter(outbox, f"outbox-{partition}", 1) as writer:
        return Began(writer.next_offset(0), writer.last_source(0, (RowKind.ALERT,)))
