"""The second keyed step: a thin shell that hands parts of rows to a shard's evaluator and its outcomes on.

Foreign parts that are ahead of the shard's own rows wait for those: they are read faster while a journal is caught up with, and would be
judged by rules and settings that are not in force yet. Live, nothing waits: every partition has a row a second.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bytewax.operators import StatefulBatchLogic

from flows.decision import Decision, decision
from flows.history import Histories, History
from flows.part import Part
from journal.rows import RowKind
from rules.evaluator import Evaluator
from rules.recovery import SNAPSHOT_VERSION
from telemetry.errors import VitalaneError

AHEAD_MS = 5_000  # a foreign part may be ahead by so much: more than the second between ticks
MAX_WAITING = 10_000  # parts: what comes then is evaluated at once


@dataclass(frozen=True)
class Shard:
    """Builds the logic of each key."""

    partitions: int
    histories: Histories

    def build(self, resume_state: Any | None) -> "ShardLogic":
        return ShardLogic(self, resume_state)


class ShardLogic(StatefulBatchLogic[Part, Decision, bytes]):
    """A key learns which partition it is from its first part."""

    def __init__(self, shard: Shard, resume_state: Any | None) -> None:
        self.shard = shard
        self.evaluator: Evaluator | None = None
        self.history: History | None = None
        self.clock_ms = 0  # the time of the newest own row but for control records
        self.latest_ms = 0  # of any part
        self.mixed = False  # foreign readings were evaluated here, ever
        self.waiting: list[Part] = []
        if resume_state is not None:
            self._restore(resume_state)

    def on_batch(self, values: list[Part]) -> tuple[Sequence[Decision], bool]:
        if self.evaluator is None:
            self._begin(values[0].home)
        made: list[Decision] = []
        for part in values:
            if part.foreign and part.time_ms > self.clock_ms + AHEAD_MS and len(self.waiting) < MAX_WAITING:
                self.waiting.append(part)
                continue
            self._evaluate(part, made)
            if part.kind != RowKind.CONTROL and not part.foreign:
                self.clock_ms = part.time_ms
                if self.waiting:
                    self._catch_up(made)
        return made, False

    def on_eof(self) -> tuple[Sequence[Decision], bool]:
        return [], False  # the end of a run is not the end of the data: keep the state

    def snapshot(self) -> bytes:
        assert self.evaluator is not None, "a key exists from its first part on"
        assert self.history is not None
        state = {
            "partition": self.evaluator.partition,
            "evaluator": self.evaluator.snapshot(),
            "history": self.history.snapshot(self.evaluator.take_history(), self.latest_ms, self.evaluator.retention_ms),
            "clock": (self.clock_ms, self.latest_ms),
            "mixed": self.mixed,
            "waiting": self.waiting,
        }
        # Bytewax pickles with protocol 4, which copies arrays again and again: 25 to 130 ms for 100,000 series. This takes 5 to 15.
        return pickle.dumps(state, protocol=5)

    def _begin(self, partition: int) -> None:
        self.evaluator = Evaluator(partition, self.shard.partitions)
        self.history = self.shard.histories.open(partition)

    def _restore(self, resume_state: Any) -> None:
        # What version 1 wrote was a tuple.
        old = {"evaluator": {"version": 1}}
        state: dict[str, Any] = pickle.loads(resume_state) if isinstance(resume_state, bytes) else old  # noqa: S301 our own
        version = state["evaluator"]["version"]
        if version != SNAPSHOT_VERSION:
            msg = (
                f"the recovery snapshot is of version {version}, this program reads version {SNAPSHOT_VERSION}: "
                "go back to the program that wrote it, or move the folder `recovery` away to evaluate the journal anew"
            )
            raise VitalaneError(msg)
        partition = state["partition"]
        self.history = self.shard.histories.open(partition)
        chunks = self.history.restore(state["history"])
        self.evaluator = Evaluator.restore(partition, self.shard.partitions, state["evaluator"], chunks)
        for _ in chunks:
            pass  # what the engine has no use for still counts
        self.clock_ms, self.latest_ms = state["clock"]
        self.mixed = state.get("mixed", False)
        self.waiting = list(state.get("waiting", []))

    def _catch_up(self, made: list[Decision]) -> None:
        """Evaluate the foreign parts that the shard's own rows have caught up with, in the order in which they came."""
        due = [part for part in self.waiting if part.time_ms <= self.clock_ms + AHEAD_MS]
        self.waiting = [part for part in self.waiting if part.time_ms > self.clock_ms + AHEAD_MS]
        for part in due:
            self._evaluate(part, made)

    def _evaluate(self, part: Part, made: list[Decision]) -> None:
        evaluator = self.evaluator
        assert evaluator is not None
        self.latest_ms = max(self.latest_ms, part.time_ms)
        if part.foreign:
            assert part.decoded is not None, "only messages are foreign"
            self.mixed = True
            outcome = evaluator.on_messages(part.offset, 0, part.time_ms, part.decoded, part.origin)
        elif part.decoded is not None:
            outcome = evaluator.on_messages(part.offset, part.end - part.offset, part.time_ms, part.decoded)
        elif part.kind == RowKind.TICK:
            outcome = evaluator.on_tick(part.offset, part.time_ms)
        else:
            outcome = evaluator.on_control(part.offset, part.time_ms, part.body)
        decided = decision(part, outcome, repeatable=not self.mixed)
        if decided is not None:
            made.append(decided)
