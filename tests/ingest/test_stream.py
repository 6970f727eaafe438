"""The bytes of a connection: cut right however they arrive, bounded whatever they are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.decode import FLAG_TOO_LARGE, KEPT_OF_TOO_LARGE
from ingest.stream import BEGINNING_BYTES, PROPERTY_BYTES, TOPIC_BYTES, ProtocolError, PublishStream, encode_acks
from journal.messages import FLAG_DUP, FLAG_RETAIN
from simulators.packets import encode_length

TOPIC = b"vitalane/v1/shipment/d1/readings"
MAX_PAYLOAD = 2000


def publish(
    payload: bytes = b"{}",
    *,
    topic: bytes = TOPIC,
    qos: int = 1,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    properties: bytes | None = None,
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (packet_id.to_bytes(2, "big") if qos else b"")
    if properties is not None:
        body += encode_length(len(properties)) + properties
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + encode_length(len(body)) + body


PINGRESP, PUBREL_7 = packet(0xD0, b""), packet(0x62, b"\x00\x07")
SUBACK = packet(0x90, b"\x00\x01" + bytes(200))


class Broker:
    """One end of a stream: what it was sent, as plain values."""

    def __init__(self, *, protocol_5: bool = False, unreleased: set[bytes] | None = None) -> None:
        self.stream = PublishStream(
            protocol_5=protocol_5, max_payload_bytes=MAX_PAYLOAD, unreleased=set() if unreleased is None else unreleased
        )

    def send(self, *parts: bytes) -> "Broker":
        for part in parts:
            self.stream.feed(part)
        return self

    def said(self) -> tuple[list[tuple[bytes, bytes, int]], bytes, bytes]:
        received = self.stream.take()
        control = bytes(self.stream.control)
        self.stream.control.clear()
        messages = list(zip(received.topics, received.payloads, received.flags, strict=True))
        return messages, encode_acks(received.acks), control


@pytest.mark.parametrize("protocol_5", [False, True])
def test_packets_are_the_same_however_the_bytes_are_split(protocol_5: bool):
    """TCP keeps no packet together: every boundary will be met some day."""
    none = b"" if protocol_5 else None
    some = b"\x26\x00\x01a\x00\x01b" if protocol_5 else None
    many = b"\x26\x00\x03abc\x00\xff" + bytes(255) if protocol_5 else None
    data = b"".join(
        [
            publish(b'{"a":1}', packet_id=0x4001, properties=none),
            publish(b"", qos=0, properties=none),
            PINGRESP,
            publish(b"x" * 300, packet_id=3, retain=True, properties=some),
            publish(b"two", qos=2, packet_id=7, dup=True, properties=many),
            PUBREL_7,
            SUBACK,
            publish(b"y" * 127, packet_id=0xFFFF, properties=none),
            publish(b"z" * (MAX_PAYLOAD + 1), packet_id=9, properties=some),
        ]
    )
    whole = Broker(protocol_5=protocol_5).send(data).said()
    messages, acks, control = whole
    assert [(len(payload), flags) for _, payload, flags in messages] == [
        (7, 16),
        (0, 0),
        (300, 16 | FLAG_RETAIN),
        (3, 32 | FLAG_DUP),
        (127, 16),
        (KEPT_OF_TOO_LARGE, 16 | FLAG_TOO_LARGE),
    ]
    assert {topic for topic, _, _ in messages} == {TOPIC}
    assert acks == b"\x40\x02\x40\x01\x40\x02\x00\x03\x50\x02\x00\x07\x40\x02\xff\xff\x40\x02\x00\x09"
    assert control == PINGRESP + PUBREL_7 + SUBACK
    assert Broker(protocol_5=protocol_5).send(*(data[at : at + 1] for at in range(len(data)))).said() == whole
    for at in range(len(data) + 1):
        assert Broker(protocol_5=protocol_5).send(data[:at], data[at:]).said() == whole, at


@given(st.data())
def test_any_packets_in_any_pieces(data: st.DataObject):
    messages = data.draw(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 1), st.integers(1, 65_535)), max_size=20))
    stream = b"".join(publish(payload, qos=qos, packet_id=packet_id) + PINGRESP * qos for payload, qos, packet_id in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    received, acks, control = Broker().send(*pieces).said()
    assert [payload for _, payload, _ in received] == [payload for payload, _, _ in messages]
    assert acks == b"".join(b"\x40\x02" + packet_id.to_bytes(2, "big") for _, qos, packet_id in messages if qos)
    assert control == PINGRESP * sum(qos for _, qos, _ in messages)


def test_a_thousand_messages_in_one_segment():
    data = b"".join(publish(b"%d" % number, packet_id=number + 1) for number in range(1000))
    messages, acks, _ = Broker().send(data).said()
    assert [payload for _, payload, _ in messages] == [b"%d" % number for number in range(1000)]
    assert acks == b"".join(b"\x40\x02" + (number + 1).to_bytes(2, "big") for number in range(1000))


@pytest.mark.parametrize("protocol_5", [False, True])
@pytest.mark.parametrize("size", [MAX_PAYLOAD, MAX_PAYLOAD + 1, 100_000, 200_000, 1_000_000])
def test_a_message_over_the_limit_costs_no_memory_and_is_kept_in_part(protocol_5: bool, size: int):
    """One device that sends a film must not take the memory that the others need; and it must be seen that it did."""
    properties = b"\x26\x00\x01a\x00\x01b" if protocol_5 else None
    payload = random.Random(size).randbytes(size)
    data = publish(payload, properties=properties) + publish(b"next", packet_id=2, properties=properties)
    for step in (1 << 20, 65_536, 1447):
        broker = Broker(protocol_5=protocol_5)
        most = 0
        for at in range(0, len(data), step):
            broker.stream.feed(data[at : at + step])
            most = max(most, len(broker.stream._held))
        assert most <= MAX_PAYLOAD + TOPIC_BYTES + PROPERTY_BYTES
        messages, acks, _ = broker.said()
        cut = size > MAX_PAYLOAD
        assert [item[1:] for item in messages] == [
            (payload[:KEPT_OF_TOO_LARGE] if cut else payload, 16 | (FLAG_TOO_LARGE if cut else 0)),
            (b"next", 16),
        ]
        assert acks == b"\x40\x02\x00\x01\x40\x02\x00\x02"


def test_a_message_with_very_many_properties_does_not_end_the_connection():
    """It would come again after every reconnect, and nobody else's messages after it."""
    properties = b"\x26\x00\x01a\xff\xff" + b"b" * 65_535
    data = publish(b"x", properties=properties * 4) + publish(b"next", packet_id=2, properties=b"")
    for step in (len(data), 1447):
        messages, acks, _ = Broker(protocol_5=True).send(*(data[at : at + step] for at in range(0, len(data), step))).said()
        assert [payload for _, payload, _ in messages][-1] == b"next"
        assert len(messages) == 2
        assert acks == b"\x40\x02\x00\x01\x40\x02\x00\x02"


