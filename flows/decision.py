"""A decision: what one journal row led to, as the bodies that go into the outbox. It travels between workers, so it is plain bytes."""

import json
from base64 import b64encode
from typing import NamedTuple

from journal.messages import Messages
from journal.rows import Row, RowKind
from rules.evaluator import Outcome, Quarantined
from telemetry import alert, blocks, books
from telemetry.clock import format_ms

MAX_QUARANTINED_BYTES = 4096  # of a payload, kept with its reason; the whole message stays in the journal


class Decision(NamedTuple):
    offset: int  # of the journal row, its first
    time_ms: int  # journal time
    alerts: list[bytes]
    bulk: list[tuple[int, bytes]]  # (row kind, body), in order


def decision(row: Row, outcome: Outcome, messages: Messages | None) -> Decision | None:
    """Return a row's outcome as outbox bodies, or None where it led to nothing."""
    bulk: list[tuple[int, bytes]] = [(RowKind.WINDOWS, blocks.pack(block)) for block in outcome.windows]
    if outcome.readings is not None:
        bulk.append((RowKind.READINGS, blocks.pack(outcome.readings)))
    if outcome.quarantined and messages is not None:
        bulk.append((RowKind.QUARANTINE, _quarantine(row, outcome.quarantined, messages)))
    if outcome.books is not None:
        bulk.append((RowKind.BOOKS, books.to_json(outcome.books)))
    if not outcome.alerts and not bulk:
        return None
    return Decision(row.offset, row.time_ms, [alert.to_json(event) for event in outcome.alerts], bulk)


def _quarantine(row: Row, items: list[Quarantined], messages: Messages) -> bytes:
    return json.dumps(
        [
            {
                "partition": row.partition,
                "offset": row.offset + item.message,
                "reason": item.reason,
                "detail": item.detail,
                "metric": item.metric,
                "kind": item.kind,
                "device": item.device,
                "topic": messages.topics[item.message].decode(errors="replace"),
                "payload": b64encode(messages.payloads[item.message][:MAX_QUARANTINED_BYTES]).decode(),
                "bytes": len(messages.payloads[item.message]),
                "received": format_ms(row.time_ms),
                "received_ms": row.time_ms,
            }
            for item in items
        ],
        separators=(",", ":"),
    ).encode()
