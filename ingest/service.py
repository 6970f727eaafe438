"""From the broker to the journal. Its law: message, journal, fsync, acknowledgement, in this order and in the order of arrival.

One thread: it receives what has come, waits a little for company (`grouping`), commits all of it in one transaction and acknowledges it.
What a lost connection brought is committed like everything else, but acknowledged on no other connection: the broker sends it again, and
twice is once downstream.

What Sparkplug's edge nodes say comes by a session of its own (`sparkplug`), is journalled with the rest, and has nothing to acknowledge.

When the journal is full, nothing more is read and nothing acknowledged: the broker holds what comes. The group in hand is tried again until
there is room.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest.controls import control_entries
from ingest.edge_nodes import heard_of
from ingest.grouping import Grouping
from ingest.mqtt import Connection
from ingest.routing import OWN, Router
from ingest.settings import IngestSettings, IngestStatus
from ingest.sparkplug import HostSession
from ingest.stream import Received
from journal.messages import encode_messages
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from telemetry.clock import utc_now_ms
from telemetry.errors import JournalFull

logger = logging.getLogger(__name__)

GROUP_BYTES = 4 << 20  # of payloads in one commit, about
SHORTEST_WAIT_S = 0.0001
LONGEST_WAIT_S = 0.25  # so that a stop is noticed
STATUS_EVERY_S = 1.0
ASK_EVERY_S = 0.5
FULL_FIRST_S, FULL_LONGEST_S = 0.1, 5.0


class Requests(Protocol):
    """Who is asked for control records while ingest runs."""

    def take(self) -> list[bytes]:
        """Return the records that are to be journalled now, [] where there are none."""

    def done(self) -> None:
        """Hear that those are durable."""


def run(
    settings: IngestSettings,
    writer: JournalWriter,
    offsets: ConsumerOffsets | None,
    controls: Sequence[bytes],
    stop: threading.Event,
    on_status: Callable[[IngestStatus], None] | None,
    *,
    listening: bytes = b"",
    requests: Requests | None = None,
) -> None:
    """Journal what the broker brings until `stop` is set, then commit and acknowledge what is in hand and take leave.

    `controls` are the JSON bodies of the records that hold from here on; one of type `registry` also says which device watches which
    subject. `listening` is the control record that goes before everything that a new connection brings: from there on silence means
    something. Without a connection no ticks are written, for a clock that runs while nobody listens would prove silence. `requests` are
    asked twice a second for control records that are to hold from then on.
    Faults of the network and a full disk are waited out. Raises ConfigError for TLS files that cannot be used, and what the journal raises
    when it can no longer be written.
    """
    _Ingest(settings, writer, offsets, controls, stop, on_status or (lambda _: None), listening, requests=requests).run(controls)


class _Ingest:
    def __init__(
        self,
        settings: IngestSettings,
        writer: JournalWriter,
        offsets: ConsumerOffsets | None,
        controls: Sequence[bytes],
        stop: threading.Event,
        on_status: Callable[[IngestStatus], None],
        listening: bytes,
        *,
        requests: Requests | None,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._asked_at = 0.0
        self._listening = listening
        self._announced = 0  # the connection that the journal knows of
        self._writer = writer
        self._offsets = offsets
        self._stop = stop
        self._on_status = on_status
        self._connection = Connection(settings.broker, settings.max_payload_bytes)
        self._receiver = self._connection.receiver
        self._host: HostSession | None = None
        with JournalReader(writer.path) as reader:
            self._stream, self._partitions = reader.stream, reader.partitions
            if settings.sparkplug is not None:
                self._host = HostSession(settings.broker, settings.sparkplug, settings.max_payload_bytes, heard_of(reader))
            self._controls = control_entries(reader, controls)
        self._router = Router(self._partitions)
        self._follow(controls)
        self._grouping = Grouping(
            commit_messages=settings.commit_messages, commit_ms=settings.commit_ms, partitions=self._partitions
        )  # fmt: skip
        now = time.monotonic()
        self._row_at = [now] * self._partitions  # when each partition last got a row
        self._tick_at = now + settings.tick_ms / 1000
        self._retention_at = now
        self._status = IngestStatus(0, 0, 0, 0, connected=False, error="")
        self._told: IngestStatus | None = None
        self._tell_at = now
        self._full = ""  # what the journal said when it was full

    def run(self, controls: Sequence[bytes]) -> None:
        logger.info("ingest.service_started partitions=%d controls=%d appended=%d", self._partitions, len(controls), len(self._controls))
        if self._controls:
            self._append(Received([], [], bytearray(), []), self._controls)
        if self._host is not None:
            self._host.start()
        try:
            while not self._stop.is_set():
                self._turn()
        finally:
            if self._host is not None:
                self._host.close()
        self._connection.close()
        self._tell()
        logger.info("ingest.service_stopped received=%d commits=%d", self._status.received, self._status.commits)

    def _turn(self) -> None:
        """Wait for what comes, and do with it what is to be done."""
        timeout_s = min(LONGEST_WAIT_S, max(0.0, self._tick_at - time.monotonic())) if self._connection.connected else LONGEST_WAIT_S
        if self._connection.wait(timeout_s, self._stop, None if self._host is None else self._host.fileno()):
            self._receive()
        self._commit()
        self._take_requests()
        self._retain()
        self._tell()

    def _take_requests(self) -> None:
        """Journal the control records that somebody asks for, behind everything that came before."""
        now = time.monotonic()
        if self._requests is None or now - self._asked_at < ASK_EVERY_S:
            return
        self._asked_at = now
        bodies = self._requests.take()
        entries = [Entry(partition, RowKind.CONTROL, 1, body) for partition in range(self._partitions) for body in bodies]
        if entries and self._append(Received([], [], bytearray(), []), entries):
            self._follow(bodies)
            logger.info("ingest.controls_applied records=%d", len(bodies))
            self._requests.done()

    def _follow(self, controls: Sequence[bytes]) -> None:
        """Send what comes from now on where the newest registry says that it belongs."""
        for record in map(json.loads, controls):
            if record["type"] == "registry":
                self._router = Router(self._partitions, record)

    def _receive(self) -> None:
        """Read what has come, and what comes while it is worth waiting for."""
        most = self._settings.commit_messages
        self._receiver.receive(most, GROUP_BYTES)
        waiting = self._receiver.waiting
        wait_s = self._grouping.wait_s(time.monotonic(), waiting) if waiting else 0.0
        if wait_s > SHORTEST_WAIT_S and self._connection.connected:
            self._stop.wait(wait_s)
            self._receiver.receive(most, GROUP_BYTES)
            self._grouping.waited(brought_more=self._receiver.waiting > waiting)

    def _commit(self) -> None:
        """Journal what was received and what time has passed, then acknowledge."""
        received = self._receiver.take()
        started = time.monotonic()
        connected, number = self._connection.connected, self._connection.number
        marks: list[Entry] = []
        announcing = number != self._announced and (connected or bool(received.topics))  # what waited there comes before all is subscribed
        if announcing:
            marks += self._everywhere(self._listening)
        if self._host is not None:
            marks += self._hear(self._host, received)
        if connected and started >= self._tick_at:
            marks += self._ticks(started, received)
        if (received.topics or marks) and not self._append(received, marks):
            return
        if announcing:
            self._announced = number
        if received.acks:
            self._receiver.acknowledge(received.acks)
        if received.topics:
            self._grouping.committed(started, len(received.topics))

    def _entries(self, received: Received) -> list[Entry]:
        """Return a row of messages for each partition that got some."""
        columns: list[tuple[list[bytes], list[bytes], bytearray]] = [([], [], bytearray()) for _ in range(self._partitions)]
        for topic, payload, flags, partition in zip(
            received.topics, received.payloads, received.flags, self._router.route(received.topics), strict=True
        ):
            if partition != OWN:
                topics, payloads, all_flags = columns[partition]
                topics.append(topic)
                payloads.append(payload)
                all_flags.append(flags)
        return [
            Entry(partition, RowKind.MESSAGES, len(topics), encode_messages(topics, payloads, bytes(all_flags)))
            for partition, (topics, payloads, all_flags) in enumerate(columns)
            if topics
        ]

    def _hear(self, host: HostSession, received: Received) -> list[Entry]:
        """Add what edge nodes said to what was received; return what is to be journalled before it."""
        assert self._settings.sparkplug is not None
        taken = host.take(self._settings.commit_messages)
        for topic, payload, flags in taken.messages:
            received.topics.append(topic)
            received.payloads.append(payload)
            received.flags.append(flags)
        return self._everywhere(self._settings.sparkplug.listening) if taken.listening else []

    def _everywhere(self, control: bytes) -> list[Entry]:
        """Return a control record, if it is one, for every partition."""
        return [Entry(partition, RowKind.CONTROL, 1, control) for partition in range(self._partitions) if control]

    def _ticks(self, now: float, received: Received) -> list[Entry]:
        """Return a tick for each partition that has had no row for so long, and gets none now."""
        tick_s = self._settings.tick_ms / 1000
        busy = set(self._router.route(received.topics))
        idle = {partition for partition, at in enumerate(self._row_at) if now - at >= tick_s and partition not in busy}
        self._tick_at = now + tick_s
        for partition, at in enumerate(self._row_at):
            if partition not in idle and partition not in busy:
                self._tick_at = min(self._tick_at, at + tick_s)
        return [Entry(partition, RowKind.TICK, 1, b"") for partition in idle]

    def _append(self, received: Received, first: list[Entry]) -> bool:
        """Append `first` and what was received, waiting for room where there is none, then in smaller and smaller pieces.

        Return False where the stop came before the room: then what was received counts as not journalled.
        """
        time_ms = utc_now_ms()  # when it was received, also where it waits for room
        pieces = [received]  # the next one last
        delay_s = FULL_FIRST_S
        while pieces:
            entries = first + self._entries(pieces[-1])
            try:
                self._writer.append(entries, time_ms)
            except JournalFull as error:
                if not self._wait_for_room(str(error), delay_s):
                    return False
                delay_s = min(FULL_LONGEST_S, delay_s * 2)
                pieces += _halves(pieces.pop())
                continue
            self._count(entries, pieces.pop(), time_ms)
            first, delay_s = [], FULL_FIRST_S
        if self._full:
            self._full = ""
            logger.warning("ingest.journal_resumed")
        return True

    def _wait_for_room(self, reason: str, delay_s: float) -> bool:
        """Say that the journal is full, try to make room, and wait; return False where the stop came."""
        if not self._full:
            logger.error("ingest.journal_full reason=%r acknowledging=no", reason)
        self._full = reason
        self._trim()
        self._connection.keep()
        self._tell()
        return not self._stop.wait(delay_s)

    def _count(self, entries: list[Entry], received: Received, time_ms: int) -> None:
        now = time.monotonic()
        for entry in entries:
            self._row_at[entry.partition] = now
        journalled = sum(entry.count for entry in entries if entry.kind == RowKind.MESSAGES)
        status = self._status
        self._status = status._replace(
            received=status.received + journalled,
            own_alerts=status.own_alerts + len(received.topics) - journalled,
            commits=status.commits + 1,
            last_commit_ms=time_ms,
        )

    def _retain(self) -> None:
        if time.monotonic() >= self._retention_at:
            self._trim()

    def _trim(self) -> None:
        """Remove what is too old or too much and what every consumer has read."""
        retention = self._settings.retention
        self._retention_at = time.monotonic() + retention.every_s
        if self._offsets is None or (retention.max_age_ms is None and retention.max_bytes is None):
            return
        floor = self._offsets.floor(self._stream, retention.consumers, self._partitions)
        try:
            removed = self._writer.trim(
                max_age_ms=retention.max_age_ms, max_bytes=retention.max_bytes, now_ms=self._writer.last_time_ms(), floor=floor
            )
        except JournalFull:
            return  # said where something is to be written
        if removed:
            logger.info("ingest.journal_trimmed rows=%d", removed)

    def _tell(self) -> None:
        """Tell how it stands: at once where the connection or the fault changes, else every second."""
        host = None if self._host is None else self._host.status
        error = self._full or self._connection.error or (host.error if host else "")
        status = self._status._replace(connected=self._connection.connected, error=error, sparkplug=host)
        told, now = self._told, time.monotonic()
        if told is None or _standing(told) != _standing(status) or (now >= self._tell_at and told != status):
            self._told, self._tell_at = status, now + STATUS_EVERY_S
            self._on_status(status)


def _standing(status: IngestStatus) -> tuple[bool, bool, str]:
    """Return what of a status is told at once."""
    return status.connected, status.sparkplug is not None and status.sparkplug.connected, status.error


def _halves(received: Received) -> list[Received]:
    """Return the second and the first half, or all of it where there is nothing to halve. What they acknowledge is left out."""
    middle = (len(received.topics) + 1) // 2
    pieces = [
        Received(received.topics[part], received.payloads[part], received.flags[part], [])
        for part in (slice(middle, None), slice(None, middle))
    ]
    return [piece for piece in pieces if piece.topics] or [received]
