"""Edge nodes in the flow: their sessions are in its state, so that a crash, an upgrade and a replay read the same from the same bytes."""

import os
import pickle
import random
from pathlib import Path

import pytest

from decoders.decode import RowDecoder
from flows.published import heard
from flows.route import RouteLogic, Routes
from flows.service import telemetry_path
from journal.messages import encode_messages
from journal.rows import Entry, Row, RowKind
from journal.writer import JournalWriter
from rules.control import DEFAULT_SETTINGS, listening_record, registry_record, rules_record, settings_record
from rules.document import compile_rules
from telemetry import alert
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason
from telemetry.routing import partition_of
from tests.edge_nodes import EdgeNode, Value
from tests.flows.crashes import Fuse, run_until_crash
from tests.flows.journals import GOLDEN, START_MS, copy_of_the_journal, lanes, run_to_end

RULES = """rules:
  - {id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, clear: {when: temperature < 7.5}, severity: critical}
  - {id: gone, applies_to: {kind: shipment}, when: 'absent(device, 4 h)', severity: warning}
"""
PARTITIONS, ROWS = 2, 9
STATE = GOLDEN / "route-edge-nodes-v1.pickle"


def row(*messages: tuple[bytes, bytes]) -> Row:
    body = encode_messages([topic for topic, _ in messages], [payload for _, payload in messages], bytes(len(messages)))
    return Row(0, 10, len(messages), RowKind.MESSAGES, START_MS, body, -1, 0)


def control(body: bytes) -> Row:
    return Row(0, 0, 1, RowKind.CONTROL, START_MS, body, -1, 0)


def routed(logic: RouteLogic, *rows: Row):
    [*_, (_, part)] = logic.on_batch(list(rows))[0]
    assert part.decoded is not None
    return part.decoded


def listening(kind: str = "shipment") -> Row:
    return control(listening_record(sparkplug=kind))


def restarted(logic: RouteLogic) -> RouteLogic:
    return Routes(1).build(pickle.loads(pickle.dumps(logic.snapshot())))


def test_the_sessions_outlive_the_process():
    """Aliases are given once: a flow that forgot them could read nothing until the node is born again."""
    node, logic = EdgeNode(), Routes(1).build(None)
    routed(logic, listening("patient"), row(node.nbirth(), node.dbirth("a", [Value("Heart Rate", 60, "Int16", alias=7)])))
    decoded = routed(restarted(logic), row(node.data("a", Value("", 61, "Int16", alias=7))))
    assert (decoded.packets.devices, decoded.packets.kinds, decoded.packets.metrics) == (["plant:line-1:a"], ["patient"], [("heart_rate",)])
    assert list(decoded.packets.values) == [61.0]


def test_a_new_connection_ends_the_sessions():
    """What a node said while nobody listened is not known; the journal says where that was."""
    node, logic = EdgeNode(), Routes(1).build(None)
    routed(logic, listening(), row(node.nbirth([Value("temperature", 4.0, alias=7)])))
    decoded = routed(logic, control(listening_record()), row(node.data("", Value("", 5.0, alias=7))))
    assert list(decoded.packets.values) == [5.0], "the other connection is another matter"
    decoded = routed(logic, listening(), row(node.data("", Value("", 5.0, alias=7))))
    assert [refusal.reason for refusal in decoded.refusals] == [Reason.NO_SESSION]


def test_where_nobody_listens_to_sparkplug_its_topics_are_nobodys():
    """A journal from before, whose operator subscribed to everything, is read as it was."""
    logic = Routes(1).build(None)
    decoded = routed(logic, control(listening_record()), row(EdgeNode().nbirth()))
    assert [refusal.reason for refusal in decoded.refusals] == [Reason.UNMAPPED]
    assert restarted(logic).edge_nodes is None


def test_a_state_of_before_sparkplug_is_taken():
    logic = Routes(1).build({"registry": b""})
    assert [refusal.reason for refusal in routed(logic, row(EdgeNode().nbirth())).refusals] == [Reason.UNMAPPED]


