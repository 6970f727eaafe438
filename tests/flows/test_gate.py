"""The gate: strangers by policy, and no device at the cost of the others; whatever stays outside is counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.decode import RowDecoder
from flows.gate import MAX_TOPICS, MINUTE_MS, Gate
from journal.messages import decode_messages, encode_messages
from rules.control import read_record, registry_record
from rules.registry import Registry
from telemetry.metrics import CATALOGUE
from telemetry.readings import Decoded, no_packets
from telemetry.reasons import Reason

NOW_MS = 1_763_674_000_123


def gate(*devices: dict[str, object], **more: Any) -> Gate:
    record = read_record(registry_record([{"kind": "shipment", "subject": item["device"], **item} for item in devices], **more))
    made = Gate()
    made.define(record, Registry(record["devices"]))
    return made


def admitted(by: Gate, *messages: tuple[str, bytes], now_ms: int = NOW_MS) -> Decoded:
    topics = [f"vitalane/v1/shipment/{device}/{form}".encode() for device, _, form in (name.partition("/") for name, _ in messages)]
    topics = [topic if not topic.endswith(b"/") else topic + b"readings" for topic in topics]
    row = decode_messages(encode_messages(topics, [payload for _, payload in messages], bytes(len(messages))))
    return by.admit(row, RowDecoder(CATALOGUE).decode(row, now_ms), now_ms)


def reading(value: float = 4) -> bytes:
    return json.dumps({"values": {"temperature": value, "humidity": 40}}).encode()


def test_without_a_word_in_the_registry_everybody_may_publish():
    decoded = admitted(gate(), ("anybody", reading()), ("anybody/status", b"online"))
    assert (decoded.packets.devices, len(decoded.statuses), decoded.refusals, decoded.shed) == (["anybody"], 1, [], ())


def test_strangers_are_quarantined_reading_by_reading():
    by = gate({"device": "known"}, unknown="quarantine")
    decoded = admitted(by, ("known", reading()), ("stranger", reading()), ("stranger/status", b"online"), ("stranger", b"{"))
    assert (decoded.packets.devices, decoded.statuses) == (["known"], [])
    assert [(item.message, item.metric, item.reason, item.device) for item in decoded.refusals] == [
        (3, "", Reason.MALFORMED, "stranger"),
        (1, "temperature", Reason.UNKNOWN_DEVICE, "stranger"),
        (1, "humidity", Reason.UNKNOWN_DEVICE, "stranger"),
        (2, "", Reason.UNKNOWN_DEVICE, "stranger"),
    ]


def test_strangers_are_refused_and_only_counted():
    by = gate({"device": "known"}, unknown="refuse")
    decoded = admitted(by, ("known", reading()), ("stranger", reading()), ("other", reading()), ("stranger", b"{"))
    assert (decoded.packets.devices, decoded.refusals) == (["known"], [])
    assert [(item.reason, item.device, item.number) for item in decoded.shed] == [
        (Reason.UNKNOWN_DEVICE, "stranger", 3),
        (Reason.UNKNOWN_DEVICE, "other", 2),
    ]


def test_a_topic_that_brings_too_much_is_shut_until_the_minute_ends():
    by = gate(max_messages_per_minute=3)
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS
    first = admitted(by, *[("loud", reading())] * 2, ("quiet", reading()), now_ms=minute_ms)
    assert len(first.packets.devices) == 3
    second = admitted(by, *[("loud", reading())] * 5, ("loud", b"{"), ("quiet", reading()), now_ms=minute_ms + 30_000)
    assert second.packets.devices == ["loud", "quiet"]
    assert [(item.reason, item.device, item.number) for item in second.shed] == [(Reason.FLOOD, "loud", 9)]
    third = admitted(by, *[("loud", reading())] * 3, now_ms=minute_ms + MINUTE_MS)
    assert len(third.packets.devices) == 3


def test_what_a_device_may_send_is_its_own():
    by = gate({"device": "small", "limits": {"messages_per_minute": 1, "payload_bytes": 20}}, {"device": "wide"})
    decoded = admitted(by, ("small", reading()), ("small", b'{"values":{"spo2":1}}'), ("small", b'{"values":{}}'), ("wide", reading()))
    assert decoded.packets.devices == ["wide"]
    assert [(item.message, item.reason) for item in decoded.refusals] == [(0, Reason.TOO_LARGE)]
    assert [(item.reason, item.number) for item in decoded.shed] == [(Reason.FLOOD, 2)]


def test_whoever_invents_names_costs_no_memory():
    by = gate(max_messages_per_minute=3)
    for start in range(0, 3 * MAX_TOPICS, 50_000):
        invented = [b"x/%d" % number for number in range(start, start + 50_000)] + [b"loud"]
        row = decode_messages(encode_messages(invented, [b""] * len(invented), bytes(len(invented))))
        by.admit(row, Decoded(no_packets(), [], [], 0), NOW_MS)
    assert len(by.dump()[1]) <= MAX_TOPICS + 50_001
    assert by.dump()[1][b"loud"] == 3 * MAX_TOPICS // 50_000, "what comes again is still counted"


MESSAGES = st.tuples(st.sampled_from(["a", "b", "c", "c/status"]), st.sampled_from([reading(), b"{", b"online"]))


@pytest.mark.parametrize("policy", ["accept", "quarantine", "refuse"])
@given(rows=st.lists(st.lists(MESSAGES, max_size=8), max_size=6))
def test_nothing_disappears_and_the_state_outlives_the_process(policy, rows):
    """Law 7: readings in are readings, refusals and numbers out; and a gate restored between rows decides what one does that was not."""
    unbroken = gate({"device": "a"}, {"device": "b"}, unknown=policy, max_messages_per_minute=4)
    for row in rows:
        restored = gate({"device": "a"}, {"device": "b"}, unknown=policy, max_messages_per_minute=4)
        restored.restore(unbroken.dump())
        decoded = admitted(unbroken, *row)
        assert admitted(restored, *row) == decoded
        whole, left = admitted(gate(), *row), sum(item.number for item in decoded.shed)
        assert len(whole.packets.values) + len(whole.refusals) + len(whole.statuses) == (
            len(decoded.packets.values) + len(decoded.refusals) + len(decoded.statuses) + left
        )
