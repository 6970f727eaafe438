"""A part: what of one journal row one shard evaluates. It travels between workers and is held in state, so it is plain values.

A row is one part as a rule, its shard's own. A row that carries readings of devices whose subjects live in other shards is several: what
is theirs goes to them as *foreign* parts, which count no offsets and move no clock; everything else stays with the own part.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from journal.rows import RowKind
from telemetry.readings import Decoded

Texts = Sequence[bytes] | Mapping[int, bytes]
"""Topics or payloads by the index of the message in its row."""


class Part(NamedTuple):
    """Durable: shards hold parts in their snapshots. Grows at its end."""

    home: int  # the shard that evaluates it
    origin: int  # the partition that carried the row
    offset: int  # of the row's first message
    end: int  # of the row, exclusive
    time_ms: int  # journal time
    kind: RowKind
    body: bytes  # of a control record
    decoded: Decoded | None  # of messages
    topics: Texts
    payloads: Texts

    @property
    def foreign(self) -> bool:
        """Whether another partition than the shard's own carried it."""
        return self.home != self.origin
