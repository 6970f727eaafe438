"""Sparkplug B 3.0 as bytes: its topics, its payloads as plain values, the STATE of a host. The only module that knows protobuf.

A payload says what it holds and nothing else: what an alias means, and whether somebody may be believed, is the session's matter
(`edge_nodes.py`). Integers come as two's complement in an unsigned field and are told apart by their datatype (chapter 6.4.16).
Bounded: a payload is as large as ingest lets it be, has MAX_READINGS metrics, and a text in it TEXT_CHARACTERS.

The payload classes are loaded when the first payload is read: a process without Sparkplug does not pay for protobuf.
"""

import json
import math
import re
import struct
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from decoders.packets import Unreadable, shown
from decoders.topics import REMEMBERED_TOPICS, is_device
from decoders.wire import MAX_READINGS
from telemetry.reasons import Reason

PREFIX = b"spBv1.0/"

NBIRTH, NDEATH, NDATA, DBIRTH, DDEATH, DDATA = SPOKEN = ("NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA")
"""What edge nodes say. Commands (NCMD, DCMD) are what hosts say to them."""

OF_NODES, OF_DEVICES = (NBIRTH, NDEATH, NDATA), (DBIRTH, DDEATH, DDATA)

SEQUENCE = 256  # `seq` and `bdSeq` count to 255 and begin again at 0
BD_SEQ, REBIRTH = "bdSeq", "Node Control/Rebirth"
TEXT_CHARACTERS = 1024

BAD, STALE = 0, 500
"""Values of the property `Quality` with which a value is not to be used."""

BOOLEAN = 11
INTEGERS = {1: (8, True), 2: (16, True), 3: (32, True), 4: (64, True), 5: (8, False), 6: (16, False), 7: (32, False), 8: (64, False)}
"""Datatype -> bits, and whether one of them is a sign."""

_FIELD_BITS = {"int_value": 32, "long_value": 64}

_ID = r"[A-Za-z0-9._-]+"
_TOPIC = re.compile(rf"spBv1\.0/({_ID})/(?:({'|'.join(OF_NODES)})/({_ID})|({'|'.join(OF_DEVICES)})/({_ID})/({_ID}))".encode())


class NodeTopic(NamedTuple):
    group: str
    type: str  # of SPOKEN
    node: str
    device: str  # empty: the node itself

    @property
    def node_name(self) -> str:
        """The device that the edge node itself is to us."""
        return f"{self.group}:{self.node}"

    @property
    def name(self) -> str:
        """The device of ours that the message is of."""
        return f"{self.node_name}:{self.device}" if self.device else self.node_name


class Metric(NamedTuple):
    """One metric of a payload."""

    name: str  # empty: only its alias says which one it is
    alias: int | None
    time_ms: int | None
    datatype: int  # 0: the one of its BIRTH
    field: str | None  # which field of protobuf holds the value; None: it has none
    value: Any
    null: bool
    unit: str | None  # the property `engUnit`
    quality: int | None  # the property `Quality`


class Payload(NamedTuple):
    time_ms: int | None
    seq: int | None
    metrics: list[Metric]


@lru_cache(REMEMBERED_TOPICS)
def parse_topic(topic: bytes) -> NodeTopic | None:
    """Return what the topic of an edge node's message names, None where it is none that can be a device of ours.

    A name without `:` in its parts: else two edge nodes could be one device to us.
    """
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    group, of_node, node, of_device, owner, device = (part.decode() if part else "" for part in match.groups())
    parsed = NodeTopic(group, of_node or of_device, node or owner, device)
    return parsed if is_device(parsed.name) else None


def filters(groups: Sequence[str]) -> tuple[str, ...]:
    """Return what brings all that the edge nodes of some groups say, of all groups where there are none; not what they are told."""
    nodes = [f"spBv1.0/{group}/{kind}/+" for group in groups or ("+",) for kind in OF_NODES]
    return *nodes, *(f"spBv1.0/{group}/{kind}/+/+" for group in groups or ("+",) for kind in OF_DEVICES)


def command_topic(group: str, node: str) -> str:
    return f"spBv1.0/{group}/NCMD/{node}"


def state_topic(host_id: str) -> str:
    return f"spBv1.0/STATE/{host_id}"


def payload_of(body: bytes | Unreadable) -> Payload | Unreadable:
    """Return what a payload holds, or why nobody can say."""
    if isinstance(body, Unreadable):
        return body
    try:
        return read_payload(body)
    except Unreadable as error:
        return error


