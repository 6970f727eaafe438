"""How far each part has come: the journal's heads, what the flow has decided, what each destination has taken.

Looks only, at files that other processes write; a file that is not there yet counts as nothing done.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from cli.places import FLOW, TELEMETRY, ledger_path, offsets_path, outbox_path, telemetry_path
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import RowKind
from sinks.ledger import ChannelLedger
from sinks.outbox import Cursor
from sinks.store_ledger import StoreLedger
from telemetry import books
from telemetry.books import Books

MAX_OWED = 10_000


class Lag:
    """The positions of one data folder. Belongs to one thread; opens each file when it first exists."""

    def __init__(self, data_dir: Path, partitions: int) -> None:
        self.data_dir, self.partitions = data_dir, partitions
        self._readers: dict[Path, JournalReader] = {}
        self._offsets: ConsumerOffsets | None = None

    def heads(self) -> dict[int, int]:
        """Return the next offset of each partition of the telemetry journal."""
        reader = self._reader(telemetry_path(self.data_dir))
        return {} if reader is None else {partition: reader.head(partition) for partition in range(reader.partitions)}

    def decided(self) -> dict[int, int]:
        """Return the offset of each partition up to which decisions are durable."""
        path = offsets_path(self.data_dir)
        if self._offsets is None and path.exists():
            self._offsets = ConsumerOffsets(path)
        return {} if self._offsets is None else self._offsets.committed(TELEMETRY, FLOW)

    def undecided(self, heads: Mapping[int, int] | None = None) -> int:
        """Return how many offsets before these heads (now's, where none are given) wait for the flow."""
        decided = self.decided()
        return sum(max(0, head - decided.get(partition, 0)) for partition, head in (self.heads() if heads is None else heads).items())

    def outbox_heads(self) -> Cursor:
        """Return the next offset of each outbox file, as destinations count them."""
        heads: Cursor = {}
        for number in range(self.partitions):
            reader = self._reader(outbox_path(self.data_dir, number))
            if reader is not None:
                heads[number, 0] = reader.head(0)
        return heads

    def outbox_firsts(self) -> Cursor:
        """Return the first offset that each outbox file retains."""
        return {(number, 0): self._readers[outbox_path(self.data_dir, number)].first(0) for number, _ in self.outbox_heads()}

    def books(self) -> list[Books]:
        """Return the newest books of each partition that has any."""
        found = []
        for number in range(self.partitions):
            reader = self._reader(outbox_path(self.data_dir, number))
            row = None if reader is None else reader.last(0, RowKind.BOOKS)
            if row is not None:
                found.append(books.from_json(row.body))
        return found

    def untaken(self, name: str, *, store: bool) -> int:
        """Return how many outbox rows a destination has not taken yet, plus what it owes and has not tried."""
        path, heads = ledger_path(self.data_dir, name), self.outbox_heads()
        if not path.exists():
            return sum(heads.values())
        if store:
            with closing(StoreLedger(path, serve=False)) as stored:
                return _behind(stored.cursor(), heads)
        with closing(ChannelLedger(path, serve=False)) as ledger:
            owed = ledger.pending(MAX_OWED)
            failing = {delivery.alert_id for delivery in owed if delivery.attempts}
            return _behind(ledger.cursor(), heads) + sum(delivery.alert_id not in failing for delivery in owed)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._offsets is not None:
            self._offsets.close()
            self._offsets = None

    def __enter__(self) -> "Lag":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reader(self, path: Path) -> JournalReader | None:
        if path not in self._readers:
            if not path.exists():
                return None
            self._readers[path] = JournalReader(path)
        return self._readers[path]


def caught_up(lag: Lag, channels: Sequence[str], stores: Sequence[str]) -> bool:
    """Return whether every destination has taken all that was decided, and tried all that it owes."""
    return not any(lag.untaken(name, store=False) for name in channels) and not any(lag.untaken(name, store=True) for name in stores)


def _behind(cursor: Cursor, heads: Cursor) -> int:
    return sum(max(0, head - cursor.get(source, 0)) for source, head in heads.items())
