"""Running the flow: one execution at a time, short epochs, a stop that commits, offsets published once they are safe."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir

from flows.dataflow import build
from flows.outbox import Keep, OutboxSink, offsets_path
from flows.shard import Shard
from flows.source import JournalSource
from journal.offsets import ConsumerOffsets
from telemetry.errors import VitalaneError

logger = logging.getLogger(__name__)

TELEMETRY = "telemetry"
CONSUMER = "flow"
RECOVERY_PARTITIONS = (
    1  # fixed for the life of a recovery directory; each costs three syncs an epoch, and one serves any number of processes
)
PUBLISH_EVERY_S = 1.0


@dataclass(frozen=True)
class FlowSettings:
    data_dir: Path
    partitions: int
    epoch_ms: int = 3000
    keep_age_ms: int | None = None  # outbox rows older than this go, once every consumer has taken them
    keep_bytes: int | None = None
    consumers: tuple[str, ...] = ()  # of the outbox: stores and channels
    to_end: bool = False  # stop at the journal's end: for replays


def telemetry_path(data_dir: Path) -> Path:
    """Return the file of the telemetry journal."""
    return data_dir / "telemetry.db"


def run(settings: FlowSettings, stop: threading.Event) -> None:
    """Decide on everything that the journal holds and gets, until `stop` is set. Raises VitalaneError with one sentence."""
    recovery = settings.data_dir / "recovery"
    recovery.mkdir(parents=True, exist_ok=True)
    offsets = ConsumerOffsets(offsets_path(settings.data_dir))
    published = _Published(offsets)
    with _only_one(recovery):
        prepare(recovery)
        source = JournalSource(telemetry_path(settings.data_dir), settings.partitions, stop, published, settings.to_end)
        flow = build(
            source,
            Shard(settings.partitions),
            OutboxSink(settings.data_dir, settings.partitions, stop, Keep(settings.keep_age_ms, settings.keep_bytes, settings.consumers)),
        )
        logger.info("flows.service_started partitions=%d epoch_ms=%d", settings.partitions, settings.epoch_ms)
        try:
            execute(flow, recovery, settings.epoch_ms)
            published.waiting |= source.snapshots  # a run that ends in order has committed its last epoch
        finally:
            published.flush()
            offsets.close()
    logger.info("flows.service_stopped recovery=%s", recovery)


def execute(flow: Dataflow, recovery: Path, epoch_ms: int) -> None:
    """Run a dataflow from the recovery store's last commit until its sources end. Raises the VitalaneError that stopped it, if one did."""
    try:
        cli_main(flow, epoch_interval=timedelta(milliseconds=epoch_ms), recovery_config=RecoveryConfig(recovery, timedelta(0)))  # type: ignore[no-untyped-call]
    except BytewaxRuntimeError as error:
        cause = _root(error)
        if isinstance(cause, VitalaneError):
            raise cause from error
        raise


def prepare(recovery: Path) -> None:
    """Make the recovery store where there is none, or where a crash left one half made: `complete` is there once it is whole."""
    complete = recovery / "complete"
    if complete.exists():
        return
    for part in recovery.glob("part-*.sqlite3*"):
        part.unlink()
    init_db_dir(recovery, RECOVERY_PARTITIONS)  # type: ignore[no-untyped-call]
    complete.touch()


class _Published:
    """Tells the journal's retention how far the flow is, about once a second."""

    def __init__(self, offsets: ConsumerOffsets) -> None:
        self.offsets = offsets
        self.waiting: dict[int, int] = {}
        self.at_s = 0.0

    def __call__(self, partition: int, offset: int) -> None:
        self.waiting[partition] = offset
        if time.monotonic() - self.at_s >= PUBLISH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.offsets.commit(TELEMETRY, CONSUMER, self.waiting)
            self.waiting = {}
        self.at_s = time.monotonic()


@contextmanager
def _only_one(recovery: Path) -> Iterator[None]:
    """Keep a second execution off the recovery store: Bytewax would let both write it."""
    with (recovery / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another flow is running on {recovery}: stop it first"
            raise VitalaneError(msg) from error
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
