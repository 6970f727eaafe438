"""The body of a MESSAGES row: MQTT messages exactly as received. Their law: what goes in comes out, byte for byte, whatever the bytes.

Version 1, little-endian:

    "VM"  version u8 = 1  header u8  n u32
    topic lengths u32 * n | payload lengths u32 * n | flags u8 * n | topics joined by a newline | payloads joined by a newline

Joined blocks let a decoder take all payloads of a row at once, as lines; two header bits say that no payload, and no topic, holds a newline
itself, and so that lines and messages are the same. Else the lengths tell them apart.
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from telemetry.errors import JournalCorrupt

FLAG_RETAIN = 1
FLAG_DUP = 2
QOS_SHIFT = 4

VERSION = 1
_PAYLOADS_ARE_LINES = 1
_TOPICS_ARE_LINES = 2
_HEADER = struct.Struct("<2sBBI")

assert sys.byteorder == "little", "journals are written on little-endian machines"
assert array("I").itemsize == 4


class Messages(NamedTuple):
    topics: list[bytes]
    payloads: list[bytes]
    flags: bytes  # a byte a message: FLAG_RETAIN, FLAG_DUP, QoS << QOS_SHIFT
    one_line: bool  # no payload holds a newline
    payload_block: bytes  # the payloads joined by newlines


def encode_messages(topics: Sequence[bytes], payloads: Sequence[bytes], flags: bytes) -> bytes:
    """Return the body for these messages, one topic, payload and flags byte each. Raises ValueError where their numbers differ."""
    n = len(payloads)
    if len(topics) != n or len(flags) != n:
        msg = f"{len(topics)} topics, {n} payloads and {len(flags)} flags are not one each"
        raise ValueError(msg)
    topic_block = b"\n".join(topics)
    payload_block = b"\n".join(payloads)
    separators = max(n - 1, 0)
    header = (_PAYLOADS_ARE_LINES if payload_block.count(b"\n") == separators else 0) | (
        _TOPICS_ARE_LINES if topic_block.count(b"\n") == separators else 0
    )
    return b"".join(
        (
            _HEADER.pack(b"VM", VERSION, header, n),
            array("I", map(len, topics)).tobytes(),
            array("I", map(len, payloads)).tobytes(),
            flags,
            topic_block,
            payload_block,
        )
    )


def decode_messages(body: bytes) -> Messages:
    """Return the messages of a body. Raises JournalCorrupt where `encode_messages` did not write it."""
    n, header = _check_header(body)
    lengths_at = _HEADER.size
    flags_at = lengths_at + 8 * n
    topics_at = flags_at + n
    lengths = array("I")
    lengths.frombytes(body[lengths_at:flags_at])
    separators = max(n - 1, 0)
    payloads_at = topics_at + sum(lengths[:n]) + separators
    if len(body) != payloads_at + sum(lengths[n:]) + separators:
        msg = f"a body of {len(body)} bytes is not the {n} messages that its header says"
        raise JournalCorrupt(msg)
    topic_block = body[topics_at:payloads_at]
    payload_block = body[payloads_at:]
    one_line = bool(header & _PAYLOADS_ARE_LINES)
    topics = _lines(topic_block, n) if header & _TOPICS_ARE_LINES else _cut(topic_block, lengths[:n])
    payloads = _lines(payload_block, n) if one_line else _cut(payload_block, lengths[n:])
    return Messages(topics, payloads, body[flags_at:topics_at], one_line, payload_block)


def count_messages(body: bytes) -> int:
    """Return how many messages a body says that it holds."""
    return _check_header(body)[0]


def _check_header(body: bytes) -> tuple[int, int]:
    if len(body) < _HEADER.size:
        msg = f"a body of {len(body)} bytes holds no messages"
        raise JournalCorrupt(msg)
    magic, version, header, n = _HEADER.unpack_from(body)
    if magic != b"VM":
        msg = f"a body of messages starts with 'VM', this one with {magic!r}"
        raise JournalCorrupt(msg)
    if version != VERSION:
        msg = f"messages of format version {version} are newer than this program, which reads version {VERSION}"
        raise JournalCorrupt(msg)
    if len(body) < _HEADER.size + 9 * n:
        msg = f"a body of {len(body)} bytes is too short for the {n} messages that its header says"
        raise JournalCorrupt(msg)
    return n, header


def _lines(block: bytes, n: int) -> list[bytes]:
    lines = block.split(b"\n") if n else []
    if len(lines) != n:
        msg = f"{len(lines)} lines are not the {n} messages that the header says"
        raise JournalCorrupt(msg)
    return lines


def _cut(block: bytes, lengths: "array[int]") -> list[bytes]:
    ends = list(accumulate(lengths, lambda end, length: end + 1 + length, initial=-1))[1:]
    return [block[end - length : end] for end, length in zip(ends, lengths, strict=True)]
