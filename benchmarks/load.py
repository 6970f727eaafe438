"""A load that is not the bottleneck: pre-encoded QoS 1 PUBLISH packets over a raw socket, PUBACKs counted by their bytes.

    packets = encode((topic, payload) for ...)
    with broker(directory) as port, Publisher(port) as publisher:
        seconds = publisher.blast(packets)            # as fast as the broker acknowledges
        sent_ns = publisher.pace(packets, 5_000)      # so many a second; the wall clock in ns at which each message was sent

`broker` starts Mosquitto on the loopback without limits of its own: the thing measured must be what stands behind it.
"""

import select
import shutil
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 65_536
PUBACK_BYTES = 4

MOSQUITTO_CONF = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_type error
"""


class Packets(NamedTuple):
    """Encoded messages, one after the other, and where each ends."""

    blob: bytes
    ends: "array[int]"

    def __len__(self) -> int:
        return len(self.ends)


def encode(messages: Iterable[tuple[bytes, bytes]], *, qos: int = 1, retain: bool = False) -> Packets:
    """Return the PUBLISH packets of (topic, payload), packet ids counting up and around."""
    parts, ends, at = [], array("Q"), 0
    head = 0x30 | qos << 1 | retain
    for number, (topic, payload) in enumerate(messages):
        packet_id = (number % 65_535 + 1).to_bytes(2, "big") if qos else b""
        body = b"".join((len(topic).to_bytes(2, "big"), topic, packet_id, payload))
        packet = bytes([head]) + encode_length(len(body)) + body
        parts.append(packet)
        at += len(packet)
        ends.append(at)
    return Packets(b"".join(parts), ends)


def encode_length(length: int) -> bytes:
    """Return MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        length, low = length >> 7, length & 127
        encoded.append(low | 128 if length else low)
        if not length:
            return bytes(encoded)


class Publisher:
    """One MQTT 3.1.1 connection that only publishes; at most `window` messages are unacknowledged."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        client_id: str = "load",
        user: str = "",
        password: str = "",
        window: int = 20_000,
        keepalive_s: int = 0,
    ) -> None:
        self.window = window
        self.acknowledged = 0
        self._rest = 0  # bytes of a PUBACK of which the others have come
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        texts = [client_id, *([user, password] if user else [])]
        body = b"\x00\x04MQTT\x04" + bytes([0xC2 if user else 0x02]) + keepalive_s.to_bytes(2, "big")
        body += b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in texts)
        self.sock.sendall(b"\x10" + encode_length(len(body)) + body)
        answer = self.sock.recv(4)
        if answer[:2] != b"\x20\x02" or answer[3]:
            raise ConnectionError(f"the broker answered CONNECT with {answer.hex()}")
        self.sock.setblocking(False)

    def blast(self, packets: Packets, first: int = 0, last: int | None = None, *, acknowledged: bool = True) -> float:
        """Publish messages `first` to `last` as fast as it goes; return the seconds to the last PUBACK (or, told so, to the last byte)."""
        ends, view = packets.ends, memoryview(packets.blob)
        last = len(ends) if last is None else last
        base, at, done = self.acknowledged, ends[first - 1] if first else 0, first
        started = time.perf_counter()
        while done < last:
            allowed = min(last, first + self.acknowledged - base + self.window) if acknowledged else last
            if done < allowed:
                stop = min(ends[allowed - 1], at + CHUNK_BYTES)
                try:
                    at += self.sock.send(view[at:stop])
                except BlockingIOError:
                    self._wait(writable=True)
                while done < last and ends[done] <= at:
                    done += 1
            else:
                self._wait(writable=False)
            self._count()
        while acknowledged and self.acknowledged - base < last - first:
            self._wait(writable=False)
            self._count()
        return time.perf_counter() - started

    def pace(self, packets: Packets, per_second: float, first: int = 0, last: int | None = None) -> "array[int]":
        """Publish messages evenly; return when each was handed to the socket, in ns of the wall clock."""
        ends, view = packets.ends, memoryview(packets.blob)
        last = len(ends) if last is None else last
        base, sent = self.acknowledged, array("q")
        started = time.perf_counter()
        for number in range(first, last):
            due = started + (number - first) / per_second
            while (ahead := due - time.perf_counter()) > 0:
                if ahead > 0.0002:
                    time.sleep(ahead - 0.0001)
                self._count()
            sent.append(time.time_ns())
            at, stop = ends[number - 1] if number else 0, ends[number]
            while at < stop:
                try:
                    at += self.sock.send(view[at:stop])
                except BlockingIOError:
                    self._wait(writable=True)
                    self._count()
        while self.acknowledged - base < last - first:
            self._wait(writable=False)
            self._count()
        return sent

    def close(self) -> None:
        self.sock.setblocking(True)
        self.sock.sendall(b"\xe0\x00")
        self.sock.close()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, *, writable: bool) -> None:
        select.select([self.sock], [self.sock] if writable else [], [], 1.0)

    def _count(self) -> None:
        try:
            data = self.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the broker closed the connection of the load")
        self._rest += len(data)
        self.acknowledged += self._rest // PUBACK_BYTES
        self._rest %= PUBACK_BYTES


def find_mosquitto() -> str:
    """Return the broker's path, or end the program with a sentence."""
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        sys.exit("mosquitto is not installed: `make tools` says how to get it")
    return path


@contextmanager
def broker(directory: Path, *, options: str = "") -> Iterator[int]:
    """Run Mosquitto without limits on the loopback; give its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = directory / "mosquitto.conf"
    conf.write_text(MOSQUITTO_CONF.format(port=port) + options)
    process = subprocess.Popen([find_mosquitto(), "-c", conf])
    try:
        give_up_at = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > give_up_at or process.poll() is not None:
                    raise
                time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()
