"""What one channel was told and what it still owes, durably. Law 7: decided = delivered + pending + dead.

The cursor over the outbox and the deliveries decided up to it change in one transaction. SQLite runs in WAL mode with synchronous=NORMAL:
a killed process loses nothing, for what was committed is with the kernel. A machine that loses power may lose the last commits, whole and
from the end; then the cursor is back where it was, the same events are decided again under the same ids, and who was told already is told
twice under one idempotency key. The outbox itself is durable, so at-least-once holds without a flush to disk in the way of an alert.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sinks.database import Database
from sinks.outbox import Cursor, Source
from sinks.pending import Delivery
from telemetry.alert import AlertEvent, from_json

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"

SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (
    file INTEGER, partition INTEGER, next_offset INTEGER NOT NULL,
    PRIMARY KEY (file, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    sequence INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    alert_id TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    decided_ms INTEGER NOT NULL,
    settled_ms INTEGER,
    error TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state, settled_ms);
"""


class Decision(NamedTuple):
    """An event that this channel is to be told; `refused` where it cannot even be read."""

    event_id: str
    alert_id: str
    body: bytes
    event: AlertEvent | None
    refused: str = ""


class Outcome(NamedTuple):
    """What an attempt came to."""

    delivery: Delivery
    state: str
    next_ms: int = 0
    error: str = ""


class Counts(NamedTuple):
    decided: int
    delivered: int
    pending: int
    dead: int
    unmatched: int = 0  # seen, and no subscription names this channel for them
    repeated: int = 0  # seen again under the same id
    trimmed: int = 0  # offsets that retention removed before they were read

    def balances(self) -> bool:
        return self.decided == self.delivered + self.pending + self.dead


class DeadLetter(NamedTuple):
    event_id: str
    attempts: int
    decided_ms: int
    died_ms: int
    error: str
    body: bytes


class ChannelLedger:
    def __init__(self, path: Path, *, serve: bool = True) -> None:
        """Open or create. `serve=False` looks and re-queues only, beside the one process that serves the channel."""
        self._database = Database(path, SCHEMA, lock=serve)

    def cursor(self) -> Cursor:
        return {(file, partition): offset for file, partition, offset in self._database.rows("SELECT * FROM cursor")}

    def decide(
        self, decisions: Sequence[Decision], cursor: Mapping[Source, int], *, unmatched: int, trimmed: int, now_ms: int
    ) -> list[Delivery]:
        """Owe these, once each, and move the cursor, in one transaction. Returns the deliveries that are new."""
        added: list[Delivery] = []
        refused = 0
        with self._database.transaction() as connection:
            for decision in decisions:
                state, settled = (DEAD, now_ms) if decision.refused else (PENDING, None)
                done = connection.execute(
                    "INSERT OR IGNORE INTO deliveries (event_id, alert_id, state, attempts, next_ms, decided_ms, settled_ms, error, body)"
                    " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
                    (decision.event_id, decision.alert_id, state, now_ms, now_ms, settled, decision.refused, decision.body),
                )
                if not done.rowcount:
                    continue
                if decision.refused:
                    refused += 1
                else:
                    sequence = done.lastrowid or 0
                    added.append(Delivery(sequence, decision.event_id, decision.alert_id, 0, now_ms, now_ms, decision.event))
            connection.executemany("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", [(*source, at) for source, at in cursor.items()])
            new = len(added) + refused
            self._database.count({"decided": new, "unmatched": unmatched, "repeated": len(decisions) - new, "trimmed": trimmed})
        return added

    def settle(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        """Write down what attempts came to. A delivered event's body is dropped: the outbox and the history have it."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE deliveries SET state = ?, attempts = ?, next_ms = ?, error = ?, settled_ms = ?,"
                " body = CASE WHEN ? THEN x'' ELSE body END WHERE sequence = ?",
                [
                    (
                        outcome.state,
                        outcome.delivery.attempts + 1,
                        outcome.next_ms,
                        outcome.error,
                        None if outcome.state == PENDING else now_ms,
                        outcome.state == DELIVERED,
                        outcome.delivery.sequence,
                    )
                    for outcome in outcomes
                ],
            )

    def pending(self, limit: int) -> list[Delivery]:
        """Return what is owed, in the order of deciding, without bodies."""
        rows = self._database.rows(
            "SELECT sequence, event_id, alert_id, attempts, next_ms, decided_ms FROM deliveries WHERE state = ? ORDER BY sequence LIMIT ?",
            (PENDING, limit),
        )
        return [Delivery(*row) for row in rows]

    def event(self, sequence: int) -> AlertEvent:
        ((body,),) = self._database.rows("SELECT body FROM deliveries WHERE sequence = ?", (sequence,))
        return from_json(body)

    def counts(self) -> Counts:
        """Return the books of this channel. `decided` is counted where events are decided, the others where they are now."""
        found = self._database.rows(  # in one statement, so that it is one instant while somebody else delivers
            "SELECT 1, state, count(*) FROM deliveries GROUP BY state UNION ALL SELECT 0, name, n FROM totals"
        )
        states = {name: count for is_state, name, count in found if is_state}
        totals = {name: count for is_state, name, count in found if not is_state}
        return Counts(
            decided=totals.get("decided", 0),
            delivered=states.get(DELIVERED, 0) + totals.get("pruned", 0),
            pending=states.get(PENDING, 0),
            dead=states.get(DEAD, 0),
            unmatched=totals.get("unmatched", 0),
            repeated=totals.get("repeated", 0),
            trimmed=totals.get("trimmed", 0),
        )

    def dead(self, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters, the latest first."""
        rows = self._database.rows(
            "SELECT event_id, attempts, decided_ms, settled_ms, error, body FROM deliveries WHERE state = ?"
            " ORDER BY settled_ms DESC, sequence DESC LIMIT ?",
            (DEAD, limit),
        )
        return [DeadLetter(*row) for row in rows]

    def retry(self, event_ids: Sequence[str] | None = None, *, now_ms: int) -> int:
        """Owe dead letters again, all of them or these, with their time beginning anew. Returns how many. Unreadable ones stay dead."""
        chosen = None if event_ids is None else json.dumps(list(event_ids))
        with self._database.transaction() as connection:
            done = connection.execute(
                "UPDATE deliveries SET state = ?, attempts = 0, next_ms = ?, decided_ms = ?, settled_ms = NULL"
                " WHERE state = ? AND alert_id <> '' AND (? IS NULL OR event_id IN (SELECT value FROM json_each(?)))",
                (PENDING, now_ms, now_ms, DEAD, chosen, chosen),
            )
        return done.rowcount

    def prune(self, delivered_before_ms: int, limit: int = 1000) -> int:
        """Forget, but keep counting, the oldest events delivered before then."""
        with self._database.transaction() as connection:
            done = connection.execute(
                "DELETE FROM deliveries WHERE sequence IN"
                " (SELECT sequence FROM deliveries WHERE state = ? AND settled_ms < ? ORDER BY settled_ms LIMIT ?)",
                (DELIVERED, delivered_before_ms, limit),
            )
            self._database.count({"pruned": done.rowcount})
        return done.rowcount

    def changed_elsewhere(self) -> bool:
        """Return whether another process has written since the last call: somebody re-queued dead letters."""
        return self._database.changed_elsewhere()

    def sync(self) -> bool:
        """Flush to disk; True where all of it is there, so that what was read may be trimmed from the outbox."""
        return self._database.sync()

    def close(self) -> None:
        self._database.close()
