"""A load for benchmarks: the physics of many vehicles, published at a rate, open loop. The law: a message is due at its time whatever
became of those before it, and its latency counts from then; a broker that stalls cannot slow down the clock that measures it.

What is in flight is bounded by packet identifiers, what is made ahead by time, what waits for a broker that does not keep up by number. One
thread does everything, in steps of a fraction of a millisecond.
"""

import logging
import math
import select
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from threading import Event
from time import perf_counter, process_time, sleep
from typing import NamedTuple

import numpy as np

from decoders.topics import READINGS, Topic, format_topic
from decoders.wire import encode_values
from simulators.climate import Outside
from simulators.packets import IDENTIFIERS, Account, Connection, publish
from simulators.publish import Broker
from simulators.shipment import KIND, METRICS, POSITION, Shipments
from simulators.world import Booleans, Floats, Reports
from telemetry.clock import utc_now_ms
from telemetry.errors import Transient

logger = logging.getLogger(__name__)

MOST_READINGS = len(METRICS + POSITION)
MOST_PER_DEVICE = 1000.0  # messages a second: its times are whole milliseconds
SQUAD = 500  # devices that are simulated in one step, so that no step holds up what is due
LONGEST_TICK_S = 60.0
SLICE = 50  # messages that are encoded in one step
AHEAD_S = 0.2
MOST_WAITING = 50_000  # messages that are due and cannot be sent: no more are made, and counted as missed where they are due
DRAIN_S = 10.0  # how long acknowledgements are waited for in the end
LOOK_S = 0.05
MOMENT_S = 0.0005
TOLERATED = 0.02  # share of the rate that may be missed
SHARES = (0.5, 0.9, 0.99, 0.999)
FINEST_S, STEP = 1e-6, 1.01  # of the latencies' histogram: a percentile is true within 1 %


class Plan(NamedTuple):
    """What is asked. `rate` is messages a second."""

    devices: int
    rate: float
    duration_s: float
    qos: int = 1
    clients: int = 4
    readings_per_message: int = len(METRICS)
    seed: int = 1
    window: int = 20_000  # messages of one connection that are not acknowledged: at most

    def check(self) -> None:
        """Raise ValueError where the numbers do not fit each other."""
        if min(self.devices, self.clients) < 1 or not 1 <= self.readings_per_message <= MOST_READINGS:
            msg = f"devices and clients are at least 1, readings per message 1 to {MOST_READINGS}"
            raise ValueError(msg)
        if not 1 <= self.window < IDENTIFIERS:
            msg = f"a window is 1 to {IDENTIFIERS - 1} messages, for each has an identifier"
            raise ValueError(msg)
        if self.qos not in {0, 1}:
            msg = f"a load has QoS 0 or 1, not {self.qos}"
            raise ValueError(msg)
        if not 0 < self.rate <= MOST_PER_DEVICE * self.devices or self.duration_s <= 0:
            msg = f"a rate of {self.rate:g}/s does not fit: above 0, for more than 0 s, and at most {MOST_PER_DEVICE:g}/s of each device"
            raise ValueError(msg)


