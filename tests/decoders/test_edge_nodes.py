"""The sessions of edge nodes: nothing is read but what a BIRTH explains, and nothing is believed that something lost may have changed."""

import json
import pickle
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.decode import FLAG_TOO_LARGE, RowDecoder
from decoders.edge_nodes import EdgeNodes
from decoders.sparkplug import parse_topic, payload_of
from journal.messages import FLAG_RETAIN, decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Decoded
from telemetry.reasons import Reason
from tests.edge_nodes import EdgeNode, Value

NOW_MS = 1_763_000_000_000
TEMPERATURE = Value("Sensors/Temperature", 4.5, alias=1, unit="°C")
HUMIDITY = Value("hum", 40, "UInt8", alias=2)


class Told(NamedTuple):
    readings: list[tuple[str, str, float, int]]  # device, metric, value, time
    statuses: list[tuple[str, bool]]
    refusals: list[tuple[Reason, str]]


def told(decoded: Decoded) -> Told:
    values = list(decoded.packets.values)
    readings = []
    for device, names, time_ms in zip(decoded.packets.devices, decoded.packets.metrics, decoded.packets.times_ms, strict=True):
        readings += [(device, name, values.pop(0), time_ms) for name in names]
    return Told(readings, [(status.device, status.online) for status in decoded.statuses], [(r.reason, r.metric) for r in decoded.refusals])


def decoded(nodes: EdgeNodes | None, *messages: tuple[bytes, bytes], flags: int = 0) -> Decoded:
    topics, payloads = [topic for topic, _ in messages], [payload for _, payload in messages]
    encoded = encode_messages(topics, payloads, bytes([flags] * len(messages)))
    return RowDecoder(CATALOGUE).decode(decode_messages(encoded), NOW_MS, sessions=nodes)


def heard(nodes: EdgeNodes, *messages: tuple[bytes, bytes]) -> Told:
    return told(decoded(nodes, *messages))


def asked(nodes: EdgeNodes, message: tuple[bytes, bytes]) -> bool:
    """Return whether a message makes a rebirth necessary."""
    topic = parse_topic(message[0])
    assert topic is not None
    return bool(nodes.take(topic, payload_of(message[1])).rebirth)


@pytest.fixture
def nodes() -> EdgeNodes:
    return EdgeNodes("shipment")


@pytest.fixture
def node() -> EdgeNode:
    return EdgeNode()


def assert_counted(nodes: EdgeNodes) -> None:
    """The bounds hold only as long as the counts are right."""
    assert nodes.held == sum(node.held() for node in nodes.nodes.values())
    assert nodes.born == sum(nodes.expected(name) is not None for name in nodes.nodes)


def born(nodes: EdgeNodes, node: EdgeNode, *devices: str) -> None:
    """Have a node and its devices born, each with the same metrics; aliases of the n-th device are from 10 * n on."""
    heard(nodes, node.nbirth())
    for number, device in enumerate(devices):
        heard(nodes, node.dbirth(device, [value._replace(alias=(value.alias or 0) + 10 * number) for value in (TEMPERATURE, HUMIDITY)]))


def test_a_birth_brings_the_node_online_and_its_values(nodes, node):
    assert heard(nodes, node.nbirth([TEMPERATURE, HUMIDITY], time_ms=NOW_MS)) == Told(
        [("plant:line-1", "temperature", 4.5, NOW_MS), ("plant:line-1", "humidity", 40.0, NOW_MS)], [("plant:line-1", True)], []
    )


def test_data_by_alias_mean_what_the_birth_says(nodes, node):
    born(nodes, node, "a", "b")
    assert heard(
        nodes, node.data("b", Value("", 5.5, alias=11, time_ms=NOW_MS - 9), Value("", 41, "UInt8", alias=12, time_ms=NOW_MS))
    ) == Told([("plant:line-1:b", "temperature", 5.5, NOW_MS - 9), ("plant:line-1:b", "humidity", 41.0, NOW_MS)], [], [])


def test_a_value_is_converted_from_the_unit_of_the_birth(nodes, node):
    heard(nodes, node.nbirth([Value("temperature", 50.0, alias=1, unit="°F")]))
    [(_, _, value, time_ms)] = heard(nodes, node.data("", Value("", 41.0, alias=1))).readings
    assert value == pytest.approx(5.0)
    assert time_ms == NO_TIME, "nothing says when it was measured: when it is received"


