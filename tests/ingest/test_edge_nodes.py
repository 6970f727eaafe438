"""Whom ingest asks for a rebirth, and in which order it journals what edge nodes say. Time is an argument here."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.sparkplug import payload_of
from ingest.edge_nodes import GIVE_UP_AFTER, MAX_WAITING, Message, Watch
from ingest.settings import SparkplugSettings
from journal.messages import FLAG_RETAIN
from tests.edge_nodes import EdgeNode, Value

REORDER_S, EVERY_S = 1.0, 5.0
NODE = ("plant", "line-1")


@pytest.fixture
def watch() -> Watch:
    return Watch(SparkplugSettings(reorder_s=REORDER_S, ask_every_s=EVERY_S, ask_at_least_every_s=20.0))


@pytest.fixture
def node() -> EdgeNode:
    return EdgeNode()


def heard(watch: Watch, now: float, *messages: tuple[bytes, bytes], flags: int = 0) -> list[tuple[bytes, bytes]]:
    """Return what is journalled after these messages came."""
    for message in messages:
        watch.add(Message(*message, flags), now)
    return [(topic, payload) for topic, payload, _ in watch.take(now)]


def born(watch: Watch, node: EdgeNode) -> None:
    heard(watch, 0.0, node.nbirth([Value("temperature", 1.0, alias=1)]))


def data(node: EdgeNode, value: float = 1.0) -> tuple[bytes, bytes]:
    return node.data("", Value("", value, alias=1))


def test_what_comes_in_its_turn_is_passed_on_at_once(watch, node):
    messages = [node.nbirth([Value("temperature", 1.0, alias=1)]), data(node), data(node), node.ndeath()]
    assert heard(watch, 0.0, *messages) == messages
    assert watch.to_ask(100.0) == []


def test_what_comes_before_its_turn_waits_for_it(watch, node):
    born(watch, node)
    first, second, third = data(node), data(node), data(node)
    assert heard(watch, 0.0, third) == []
    assert heard(watch, 0.5, second) == []
    assert heard(watch, 0.9, first) == [first, second, third]
    assert watch.to_ask(100.0) == []


def test_what_does_not_come_is_asked_for(watch, node):
    born(watch, node)
    data(node)
    late = data(node)
    assert heard(watch, 0.0, late) == []
    assert watch.to_ask(REORDER_S - 0.1) == []
    assert heard(watch, REORDER_S) == [late]
    assert watch.to_ask(REORDER_S) == [NODE]


def test_a_node_is_asked_seldom_and_not_for_ever(watch, node):
    """A node that does not answer, or was scripted by somebody who wants to hurt another, costs a message now and then."""
    heard(watch, 0.0, data(node))
    asked = [second for second in range(1000) if watch.to_ask(float(second))]
    assert asked[:5] == [0, 5, 15, 35, 55]
    assert len(asked) == GIVE_UP_AFTER
    heard(watch, 1000.0, data(node))
    assert watch.to_ask(1000.0) == [NODE]


def test_a_birth_is_the_answer(watch, node):
    heard(watch, 0.0, data(node))
    assert watch.to_ask(0.0) == [NODE]
    heard(watch, 0.1, node.nbirth([Value("temperature", 1.0, alias=1)]))
    assert watch.to_ask(100.0) == []


def test_the_dead_are_not_asked_but_who_had_another_session_is(watch, node):
    heard(watch, 0.0, data(node), node.ndeath())
    assert watch.to_ask(100.0) == []
    again = node.reconnected()
    born(watch, again)
    data(again)
    heard(watch, 200.0, data(again))
    heard(watch, 200.0 + REORDER_S, node.ndeath())
    assert watch.to_ask(200.0 + REORDER_S) == [NODE]


def test_after_a_new_connection_who_is_not_born_by_itself_is_asked(watch, node):
    other = EdgeNode(node="line-2")
    born(watch, node)
    born(watch, other)
    watch.begin(10.0)
    assert watch.to_ask(10.0 + REORDER_S - 0.1) == []
    heard(watch, 10.0, other.nbirth())
    assert watch.to_ask(10.0 + REORDER_S) == [NODE]


def test_many_are_asked_one_after_the_other(watch):
    """A thousand births at once would be the flood that the queue is bounded against."""
    for number in range(120):
        born(watch, EdgeNode(node=f"n{number}"))
    watch.begin(10.0)
    asked = [watch.to_ask(20.0 + turn) for turn in range(4)]
    assert [len(nodes) for nodes in asked] == [50, 50, 20, 0]
    assert len({node for nodes in asked for node in nodes}) == 120


def test_what_waits_is_bounded_over_all_nodes(watch):
    """Each may have a hundred messages ahead of a turn that never comes; what comes beyond all of them is not lost."""
    for number in range(30):
        born(watch, node := EdgeNode(node=f"n{number}"))
        data(node)
        passed_on = heard(watch, 0.0, *(data(node) for _ in range(100)))
        assert bool(passed_on) == (number >= MAX_WAITING // 100), number
    assert len(heard(watch, 0.0)) + len(watch.end(0.0)) == MAX_WAITING


def test_what_waits_belongs_to_the_connection_that_brought_it(watch, node):
    born(watch, node)
    data(node)
    message = data(node)
    heard(watch, 0.0, message)
    assert [(topic, payload) for topic, payload, _ in watch.end(0.0)] == [message]


def test_a_birth_and_a_death_do_not_wait(watch, node):
    born(watch, node)
    data(node)
    late, birth = data(node), node.nbirth()
    heard(watch, 0.0, late)
    assert heard(watch, 0.1, birth) == [late, birth]
    data(node)
    late, death = data(node), node.ndeath()
    assert heard(watch, 0.2, late, death) == [late, death]


def test_what_is_not_understood_is_passed_on_as_it_is(watch, node):
    born(watch, node)
    odd = [(node.topic("NDATA"), b"\xff"), (b"spBv1.0/plant/NDATA/a b", b""), (b"spBv1.0/STATE/x", b"")]
    assert heard(watch, 0.0, *odd) == odd
    kept = data(node)
    assert heard(watch, 0.0, kept, flags=FLAG_RETAIN) == [kept]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.integers(0, 6))
def test_nothing_is_lost_or_doubled_and_what_is_only_out_of_order_is_put_in_order(seed, loss, spread):
    """Each message is as late as `spread` others at most; with nothing lost, the order of sending comes out and nobody is asked."""
    rng, node = random.Random(seed), EdgeNode(seq=seed % 256)
    watch = Watch(SparkplugSettings(reorder_s=REORDER_S, ask_every_s=EVERY_S))
    birth = node.nbirth([Value("temperature", 1.0, alias=1)])
    out = heard(watch, 0.0, birth)
    sent = [data(node, float(number)) for number in range(300)]
    came = [(at + rng.uniform(0, spread), message) for at, message in enumerate(sent) if rng.random() >= loss]
    for at, message in sorted(came, key=lambda item: item[0]):
        out += heard(watch, at * 0.01, message)
    out += heard(watch, 1000.0)
    assert sorted(out) == sorted([birth, *(message for _, message in came)]), seed
    lost = [number for number, message in enumerate(sent) if message not in [item for _, item in came]]
    if not lost:
        assert out == [birth, *sent], seed
    noticed = bool(lost) and any(message in sent[lost[0] + 1 :] for _, message in came)
    assert bool(watch.to_ask(2000.0)) == noticed, seed


def test_the_scripted_node_counts_as_the_specification_says(node):
    """The test's own tool: without this, a gap could be the script's."""
    seqs = [payload_of(payload).seq for _, payload in (node.nbirth(), *(data(node) for _ in range(300)))]
    assert seqs == [number % 256 for number in range(301)]
