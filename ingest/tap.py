"""The tap: takes PUBLISH packets from under paho, many at a time, and writes their acknowledgements itself.

paho keeps what it is good at: connecting, TLS, subscribing, keepalive. It sees a socket that brings no messages. This stands on one
private method of paho, `_create_socket`, which is why paho is pinned to its minor version and why there is another receiver, held to the
same tests.

Two write to one socket here, so neither may begin inside the other's packet: acknowledgements wait until what paho began is written whole,
and paho is told to wait (as by a full socket) until the acknowledgements are. That knowledge is all in `PublishTap`.
"""

import socket
import ssl
from typing import Any, cast

import paho.mqtt.client as paho

from ingest.stream import ProtocolError, PublishStream, Received, encode_acks

RECEIVE_BYTES = 262_144

_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PublishTap:
    """A socket as paho sees it, less the PUBLISH packets, which wait in the stream."""

    def __init__(self, sock: socket.socket, stream: PublishStream) -> None:
        self.sock = sock
        self.stream = stream
        self.failure: OSError | ProtocolError | None = None
        self._ended = False
        self._unsent = bytearray()  # acknowledgements, at most 4 bytes for each message in flight
        self._client_in_packet = False  # paho has written a part of a packet, or must repeat a write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    @property
    def wants_write(self) -> bool:
        """Whether acknowledgements wait for room in the socket."""
        return bool(self._unsent) and not self._client_in_packet

    @property
    def has_news(self) -> bool:
        """Whether there is something for paho: packets, or the end."""
        return bool(self.stream.control) or self._ended or self.failure is not None

    def fill(self) -> bool:
        """Read once what has arrived; return whether there may be more."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except _NOT_NOW:
            return False
        except OSError as error:
            self.failure = error
            return False
        if not data:
            self._ended = True
            return False
        try:
            self.stream.feed(data)
        except ProtocolError as error:
            self.failure = error
            return False
        return len(data) == RECEIVE_BYTES or isinstance(self.sock, ssl.SSLSocket)  # TLS gives a record at a time

    def acknowledge(self, acks: list[bytes]) -> None:
        """Write acknowledgements, or keep what the socket does not take for `flush`."""
        self._unsent += encode_acks(acks)
        self.flush()

    def flush(self) -> None:
        """Write what acknowledgements wait, as far as the socket takes them."""
        while self.wants_write:
            try:
                sent = self.sock.send(self._unsent)
            except _NOT_NOW:
                return
            except OSError as error:
                self.failure = error
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def recv(self, size: int) -> bytes:
        """For paho: packets that are no PUBLISH."""
        control = self.stream.control
        if control:
            head = bytes(control[:size])
            del control[:size]
            return head
        if self._ended:
            return b""
        if self.failure is not None:
            raise ConnectionError(str(self.failure)) from self.failure
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        """For paho: not before our acknowledgements are out, and noting whether it is in the middle of a packet."""
        self.flush()
        if self._unsent and not self._client_in_packet:
            raise BlockingIOError
        try:
            sent = self.sock.send(data)
        except ssl.SSLError:
            self._client_in_packet = True  # TLS wants exactly these bytes again
            raise
        self._client_in_packet = sent < len(data)
        return sent

    def pending(self) -> int:
        """For paho, which asks this of TLS sockets: bytes that it can read without waiting."""
        return len(self.stream.control)


class TappedClient(paho.Client):
    """A client of paho whose sockets are tapped. For one thread, which calls its `loop_*` methods."""

    tap: PublishTap | None = None
    max_payload_bytes: int
    unreleased: set[bytes]

    def _create_socket(self) -> Any:
        stream = PublishStream(
            protocol_5=self.protocol == paho.MQTTv5, max_payload_bytes=self.max_payload_bytes, unreleased=self.unreleased
        )
        self.tap = PublishTap(cast("socket.socket", super()._create_socket()), stream)  # no websocket
        return self.tap

    def is_tapped(self) -> bool:
        """Whether the socket that there is, if any, is a tap: else paho would acknowledge what nobody has seen."""
        sock: object = self.socket()
        return sock is None or sock is self.tap


class TapReceiver:
    """Receives through the tap. What was taken from one connection is never acknowledged on another."""

    def __init__(self, client: TappedClient, max_payload_bytes: int) -> None:
        self._client = client
        self._taken_from: PublishTap | None = None
        client.max_payload_bytes = max_payload_bytes
        client.unreleased = set()

    @property
    def waiting(self) -> int:
        return self._client.tap.stream.waiting if self._client.tap else 0

    def receive(self, max_messages: int, max_bytes: int) -> None:
        tap = self._client.tap
        if tap is None:
            return
        while tap.fill() and tap.stream.waiting < max_messages and tap.stream.waiting_bytes < max_bytes:
            pass
        while tap.has_news and self._client.socket() is not None:
            self._client.loop_read()

    def take(self) -> Received:
        self._taken_from = self._client.tap
        return self._client.tap.stream.take() if self._client.tap else Received([], [], bytearray(), [])

    def acknowledge(self, acks: list[bytes]) -> None:
        tap = self._taken_from
        if tap is not None and tap is self._client.tap and self._client.socket() is not None:
            tap.acknowledge(acks)

    @property
    def wants_write(self) -> bool:
        return self._client.tap is not None and self._client.tap.wants_write

    def flush(self) -> None:
        if self._client.tap is not None:
            self._client.tap.flush()

    def has_buffered(self) -> bool:
        """Whether TLS has bytes decrypted that no poll of the socket would tell of."""
        tap = self._client.tap
        return tap is not None and isinstance(tap.sock, ssl.SSLSocket) and self._client.socket() is not None and tap.sock.pending() > 0

    def session_lost(self) -> None:
        self._client.unreleased.clear()