@pytest.mark.parametrize("type_", ["Int8", "Int16", "Int32", "Int64"])
def test_negative_whole_numbers_are_negative(nodes, node, type_):
    heard(nodes, node.nbirth([Value("temperature", -20, type_, alias=1)]))
    assert [value for _, _, value, _ in heard(nodes, node.data("", Value("", -21, type_, alias=1))).readings] == [-21.0]


def test_no_value_is_no_reading_and_a_historical_one_is_a_late_one(nodes, node):
    born(nodes, node, "a")
    said = heard(
        nodes, node.data("a", Value("", None, alias=1), Value("", 50, "UInt8", alias=2, time_ms=NOW_MS - 3_600_000, historical=True))
    )
    assert said == Told([("plant:line-1:a", "humidity", 50.0, NOW_MS - 3_600_000)], [], [])


@pytest.mark.parametrize(("quality", "taken"), [(0, 0), (500, 0), (192, 1), (None, 1)])
def test_a_value_that_the_device_itself_calls_bad_is_refused(nodes, node, quality, taken):
    born(nodes, node, "a")
    said = heard(nodes, node.data("a", Value("", 5.0, alias=1, quality=quality)))
    assert len(said.readings) == taken
    assert said.refusals == [] if taken else [(Reason.BAD_QUALITY, "Sensors/Temperature")]


def test_what_is_no_metric_of_ours_is_refused_and_what_is_no_measurement_is_not(nodes, node):
    others = [Value("bdSeq", 1, "Int64"), Value("Properties/Serial", "x", "String"), Value("Device Control/Reboot", False, "Boolean")]
    said = heard(
        nodes, node.nbirth([Value("Sensors/Torque", 5.0), Value("Temperature", "warm", "String"), Value("door", True, "Boolean"), *others])
    )
    assert said.refusals == [(Reason.UNKNOWN_METRIC, "torque"), (Reason.WRONG_TYPE, "temperature")]
    assert [(metric, value) for _, metric, value, _ in said.readings] == [("door", 1.0)]


def test_data_before_a_birth_are_refused_and_a_rebirth_is_asked_for(nodes, node):
    for message in (node.data("", TEMPERATURE), node.data("a", TEMPERATURE), node.dbirth("a", [TEMPERATURE])):
        assert heard(nodes, message) == Told([], [], [(Reason.NO_SESSION, "")])
        assert asked(nodes, message)


def test_a_device_is_born_by_itself(nodes, node):
    born(nodes, node, "a")
    message = node.data("b", HUMIDITY)
    assert heard(nodes, message).refusals == [(Reason.NO_SESSION, "")]
    assert heard(nodes, node.data("a", Value("", 5.0, alias=1))).refusals == [], "the other's data broke no sequence"


def test_an_unknown_alias_is_refused_and_the_rest_is_taken(nodes, node):
    born(nodes, node, "a", "b")
    message = node.data("a", Value("", 5.0, alias=1), Value("", 5.0, alias=77), Value("", 5.0, alias=11))
    said = heard(nodes, message)
    assert [value for _, _, value, _ in said.readings] == [5.0]
    assert said.refusals == [(Reason.NO_SESSION, "alias 77"), (Reason.NO_SESSION, "alias 11")], "11 is of another device"


def test_an_alias_that_is_given_twice_stands_for_nothing(nodes, node):
    heard(nodes, node.nbirth([Value("temperature", 1.0, alias=1), Value("humidity", 1.0, alias=1)]))
    assert heard(nodes, node.data("", Value("", 5.0, alias=1))).refusals == [(Reason.NO_SESSION, "alias 1")]


def test_the_sequence_goes_round(nodes):
    node = EdgeNode(seq=250)
    born(nodes, node, "a")
    for _ in range(600):
        assert not asked(nodes, node.data("a", Value("", 5.0, alias=1)))


def test_a_gap_voids_the_aliases_until_a_birth_and_names_stay(nodes, node):
    """What was lost may have been a BIRTH that gave the alias to another metric."""
    born(nodes, node, "a")
    node.data("a", Value("", 5.0, alias=1))
    assert asked(nodes, node.data("a"))
    said = heard(nodes, node.data("a", Value("", 6.0, alias=1), Value("Sensors/Temperature", 7.0)))
    assert [value for _, _, value, _ in said.readings] == [7.0]
    assert said.refusals == [(Reason.NO_SESSION, "alias 1")]
    heard(nodes, node.dbirth("a", [TEMPERATURE]))
    assert [value for _, _, value, _ in heard(nodes, node.data("a", Value("", 8.0, alias=1))).readings] == [8.0]


