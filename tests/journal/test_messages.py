"""The body of a row of messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.messages import FLAG_DUP, FLAG_RETAIN, QOS_SHIFT, count_messages, decode_messages, encode_messages
from telemetry.errors import JournalCorrupt
from tests.journal.samples import golden

anything = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"\n", b"\n\n", b"\0", b"a\n", b"\nb", b"{}"]))
some_messages = st.lists(st.tuples(anything, anything, st.integers(0, 255)), max_size=30)


def encode(items: list[tuple[bytes, bytes, int]]) -> bytes:
    return encode_messages([topic for topic, _, _ in items], [payload for _, payload, _ in items], bytes(flags for _, _, flags in items))


@given(some_messages)
def test_any_messages_come_back_byte_for_byte(items):
    """Devices send what they like: empty payloads, newlines, zero bytes. None of it may shift its neighbours."""
    decoded = decode_messages(encode(items))
    assert list(zip(decoded.topics, decoded.payloads, decoded.flags, strict=True)) == items
    assert decoded.one_line == all(b"\n" not in payload for _, payload, _ in items)
    assert decoded.payload_block == b"\n".join(payload for _, payload, _ in items)


@given(some_messages)
def test_a_body_says_how_many_it_holds(items):
    assert count_messages(encode(items)) == len(items)


@given(some_messages.filter(bool), st.data())
def test_a_cut_body_is_refused(items, data):
    """A short body must be an error, never fewer or shifted messages."""
    body = encode(items)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(JournalCorrupt):
        decode_messages(body[:cut])


@given(st.binary(max_size=200))
def test_bytes_of_another_origin_are_refused_or_read(body):
    """Whatever the bytes, the answer is messages or JournalCorrupt."""
    try:
        decoded = decode_messages(b"VM\x01" + body)
    except JournalCorrupt:
        return
    assert len(decoded.topics) == len(decoded.payloads) == len(decoded.flags)


def test_a_later_version_is_refused_by_name():
    body = bytearray(encode([(b"t", b"p", 0)]))
    body[2] = 2
    with pytest.raises(JournalCorrupt, match="format version 2"):
        decode_messages(bytes(body))


def test_a_body_that_lies_about_its_lines_is_refused():
    """The header bit and the block must agree, or a decoder of lines would give a message to its neighbour."""
    body = bytearray(encode([(b"t", b"a\nb", 0), (b"t", b"c", 0)]))
    body[3] |= 1
    with pytest.raises(JournalCorrupt, match="3 lines"):
        decode_messages(bytes(body))


def test_one_topic_payload_and_flag_a_message():
    with pytest.raises(ValueError, match="2 topics, 1 payloads and 1 flags"):
        encode_messages([b"a", b"b"], [b"x"], b"\0")


def test_version_1_is_what_it_was():
    """Journals on disks hold these bytes: a difference here is a new version, with the old one still read."""
    items = [
        (b"vitalane/v1/shipment/truck-1/readings", b'{"metric":"temperature","value":4.5,"time":1763674000123}', 1 << QOS_SHIFT),
        (b"vitalane/v1/patient/bed-7/status", b"", FLAG_RETAIN),
        (b"vitalane/v1/patient/bed-7/readings", b'{"v":1,\n"values":{}}\0\xff', 2 << QOS_SHIFT | FLAG_DUP),
    ]
    for name, some in (("messages-v1.bin", items), ("messages-v1-lines.bin", items[:2])):
        assert golden(name, encode(some)) == encode(some)
        assert decode_messages(golden(name, encode(some))).payloads == [payload for _, payload, _ in some]
