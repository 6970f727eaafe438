"""The connection to the broker: made, kept, given up and made again. Nothing is acknowledged here that was not told to be.

The session is persistent and its client id fixed, so that what was not acknowledged comes again after any failure of ours, the broker's or
the network's. One thread does everything; `wait` is the only place where it waits.
"""

import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from decoders.decode import FLAG_TOO_LARGE, KEPT_OF_TOO_LARGE
from decoders.topics import is_filter
from ingest import faults
from ingest.attempts import Attempts
from ingest.settings import BrokerSettings, TlsSettings
from ingest.stream import ProtocolError, Received
from ingest.tap import TappedClient, TapReceiver
from journal.messages import FLAG_DUP, FLAG_RETAIN, QOS_SHIFT
from telemetry.errors import ConfigError, Problem, VitalaneError

logger = logging.getLogger(__name__)

ANSWER_TIMEOUTS = 3  # times `connect_timeout_s`, from an attempt to the broker's answers to CONNECT and SUBSCRIBE
SUSPICIOUS_LOSSES = 3  # connections in a row that did not become steady
HEARD_OUT_BYTES = 1 << 16
GOODBYE_TIMEOUT_S = 2.0
HOUSEKEEPING_S = 0.5


class Receiver(Protocol):
    """How messages come from the client to the journal, and acknowledgements back."""

    @property
    def waiting(self) -> int:
        """How many messages have been received and not taken."""

    def receive(self, max_messages: int, max_bytes: int) -> None:
        """Read what has arrived without waiting for more; end with the packet with which a bound is reached, or soon after."""

    def take(self) -> Received:
        """Return the messages received since the last call."""

    def acknowledge(self, acks: list[bytes]) -> None:
        """Acknowledge what was taken last, in its order; nothing, where the connection that it came by is gone."""

    @property
    def wants_write(self) -> bool:
        """Whether acknowledgements wait for room in the socket."""

    def flush(self) -> None:
        """Write those."""

    def has_buffered(self) -> bool:
        """Whether there is something to receive that no poll of the socket would tell of."""

    def session_lost(self) -> None:
        """Hear that the broker has forgotten what it sent us."""