def test_a_message_that_cannot_be_read_is_a_gap(nodes, node):
    born(nodes, node, "a")
    topic, _ = node.data("a")
    assert heard(nodes, (topic, b"\xff")).refusals == [(Reason.MALFORMED, "")]
    assert heard(nodes, node.data("a", Value("", 5.0, alias=1))).refusals == [(Reason.NO_SESSION, "alias 1")]


def test_a_birth_that_cannot_be_read_ends_the_session(nodes, node):
    born(nodes, node, "a")
    too_large = decoded(nodes, node.nbirth(), flags=FLAG_TOO_LARGE)
    assert [refusal.reason for refusal in too_large.refusals] == [Reason.TOO_LARGE]
    assert heard(nodes, node.data("a", Value("Sensors/Temperature", 5.0))).refusals == [(Reason.NO_SESSION, "")]


def test_death_takes_the_node_and_all_its_devices_offline(nodes, node):
    born(nodes, node, "a", "b")
    heard(nodes, node.ddeath("a"))
    assert heard(nodes, node.ndeath()).statuses == [("plant:line-1", False), ("plant:line-1:b", False)]
    assert heard(nodes, node.data("b", HUMIDITY)).refusals == [(Reason.NO_SESSION, "")]


def test_a_device_dies_alone(nodes, node):
    born(nodes, node, "a", "b")
    assert heard(nodes, node.ddeath("a")).statuses == [("plant:line-1:a", False)]
    assert heard(nodes, node.data("a", Value("", 5.0, alias=1))).refusals == [(Reason.NO_SESSION, "")]
    assert heard(nodes, node.data("b", Value("", 5.0, alias=11))).refusals == []


def test_the_death_of_a_former_session_is_none(nodes, node):
    """The will of a connection that was lost comes when the broker notices, which may be after the node is back."""
    born(nodes, node, "a")
    again = node.reconnected()
    born(nodes, again, "a")
    assert heard(nodes, node.ndeath()) == Told([], [], [(Reason.NO_SESSION, "")])
    assert heard(nodes, again.data("a", Value("", 5.0, alias=1))).refusals == []
    assert heard(nodes, again.ndeath()).statuses == [("plant:line-1", False), ("plant:line-1:a", False)]


def test_bd_seq_goes_round(nodes):
    node = EdgeNode(bd_seq=255)
    born(nodes, node)
    again = node.reconnected()
    assert again.bd_seq == 0
    born(nodes, again)
    assert heard(nodes, node.ndeath()).statuses == []
    assert heard(nodes, again.ndeath()).statuses == [("plant:line-1", False)]


def test_after_a_new_connection_nothing_is_known_but_who_would_die(nodes, node):
    """A death that comes before any new BIRTH is believed: it is of the session that there is, whatever its number."""
    born(nodes, node, "a")
    nodes.forget()
    assert heard(nodes, node.data("a", Value("Sensors/Temperature", 5.0))).refusals == [(Reason.NO_SESSION, "")]
    assert heard(nodes, node.reconnected().ndeath()).statuses == [("plant:line-1", False), ("plant:line-1:a", False)]


def test_what_the_broker_kept_is_no_news(nodes, node):
    kept = decoded(nodes, node.nbirth([TEMPERATURE]), flags=FLAG_RETAIN)
    assert (kept.retained, told(kept)) == (1, Told([], [], []))
    assert nodes.born == 0


@pytest.mark.parametrize("topic", ["spBv1.0/STATE/vitalane", "spBv1.0/plant/NCMD/line-1", "spBv1.0/plant/NDATA/line 1"])
def test_what_no_edge_node_of_ours_says_is_unmapped(nodes, topic):
    assert heard(nodes, (topic.encode(), b"")).refusals == [(Reason.UNMAPPED, "")]


def test_without_sessions_sparkplug_is_nobodys(node):
    assert told(decoded(None, node.nbirth([TEMPERATURE]))).refusals == [(Reason.UNMAPPED, "")]


def test_nodes_and_metrics_are_bounded():
    """Whoever may publish could else fill the memory with names."""
    nodes = EdgeNodes("shipment", max_nodes=2, max_held=20)
    first, second, third = (EdgeNode(node=f"n{number}") for number in range(3))
    born(nodes, first)
    born(nodes, second)
    assert heard(nodes, third.nbirth()).refusals == [(Reason.TOO_MANY_SERIES, "")]
    heard(nodes, first.ndeath())
    assert heard(nodes, third.nbirth()).statuses == [("plant:n2", True)]
    many = [Value(f"m{number}", 1.0) for number in range(20)]
    assert heard(nodes, third.dbirth("a", many)).refusals == [(Reason.TOO_MANY_SERIES, "")]
    for _ in range(50):
        heard(nodes, third.dbirth("a", many[:9]), third.ddeath("a"))
    assert_counted(nodes)


