"""The session that hosts Sparkplug's edge nodes: a connection of its own, for the specification asks of it what ours must not do.

It is clean at every connection (chapter 5.2), for what edge nodes say without being listened to is of no use: nobody knows what was said
before. It says on its STATE topic that it is online, retained, and has its last will say that it is not, with one timestamp; and it says
so again where somebody else says otherwise. What it receives is of QoS 0, or a will of QoS 1, whose acknowledgement paho sends itself: a
session that ends with the connection brings nothing again, acknowledged or not.

A thread of its own keeps the connection and fills a queue; the loop of ingest takes from it. Where the queue is full, what comes is
counted, logged and lost, and what follows counts as a new connection: every node is asked for a rebirth.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from decoders.decode import FLAG_TOO_LARGE, KEPT_OF_TOO_LARGE
from decoders.sparkplug import command_topic, filters, rebirth_command, says_offline, state, state_topic
from ingest import faults
from ingest.attempts import Attempts
from ingest.edge_nodes import Message, Watch
from ingest.mqtt import ANSWER_TIMEOUTS, GOODBYE_TIMEOUT_S, SUSPICIOUS_LOSSES, hang_up, introduce
from ingest.settings import BrokerSettings, SparkplugSettings, SparkplugStatus
from journal.messages import FLAG_DUP, FLAG_RETAIN, QOS_SHIFT
from telemetry.clock import utc_now_ms
from telemetry.errors import VitalaneError

logger = logging.getLogger(__name__)

LOOP_S = 0.05  # so long may a question wait for a node


class Taken(NamedTuple):
    """What is to be journalled together, in order."""

    listening: bool  # a new connection begins with it
    messages: list[Message]


class HostSession:
    """What ingest's loop sees of it. `client` and everything that its callbacks touch belong to the thread."""

    def __init__(
        self, broker: BrokerSettings, settings: SparkplugSettings, max_payload_bytes: int, known: Iterable[tuple[str, str]] = ()
    ) -> None:
        """`known` are group and node of those that were heard before."""
        self._settings = settings
        self._queue = _Queue(settings, max_payload_bytes)
        self._watch = Watch(settings, known)
        self._line = _Line(replace(broker, client_id=settings.client_id), settings, self._queue)
        self._asked = 0

    def fileno(self) -> int:
        """Return a file descriptor that can be read when something has come."""
        return self._queue.fileno()

    def start(self) -> None:
        self._line.start()

    def take(self, most: int) -> Taken:
        """Return about so many messages at most, all of one connection, and ask the nodes that are to be asked.

        Raises VitalaneError where the thread has ended, which has then said why.
        """
        if not self._line.runs:
            msg = "the session that hosts Sparkplug's edge nodes has ended by a fault of its own"
            raise VitalaneError(msg)
        now, listening = time.monotonic(), False
        messages: list[Message] = []
        for item in self._queue.take(most):
            if item is None:
                messages += self._watch.end(now)
                self._watch.begin(now)
                listening = True
            else:
                self._watch.add(item, now)
        messages += self._watch.take(now)
        for group, node in self._watch.to_ask(now):
            self._asked += 1
            logger.info("ingest.rebirth_asked group=%s node=%s", group, node)
            self._line.asks.put((group, node))
        return Taken(listening, messages)

    @property
    def status(self) -> SparkplugStatus:
        line = self._line
        return SparkplugStatus(line.connected, self._watch.nodes.born, self._asked, self._queue.lost, line.attempts.error)

    def close(self) -> None:
        """Say that we are offline, and take leave."""
        self._line.stop()
        self._queue.close()


class _Queue:
    """Messages between two threads, and None where a new connection begins. Bounded in number and bytes."""

    def __init__(self, settings: SparkplugSettings, max_payload_bytes: int) -> None:
        self.lost = 0
        self._most, self._most_bytes = settings.max_waiting, settings.max_waiting_bytes
        self._max_payload_bytes = max_payload_bytes
        self._items: deque[Message | None] = deque()
        self._bytes = 0
        self._full = False
        self._lock = threading.Lock()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)

    def fileno(self) -> int:
        return self._bell.fileno()

    def begin(self) -> None:
        """Note that a new connection begins."""
        with self._lock:
            self._items.append(None)
        self._ring()

    def add(self, topic: bytes, payload: bytes, flags: int) -> None:
        """Add a message, or count it where there is no room."""
        if len(payload) > self._max_payload_bytes:
            payload, flags = payload[:KEPT_OF_TOO_LARGE], flags | FLAG_TOO_LARGE
        size = len(topic) + len(payload)
        with self._lock:
            if len(self._items) >= self._most or self._bytes + size > self._most_bytes:
                self.lost += 1
                if not self._full:
                    logger.error("ingest.sparkplug_overflow waiting=%d lost=%d", len(self._items), self.lost)
                self._full = True
                return
            if self._full:
                self._items.append(None)
                self._full = False
            self._items.append(Message(topic, payload, flags))
            self._bytes += size
        self._ring()

    def take(self, most: int) -> list[Message | None]:
        """Return about so many items at most; the beginning of a connection stands first, or not at all."""
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        taken: list[Message | None] = []
        with self._lock:
            while self._items and len(taken) < most and not (taken and self._items[0] is None):
                item = self._items.popleft()
                taken.append(item)
                if item is not None:
                    self._bytes -= len(item.topic) + len(item.payload)
            if self._items:
                self._ring()
        return taken

    def close(self) -> None:
        self._bell.close()
        self._rope.close()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            self._rope.send(b"\0")