class Latencies:
    """A histogram of seconds, in steps of 1 %, so that its size does not depend on how long a load lasts."""

    def __init__(self) -> None:
        self._counts = np.zeros(round(math.log(1e9, STEP)) + 1, dtype=np.int64)  # a thousand seconds, and everything beyond
        self.longest_s = 0.0

    def add(self, seconds: Floats) -> None:
        if seconds.size:
            places = np.log(np.maximum(seconds, FINEST_S) / FINEST_S) / math.log(STEP)
            np.add.at(self._counts, np.minimum(places.astype(np.int64), self._counts.size - 1), 1)
            self.longest_s = max(self.longest_s, float(seconds.max()))

    def percentile_s(self, share: float) -> float:
        """Return the time within which so many were acknowledged; at most 1 % too long. 0 where nothing was."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * total)))
        return min(FINEST_S * STEP ** (place + 1), self.longest_s)


class Tally(NamedTuple):
    """How it stands: messages that were due, handed to the socket, acknowledged; with QoS 0 what is handed over counts as acknowledged."""

    elapsed_s: float
    due: int
    sent: int
    acked: int

    @property
    def rate(self) -> float:
        return self.sent / self.elapsed_s if self.elapsed_s else 0.0


class Outcome(NamedTuple):
    tally: Tally
    latencies: Latencies
    cpu_s: float  # of this process
    broken: str | None  # what became of a connection, where one broke

    def faults(self, rate: float) -> list[str]:
        """Return what was not as asked, a sentence each."""
        tally, found = self.tally, [] if self.broken is None else [self.broken]
        missed = tally.due - tally.sent
        if missed > TOLERATED * tally.due:
            found.append(f"{rate:g}/s was missed by {100 * missed / tally.due:.1f} %: {missed} messages were due and not sent in time")
        if tally.acked < tally.sent:
            found.append(f"{tally.sent - tally.acked} messages were not acknowledged within {DRAIN_S:.0f} s of the end")
        return found


class _Squad(Shipments):
    """Vehicles that tell the first so many of their metrics in one message."""

    def __init__(self, count: int, number: int, plan: Plan, start_ms: int) -> None:
        report_s = plan.devices / plan.rate
        ticks = math.ceil(report_s / LONGEST_TICK_S)
        tick_ms = max(1, round(1000 * report_s / ticks))
        super().__init__(
            count, seed=plan.seed + number, start_ms=start_ms, tick_ms=tick_ms, report_ms=ticks * tick_ms, prefix=f"load-{number}"
        )
        self._told = plan.readings_per_message
        self.topics = [format_topic(Topic(KIND, item.device, READINGS)).encode() for item in self.devices]

    def _measure(self, time_ms: int, sky: Outside, door: Booleans) -> list[Reports]:
        due = self._due()
        if not due.size:
            return []
        columns = self._columns(due, sky, door) + self._routes.fixes(due)
        return [self._reports((METRICS + POSITION)[: self._told], due, time_ms, columns[: self._told])]


class _Lane:
    """One connection: what is ready for it, what is on its way, and since when that was due."""

    def __init__(self, connection: Connection, qos: int, window: int) -> None:
        self.connection, self._qos, self._window = connection, qos, window
        self.ready: deque[tuple[float, bytes]] = deque()  # when due; the packet
        self.made = self.sent = self.acked = 0
        self.unsent = b""  # what the socket has not taken yet; these messages count as sent
        self._handed_s: list[float] = []  # when what was taken last was due
        self._due_s = np.full(IDENTIFIERS + 1, np.nan)  # of what each identifier stands for, while it is in flight

    def frame(self, due_s: float, topic: bytes, payload: bytes) -> None:
        self.made += 1
        self.ready.append((due_s, publish(topic, payload, (self.made - 1) % IDENTIFIERS + 1 if self._qos else 0)))

    @property
    def next_s(self) -> float:
        """When something is due that can be sent."""
        return math.inf if self.unsent or not self.ready or self._full() else self.ready[0][0]

    def send(self, now_s: float, latencies: Latencies, clock: Callable[[], float]) -> None:
        """Send what is due, as far as the window and the socket allow."""
        if not self.unsent and self.next_s < now_s:
            self.unsent = self._take(now_s)
        if self.unsent:
            self.unsent = self.unsent[self.connection.send(self.unsent) :]
            if not self.unsent and not self._qos:
                latencies.add(clock() - np.array(self._handed_s))
                self.acked = self.sent

    def _take(self, now_s: float) -> bytes:
        """Return the packets that are due and may be sent, in one piece."""
        packets = []
        self._handed_s = []
        while self.ready and self.ready[0][0] < now_s and not self._full():
            due_s, packet = self.ready.popleft()
            self._handed_s.append(due_s)
            packets.append(packet)
            if self._qos:
                self._due_s[self.sent % IDENTIFIERS + 1] = due_s
            self.sent += 1
        return b"".join(packets)

    def _full(self) -> bool:
        """Return whether nothing may be sent: an identifier is used again when it has been acknowledged, not before."""
        return self._qos > 0 and (self.sent - self.acked >= self._window or not math.isnan(self._due_s[self.sent % IDENTIFIERS + 1]))

    def hear(self, latencies: Latencies, clock: Callable[[], float]) -> None:
        """Count what the broker acknowledged."""
        identifiers = self.connection.acknowledged()
        if identifiers.size:
            due_s = self._due_s[identifiers]
            self._due_s[identifiers] = np.nan
            known = due_s[~np.isnan(due_s)]
            self.acked += known.size
            latencies.add(clock() - known)


def run(broker: Broker, plan: Plan, stop: Event, progress: Callable[[Tally], None] | None = None, progress_s: float = 0.5) -> Outcome:
    """Publish as planned, until the end or until `stop` is set; then wait for acknowledgements that are missing.

    Raises ValueError for a plan that is none, Transient or Rejected where the broker is not to be had at the beginning.
    """
    plan.check()
    with ExitStack() as stack:
        connections = []
        for number in range(1, plan.clients + 1):
            connections.append(Connection(broker.host, broker.port, _account(broker, number), tls=_tls(broker)))
            stack.callback(connections[-1].close)
        logger.info("simulators.broker_connected host=%s port=%d connections=%d", broker.host, broker.port, plan.clients)
        return _Run(plan, [_Lane(connection, plan.qos, plan.window) for connection in connections], stop).play(progress, progress_s)


class _Run:
    """A load while it lasts."""

    def __init__(self, plan: Plan, lanes: Sequence[_Lane], stop: Event) -> None:
        self._plan, self._lanes, self._stop = plan, lanes, stop
        self._latencies = Latencies()
        self._began = self._ended_s = 0.0
        self._made = 0
        self._source = self._slices()
        while self._short(0.0):
            next(self._source)  # the devices are drawn, and the first messages made, before the clock begins
        self._cpu_s = process_time()

    def play(self, progress: Callable[[Tally], None] | None, progress_s: float) -> Outcome:
        broken = None
        self._began = perf_counter()
        try:
            self._publish(progress, progress_s)
            self._drain()
        except Transient as error:
            broken = str(error)
            self._ended_s = self._ended_s or self._clock()
        return Outcome(self._tally(self._ended_s), self._latencies, process_time() - self._cpu_s, broken)

    def _publish(self, progress: Callable[[Tally], None] | None, progress_s: float) -> None:
        told_s, last = 0.0, False
        while not last:
            now_s = self._clock()
            last = now_s >= self._plan.duration_s or self._stop.is_set()
            now_s = min(now_s, self._plan.duration_s)
            self._turn(now_s)
            if progress is not None and now_s - told_s >= progress_s:
                told_s = now_s
                progress(self._tally(now_s))
            if self._short(now_s):
                next(self._source)
            elif not last:
                self._rest(min(lane.next_s for lane in self._lanes) - self._clock())
        self._ended_s = now_s

    def _turn(self, now_s: float) -> None:
        for lane in self._lanes:
            lane.send(now_s, self._latencies, self._clock)
            if lane.acked < lane.sent:
                lane.hear(self._latencies, self._clock)

    def _drain(self) -> None:
        """Wait for what is on its way; nothing new is sent."""
        for lane in self._lanes:
            lane.ready.clear()
        give_up_s = self._clock() + DRAIN_S
        while any(lane.unsent or lane.acked < lane.sent for lane in self._lanes) and self._clock() < give_up_s:
            self._turn(self._ended_s)
            self._rest(LOOK_S)

    def _short(self, now_s: float) -> bool:
        """Return whether more must be made."""
        ahead = AHEAD_S * self._plan.rate
        return self._made < min(now_s * self._plan.rate, sum(lane.sent for lane in self._lanes) + MOST_WAITING) + ahead

    def _rest(self, seconds: float) -> None:
        """Wait until something is due, comes, or can be sent again; where that is always, a moment, to leave the processor to others."""
        if seconds < MOMENT_S:
            sleep(MOMENT_S)
        else:
            busy = [lane.connection for lane in self._lanes if lane.unsent]
            select.select([lane.connection for lane in self._lanes], busy, [], min(seconds, LOOK_S))

    def _slices(self) -> Iterator[None]:
        """Make messages, a few at a time, without end."""
        plan, began_ms = self._plan, utc_now_ms()
        sizes = [min(SQUAD, plan.devices - first) for first in range(0, plan.devices, SQUAD)]
        squads = [_Squad(size, number, plan, began_ms) for number, size in enumerate(sizes, 1)]
        while True:
            for squad in squads:
                for report in squad.step(squad.next_ms):
                    rows = zip(report.devices.tolist(), report.values.tolist(), strict=True)
                    for number, (device, row) in enumerate(rows, 1):
                        due_s = self._made / plan.rate
                        payload = encode_values(dict(zip(report.metrics, row, strict=True)), began_ms + int(due_s * 1000))
                        self._lanes[device % len(self._lanes)].frame(due_s, squad.topics[device], payload)
                        self._made += 1
                        if number % SLICE == 0:
                            yield
                yield

    def _tally(self, now_s: float) -> Tally:
        return Tally(
            now_s, math.ceil(now_s * self._plan.rate), sum(lane.sent for lane in self._lanes), sum(lane.acked for lane in self._lanes)
        )

    def _clock(self) -> float:
        return perf_counter() - self._began


def _account(broker: Broker, number: int) -> Account:
    return Account(f"load-{utc_now_ms():x}-{number}", broker.user, broker.password)


def _tls(broker: Broker) -> ssl.SSLContext | None:
    if broker.ca is None:
        return None
    context = ssl.create_default_context(cafile=broker.ca)
    if broker.certificate is not None:
        context.load_cert_chain(broker.certificate, broker.key)
    return context