class LossyNode:
    """An edge node with two devices that gives other aliases at every birth, over a line that loses what is of QoS 0."""

    def __init__(self, rng: random.Random, loss: float, name: str) -> None:
        self.rng, self.loss = rng, loss
        self.node = EdgeNode(node=name)
        self.owners: dict[str, dict[str, int]] = {}  # device -> metric -> alias
        self.sent: set[tuple[str, str, float]] = set()

    def step(self) -> list[tuple[bytes, bytes]]:
        """Do something; return what arrives of it."""
        action = self.rng.choice(["birth", "reborn", "dbirth", "ddeath", *["data"] * 6])
        device = self.rng.choice(["", "a", "b"])
        arrives = []
        if action == "reborn":
            arrives.append(self.node.ndeath())
            self.node = self.node.reconnected()
        if action in {"birth", "reborn"} or not self.owners:
            self.owners = {}
            message = self.node.nbirth(self._born(""))
        elif action == "dbirth" and device:
            message = self.node.dbirth(device, self._born(device))
        elif action == "ddeath" and device and self.owners.pop(device, {}):
            message = self.node.ddeath(device)
        elif device in self.owners:
            message = self.node.data(device, *self._values(device))
        else:
            return arrives
        return arrives if self.rng.random() < self.loss else [*arrives, message]

    def _born(self, device: str) -> list[Value]:
        taken = {alias for owner, aliases in self.owners.items() if owner != device for alias in aliases.values()}
        free = sorted(set(range(7)) - taken)
        self.owners[device] = dict(zip(("temperature", "humidity"), self.rng.sample(free, 2), strict=True))
        return self._values(device)

    def _values(self, device: str) -> list[Value]:
        aliases = self.owners[device].items()
        values = [Value(name, self.rng.randint(1, 80) + (name == "humidity") / 2, alias=alias) for name, alias in aliases]
        name = f"plant:{self.node.node}{f':{device}' if device else ''}"
        self.sent |= {(name, value.name, value.value) for value in values}
        return values


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
def test_whatever_is_read_was_sent_as_that_metric_and_value(seed, loss):
    """A will is not lost (QoS 1), and neither are 256 messages in a row, which no counter of a byte could tell."""
    rng, nodes = random.Random(seed), EdgeNodes("shipment")
    sending = [LossyNode(rng, loss, name) for name in ("n", "m")]
    read = 0
    for _ in range(150):
        sender = rng.choice(sending)
        said = heard(nodes, *sender.step())
        assert {reading[:3] for reading in said.readings} <= sender.sent, (seed, loss)
        assert not (said.refusals and loss == 0), (seed, said.refusals)
        read += len(said.readings)
        assert_counted(nodes)
        if rng.random() < 0.05:
            nodes = EdgeNodes.restore(pickle.loads(pickle.dumps(nodes.snapshot())))
    assert read, seed


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH/x", "DDEATH/x", "DDATA/x"]), st.binary(max_size=60)), max_size=8
    )
)
def test_no_bytes_raise(sent):
    nodes = EdgeNodes("shipment")
    born(nodes, EdgeNode(group="g", node="n"), "x")
    pairs = []
    for what, body in sent:
        kind, _, device = what.partition("/")
        pairs.append((f"spBv1.0/g/{kind}/n{'/' if device else ''}{device}".encode(), body))
    heard(nodes, *pairs)
    assert_counted(nodes)


def test_the_state_is_plain_and_goes_on_where_it_was(nodes, node):
    born(nodes, node, "a")
    again = EdgeNodes.restore(pickle.loads(pickle.dumps(nodes.snapshot())))
    assert json.dumps(again.snapshot(), default=repr) == json.dumps(nodes.snapshot(), default=repr)
    message = node.data("a", Value("", 5.0, alias=1))
    assert heard(again, message) == heard(nodes, message)
    assert_counted(again)


def test_a_refusal_names_the_device(nodes, node):
    [refusal] = decoded(nodes, node.data("a")).refusals
    assert (refusal.kind, refusal.device) == ("shipment", "plant:line-1:a")
    assert "plant:line-1 has published no NBIRTH" in refusal.detail
