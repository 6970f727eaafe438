"""The flow with a crash in it: at a read, or before or after any call by which Bytewax makes something durable."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import AbortExecution

from flows.dataflow import build
from flows.history import Histories
from flows.outbox import OutboxSink, outbox_path
from flows.recovery import prepare, recovery_path
from flows.route import Routes
from flows.service import FlowSettings, execute, telemetry_path
from flows.shard import Shard
from flows.source import JournalSource


class Crashed(Exception):
    """Ours: Bytewax ends the execution for it as for any other, the epoch under way uncommitted."""


@dataclass
class Fuse:
    """Crashes the execution at the `left`th time that it comes to the place."""

    place: str
    left: int
    given: dict[int, list[bytes]] = field(default_factory=dict)  # every snapshot that a shard gave, by partition
    resumed: list[bytes] = field(default_factory=list)  # those that shards were built from

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        self._burn(f"before {name}")
        yield
        self._burn(f"after {name}")

    def _burn(self, place: str) -> None:
        if place == self.place:
            self.left -= 1
            if self.left == 0:
                raise AbortExecution if "read" in place else Crashed


@dataclass(frozen=True)
class FusedSource(JournalSource):
    fuse: Fuse = field(default_factory=lambda: Fuse("", 0))

    def build_part(self, step_id, for_part, resume_state):
        return fused(super().build_part(step_id, for_part, resume_state), self.fuse, next_batch="read", snapshot="source snapshot")


@dataclass(frozen=True)
class FusedShard(Shard):
    fuse: Fuse = field(default_factory=lambda: Fuse("", 0))

    def build(self, resume_state):
        if resume_state is not None:
            self.fuse.resumed.append(resume_state)
        logic = super().build(resume_state)
        take = logic.snapshot

        def snapshot():
            state = take()
            self.fuse.given.setdefault(logic.evaluator.partition, []).append(state)
            return state

        logic.snapshot = snapshot
        return fused(logic, self.fuse, on_batch="evaluation", snapshot="shard snapshot")


@dataclass(frozen=True)
class FusedSink(OutboxSink):
    fuse: Fuse = field(default_factory=lambda: Fuse("", 0))

    def build_part(self, step_id, for_part, resume_state):
        return fused(super().build_part(step_id, for_part, resume_state), self.fuse, write_batch="write", snapshot="outbox snapshot")


def fused(built, fuse: Fuse, **places: str):
    """Return what Bytewax is to call, with the fuse before and after its methods."""
    for name, place in places.items():
        setattr(built, name, _around(getattr(built, name), fuse, place))
    return built


def _around(method, fuse: Fuse, place: str):
    def call(*values):
        with fuse.around(place):
            return method(*values)

    return call


def run_until_crash(data_dir: Path, partitions: int, epoch_ms: int, fuse: Fuse, max_rows: int = 1) -> bool:
    """Run the flow to the journal's end or to the crash; return whether it crashed."""
    stop = threading.Event()
    prepare(recovery_path(data_dir), [outbox_path(data_dir, partition) for partition in range(partitions)])
    with closing(Histories(data_dir, stop)) as histories:
        source = FusedSource(telemetry_path(data_dir), partitions, stop, lambda partition, offset: None, True, max_rows, fuse=fuse)
        flow = build(source, Routes(partitions), FusedShard(partitions, histories, fuse), FusedSink(data_dir, partitions, stop, fuse=fuse))
        try:
            execute(flow, FlowSettings(data_dir, partitions, epoch_ms))
        except Crashed:
            pass
        except BytewaxRuntimeError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if not isinstance(cause, Crashed):
                raise
    return fuse.left <= 0
