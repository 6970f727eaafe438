"""From the outbox to a store: one store's loop. The cursor moves only behind rows that the store said are durable.

A passing failure is tried again for ever, for the outbox keeps everything meanwhile and no alert waits for a store. What the store refuses
for good is set aside as dead letters, as little of it as the store can name, and everything else goes on.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from journal.rows import Row
from sinks.backoff import Backoff
from sinks.outbox import Outbox, Source, Taken, advanced
from sinks.progress import Progress
from sinks.sink import PartlyRejected, Store
from sinks.store_ledger import Dead, StoreLedger
from sinks.trouble import Trouble
from telemetry.clock import Clock, utc_now_ms
from telemetry.errors import Rejected, Transient

logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 1.0
PATIENCE = Backoff(cap_s=30.0)


class StoreDelivery:
    def __init__(
        self,
        name: str,
        store: Store,
        ledger: StoreLedger,
        outbox: Outbox,
        stop: threading.Event,
        *,
        offsets: Path | None = None,
        pause_s: float = 0.05,
        max_rows: int = 64,
        backoff: Backoff = PATIENCE,
        draw: Callable[[], float] = random.random,
        now_ms: Clock = utc_now_ms,
    ) -> None:
        """`pause_s` is how long to let rows gather: a store has no hurry, and fewer larger writes cost less."""
        self.name = name
        self._store, self._ledger, self._outbox, self._stop = store, ledger, outbox, stop
        self._progress = Progress(offsets, name, outbox)
        self._pause_s, self._max_rows, self._backoff, self._draw, self._now_ms = pause_s, max_rows, backoff, draw, now_ms
        self._cursor = ledger.cursor()
        self._trimmed = 0
        self._writing = Trouble(logger, "sinks.store", name)
        self._reading = Trouble(logger, "sinks.store_ledger", name)
        self._housekeeping_s = 0.0

    def run(self) -> None:
        """Store until told to stop. What was not confirmed by then is written again next time."""
        try:
            while not self._stop.is_set():
                try:
                    taken = self._outbox.read(self._cursor, max_rows=self._max_rows)
                    if taken:
                        self._advance(taken)
                    self._keep_house()
                except Transient as error:  # a file is locked or its disk is full
                    self._reading.report(error)
                    self._stop.wait(HOUSEKEEPING_S)
                    continue
                self._reading.over()
                if len(taken) < self._max_rows:
                    self._stop.wait(self._pause_s)
        finally:
            self._finish()

    def _finish(self) -> None:
        try:
            self._progress.publish(self._cursor, self._ledger.sync, now=True)
        except Transient as error:
            self._reading.report(error)
        finally:
            self._progress.close()
            self._outbox.close()
            self._ledger.close()
            self._store.close()

    def _advance(self, taken: Sequence[Taken]) -> None:
        dead = self._write(taken)
        if dead is None:
            return
        if dead:
            logger.error("sinks.store_refused name=%s parts=%d", self.name, len(dead))  # why is in the ledger: it may name a patient
        cursor = advanced(self._cursor, taken)
        trimmed = self._outbox.trimmed - self._trimmed
        # Where the ledger cannot be written, these rows are read and written once more: twice is once.
        self._ledger.advance(taken, dead, cursor, trimmed=trimmed, now_ms=self._now_ms())
        self._cursor, self._trimmed = cursor, self._outbox.trimmed

    def _write(self, taken: Sequence[Taken]) -> list[Dead] | None:
        """Write rows until they are durable; returns what was refused for good, or None where it was told to stop before."""
        attempt = 0
        left, dead = list(taken), []
        while left:
            try:
                self._store.write([item.row for item in left])
            except Transient as error:
                attempt += 1
                self._writing.report(error)
                if self._stop.wait(self._backoff.delay_s(attempt, error.retry_after_s, self._draw)):
                    return None
            except PartlyRejected as error:
                dead += [Dead(left[part.row], part.why, part.body) for part in error.parts]
                break
            except Rejected as error:
                if error.reasons:
                    dead += [Dead(left[index], why) for index, why in error.reasons.items()]
                    left = [item for index, item in enumerate(left) if index not in error.reasons]
                elif len(left) == 1:
                    return [*dead, Dead(left[0], str(error))]
                else:
                    return self._write_halves(left, dead)
            else:
                break
        self._writing.over()
        return dead

    def _write_halves(self, left: Sequence[Taken], dead: list[Dead]) -> list[Dead] | None:
        """The store refused without naming a row: find it."""
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            refused = self._write(half)
            if refused is None:
                return None
            dead = dead + refused
        return dead

    def _keep_house(self) -> None:
        if time.monotonic() < self._housekeeping_s:
            return
        first, self._housekeeping_s = not self._housekeeping_s, time.monotonic() + HOUSEKEEPING_S
        self._progress.publish(self._cursor, self._ledger.sync)
        if first or self._ledger.changed_elsewhere():
            for source, offset, kept in self._ledger.again():
                self._try_again(source, offset, kept or self._outbox.row(source, offset))

    def _try_again(self, source: Source, offset: int, row: Row | None) -> None:
        """Write the row of a dead letter once more, because somebody asked for it."""
        if row is None:
            self._ledger.gone(source, offset)
            return
        taken = Taken(source, row)
        dead = self._write([taken])
        if dead is not None:
            self._ledger.retried(taken, dead, self._now_ms())
