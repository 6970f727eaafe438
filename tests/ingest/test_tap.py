"""The tap on a real socket: what paho sees, what it does not, and who may write when."""

import socket
from collections.abc import Iterator

import pytest

from ingest.stream import PublishStream
from ingest.tap import PublishTap

TOPIC = b"vitalane/v1/shipment/d1/readings"
PINGRESP = b"\xd0\x00"


def publish(packet_id: int, payload: bytes = b"{}") -> bytes:
    body = len(TOPIC).to_bytes(2, "big") + TOPIC + packet_id.to_bytes(2, "big") + payload
    return b"\x32" + bytes([len(body)]) + body


@pytest.fixture
def ends() -> Iterator[tuple[PublishTap, socket.socket]]:
    ours, brokers = socket.socketpair()
    ours.setblocking(False)
    with ours, brokers:
        yield PublishTap(ours, PublishStream(protocol_5=False, max_payload_bytes=1000, unreleased=set())), brokers


def fill_socket(tap: PublishTap) -> int:
    """Write until the socket takes no more; return how much that was."""
    written = 0
    try:
        while True:
            written += tap.sock.send(bytes(65_536))
    except BlockingIOError:
        return written


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_paho_sees_everything_but_messages(ends):
    tap, broker = ends
    broker.sendall(publish(1) + PINGRESP + publish(2) + PINGRESP[:1])
    tap.fill()
    assert tap.stream.waiting == 2
    assert (tap.recv(1), tap.pending(), tap.recv(9)) == (b"\xd0", 1, b"\x00")
    with pytest.raises(BlockingIOError):
        tap.recv(1)
    broker.sendall(PINGRESP[1:])
    tap.fill()
    assert tap.recv(2) == PINGRESP


def test_packets_come_through_a_socket_byte_by_byte_as_they_come_whole(ends):
    tap, broker = ends
    data = publish(1, b"a" * 70) + PINGRESP + publish(2, b"") + publish(3)
    for at in range(len(data)):
        broker.sendall(data[at : at + 1])
        tap.fill()
    bitwise, control = tap.stream.take(), tap.recv(100)
    broker.sendall(data)
    tap.fill()
    assert (tap.stream.take(), tap.recv(100)) == (bitwise, control)
    assert bitwise.payloads == [b"a" * 70, b"", b"{}"]


def test_nothing_to_read_is_no_end(ends):
    tap, broker = ends
    assert not tap.fill()
    assert not tap.has_news
    broker.close()
    tap.fill()
    assert tap.has_news
    assert tap.recv(1) == b""  # how a socket says that it has ended


def test_a_broken_stream_ends_the_connection_for_paho(ends):
    tap, broker = ends
    broker.sendall(publish(1) + b"\x36\x00")
    tap.fill()
    assert tap.has_news
    with pytest.raises(ConnectionError, match="QoS 3"):
        tap.recv(1)
    assert tap.stream.waiting == 1  # what came before it is good


def test_acknowledgements_that_the_socket_does_not_take_are_kept_and_keep_their_order(ends):
    tap, broker = ends
    filled = fill_socket(tap)
    acks = [number.to_bytes(2, "big") for number in range(1, 30_001)]
    for at in range(0, len(acks), 10_000):
        tap.acknowledge(acks[at : at + 10_000])
    assert tap.wants_write
    read(broker, filled)
    received = b""
    while len(received) < 4 * len(acks):
        tap.flush()
        received += broker.recv(1 << 20)
    assert received == b"".join(b"\x40\x02" + ack for ack in acks)
    assert not tap.wants_write


def test_paho_waits_while_acknowledgements_are_half_written(ends):
    tap, broker = ends
    filled = fill_socket(tap)
    tap.acknowledge([b"\x00\x01"])
    with pytest.raises(BlockingIOError):
        tap.send(b"\xc0\x00")
    read(broker, filled)
    assert tap.send(b"\xc0\x00") == 2
    assert read(broker, 6) == b"\x40\x02\x00\x01\xc0\x00"


def test_acknowledgements_wait_while_paho_is_in_the_middle_of_a_packet(ends):
    """Four bytes inside another packet are the end of the connection, and the broker would not say why."""
    tap, broker = ends
    big = b"\x82" + bytes(10_000_000)
    sent = tap.send(big)
    assert 0 < sent < len(big)
    tap.acknowledge([b"\x00\x01"])
    assert not tap.wants_write  # it would be for nothing
    received = bytearray()
    while sent < len(big):
        received += broker.recv(1 << 20)
        try:
            sent += tap.send(big[sent:])
        except BlockingIOError:
            continue
    tap.flush()
    while len(received) < len(big) + 4:
        received += broker.recv(1 << 20)
    assert received == big + b"\x40\x02\x00\x01"


def test_a_connection_that_breaks_while_acknowledging_is_noticed(ends):
    tap, broker = ends
    broker.close()
    tap.acknowledge([b"\x00\x01"] * 10)
    tap.acknowledge([b"\x00\x02"] * 10)
    assert tap.has_news
    assert not tap.wants_write
