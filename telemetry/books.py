"""The books: what one shard of the flow counted since the journal began. Law 7 in numbers.

`received = accepted + duplicate + quarantined` counts readings, a message that could not be read counting as one;
`offset = readings_messages + status + retained + unreadable + ticks + controls` counts journal offsets.
"""

import json
from collections import Counter
from typing import NamedTuple


class Books(NamedTuple):
    partition: int
    offset: int  # the journal offset up to which this counts, exclusive
    time_ms: int  # journal time
    event_time_ms: int  # the latest event time accepted, 0 before any
    messages: int  # messages read: with readings, status, retained and unreadable ones
    ticks: int
    controls: int
    retained: int
    statuses: int
    unreadable: int  # messages refused whole
    received: int  # readings, plus one for each message refused whole
    accepted: int
    duplicate: int
    late: int  # accepted, though behind their series: what they change is told as revisions
    quarantined: dict[str, int]  # by reason
    open_alerts: int
    alerts: dict[str, int]  # alerts raised, by rule
    conflicts: int = 0  # accepted with another value for the same device, metric and time
    series: int = 0
    state_bytes: int = 0  # memory of the shard's arrays, the history included

    def balances(self) -> bool:
        """Return whether every offset and every reading is accounted for."""
        return (
            self.received == self.accepted + self.duplicate + sum(self.quarantined.values())
            and self.offset == self.messages + self.ticks + self.controls
        )


def to_json(books: Books) -> bytes:
    return json.dumps(books._asdict(), separators=(",", ":")).encode()


def from_json(body: bytes) -> Books:
    return Books(**json.loads(body))


def total(all_books: list[Books]) -> Books:
    """Return the sum over partitions; `partition` is -1, the times are the latest."""
    quarantined: Counter[str] = Counter()
    alerts: Counter[str] = Counter()
    for books in all_books:
        quarantined.update(books.quarantined)
        alerts.update(books.alerts)
    summed = {
        name: sum(getattr(books, name) for books in all_books)
        for name in Books._fields
        if name not in {"partition", "time_ms", "event_time_ms", "quarantined", "alerts"}
    }
    return Books(
        partition=-1,
        time_ms=max((books.time_ms for books in all_books), default=0),
        event_time_ms=max((books.event_time_ms for books in all_books), default=0),
        quarantined=dict(quarantined),
        alerts=dict(alerts),
        **summed,
    )