def test_the_state_is_read_as_it_was_first_written():
    """An upgrade must not need every edge node to be born again."""
    node, logic = EdgeNode(), Routes(1).build(None)
    routed(logic, listening(), row(node.nbirth(), node.dbirth("a", [Value("temp", -4, "Int8", alias=7, unit="°C")])))
    if os.environ.get("VITALANE_UPDATE_GOLDEN") == "1" and not STATE.exists():
        STATE.write_bytes(pickle.dumps(logic.snapshot(), protocol=4))
    restored = Routes(1).build(pickle.loads(STATE.read_bytes()))
    message = node.data("a", Value("", -5, "Int8", alias=7))
    assert list(routed(restored, row(message)).packets.values) == [-5.0]
    assert [status.device for status in routed(restored, row(node.ndeath())).statuses] == ["plant:line-1", "plant:line-1:a"]


def write_world(data_dir: Path, seed: int) -> None:
    """Write a journal in which three edge nodes are born, measure, lose messages and die."""
    rng = random.Random(seed)
    nodes = [EdgeNode(node=f"line-{number}") for number in range(3)]
    with JournalWriter(telemetry_path(data_dir), "telemetry", PARTITIONS) as writer:
        bodies = [settings_record(DEFAULT_SETTINGS), registry_record([]), rules_record(compile_rules([("r", RULES)]), "test")]
        bodies.append(listening_record(sparkplug="shipment"))
        writer.append([Entry(at, RowKind.CONTROL, 1, body) for at in range(PARTITIONS) for body in bodies], START_MS)
        for number in range(ROWS):
            now_ms = START_MS + (number + 1) * 60_000
            groups: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
            for at, node in enumerate(nodes):
                if number in {0, 5}:
                    sent = [node.nbirth(), *(node.dbirth(name, [Value("temp", 5.0, alias=at, unit="Cel")]) for at, name in enumerate("ab"))]
                elif number == ROWS - 1 and at == 1:
                    sent = [node.ndeath()]
                else:
                    sent = [node.data(name, Value("", rng.choice([5.0, 9.0]), alias=at, time_ms=now_ms)) for at, name in enumerate("ab")]
                if number == 3 and at == 0:
                    del sent[0]
                groups[partition_of(f"plant:line-{at}", PARTITIONS)] += sent
            entries = [
                Entry(at, RowKind.MESSAGES, len(sent), encode_messages([t for t, _ in sent], [p for _, p in sent], bytes(len(sent))))
                for at, sent in enumerate(groups)
                if sent
            ]
            writer.append(entries, now_ms)
        for minute in range(1, 4):  # what comes from another partition is judged a tick later
            writer.append([Entry(at, RowKind.TICK, 1, b"") for at in range(PARTITIONS)], now_ms + minute * 60_000)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("straight")
    write_world(data_dir, seed=3)
    run_to_end(data_dir, PARTITIONS)
    return data_dir


def told(data_dir: Path) -> set[tuple[str, str, str]]:
    events = [alert.from_json(body) for lane in lanes(data_dir, PARTITIONS)[::2] for *_, body in lane]
    return {(event.rule, event.subject, str(event.phase)) for event in events}


def test_the_death_of_a_node_makes_its_devices_absent_at_once(straight):
    assert {(rule, subject) for rule, subject, _ in told(straight) if rule == "gone"} == {
        ("gone", "plant:line-1"), ("gone", "plant:line-1:a"), ("gone", "plant:line-1:b")
    }  # fmt: skip
    assert any(rule == "warm" for rule, _, _ in told(straight))


def test_what_edge_nodes_devices_publish_is_known_to_who_asks_the_journal(straight):
    """`vitalane devices` and the advice on rules read the journal as the flow does."""
    known = heard(telemetry_path(straight), PARTITIONS, RowDecoder(CATALOGUE))
    assert known["plant:line-1:a"].metrics["temperature"] > 1
    assert "plant:line-1" in known


@pytest.mark.parametrize("position", range(2, 2 * (7 + ROWS), 5))
def test_a_crash_changes_no_decision(straight, tmp_path, position):
    copy_of_the_journal(straight, tmp_path)
    assert run_until_crash(tmp_path, PARTITIONS, 0, Fuse("before read", position))
    run_to_end(tmp_path, PARTITIONS)
    assert told(tmp_path) == told(straight)
    readings = [[row for row in lane if row[0] == RowKind.READINGS] for lane in lanes(tmp_path, PARTITIONS)[1::2]]
    assert readings == [[row for row in lane if row[0] == RowKind.READINGS] for lane in lanes(straight, PARTITIONS)[1::2]]
