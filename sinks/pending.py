"""The deliveries that one channel still owes, in memory: who may be sent now. No clock, no files, no threads.

Law: of one alert, only the oldest event that is not settled is ever on its way, so people hear `raised` before `resolved`; events of
different alerts never wait for each other.
"""

import heapq
from collections import deque
from dataclasses import dataclass

from telemetry.alert import AlertEvent


@dataclass(slots=True, eq=False)
class Delivery:
    """One event owed to one channel."""

    sequence: int  # the order of deciding
    event_id: str
    alert_id: str
    attempts: int
    next_ms: int  # not before this
    decided_ms: int
    event: AlertEvent | None = None  # kept until the first attempt has failed, then read from the ledger


class Pending:
    def __init__(self) -> None:
        self._lanes: dict[str, deque[Delivery]] = {}  # alert id -> its unsettled deliveries, oldest first
        self._fresh: deque[Delivery] = deque()  # heads of their lanes that were never tried
        self._again: list[tuple[int, int, Delivery]] = []  # heads that failed: a heap by next_ms
        self._sequences: set[int] = set()

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._sequences

    def add(self, delivery: Delivery) -> None:
        """Owe one more. Deliveries of one alert are added in the order of deciding."""
        self._sequences.add(delivery.sequence)
        lane = self._lanes.setdefault(delivery.alert_id, deque())
        lane.append(delivery)
        if len(lane) == 1:
            self._ready(delivery)

    def take(self, now_ms: int, *, retries: bool = True) -> Delivery | None:
        """Return a delivery to attempt now, or None; it stays owed until `settle` or `postpone`. Without `retries`, first attempts only."""
        if self._fresh:
            return self._fresh.popleft()
        if retries and self._again and self._again[0][0] <= now_ms:
            return heapq.heappop(self._again)[2]
        return None

    def settle(self, delivery: Delivery) -> None:
        """Owe this no more, delivered or dead. The next event of its alert may go."""
        self._sequences.discard(delivery.sequence)
        lane = self._lanes[delivery.alert_id]
        assert lane[0] is delivery, "only the head of a lane is ever on its way"
        lane.popleft()
        if lane:
            self._ready(lane[0])
        else:
            del self._lanes[delivery.alert_id]

    def postpone(self, delivery: Delivery, next_ms: int) -> None:
        """Try this again later."""
        delivery.attempts += 1
        delivery.next_ms = next_ms
        delivery.event = None
        self._ready(delivery)

    def next_ms(self) -> int | None:
        """Return when the next retry is due, None where none waits."""
        return self._again[0][0] if self._again else None

    def _ready(self, delivery: Delivery) -> None:
        if delivery.attempts:
            heapq.heappush(self._again, (delivery.next_ms, delivery.sequence, delivery))
        else:
            self._fresh.append(delivery)
