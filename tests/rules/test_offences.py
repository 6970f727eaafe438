"""Devices that misbehave: one technical alert each, for as long as they do, and no flood of alerts from whoever invents names."""

import pytest

from rules.offences import BURST, MAX_STRANGERS, OVER_AFTER_MS
from telemetry.readings import Change, Decoded, Refusal, Shed, no_packets
from telemetry.reasons import Reason
from tests.rules.stream import Shard

RULES = "rules: [{id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, severity: warning}]"
KNOWN = [{"device": "d1", "subject": "crate-1", "kind": "shipment", "tags": {"product": "vaccine"}}]


def refusals(reason: Reason, *, device: str = "d1", metric: str = "", number: int = 1) -> Decoded:
    return Decoded(no_packets(), [Refusal(at, reason, "detail", metric, "shipment", device) for at in range(number)], [], 0)


def shard() -> Shard:
    return Shard(RULES, devices=KNOWN)


def told(by: Shard) -> list[tuple[str, str, str]]:
    return [alert[:3] for alert in by.alerts()]


@pytest.mark.parametrize(
    ("reason", "metric", "rule"),
    [
        (Reason.DEVICE_MISMATCH, "", "device-mismatch"),
        (Reason.UNKNOWN_FIELD, "firmware", "device-schema"),
        (Reason.UNKNOWN_METRIC, "temprature", "device-schema"),
        (Reason.UNIT_MISMATCH, "temperature", "device-schema"),
        (Reason.WRONG_TYPE, "temperature", "device-schema"),
        (Reason.UNKNOWN_DEVICE, "temperature", "unknown-device"),
    ],
)
def test_it_is_told_once_and_ends_when_it_was_not_repeated(reason, metric, rule):
    one = shard()
    for minute in range(30):
        one.decoded(60 * minute, 3, refusals(reason, metric=metric, number=3))
    assert told(one) == [("raised", rule, "crate-1")]
    one.restart()
    one.tick(60 * 29 + OVER_AFTER_MS / 1000 - 1)
    assert len(told(one)) == 1
    one.tick(60 * 29 + OVER_AFTER_MS / 1000)
    assert told(one)[1:] == [("resolved", rule, "crate-1")]
    assert one.books().balances()


def test_a_change_of_form_says_what_has_changed():
    one = shard()
    detail = "m: `t{x}` is new"
    one.decoded(1, 1, Decoded(no_packets(), [], [], 0, changes=[Change(0, "shipment", "d1", detail)]))
    [event] = one.outcomes[-1].alerts
    assert (event.rule, event.tags, event.message.endswith("m: `t{{x}}` is new")) == ("device-schema", {"product": "vaccine"}, True)


@pytest.mark.parametrize("reason", [Reason.MALFORMED, Reason.WRONG_TYPE, Reason.TOO_LARGE, Reason.UNSUPPORTED_VERSION])
def test_a_burst_of_messages_that_cannot_be_read_is_an_offence_and_a_few_are_not(reason):
    one = shard()
    for minute in range(30):
        one.decoded(60 * minute, 4, refusals(reason, number=BURST - 1))
        one.restart()
    assert told(one) == []
    one.decoded(2000, 3, refusals(reason, number=BURST - 2))
    one.restart()
    one.decoded(2001, 2, refusals(reason, number=2))
    assert told(one) == [("raised", "device-malformed", "crate-1")]


def test_what_was_shed_is_counted_and_told():
    one = shard()
    one.decoded(1, 5, Decoded(no_packets(), [], [], 0, shed=[Shed(2, Reason.FLOOD, "shipment", "d1", 7)]))
    one.tick(2)
    assert told(one) == [("raised", "device-flood", "crate-1")]
    assert (one.books().received, one.books().quarantined, one.books().balances()) == (7, {"flood": 7}, True)


def test_whoever_invents_names_does_not_raise_an_alert_for_each():
    one = shard()
    for number in range(500):
        one.decoded(number / 10, 1, refusals(Reason.DEVICE_MISMATCH, device=f"invented-{number}"))
    one.decoded(60, 1, refusals(Reason.DEVICE_MISMATCH))
    assert len(told(one)) == MAX_STRANGERS + 1
    assert told(one)[-1] == ("raised", "device-mismatch", "crate-1"), "those that are registered are always heard of"


def test_a_message_of_nobody_is_nobodys_offence():
    one = shard()
    one.decoded(1, 50, refusals(Reason.UNMAPPED, device="", number=50))
    assert told(one) == []
