"""The bytes that a broker sends, cut into packets: PUBLISH becomes columns of topics, payloads and flags, the rest is passed on as it is.

Nothing is made per message but two slices of the received bytes, which is what makes this a quarter of the price of a client library's
message objects. Everything is bounded: a packet over the limit is never held whole, only its beginning is kept and the rest counted by.
A stream that breaks the protocol is refused at the first packet that does, for behind it nothing can be trusted to be cut right.

QoS 2 is acknowledged like QoS 1, after the journal: its PUBREC waits for the commit. Between PUBREC and PUBREL the packet id is remembered,
so that a message redelivered in the session is not journalled twice.
"""

from typing import NamedTuple

from decoders.decode import FLAG_TOO_LARGE, KEPT_OF_TOO_LARGE
from journal.messages import FLAG_DUP, FLAG_RETAIN, QOS_SHIFT
from telemetry.errors import VitalaneError

PUBLISH, PUBREL = 0x30, 0x62
QOS, QOS_1 = 6, 2  # in a fixed header: the mask, which set whole is no QoS, and QoS 1
PUBACK, PUBREC = b"\x40\x02", b"\x50\x02"

TOPIC_BYTES = 65_535  # what MQTT allows
PROPERTY_BYTES = 65_536  # of MQTT 5; a message with more, and a payload near the limit, counts as too large
BEGINNING_BYTES = TOPIC_BYTES + 16_384  # of a packet that is not held whole: fixed header, topic, packet id, some properties and payload

_FLAGS = bytes(
    (FLAG_RETAIN if low & 1 else 0) | (FLAG_DUP if low & 8 else 0) | (low >> 1 & 3) << QOS_SHIFT  # a fixed header's lower half -> flags
    for low in range(16)
)


class ProtocolError(VitalaneError):
    """What the broker sent is not MQTT: the connection is of no more use."""


class Received(NamedTuple):
    """Messages in the order of their arrival, and what acknowledges those that are to be acknowledged, in the same order."""

    topics: list[bytes]
    payloads: list[bytes]
    flags: bytearray
    acks: list[bytes]  # of QoS 1 the packet id; of QoS 2 the whole PUBREC


def encode_acks(acks: list[bytes]) -> bytes:
    """Return the packets that acknowledge, one after the other."""
    if not acks:
        return b""
    if max(map(len, acks)) == 2:
        return PUBACK + PUBACK.join(acks)
    return b"".join([PUBACK + ack if len(ack) == 2 else ack for ack in acks])


