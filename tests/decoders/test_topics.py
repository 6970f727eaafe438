"""Topics: what is ours, and that parse and format are inverses."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders import topics
from decoders.topics import FORMS, KINDS, Topic, alert_topic, format_topic, is_filter, parse, shared

devices = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", fullmatch=True)


@given(st.sampled_from(KINDS), devices, st.sampled_from(FORMS))
def test_parse_undoes_format(kind: str, device: str, form: str):
    topic = Topic(kind, device, form)
    assert parse(format_topic(topic).encode()) == topic


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_none_of_ours(raw: bytes):
    topic = parse(raw)
    assert topic is None or format_topic(topic).encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"vitalane/v1/shipment/a",
        b"vitalane/v1/shipment/a/readings/",
        b"vitalane/v1/shipment/a/readings\n",
        b"/vitalane/v1/shipment/a/readings",
        b"vitalane/v2/shipment/a/readings",
        b"vitalane/v1/fridge/a/readings",
        b"vitalane/v1/Shipment/a/readings",
        b"vitalane/v1/shipment/-a/readings",
        b"vitalane/v1/shipment/a b/readings",
        b"vitalane/v1/shipment/a+/readings",
        b"vitalane/v1/shipment//readings",
        b"vitalane/v1/shipment/\xc3\xa9/readings",
        b"vitalane/v1/shipment/\xff/readings",
        b"vitalane/v1/shipment/" + b"a" * 129 + b"/readings",
        b"vitalane/v1/alerts/shipment/too-warm",
    ],
)
def test_other_topics_are_not_ours(raw: bytes):
    assert parse(raw) is None


@pytest.mark.parametrize("device", ["", " ", "é", "a/b", "a" * 129, ".a", "a\x00", "\ud800"])
def test_a_device_outside_the_grammar_has_no_topic(device: str):
    """Else a simulator could publish what ingest then cannot read."""
    with pytest.raises(ValueError, match="is not vitalane/v1"):
        format_topic(Topic("shipment", device, "readings"))
    assert not topics.is_device(device)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/b", "a/b", True), ("a/+", "+/b", True), ("#", "a/b/c", True), ("a/#", "a", True), ("a/#", "+/b/+", True),
        ("a/b", "a/c", False), ("a/+", "a", False), ("a/+", "a/b/c", False), ("a/b/#", "a/c/#", False), ("+/+", "a/#", True),
    ],
)  # fmt: skip
def test_filters_overlap_where_a_topic_is_of_both(one: str, other: str, expected: bool):
    assert topics.overlap(one, other) is topics.overlap(other, one) is expected


def test_our_own_alerts_are_never_subscribed_to():
    """What we say must not come back as what a device said."""
    assert alert_topic("shipment", "too-warm").encode().startswith(topics.OWN_ALERTS)
    assert not any(topic_filter.split("/")[2] in {"+", "alerts"} for topic_filter in topics.FILTERS)
    with pytest.raises(ValueError, match="no alert topic"):
        alert_topic("shipment", "a/b")


def test_a_shared_subscription_names_its_group():
    assert shared("vitalane/v1/shipment/+/+", "ingest") == "$share/ingest/vitalane/v1/shipment/+/+"
    for group in ("", "a/b", "a+", "#"):
        with pytest.raises(ValueError, match="shared subscription"):
            shared("a", group)


def test_a_topic_filter():
    assert all(map(is_filter, [*topics.FILTERS, "#", "+", "+/#", "$share/g/a/+", "a//b", "é"]))
    assert not any(map(is_filter, ["", "#/a", "a#", "a/+b", "++", "##", "a\x00", "a" * 65_536]))


def test_the_cache_of_topics_is_bounded():
    """Topics come from outside: without a bound, a stream of new names would take all memory."""
    assert parse.cache_info().maxsize == topics.REMEMBERED_TOPICS
    assert set(string.ascii_lowercase) >= set("".join(KINDS))