def test_the_longest_topic():
    topic = b"t" * TOPIC_BYTES
    for payload in (b"x", bytes(BEGINNING_BYTES + PROPERTY_BYTES)):
        [(name, _, _)], _, _ = Broker().send(publish(payload, topic=topic)).said()
        assert name == topic


def test_a_qos_2_message_that_comes_again_in_the_session_is_journalled_once():
    """QoS 2 promises exactly once: the packet id is remembered from PUBREC to PUBREL, over connections."""
    unreleased: set[bytes] = set()
    first = Broker(unreleased=unreleased).send(publish(b"a", qos=2, packet_id=7))
    assert len(first.said()[0]) == 1
    again = Broker(unreleased=unreleased).send(publish(b"a", qos=2, packet_id=7, dup=True))
    messages, acks, _ = again.said()
    assert (messages, acks) == ([], b"\x50\x02\x00\x07")
    again.send(PUBREL_7, publish(b"b", qos=2, packet_id=7))
    messages, _, control = again.said()
    assert [payload for _, payload, _ in messages] == [b"b"]
    assert control == PUBREL_7


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x32\xff\xff\xff\xff\x01", "more than four bytes"),
        (b"\x36" + publish()[1:], "QoS 3"),
        (publish(topic=b""), "without a topic"),
        (b"\x32\x00", "shorter"),
        (b"\x32\x02\x00\x01", "shorter"),
        (b"\x32\x04\x00\x09ab", "shorter"),
        (b"\x32\x05\x00\x03abc", "shorter"),
        (b"\x90\xff\xff\xff\x7f", "no message"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
    ],
)
def test_a_stream_that_is_not_mqtt_is_given_up(data: bytes, words: str):
    """Behind a packet that breaks the protocol nothing can be trusted to be cut right, so nothing is."""
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        broker = Broker()
        if words:
            with pytest.raises(ProtocolError, match=words):
                broker.send(*pieces)
        else:
            broker.send(*pieces)
            assert broker.said()[0] == []


def test_properties_that_do_not_fit_are_refused():
    body = len(TOPIC).to_bytes(2, "big") + TOPIC + b"\x00\x01"
    for rest in (b"", b"\x05ab", b"\xff", b"\xff\xff\x7f"):
        with pytest.raises(ProtocolError, match="shorter"):
            Broker(protocol_5=True).send(packet(0x32, body + rest))


@given(st.lists(st.binary(max_size=50), max_size=5), st.booleans())
def test_any_bytes_are_cut_or_refused(pieces: list[bytes], protocol_5: bool):
    broker = Broker(protocol_5=protocol_5)
    try:
        broker.send(*pieces)
    except ProtocolError:
        return
    messages, _, control = broker.said()
    assert sum(len(payload) for _, payload, _ in messages) + len(control) <= sum(map(len, pieces))
