"""MQTT 3.1.1 as a load needs it: PUBLISH packets framed ahead of their time, and a connection that takes them in batches and reads what
comes back by its bytes. A client library costs an object and a lock a message; this costs a copy.
"""

import select
import socket
import ssl
from typing import NamedTuple

import numpy as np

from simulators.world import Integers
from telemetry.errors import Rejected, Transient

IDENTIFIERS = 65_535  # of packets: 1 to so many; 0 is none
PUBACK_BYTES = 4
READ_BYTES = 65_536
CONNECT, DISCONNECT, CLEAN_SESSION, NAME_AND_PASSWORD = 0x10, b"\xe0\x00", 0x02, 0xC0
REFUSALS = {1: "protocol version", 2: "client identifier", 3: "not now", 4: "user name or password", 5: "not authorised"}


class Account(NamedTuple):
    """Whom a connection is for."""

    client_id: str
    user: str | None = None
    password: str | None = None


class Connection:
    """One connection that publishes only. It does not wait: what the socket does not take is the caller's to send again."""

    def __init__(self, host: str, port: int, account: Account, *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> None:
        """Connect. Raises Transient where nobody answers as an MQTT broker, Rejected where the broker refuses us."""
        self.place = f"{host}:{port}"
        self._rest = b""  # of a PUBACK of which the others have come
        try:
            plain = socket.create_connection((host, port), timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
            self._socket.sendall(_connect(account))
            answer = self._socket.recv(PUBACK_BYTES)
        except OSError as error:
            msg = f"no MQTT broker at {self.place}: {error}"
            raise Transient(msg) from error
        if answer[:2] != b"\x20\x02" or len(answer) < PUBACK_BYTES:
            msg = f"what listens at {self.place} does not answer as an MQTT broker"
            raise Transient(msg)
        if answer[3]:
            who = "nobody" if account.user is None else f"user {account.user!r}"
            msg = f"the broker at {self.place} refuses {who}: {REFUSALS.get(answer[3], answer[3])}"
            raise Rejected(msg)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: "bytes | bytearray | memoryview") -> int:
        """Return how many bytes the socket took. Raises Transient where the connection is gone."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise self._gone(error) from error

    def acknowledged(self) -> Integers:
        """Return the identifiers of the PUBACKs that have come. Raises Transient where the connection is gone."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return np.empty(0, dtype=np.int64)
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise self._gone(ConnectionError("it was closed"))
        data = self._rest + data
        whole = len(data) - len(data) % PUBACK_BYTES
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], dtype=">u2")[1::2].astype(np.int64)

    def wait(self, timeout_s: float, *, writable: bool = False) -> None:
        """Wait until something comes, or, where asked, until something can be sent."""
        select.select([self], [self] if writable else [], [], timeout_s)

    def close(self) -> None:
        """Disconnect, as far as the broker still listens."""
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(DISCONNECT)
        except OSError:
            pass
        self._socket.close()

    def _gone(self, why: OSError) -> Transient:
        return Transient(f"the connection to the broker at {self.place} broke: {why}")


def publish(topic: bytes, payload: bytes, identifier: int, *, retain: bool = False) -> bytes:
    """Return a PUBLISH packet: QoS 1 with its identifier, QoS 0 where that is 0."""
    mark = identifier.to_bytes(2, "big") if identifier else b""
    head = 0x30 | (2 if identifier else 0) | retain
    body = b"".join((len(topic).to_bytes(2, "big"), topic, mark, payload))
    return b"".join((bytes((head,)), encode_length(len(body)), body))


def encode_length(length: int) -> bytes:
    """Return MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        length, low = length >> 7, length & 127
        encoded.append(low | 128 if length else low)
        if not length:
            return bytes(encoded)


def _connect(account: Account) -> bytes:
    texts = [account.client_id, *(() if account.user is None else (account.user, account.password or ""))]
    flags = CLEAN_SESSION | (0 if account.user is None else NAME_AND_PASSWORD)
    body = b"\x00\x04MQTT\x04" + bytes((flags, 0, 0))  # no keepalive: a load is never silent for long
    body += b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in texts)
    return bytes((CONNECT,)) + encode_length(len(body)) + body