class CallbackReceiver:
    """Receives through paho's own messages: four times the price of the tap, and nothing private of paho's.

    paho answers a QoS 2 message with PUBREC before it hands it over, that is before it is durable; so this subscribes with QoS 1 at most.
    """

    def __init__(self, client: paho.Client, max_payload_bytes: int) -> None:
        self._client = client
        self._max_payload_bytes = max_payload_bytes
        self._received = Received([], [], bytearray(), [])
        self._bytes = 0
        self._connections = 0
        self._taken_from = 0
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_open

    @property
    def waiting(self) -> int:
        return len(self._received.topics)

    def receive(self, max_messages: int, max_bytes: int) -> None:
        while self.waiting < max_messages and self._bytes < max_bytes:
            if (sock := self._client.socket()) is None:
                return
            if not self.has_buffered() and not select.select([sock], [], [], 0)[0]:
                return
            self._client.loop_read()

    def take(self) -> Received:
        received = self._received
        self._received = Received([], [], bytearray(), [])
        self._bytes = 0
        self._taken_from = self._connections
        return received

    def acknowledge(self, acks: list[bytes]) -> None:
        for ack in acks:
            if self._taken_from != self._connections or self._client.socket() is None:
                return
            self._client.ack(int.from_bytes(ack[:2], "big"), ack[2])

    @property
    def wants_write(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def has_buffered(self) -> bool:
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def session_lost(self) -> None:
        pass

    def _on_socket_open(self, *_: Any) -> None:
        self._connections += 1
        self._received.acks.clear()  # of messages of a connection before: they come again

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = b"\xff"  # no topic of ours, whatever it was
        payload, flags = bytes(message.payload), (FLAG_RETAIN * message.retain) | (FLAG_DUP * message.dup) | message.qos << QOS_SHIFT
        if len(payload) > self._max_payload_bytes:
            payload, flags = payload[:KEPT_OF_TOO_LARGE], flags | FLAG_TOO_LARGE
        received = self._received
        received.topics.append(topic)
        received.payloads.append(payload)
        received.flags.append(flags)
        self._bytes += len(payload)
        if message.qos:
            received.acks.append(message.mid.to_bytes(2, "big") + bytes([message.qos]))


class Connection:
    """One session at the broker, whatever happens to the connections that it uses."""

    def __init__(self, broker: BrokerSettings, max_payload_bytes: int) -> None:
        bad = [topic_filter for topic_filter in broker.topics if not is_filter(topic_filter)]
        if bad:
            raise ConfigError([Problem("the configuration", 0, 0, "broker.topics", f"{text!r} is no topic filter of MQTT") for text in bad])
        self.connected = False  # subscribed to everything
        self.number = 0  # of the connection: how often the broker has taken one
        self._attempts = Attempts(broker)
        self._broker = broker
        self._client, self.receiver = _client(broker, max_payload_bytes)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._subscribed_once = False
        self._answer_by = 0.0
        self._housekeeping_at = 0.0
        self._refusal = ""  # what the broker, or we, gave as the reason for the end of this connection
        self._closing = False

    @property
    def error(self) -> str:
        return self._attempts.error

    def wait(self, timeout_s: float, stop: threading.Event, also: int | None = None) -> bool:
        """Keep the connection, or make it; wait at most so long for messages; return whether some may be there.

        What can be read at the file descriptor `also` ends the wait, too.
        """
        now = time.monotonic()
        sock = self._client.socket()
        if sock is None:
            if now < self._attempts.due:
                stop.wait(min(timeout_s, self._attempts.due - now))
            else:
                self._connect()
            return False
        if now >= self._housekeeping_at:
            self.keep()
            return False
        if self.receiver.has_buffered():
            return True
        wants_write = self._client.want_write() or self.receiver.wants_write
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if wants_write else 0))
        if also is not None:
            poll.register(also, select.POLLIN)
        events = dict(poll.poll(min(timeout_s, HOUSEKEEPING_S) * 1000)).get(sock.fileno(), 0)
        if events & select.POLLOUT:
            self._write()
        return bool(events & ~select.POLLOUT)

    def keep(self) -> None:
        """Do what is due to keep the connection: pings, and giving up where there is no answer."""
        now = time.monotonic()
        self._housekeeping_at = now + HOUSEKEEPING_S
        if self._client.socket() is None:
            return
        self._client.loop_misc()
        if not self.connected and now > self._answer_by and self._client.socket() is not None:
            self._refusal = faults.silent(self._broker)
            self._client.disconnect()
        if self.connected:
            self._attempts.stands()

    def close(self) -> None:
        """Take leave, so that the broker keeps the session and sends no more."""
        self._closing = True
        give_up_at = time.monotonic() + GOODBYE_TIMEOUT_S
        line = None if (sock := self._client.socket()) is None else socket.socket(fileno=os.dup(sock.fileno()))
        while (sock := self._client.socket()) is not None and time.monotonic() < give_up_at:
            if not self.receiver.wants_write:
                self._client.disconnect()
            if self._client.socket() is not None:
                select.select([], [sock], [], 0.1)
                self._write()
        if line is not None:
            hang_up(line, give_up_at)

    def _write(self) -> None:
        self.receiver.flush()
        if self._client.want_write() and self._client.socket() is not None:
            self._client.loop_write()

    def _connect(self) -> None:
        now = time.monotonic()
        self._refusal = ""
        self._answer_by = now + self._broker.connect_timeout_s * ANSWER_TIMEOUTS
        try:
            self._client.reconnect()
        except (OSError, UnicodeError) as error:
            self._fail(faults.unreachable(self._broker, error))
        if isinstance(self._client, TappedClient) and not self._client.is_tapped():
            msg = "this version of paho cannot be tapped: set broker.receiver to callback"
            raise VitalaneError(msg)

    def _fail(self, sentence: str) -> None:
        self.connected = False
        if self._attempts.failed(sentence):
            logger.warning("ingest.broker_failed reason=%r", sentence)

    def _on_connect(self, client: paho.Client, _userdata: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = faults.refused(self._broker, reason.getName())
            return
        self.number += 1
        if not flags.session_present:
            self.receiver.session_lost()
        elif self._subscribed_once:
            self._become_connected(session_present=True)  # asking again would bring every retained message again
            return
        qos: int = min(self._broker.qos, 1) if isinstance(self.receiver, CallbackReceiver) else self._broker.qos
        client.subscribe([(topic_filter, qos) for topic_filter in self._broker.topics])

    def _on_subscribe(self, client: paho.Client, _userdata: Any, _mid: int, reasons: Sequence[ReasonCode], _properties: Any) -> None:
        for topic_filter, reason in zip(self._broker.topics, reasons, strict=False):
            if reason.is_failure:
                self._refusal = faults.not_subscribed(self._broker, topic_filter, reason.getName())
                client.disconnect()
                return
            if reason.value < min(self._broker.qos, 1):
                logger.warning("ingest.subscription_weakened filter=%s qos=%d", topic_filter, reason.value)
        self._subscribed_once = True
        self._become_connected(session_present=False)

    def _become_connected(self, *, session_present: bool) -> None:
        self.connected = True
        self._attempts.succeeded()
        logger.info("ingest.broker_connected host=%s port=%d session_present=%s", self._broker.host, self._broker.port, session_present)

    def _on_disconnect(self, _client: paho.Client, _userdata: Any, flags: paho.DisconnectFlags, reason: ReasonCode, _props: Any) -> None:
        if self._closing:
            self.connected = False
        elif flags.is_disconnect_packet_from_server:
            self._fail(faults.refused(self._broker, reason.getName()))
        elif self._refusal:
            self._fail(self._refusal)
        elif not self.connected:
            self._fail(self._why() or faults.unanswered(self._broker))
        elif self._attempts.failures >= SUSPICIOUS_LOSSES:
            self._fail(self._why() or faults.lost_again(self._broker))
        else:
            self._fail(self._why() or faults.lost(self._broker, None))

    def _why(self) -> str:
        """Return what the tap knows of the connection's end, if anything."""
        failure = self._client.tap.failure if isinstance(self._client, TappedClient) and self._client.tap else None
        return faults.lost(self._broker, failure) if isinstance(failure, ssl.SSLError | ProtocolError) else ""


def _client(broker: BrokerSettings, max_payload_bytes: int) -> tuple[paho.Client, Receiver]:
    """Return a client of paho, set up and not yet connected, and how it receives."""
    make = TappedClient if broker.receiver == "tap" else paho.Client
    client = make(
        CallbackAPIVersion.VERSION2,
        client_id=broker.client_id,
        protocol=paho.MQTTv5 if broker.protocol == "5" else paho.MQTTv311,
        clean_session=None if broker.protocol == "5" else False,
        reconnect_on_failure=False,
        manual_ack=broker.receiver == "callback",
    )
    introduce(client, broker)
    if broker.protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # of paho
        properties.ReceiveMaximum = broker.max_inflight
        properties.SessionExpiryInterval = broker.session_expiry_s
        client.connect_async(broker.host, broker.port, broker.keepalive_s, clean_start=False, properties=properties)
    else:
        client.connect_async(broker.host, broker.port, broker.keepalive_s)
    if isinstance(client, TappedClient):
        return client, TapReceiver(client, max_payload_bytes)
    return client, CallbackReceiver(client, max_payload_bytes)


def introduce(client: paho.Client, broker: BrokerSettings) -> None:
    """Tell a client who we are at the broker, and how to reach it safely. Raises ConfigError where a file of TLS cannot be used."""
    client.connect_timeout = broker.connect_timeout_s
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls is not None:
        client.tls_set_context(_tls_context(broker.tls))


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the TLS set-up. Raises ConfigError where a file cannot be used."""
    file, where = tls.ca, "broker.tls.ca"
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            file, where = tls.certificate, "broker.tls.certificate"
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        what = error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else "is no certificate, or its key does not fit"
        raise ConfigError([Problem(str(file), 0, 0, where, f"cannot be used: {what}")]) from error
    return context


def hang_up(line: socket.socket, give_up_at: float) -> None:
    """Close a connection on which all is said: hear the broker out until it closes too.

    A socket that is closed while something in it was not read is reset, and a reset takes with it the last acknowledgements, where the
    broker has not read those yet.
    """
    with line:
        try:
            line.shutdown(socket.SHUT_WR)
            while (left_s := give_up_at - time.monotonic()) > 0:
                line.settimeout(left_s)
                if not line.recv(HEARD_OUT_BYTES):
                    return
        except OSError as error:  # it was gone already
            logger.debug("ingest.goodbye_cut error=%s", error)
