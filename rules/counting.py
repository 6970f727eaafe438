"""What a shard has counted since the journal began: law 7, as it happens (`telemetry/books.py` says what must be equal)."""

from collections import Counter
from collections.abc import Iterable

from rules.admission import Admitted
from telemetry.alert import AlertEvent, Phase
from telemetry.books import Books
from telemetry.readings import Decoded

COUNTED = ("messages", "ticks", "controls", "retained", "statuses", "unreadable", "received", "accepted", "duplicate", "late", "conflicts")


class Counting:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()

    def messages(self, number: int, decoded: Decoded) -> None:
        """Count a row of messages and what they say."""
        shed = sum(item.number for item in decoded.shed)
        self.counts.update(
            messages=number,
            retained=decoded.retained,
            statuses=len(decoded.statuses),
            unreadable=sum(not refusal.metric for refusal in decoded.refusals),
            received=len(decoded.packets.values) + len(decoded.refusals) + shed,
        )
        for item in decoded.shed:
            self.quarantined[item.reason] += item.number

    def admitted(self, admitted: Admitted) -> None:
        """Count readings that were taken."""
        self.counts.update(
            duplicate=admitted.duplicates, accepted=len(admitted.late), late=int(admitted.late.sum()), conflicts=admitted.conflicts
        )

    def raised(self, events: Iterable[AlertEvent]) -> None:
        self.alerts.update(event.rule for event in events if event.phase is Phase.RAISED and event.inhibited_by is None)

    def books(
        self, partition: int, offset: int, time_ms: int, *, event_time_ms: int, open_alerts: int, series: int, state_bytes: int
    ) -> Books:
        """Return the counts up to an offset, exclusive."""
        return Books(
            partition=partition,
            offset=offset,
            time_ms=time_ms,
            event_time_ms=event_time_ms,
            quarantined=dict(sorted(self.quarantined.items())),
            open_alerts=open_alerts,
            alerts=dict(sorted(self.alerts.items())),
            series=series,
            state_bytes=state_bytes,
            **{name: self.counts[name] for name in COUNTED},
        )
