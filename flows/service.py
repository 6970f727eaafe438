"""Running the flow: one execution at a time, short epochs, a stop that commits, offsets published once they are safe.

One process runs it, or several as one cluster: each is started with the same addresses and its own number, and all end when one does;
then the whole cluster is to be started again, with as many processes as one likes.
"""

import logging
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig

from flows.dataflow import build
from flows.history import Histories
from flows.outbox import Keep, OutboxSink, offsets_path, outbox_path
from flows.recovery import await_prepared, held, prepare, recovery_path
from flows.route import Routes
from flows.shard import Shard
from flows.source import JournalSource
from journal.offsets import ConsumerOffsets
from telemetry.errors import VitalaneError

logger = logging.getLogger(__name__)

TELEMETRY = "telemetry"
CONSUMER = "flow"
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
    process_id: int | None = None  # of a cluster: this process, the index of its own address
    addresses: tuple[str, ...] = ()  # of a cluster: host:port of every process


def telemetry_path(data_dir: Path) -> Path:
    """Return the file of the telemetry journal."""
    return data_dir / "telemetry.db"


def run(settings: FlowSettings, stop: threading.Event) -> None:
    """Decide on everything that the journal holds and gets, until `stop` is set. Raises VitalaneError with one sentence."""
    data_dir, partitions = settings.data_dir, settings.partitions
    recovery = recovery_path(data_dir)
    with held(recovery, settings.process_id, settings.addresses):
        if settings.process_id in {None, 0}:
            prepare(recovery, [outbox_path(data_dir, partition) for partition in range(partitions)])
        elif not await_prepared(recovery, stop):
            return
        with closing(ConsumerOffsets(offsets_path(data_dir))) as offsets, closing(Histories(data_dir, stop)) as histories:
            published = _Published(offsets)
            source = JournalSource(telemetry_path(data_dir), partitions, stop, published, settings.to_end)
            outbox = OutboxSink(data_dir, partitions, stop, Keep(settings.keep_age_ms, settings.keep_bytes, settings.consumers))
            flow = build(source, Routes(partitions), Shard(partitions, histories), outbox)
            logger.info("flows.service_started partitions=%d epoch_ms=%d", partitions, settings.epoch_ms)
            try:
                execute(flow, settings)
                published.waiting |= source.snapshots  # a run that ends in order has committed its last epoch
            finally:
                published.flush()
    logger.info("flows.service_stopped recovery=%s", recovery)


def execute(flow: Dataflow, settings: FlowSettings) -> None:
    """Run a dataflow from the recovery store's last commit until its sources end. Raises the VitalaneError that stopped it, if one did."""
    try:
        cli_main(  # type: ignore[no-untyped-call]
            flow,
            process_id=settings.process_id,
            addresses=list(settings.addresses) or None,
            epoch_interval=timedelta(milliseconds=settings.epoch_ms),
            recovery_config=RecoveryConfig(recovery_path(settings.data_dir), timedelta(0)),  # type: ignore[no-untyped-call]
        )
    except BytewaxRuntimeError as error:
        cause = _root(error)
        if isinstance(cause, VitalaneError):
            raise cause from error
        raise


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


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