class PublishStream:
    """One connection's bytes in, messages and other packets out.

    `unreleased` are the packet ids of QoS 2 between PUBREC and PUBREL; it belongs to the session and outlives a connection.
    """

    def __init__(self, *, protocol_5: bool, max_payload_bytes: int, unreleased: set[bytes]) -> None:
        self.control = bytearray()  # whole packets that are not PUBLISH
        self.waiting_bytes = 0  # of payloads not yet taken
        self.unreleased = unreleased
        self._protocol_5 = protocol_5
        self._max_payload_bytes = max_payload_bytes
        self._max_packet_bytes = max_payload_bytes + TOPIC_BYTES + PROPERTY_BYTES
        self._received = Received([], [], bytearray(), [])
        self._held = bytearray()  # the beginning of a packet whose end has not come
        self._needed = 0  # length of `_held` below which there is nothing to do
        self._passed_over = 0  # bytes still to come of a packet whose beginning was taken

    @property
    def waiting(self) -> int:
        """How many messages have been received and not taken."""
        return len(self._received.topics)

    def take(self) -> Received:
        """Return the messages received since the last call."""
        received = self._received
        self._received = Received([], [], bytearray(), [])
        self.waiting_bytes = 0
        return received

    def feed(self, data: bytes) -> None:
        """Take what was received, cut anywhere. Raises ProtocolError."""
        if self._passed_over:
            over = min(self._passed_over, len(data))
            self._passed_over -= over
            data = data[over:]
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        if data:
            self._cut(data)

    def _cut(self, data: bytes) -> None:
        """Cut packets from bytes that begin with one, and hold what is left."""
        received = self._received
        add_topic, add_payload, add_flags, add_ack = (
            received.topics.append, received.payloads.append, received.flags.append, received.acks.append
        )  # fmt: skip
        protocol_5, most = self._protocol_5, self._max_payload_bytes
        at, end, size = 0, len(data), 0
        while end - at >= 2:
            head, length, body = data[at], data[at + 1], at + 2
            if length > 127:
                length, body = _variable_length(data, at + 1, end)
            stop = body + length
            if body == 0 or stop > end:
                break
            start, at = at, stop
            if head & 0xF0 != PUBLISH:
                self._pass_on(data, start, body, stop)
                continue
            name = body + 2
            payload = name + (data[body] << 8 | data[body + 1]) if length > 2 else stop + 1
            topic, qos = data[name:payload], head & QOS
            if qos:
                packet_id = data[payload : payload + 2]
                payload += 2
            if protocol_5:
                payload = _after_properties(data, payload, stop)
            if payload > stop or qos == QOS or not topic:
                raise _broken(head, fits=payload <= stop)
            if qos == QOS_1:
                add_ack(packet_id)
            elif qos and self._received_before(packet_id):
                continue
            add_topic(topic)
            if stop - payload > most:
                add_payload(data[payload : payload + KEPT_OF_TOO_LARGE])
                add_flags(_FLAGS[head & 15] | FLAG_TOO_LARGE)
            else:
                add_payload(data[payload:stop])
                add_flags(_FLAGS[head & 15])
                size += stop - payload
        self.waiting_bytes += size
        if at < end:
            self._hold(data[at:])

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a packet until there is enough of it."""
        length, body = _variable_length(data, 1, len(data))
        whole = body + length if body else len(data) + 1
        if whole > self._max_packet_bytes:
            if data[0] & 0xF0 != PUBLISH:
                msg = f"the broker sent a packet of {whole} bytes that is no message"
                raise ProtocolError(msg)
            if len(data) >= min(BEGINNING_BYTES, whole):
                self._cut_beginning(data, body)
                self._passed_over = whole - len(data)
                return
            whole = min(BEGINNING_BYTES, whole)
        self._held += data
        self._needed = whole

    def _cut_beginning(self, data: bytes, body: int) -> None:
        """Take a message of which this is the beginning and the rest will be passed over."""
        head = data[0]
        payload = body + 2 + (data[body] << 8 | data[body + 1])
        topic = data[body + 2 : payload]
        if head & QOS == QOS or not topic:
            raise _broken(head, fits=True)
        if head & QOS:
            packet_id = data[payload : payload + 2]
            payload += 2
            if head & QOS == QOS_1:
                self._received.acks.append(packet_id)
            elif self._received_before(packet_id):
                return
        if self._protocol_5:
            payload = _after_properties(data, payload, len(data))  # past the end where there are very many: then none of it is kept
        self._received.topics.append(topic)
        self._received.payloads.append(data[payload : payload + KEPT_OF_TOO_LARGE])
        self._received.flags.append(_FLAGS[head & 15] | FLAG_TOO_LARGE)

    def _received_before(self, packet_id: bytes) -> bool:
        """Note a packet id of QoS 2 and its PUBREC; return whether its message came before and was not yet released."""
        self._received.acks.append(PUBREC + packet_id)
        if packet_id in self.unreleased:
            return True
        self.unreleased.add(packet_id)
        return False

    def _pass_on(self, data: bytes, at: int, body: int, stop: int) -> None:
        if data[at] == PUBREL:
            self.unreleased.discard(data[body : body + 2])
        self.control += data[at:stop]


def _variable_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a variable byte integer and where it ends; (0, 0) where its end has not come. Raises ProtocolError where it has five bytes."""
    value = 0
    for place in range(4):
        if at + place >= end:
            return 0, 0
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    msg = "the broker sent a length of more than four bytes: this is no MQTT"
    raise ProtocolError(msg)


def _after_properties(data: bytes, at: int, stop: int) -> int:
    """Return where the payload begins behind the properties of MQTT 5; past `stop` where they do not fit."""
    if at >= stop:
        return stop + 1
    length = data[at]
    if length < 128:
        return at + 1 + length
    length, after = _variable_length(data, at, stop)
    return after + length if after else stop + 1


def _broken(head: int, *, fits: bool) -> ProtocolError:
    if head & QOS == QOS:
        return ProtocolError("the broker sent a message of QoS 3, which there is not")
    if fits:
        return ProtocolError("the broker sent a message without a topic: we offered no topic aliases")
    return ProtocolError("the broker sent a message that is shorter than what it should hold")
