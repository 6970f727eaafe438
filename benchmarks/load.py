"""A load that is not the bottleneck: QoS 1 PUBLISH packets, encoded before (simulators/packets.py).

    packets = encode((topic, payload) for ...)
    with broker(directory) as port, Publisher(port) as publisher:
        seconds = publisher.blast(packets)            # as fast as the broker acknowledges
        sent_ns = publisher.pace(packets, 5_000)      # so many a second; the wall clock in ns at which each message was sent

`broker` starts Mosquitto on the loopback without limits of its own: the thing measured must be what stands behind it.
"""

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

from simulators.packets import IDENTIFIERS, Account, Connection, publish

CHUNK_BYTES = 65_536

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
    for number, (topic, payload) in enumerate(messages):
        packet = publish(topic, payload, number % IDENTIFIERS + 1 if qos else 0, retain=retain)
        parts.append(packet)
        at += len(packet)
        ends.append(at)
    return Packets(b"".join(parts), ends)


class Publisher:
    """One MQTT 3.1.1 connection that only publishes; at most `window` messages are unacknowledged."""

    def __init__(self, port: int, *, client_id: str = "load", user: str = "", password: str = "", window: int = 20_000) -> None:
        self.window = window
        self.acknowledged = 0
        self._connection = Connection("127.0.0.1", port, Account(client_id, user or None, password))

    def blast(self, packets: Packets, first: int = 0, last: int | None = None, *, acknowledged: bool = True) -> float:
        """Publish messages `first` to `last` as fast as it goes; return the seconds to the last PUBACK (or, told so, to the last byte)."""
        ends, view = packets.ends, memoryview(packets.blob)
        last = len(ends) if last is None else last
        base, at, done = self.acknowledged, ends[first - 1] if first else 0, first
        started = time.perf_counter()
        while done < last:
            allowed = min(last, first + self.acknowledged - base + self.window) if acknowledged else last
            if done < allowed:
                at += self._send(view[at : min(ends[allowed - 1], at + CHUNK_BYTES)])
                while done < last and ends[done] <= at:
                    done += 1
            else:
                self._connection.wait(1.0)
            self._count()
        if acknowledged:
            self._settle(base + last - first)
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
                at += self._send(view[at:stop])
                self._count()
        self._settle(base + last - first)
        return sent

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, view: memoryview) -> int:
        taken = self._connection.send(view)
        if not taken:
            self._connection.wait(1.0, writable=True)
        return taken

    def _settle(self, acknowledged: int) -> None:
        while self.acknowledged < acknowledged:
            self._connection.wait(1.0)
            self._count()

    def _count(self) -> None:
        self.acknowledged += self._connection.acknowledged().size


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
