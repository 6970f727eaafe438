"""A decision: what one part led to, as the bodies that go into the outbox. It travels between workers, so it is plain bytes."""

import json
from base64 import b64encode
from typing import NamedTuple

from flows.part import Part
from journal.rows import RowKind
from rules.outcome import Outcome, Quarantined
from telemetry import alert, blocks, books
from telemetry.clock import format_ms

MAX_QUARANTINED_BYTES = 4096  # of a payload, kept with its reason; the whole message stays in the journal


class Decision(NamedTuple):
    origin: int  # the partition of the journal row
    offset: int  # of the row, its first
    end: int  # of the row, exclusive
    time_ms: int  # journal time
    alerts: list[tuple[str, bytes]]  # (event id, body), in order
    bulk: list[tuple[int, bytes]]  # (row kind, body), in order
    repeatable: bool  # the row leads to the very same bulk each time it is evaluated


def decision(part: Part, outcome: Outcome, *, repeatable: bool) -> Decision | None:
    """Return what a part led to, or None where it led to nothing and nobody waits for a sign of it."""
    bulk: list[tuple[int, bytes]] = [(RowKind.WINDOWS, blocks.pack(block)) for block in outcome.windows]
    if outcome.readings is not None:
        bulk.append((RowKind.READINGS, blocks.pack(outcome.readings)))
    if outcome.quarantined:
        bulk.append((RowKind.QUARANTINE, _quarantine(part, outcome.quarantined)))
    if outcome.books is not None:
        bulk.append((RowKind.BOOKS, books.to_json(outcome.books)))
    if not outcome.alerts and not bulk and repeatable:
        return None
    alerts = [(event.event_id, alert.to_json(event)) for event in outcome.alerts]
    return Decision(part.origin, part.offset, part.end, part.time_ms, alerts, bulk, repeatable)


def _quarantine(part: Part, items: list[Quarantined]) -> bytes:
    return json.dumps(
        [
            {
                "partition": part.origin,
                "offset": part.offset + item.message,
                "reason": item.reason,
                "detail": item.detail,
                "metric": item.metric,
                "kind": item.kind,
                "device": item.device,
                "topic": part.topics[item.message].decode(errors="replace"),
                "payload": b64encode(part.payloads[item.message][:MAX_QUARANTINED_BYTES]).decode(),
                "bytes": len(part.payloads[item.message]),
                "received": format_ms(part.time_ms),
                "received_ms": part.time_ms,
            }
            for item in items
        ],
        separators=(",", ":"),
    ).encode()
