"""Promises: a device says within what time its next reading comes (SenML's `ut`), and is overdue when it does not.

On the journal's clock, and only while somebody listens (docs/design/005), as all silence. Each series has its own promise, so a sensor
that is silent behind a gateway that speaks is found; told is one alert for each device, for as long as anything of it is overdue. A
reading without a promise is what was promised, and promises nothing more.
"""

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from rules.admission import Readings
from rules.offences import Offence
from rules.registry import Registry
from rules.reserved import OVERDUE, RESERVED
from rules.series import SeriesTable
from telemetry.readings import NO_TIME, Promise, SeriesKey

GRACE_MS = 5_000
"""A promise is waited for half as long again as it says, and for so long at least: a way over a network takes its time."""

STALE_ENTRIES = 1024  # of the queue, besides one for each promise: more are swept out


class Awaited(NamedTuple):
    """What is awaited of a series. Durable; grows at its end only."""

    made_ms: int  # journal time
    wait_ms: int
    due_ms: int
    position: int  # in the journal, of the message that promised


Name = tuple[str, str, str]
"""Kind, subject and device."""


class Overdue:
    """The promises that stand, by series, and what is overdue."""

    def __init__(self) -> None:
        self.waiting: dict[int, Awaited] = {}
        self.late: dict[int, Name] = {}
        self.open: dict[Name, Offence] = {}
        self._left: Counter[Name] = Counter()  # how many series of a device are late
        self._queue: list[tuple[int, int]] = []  # when which series is due; the promise itself says whether that still holds

    def received(
        self, promises: Sequence[Promise], readings: Readings, series: SeriesTable, registry: Registry, now_ms: int, position: int
    ) -> list[Offence]:
        """Take the readings of a journal row whose first message is at `position`, and their promises; returns what ends with them."""
        if not (promises or self.waiting or self.late):
            return []
        last = dict(zip(readings.rows.tolist(), readings.messages.tolist(), strict=True))  # of each series, its last message
        ended = self._heard(last, now_ms)
        for promise in promises:
            assignment = registry.assignment(promise.kind, promise.device, now_ms if promise.time_ms == NO_TIME else promise.time_ms)
            row = series.rows.get(SeriesKey(assignment.kind, assignment.subject, promise.device, promise.metric), -1)
            known = self.waiting.get(row)
            if last.get(row) == promise.message and (known is None or known.made_ms <= now_ms):
                wait_ms = promise.within_ms + max(promise.within_ms // 2, GRACE_MS)
                self._await(row, Awaited(now_ms, wait_ms, now_ms + wait_ms, position + promise.message))
        return ended

    def due(self, series: SeriesTable, registry: Registry, now_ms: int) -> list[Offence]:
        """Return the devices that have become overdue, each once."""
        begun: list[Offence] = []
        while self._queue and self._queue[0][0] <= now_ms:
            due_ms, row = heappop(self._queue)
            awaited = self.waiting.get(row)
            if awaited is None or awaited.due_ms != due_ms:
                continue
            del self.waiting[row]
            key = series.keys[row]
            if not registry.watches(key, now_ms):
                continue
            name = self.late[row] = key.kind, key.subject, key.device
            self._left[name] += 1
            if name not in self.open:
                self.open[name] = Offence(OVERDUE, RESERVED[OVERDUE], key, series.tags[row], due_ms, due_ms, awaited.position)
                begun.append(self.open[name])
        return begun

    def listen(self, now_ms: int) -> None:
        """Wait anew: until now nobody listened, so no promise was broken."""
        self.waiting = {row: awaited._replace(due_ms=now_ms + awaited.wait_ms) for row, awaited in self.waiting.items()}
        self._sweep()

    def release(self, series: SeriesTable, registry: Registry, now_ms: int) -> list[Offence]:
        """Wait no longer for devices that watch another subject by now; returns what ends with it."""
        gone = [row for row in (*self.waiting, *self.late) if not registry.watches(series.keys[row], now_ms)]
        for row in gone:
            self.waiting.pop(row, None)
        return self._over([row for row in gone if row in self.late], now_ms)

    def dump(self) -> dict[str, Any]:
        """Return the promises as plain values."""
        return {
            "waiting": {row: tuple(awaited) for row, awaited in self.waiting.items()},
            "late": dict(self.late),
            "open": [tuple(offence) for offence in self.open.values()],
        }

    def restore(self, dumped: dict[str, Any]) -> None:
        """Take what `dump` returned, the series being the same."""
        self.waiting = {row: Awaited(*fields) for row, fields in dumped["waiting"].items()}
        self.late = dict(dumped["late"])
        self._left.update(self.late.values())
        for fields in dumped["open"]:
            offence = Offence(*fields)
            key = SeriesKey(*offence.key)
            self.open[key.kind, key.subject, key.device] = offence._replace(key=key)
        self._sweep()

    def _heard(self, rows: dict[int, int], now_ms: int) -> list[Offence]:
        for row in self.waiting.keys() & rows.keys():
            if self.waiting[row].made_ms <= now_ms:  # what another partition carried may come behind the clock
                del self.waiting[row]
        return self._over(sorted(self.late.keys() & rows.keys()), now_ms)

    def _over(self, rows: Sequence[int], now_ms: int) -> list[Offence]:
        """Note that series are no longer overdue; returns the offences of which nothing is left."""
        ended = []
        for row in rows:
            name = self.late.pop(row)
            self._left[name] -= 1
            if not self._left[name]:
                del self._left[name]
                offence = self.open.pop(name)
                ended.append(offence._replace(ended_ms=max(now_ms, offence.since_ms)))
        return ended

    def _await(self, row: int, awaited: Awaited) -> None:
        self.waiting[row] = awaited
        heappush(self._queue, (awaited.due_ms, row))
        if len(self._queue) > 2 * len(self.waiting) + STALE_ENTRIES:
            self._sweep()

    def _sweep(self) -> None:
        self._queue = [(awaited.due_ms, row) for row, awaited in self.waiting.items()]
        heapify(self._queue)