class _Line:
    """The thread, and the connection that it keeps."""

    def __init__(self, broker: BrokerSettings, settings: SparkplugSettings, queue: _Queue) -> None:
        self.connected = False
        self.attempts = Attempts(broker)
        self.asks: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._broker, self._settings, self._queue = broker, settings, queue
        self._filters = filters(settings.groups)
        self._state_topic = state_topic(settings.host_id)
        self._client = self._new_client()
        self._began_ms = 0  # when this connection began: the timestamp of its STATE and of its will
        self._answer_by = 0.0
        self._refusal = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sparkplug", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._keep()
        self._leave()

    def _keep(self) -> None:
        """Do what is next for the connection."""
        now = time.monotonic()
        if self._client.socket() is None:
            if now < self.attempts.due:
                self._stopping.wait(self.attempts.due - now)
            else:
                self._connect()
            return
        self._client.loop(LOOP_S)
        if self.connected:
            self.attempts.stands()
            self._ask()
        elif now > self._answer_by and self._client.socket() is not None:
            self._refusal = self._refusal or faults.silent(self._broker)
            self._client.disconnect()

    def _fail(self, sentence: str) -> None:
        if self.attempts.failed(sentence):
            logger.warning("ingest.sparkplug_failed reason=%r", sentence)

    def _connect(self) -> None:
        """Begin a connection, with a client that knows of none before."""
        self._client = self._new_client()
        self._refusal = ""
        self._began_ms = utc_now_ms()
        self._answer_by = time.monotonic() + self._broker.connect_timeout_s * ANSWER_TIMEOUTS
        self._client.will_set(self._state_topic, state(online=False, time_ms=self._began_ms), qos=1, retain=True)
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s)
        except (OSError, UnicodeError) as error:
            self._fail(faults.unreachable(self._broker, error))

    def _new_client(self) -> paho.Client:
        five = self._broker.protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.client_id,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            clean_session=None if five else True,
            reconnect_on_failure=False,
        )
        introduce(client, self._broker)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = faults.refused(self._broker, reason.getName())
            return
        self._queue.begin()  # before any message of this connection
        client.subscribe([(topic_filter, 1) for topic_filter in (*self._filters, self._state_topic)])

    def _on_subscribe(self, client: paho.Client, _userdata: Any, _mid: int, reasons: Sequence[ReasonCode], _properties: Any) -> None:
        for topic_filter, reason in zip((*self._filters, self._state_topic), reasons, strict=False):
            if reason.is_failure:
                self._refusal = faults.not_subscribed(self._broker, topic_filter, reason.getName())
                client.disconnect()
                return
        self._refusal = faults.unheard(self._broker, self._state_topic)  # unless it comes back: brokers grant what they then do not pass on
        self._publish_state(online=True)

    def _on_disconnect(self, _client: paho.Client, _userdata: Any, flags: paho.DisconnectFlags, reason: ReasonCode, _props: Any) -> None:
        stood, self.connected = self.connected, False
        if self._stopping.is_set():
            return
        if flags.is_disconnect_packet_from_server:
            self._fail(faults.refused(self._broker, reason.getName()))
        elif self._refusal or not stood:
            self._fail(self._refusal or faults.unanswered(self._broker))
        elif self.attempts.failures >= SUSPICIOUS_LOSSES:
            self._fail(faults.lost_again(self._broker))
        else:
            self._fail(faults.lost(self._broker, None))

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"  # no topic of ours, whatever it was
        if topic == self._state_topic:
            self._on_state(bytes(message.payload))
            return
        flags = (FLAG_RETAIN * message.retain) | (FLAG_DUP * message.dup) | message.qos << QOS_SHIFT
        self._queue.add(topic.encode(), bytes(message.payload), flags)

    def _on_state(self, payload: bytes) -> None:
        """Take what is said of us: that we are online, by ourselves, or that we are not, by a will of before or by somebody else."""
        if not self.connected and payload == state(online=True, time_ms=self._began_ms):
            self.connected, self._refusal = True, ""
            self.attempts.succeeded()
            logger.info(
                "ingest.sparkplug_connected host=%s port=%d host_id=%s", self._broker.host, self._broker.port, self._settings.host_id
            )
        elif self.connected and says_offline(payload) and not self._stopping.is_set():
            self._publish_state(online=True)

    def _publish_state(self, *, online: bool) -> paho.MQTTMessageInfo:
        """Say whether we are online: as of the connection's beginning, as its will has it; or that we leave, as of now."""
        time_ms = self._began_ms if online else utc_now_ms()
        return self._client.publish(self._state_topic, state(online=online, time_ms=time_ms), qos=1, retain=True)

    def _ask(self) -> None:
        with suppress(Empty):
            while True:
                group, node = self.asks.get_nowait()
                self._client.publish(command_topic(group, node), rebirth_command(utc_now_ms()), qos=0)

    def _leave(self) -> None:
        """Say that we are offline, for a connection that is ended in order has no will."""
        give_up_at = time.monotonic() + GOODBYE_TIMEOUT_S
        if self.connected:
            said = self._publish_state(online=False)
            while self._client.socket() is not None and not said.is_published() and time.monotonic() < give_up_at:
                self._client.loop(LOOP_S)
        line = None if (sock := self._client.socket()) is None else socket.socket(fileno=os.dup(sock.fileno()))
        self._client.disconnect()
        while self._client.socket() is not None and time.monotonic() < give_up_at:
            self._client.loop(LOOP_S)
        if line is not None:
            hang_up(line, give_up_at)  # else what it still sends would cost it our farewell, and bring our will
