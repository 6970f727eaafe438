"""Routing: everything of one subject in one partition, today and in the next release."""

from zlib import crc32

from decoders.topics import REMEMBERED_TOPICS
from ingest.routing import OWN, Router, partition_of, subjects_of


def topic(device: str, form: str = "readings") -> bytes:
    return f"vitalane/v1/patient/{device}/{form}".encode()


def test_all_forms_of_a_device_share_its_partition():
    router = Router(8, {})
    assert router[topic("d1")] == router[topic("d1", "status")] == router[topic("d1", "senml")] == partition_of("d1", 8)


def test_devices_of_one_subject_share_its_partition():
    """A patient's monitor and pump are evaluated together, so their messages must have one order."""
    registry = {"devices": [{"device": "m1", "subject": "bed-7"}, {"device": "p1", "subject": "bed-7"}, {"device": "x"}]}
    router = Router(1000, registry)
    assert router[topic("m1")] == router[topic("p1")] == partition_of("bed-7", 1000)
    assert router[topic("x")] == partition_of("x", 1000)


def test_of_several_assignments_of_a_device_the_latest_one_says_where_its_messages_go():
    """Live readings belong to it; the backlog of an earlier one finds its shard in the flow."""
    exchanged = [
        {"device": "logger", "subject": "pallet-9", "from_ms": 2_000, "until_ms": None},
        {"device": "logger", "subject": "pallet-8", "from_ms": None, "until_ms": 1_000},
        {"device": "logger", "subject": "pallet-7", "from_ms": 1_000, "until_ms": 2_000},
    ]
    assert subjects_of({"devices": exchanged}) == subjects_of({"devices": exchanged[::-1]}) == {"logger": "pallet-9"}


def test_messages_of_other_makes_go_where_their_device_belongs():
    """A sensor that speaks its maker's dialect is evaluated with everything else that is known of its subject."""
    mappings = [{"name": "z", "topic": "zigbee2mqtt/{device}"}, {"name": "g", "topic": "gw/+", "device": {"path": "id"}}]
    router = Router(1000, {"devices": [{"device": "probe", "subject": "crate-1"}], "mappings": mappings})
    assert router[b"zigbee2mqtt/probe"] == partition_of("crate-1", 1000)
    assert router[b"zigbee2mqtt/other"] == partition_of("other", 1000)
    assert router[b"gw/1"] == Router(1000)[b"gw/1"], "the message says whose it is, so the flow finds out"


def test_a_partition_is_for_ever():
    """A device that moved to another partition would leave its history behind."""
    assert [partition_of(name, 4) for name in ("truck-1", "truck-2", "bed-7", "é")] == [2, 0, 1, 2]


def test_partitions_are_filled_evenly():
    router = Router(4, {})
    counts = [0] * 4
    for number in range(4000):
        counts[router[topic(f"truck-{number:05d}")]] += 1
    assert min(counts) > 800


def test_our_own_alerts_go_nowhere():
    router = Router(4, {})
    assert router.route([b"vitalane/v1/alerts/patient/desaturation", topic("d1")])[0] == OWN


def test_a_topic_of_nobody_is_journalled_all_the_same():
    """It is quarantined downstream, with its bytes: what was acknowledged does not disappear."""
    router = Router(4, {})
    assert all(partition in range(4) for partition in router.route([b"", b"a/b", b"\xff", b"vitalane/v1/fridge/x/readings"]))
    assert len(set(router.route([b"junk/%d" % number for number in range(100)]))) == 4


def test_the_memory_of_topics_is_bounded():
    router = Router(4, {})
    router.update((b"%d" % number, 0) for number in range(REMEMBERED_TOPICS))
    assert router[b"one more"] in range(4)
    assert len(router) == 1


def test_all_that_an_edge_node_says_is_in_one_partition():
    """Its sequence numbers count over all its devices, and an alias of one is given in the certificate of another message."""
    router = Router(1000, {})
    topics = [f"spBv1.0/plant/{kind}/line-1{device}".encode() for kind, device in (("NBIRTH", ""), ("DDATA", "/a"), ("DDATA", "/b"))]
    assert {router[topic] for topic in topics} == {partition_of("plant:line-1", 1000)}
    assert router[b"spBv1.0/STATE/vitalane"] == crc32(b"spBv1.0/STATE/vitalane") % 1000, "what is no edge node's is where it was"