def read_payload(body: bytes) -> Payload:
    """Return what a payload holds. Raises Unreadable."""
    message, decode_error = _classes()
    try:
        payload = message.FromString(body)
        if len(payload.metrics) > MAX_READINGS:
            raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} metrics in one payload")
        metrics = [_metric(metric) for metric in payload.metrics]
    except (decode_error, UnicodeDecodeError):  # which of them depends on how protobuf is built
        raise Unreadable(Reason.MALFORMED, "not a Sparkplug B payload") from None
    seq = payload.seq if payload.HasField("seq") else None
    return Payload(payload.timestamp if payload.HasField("timestamp") else None, seq, metrics)


def value_of(metric: Metric, name: str, datatype: int) -> object:
    """Return the value of a metric, a number where its datatype is one. Raises Unreadable where it cannot be told.

    A float of 32 bits is the shortest decimal number that it can stand for: 8.1, and not 8.100000381, which a limit of 8.1 would take
    for a breach.
    """
    field, value = metric.field, metric.value
    if field == "float_value":
        return _shortest(value)
    if field not in _FIELD_BITS:
        return value
    if datatype == BOOLEAN and value in {0, 1}:
        return bool(value)
    if datatype not in INTEGERS:
        raise Unreadable(Reason.WRONG_TYPE, f"the value of {shown(name)} is a whole number of no known datatype")
    bits, signed = INTEGERS[datatype]
    return _whole(name, value, _FIELD_BITS[field], bits, signed=signed)


def rebirth_command(time_ms: int) -> bytes:
    """Return the payload that asks an edge node for its BIRTH certificates, for its topic NCMD."""
    message, _ = _classes()
    payload = message(timestamp=time_ms)
    payload.metrics.add(name=REBIRTH, timestamp=time_ms, datatype=BOOLEAN, boolean_value=True)
    return bytes(payload.SerializeToString())


def state(*, online: bool, time_ms: int) -> bytes:
    """Return what a host publishes on its STATE topic, and as its will."""
    return json.dumps({"online": online, "timestamp": time_ms}).encode()


def says_offline(body: bytes) -> bool:
    """Return whether a payload of a STATE topic says that the host is not there."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("online") is False


@cache
def _classes() -> tuple[Any, type[Exception]]:
    from google.protobuf.message import DecodeError
    from tahutils.tahu.sparkplug_b_pb2 import Payload as Message

    return Message, DecodeError


def _metric(metric: Any) -> Metric:
    name, field = _text(metric.name), metric.WhichOneof("value")
    unit = quality = None
    if metric.HasField("properties"):
        unit, quality = _properties(metric.properties)
    return Metric(
        name,
        metric.alias if metric.HasField("alias") else None,
        metric.timestamp if metric.HasField("timestamp") else None,
        metric.datatype,
        field,
        getattr(metric, field) if field else None,
        metric.is_null,
        unit,
        quality,
    )


def _text(text: str | bytes) -> str:
    """Return a text of protobuf's, which hands over the bytes of one that is no UTF-8. Raises Unreadable for that, and for a long one."""
    if isinstance(text, bytes):
        raise Unreadable(Reason.MALFORMED, "a text in the payload is not UTF-8")
    if len(text) > TEXT_CHARACTERS:
        raise Unreadable(Reason.TOO_LARGE, f"a name or a unit of more than {TEXT_CHARACTERS} characters")
    return text


def _properties(properties: Any) -> tuple[str | None, int | None]:
    """Return unit and quality."""
    unit: str | None = None
    quality: int | None = None
    for key, value in zip(properties.keys, properties.values, strict=False):
        kind = value.WhichOneof("value")
        if key == "engUnit" and kind == "string_value":
            unit = _text(value.string_value) or None
        elif key == "Quality" and kind in _FIELD_BITS:
            quality = getattr(value, kind)
    return unit, quality


def _whole(name: str, value: int, field_bits: int, bits: int, *, signed: bool) -> int:
    """Return the number of `bits` bits that a field holds: as it is, or with its sign drawn over the whole field."""
    bits = min(bits, field_bits)
    limit, sign = 1 << bits, 1 << (bits - 1)
    if value < limit:
        return value - limit if signed and value >= sign else value
    if signed and value >= (1 << field_bits) - sign:
        return value - (1 << field_bits)
    raise Unreadable(Reason.WRONG_TYPE, f"the value of {shown(name)} has more than {bits} bits")


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that is this float of 32 bits."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", short) == struct.pack("<f", value):
                return short
        except OverflowError:  # at the upper end, rounded up beyond it
            continue
    return value
