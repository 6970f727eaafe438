"""The keyed step: a thin shell that hands journal rows to a shard's evaluator and its outcomes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bytewax.operators import StatefulBatchLogic

from flows.decision import Decision, decision
from ingest.decode import decode_row
from journal.messages import decode_messages
from journal.rows import Row, RowKind
from rules.evaluator import Evaluator
from rules.history import HistoryChunk


@dataclass(frozen=True)
class Shard:
    """Builds the logic of each key."""

    partitions: int

    def build(self, resume_state: Any | None) -> "ShardLogic":
        return ShardLogic(self.partitions, resume_state)


class ShardLogic(StatefulBatchLogic[Row, Decision, Any]):
    def __init__(self, partitions: int, resume_state: Any | None) -> None:
        self.partitions = partitions
        self.evaluator: Evaluator | None = None
        self.chunks: list[HistoryChunk] = []
        if resume_state is not None:
            partition, state, self.chunks = resume_state
            self.evaluator = Evaluator.restore(partition, partitions, state, self.chunks)

    def on_batch(self, values: list[Row]) -> tuple[Sequence[Decision], bool]:
        decisions = [self._on_row(row) for row in values]
        return [made for made in decisions if made is not None], False

    def _on_row(self, row: Row) -> Decision | None:
        if self.evaluator is None:  # a key learns which partition it is from its first row
            self.evaluator = Evaluator(row.partition, self.partitions)
        match row.kind:
            case RowKind.MESSAGES:
                messages = decode_messages(row.body)
                decoded = decode_row(messages, row.time_ms, self.evaluator.catalogue)
                return decision(row, self.evaluator.on_messages(row.offset, row.count, row.time_ms, decoded), messages)
            case RowKind.TICK:
                return decision(row, self.evaluator.on_tick(row.offset, row.time_ms), None)
            case _:
                return decision(row, self.evaluator.on_control(row.offset, row.time_ms, row.body), None)

    def on_eof(self) -> tuple[Sequence[Decision], bool]:
        return [], False  # the end of a run is not the end of the data: keep the state

    def snapshot(self) -> Any:
        assert self.evaluator is not None, "a key exists from its first row on"
        chunk = self.evaluator.take_history()
        self.chunks += [chunk] if chunk is not None else []
        return self.evaluator.partition, self.evaluator.snapshot(), list(self.chunks)
