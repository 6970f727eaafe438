"""From the outbox to the people: one channel's loop. Decide, send, settle; at least once, under one id, in order for each alert.

Theory of operation. The loop's own thread reads the outbox, decides in one transaction with the cursor which events this channel owes, and
hands them to a few sender threads; it alone touches the ledger. An event whose sending fails for a passing reason waits by itself, with
backoff and jitter, while others overtake it; one sender is kept for first attempts, so that a crowd of failing events cannot hold up a new
one. What is refused for good, or has failed for longer than `max_age_ms`, is dead: kept, listed, never sent again unless somebody asks.
A process that dies between a send and its settling sends again when it is back; the receiver knows the event by its id.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from journal.rows import RowKind
from sinks.backoff import Backoff
from sinks.ledger import DEAD, DELIVERED, PENDING, ChannelLedger, Decision, Outcome
from sinks.outbox import Bell, Outbox, Taken, advanced
from sinks.pending import Delivery, Pending
from sinks.progress import Progress
from sinks.sink import Channel
from sinks.trouble import Trouble
from telemetry.alert import AlertEvent, from_json
from telemetry.clock import Clock, utc_now_ms
from telemetry.errors import Rejected, Transient

logger = logging.getLogger(__name__)

DAY_MS = 86_400_000
MAX_PENDING = 20_000
"""Deliveries owed at one time; beyond that the outbox, which is durable, keeps the rest."""

QUICK_S, SLOW_S, RUNG_S = 0.002, 0.02, 0.1
"""How long to wait for something new: without a bell when active and when idle, and with one."""

HOUSEKEEPING_S = 1.0
HASTE = Backoff(cap_s=60.0)
SHUTDOWN_S = 20.0
KEEP_DELIVERED_MS = 30 * DAY_MS


class ChannelDelivery:
    def __init__(
        self,
        channel: Channel,
        wants: Callable[[AlertEvent], bool],
        ledger: ChannelLedger,
        outbox: Outbox,
        stop: threading.Event,
        *,
        bell: Bell | None = None,
        offsets: Path | None = None,
        senders: int = 4,
        max_age_ms: int = DAY_MS,
        backoff: Backoff = HASTE,
        draw: Callable[[], float] = random.random,
        now_ms: Clock = utc_now_ms,
    ) -> None:
        self.name = channel.name
        self._channel, self._wants, self._ledger, self._outbox, self._stop = channel, wants, ledger, outbox, stop
        self._progress = Progress(offsets, self.name, outbox)
        self._senders, self._max_age_ms, self._backoff, self._draw, self._now_ms = senders, max_age_ms, backoff, draw, now_ms
        self._pending = Pending()
        self._unloaded = True  # the ledger owes more than is in memory
        self._cursor = ledger.cursor()
        self._trimmed = 0
        self._flying: dict[Future[None], Delivery] = {}
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix=f"send-{self.name}")
        self._wake = threading.Event()
        self._pause_s = SLOW_S
        self._bell = bell
        self._housekeeping_s = 0.0
        self._sending = Trouble(logger, "sinks.delivery", self.name)
        self._writing = Trouble(logger, "sinks.ledger", self.name)
        if bell is not None:
            bell.subscribe(self._wake.set)

    def run(self) -> None:
        """Deliver until told to stop; then let what is on its way arrive, and write it down."""
        try:
            while not self._stop.is_set():
                try:
                    moved = self._settle() | self._decide() | self._dispatch()
                    self._keep_house()
                except Transient as error:  # the ledger's disk
                    self._writing.report(error)
                    self._stop.wait(HOUSEKEEPING_S)
                    continue
                self._writing.over()
                self._wait(moved)
        finally:
            self._finish()

    def _wait(self, moved: bool) -> None:
        if moved:
            self._pause_s = QUICK_S
            return
        pause_s = RUNG_S if self._bell else self._pause_s
        due_ms = self._pending.next_ms()
        if due_ms is not None and self._may_retry():
            pause_s = min(pause_s, max(0.001, (due_ms - self._now_ms()) / 1000))
        self._wake.wait(pause_s)
        self._wake.clear()
        self._pause_s = min(SLOW_S, self._pause_s * 1.05)

    def _decide(self) -> bool:
        """Read the outbox and owe what subscriptions want. Returns whether there was anything."""
        if self._unloaded or len(self._pending) >= MAX_PENDING:
            return False
        taken = self._outbox.read(self._cursor)
        if not taken:
            return False
        decisions = [self._decision(item) for item in taken if item.row.kind == RowKind.ALERT]
        wanted = [decision for decision in decisions if decision is not None]
        cursor = advanced(self._cursor, taken)
        trimmed = self._outbox.trimmed - self._trimmed
        unmatched = len(decisions) - len(wanted)
        added = self._ledger.decide(wanted, cursor, unmatched=unmatched, trimmed=trimmed, now_ms=self._now_ms())
        self._cursor, self._trimmed = cursor, self._outbox.trimmed
        for delivery in added:
            self._pending.add(delivery)
        return True

    def _decision(self, taken: Taken) -> Decision | None:
        body = taken.row.body
        try:
            event = from_json(body)
        except (ValueError, KeyError, TypeError) as error:
            (file, partition), offset = taken.source, taken.row.offset
            where = f"file={file} partition={partition} offset={offset}"
            logger.error("sinks.event_unreadable channel=%s %s", self.name, where)  # noqa: TRY400 - a traceback would quote the event
            return Decision(f"unreadable-{file}-{partition}-{offset}", "", body, None, f"cannot be read: {type(error).__name__}")
        return Decision(event.event_id, event.alert_id, body, event) if self._wants(event) else None

    def _dispatch(self) -> bool:
        """Give the senders work. Returns whether any was given."""
        given = False
        while len(self._flying) < self._senders:
            delivery = self._pending.take(self._now_ms(), retries=self._may_retry())
            if delivery is None:
                break
            if self._now_ms() - delivery.decided_ms > self._max_age_ms:
                future: Future[None] = Future()
                future.set_exception(Rejected("expired"))
            else:
                future = self._pool.submit(self._channel.send, delivery.event or self._ledger.event(delivery.sequence))
            self._flying[future] = delivery
            future.add_done_callback(lambda _: self._wake.set())
            given = True
        return given

    def _may_retry(self) -> bool:
        """Return whether a sender is free for something that has failed before: one is kept for what has not."""
        retrying = sum(1 for delivery in self._flying.values() if delivery.attempts)
        return len(self._flying) < self._senders and retrying < max(1, self._senders - 1)

    def _settle(self) -> bool:
        """Write down what attempts came to. Returns whether any ended."""
        ended = [future for future in self._flying if future.done()]
        if not ended:
            return False
        now_ms = self._now_ms()
        outcomes = [self._outcome(self._flying[future], future.exception(), now_ms) for future in ended]
        self._ledger.settle(outcomes, now_ms)
        for future, outcome in zip(ended, outcomes, strict=True):
            del self._flying[future]
            if outcome.state == PENDING:
                self._pending.postpone(outcome.delivery, outcome.next_ms)
            else:
                self._pending.settle(outcome.delivery)
        return True

    def _outcome(self, delivery: Delivery, error: BaseException | None, now_ms: int) -> Outcome:
        if error is None:
            self._sending.over()
            return Outcome(delivery, DELIVERED)
        if isinstance(error, Rejected):
            logger.error("sinks.delivery_died channel=%s event=%s reason=%r", self.name, delivery.event_id, str(error))
            return Outcome(delivery, DEAD, error=str(error))
        if isinstance(error, Transient):
            self._sending.report(error)
            retry_after_s = error.retry_after_s
        else:  # a mistake of ours that this event brings out: keep it for later, others go on
            logger.error("sinks.send_crashed channel=%s event=%s", self.name, delivery.event_id, exc_info=error)
            retry_after_s = None
        delay_s = self._backoff.delay_s(delivery.attempts + 1, retry_after_s, self._draw)
        return Outcome(delivery, PENDING, now_ms + round(delay_s * 1000), f"{type(error).__name__}: {error}"[:1000])

    def _keep_house(self) -> None:
        if time.monotonic() < self._housekeeping_s:
            return
        self._housekeeping_s = time.monotonic() + HOUSEKEEPING_S
        if self._unloaded or self._ledger.changed_elsewhere():
            owed = self._ledger.pending(MAX_PENDING)
            self._unloaded = len(owed) == MAX_PENDING
            for delivery in owed:
                if delivery.sequence not in self._pending:
                    self._pending.add(delivery)
            self._wake.set()
        self._progress.publish(self._cursor, self._ledger.sync)
        self._ledger.prune(self._now_ms() - KEEP_DELIVERED_MS)

    def _finish(self) -> None:
        give_up_s = time.monotonic() + SHUTDOWN_S
        try:
            while self._flying and time.monotonic() < give_up_s:
                self._wake.wait(SLOW_S)
                self._wake.clear()
                self._settle()
            self._progress.publish(self._cursor, self._ledger.sync, now=True)
        except Transient as error:
            self._writing.report(error)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            if self._bell is not None:
                self._bell.unsubscribe(self._wake.set)
            self._progress.close()
            self._outbox.close()
            self._ledger.close()
            self._channel.close()
