"""The host session on a real broker: what the specification asks of it, and that nothing goes missing unnoticed."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes, after
from ingest.settings import BrokerSettings, IngestSettings, SparkplugSettings, TlsSettings
from ingest.sparkplug import HostSession, Taken
from journal.messages import decode_messages
from journal.rows import RowKind
from rules.control import listening_record
from telemetry.metrics import CATALOGUE
from tests.edge_nodes import EdgeNode, LiveNode, Value
from tests.ingest.running import Journal, Running, broker_settings, publisher, until
from tests.servers import Broker

pytestmark = pytest.mark.servers

STATE = "spBv1.0/STATE/vitalane"


def sparkplug(**more: Any) -> SparkplugSettings:
    told: dict[str, Any] = {"listening": listening_record(sparkplug="shipment"), "reorder_s": 0.1, "ask_every_s": 0.2}
    return SparkplugSettings(**told | more)


def running(tmp_path: Path, broker: Broker, protocol: Any = "3.1.1", partitions: int = 2, **more: Any) -> Running:
    settings = IngestSettings(broker=broker_settings(broker, protocol=protocol), sparkplug=sparkplug(**more))
    return Running(tmp_path, settings, partitions=partitions)


def online(ingest: Running) -> Running:
    """Return ingest once it is connected, or end it."""
    try:
        until(lambda: (ingest.status.sparkplug and ingest.status.sparkplug.connected) or ingest.failure, "online")
    except AssertionError:
        ingest.stop()
        raise
    return ingest


def readings(journal: Journal) -> list[tuple[str, str, float]]:
    """Return what the flow would read of the journal, partition by partition: device, metric, value."""
    found: list[tuple[str, str, float]] = []
    nodes: dict[int, EdgeNodes | None] = {}
    for row in journal.rows(None):
        if row.kind == RowKind.CONTROL:
            nodes[row.partition] = after(nodes.get(row.partition), json.loads(row.body))
        if row.kind == RowKind.MESSAGES:
            packets = RowDecoder(CATALOGUE).decode(decode_messages(row.body), row.time_ms, sessions=nodes.get(row.partition)).packets
            values = list(packets.values)
            found += [
                (device, name, values.pop(0)) for device, names in zip(packets.devices, packets.metrics, strict=True) for name in names
            ]
    return found


def values(journal: Journal) -> list[float]:
    return [value for device, metric, value in readings(journal) if (device, metric) == ("plant:line-1:probe", "temperature")]


class Listener:
    """Somebody who follows what a host says of its state."""

    def __init__(self, broker: Broker) -> None:
        self.said: list[tuple[bool, int, bool]] = []  # online, timestamp, retained
        self._broker = broker

    @contextmanager
    def listening(self) -> Iterator["Listener"]:
        with publisher(self._broker) as client:
            client.on_message = self._hear
            client.subscribe(STATE, 1)
            yield self

    def _hear(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        self.said.append((said["online"], said["timestamp"], message.retain))

    def last(self) -> bool | None:
        return self.said[-1][0] if self.said else None


def test_edge_nodes_are_hosted_over_tls_too(tmp_path, mosquitto):
    settings = broker_settings(mosquitto, port=mosquitto.tls_port, tls=TlsSettings(ca=mosquitto.ca))
    ingest = Running(tmp_path, IngestSettings(broker=settings, sparkplug=sparkplug()))
    with online(ingest), LiveNode(mosquitto) as node:
        node.measure(5.5)
        until(lambda: values(ingest.journal) == [4.0, 5.5], "a birth, and data by alias")
        ingest.stop()
        assert "vitalane-ingest-sparkplug disconnected" in mosquitto.log(), "in order, so that no will is sent"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_birth_and_data_by_alias_are_journalled_and_read(tmp_path, mosquitto, protocol):
    with online(running(tmp_path, mosquitto, protocol)) as ingest, LiveNode(mosquitto) as node:
        until(lambda: values(ingest.journal) == [4.0], "the value of the birth")
        node.measure(5.5)
        node.measure(6.5)
        until(lambda: values(ingest.journal) == [4.0, 5.5, 6.5], "data by alias")
        until(lambda: ingest.status.sparkplug and ingest.status.sparkplug.nodes == 1, "the node in the status")
        assert ingest.status.sparkplug.asked == 0


def test_a_lost_message_leads_to_a_rebirth_and_data_flow_again(tmp_path, mosquitto):
    with online(running(tmp_path, mosquitto)) as ingest, LiveNode(mosquitto) as node:
        until(lambda: values(ingest.journal) == [4.0], "the value of the birth")
        node.measure(5.0, lost=True)
        node.measure(6.0)
        until(lambda: node.births == 2, "asked for a rebirth")
        node.measure(7.0)
        until(lambda: values(ingest.journal)[-1] == 7.0, "data by alias again")
        assert values(ingest.journal) == [4.0, 6.0, 7.0], "6.0 by its rebirth: by its alias alone it was not believed"


def test_after_a_restart_a_node_that_is_heard_is_asked_for_a_rebirth(tmp_path, mosquitto):
    with online(running(tmp_path, mosquitto)) as ingest, LiveNode(mosquitto) as node:
        until(lambda: values(ingest.journal) == [4.0], "the value of the birth")
        ingest.stop()
        node.measure(5.0)
        with online(running(tmp_path, mosquitto)) as again:
            node.measure(6.0)
            until(lambda: node.births == 2, "asked for a rebirth")
            node.measure(7.0)
            until(lambda: values(again.journal)[-1] == 7.0, "data by alias again")
            assert values(again.journal) == [4.0, 6.0, 7.0]


def test_after_a_restart_a_node_that_says_nothing_is_asked_too(tmp_path, mosquitto):
    """It reports by exception: what it would say next is by the aliases of a birth that the flow has put aside."""
    with online(running(tmp_path, mosquitto)) as ingest, LiveNode(mosquitto) as node:
        until(lambda: values(ingest.journal) == [4.0], "the value of the birth")
        ingest.stop()
        with online(running(tmp_path, mosquitto)) as again:
            until(lambda: node.births == 2, "asked for a rebirth")
            until(lambda: values(again.journal) == [4.0, 4.0], "the value again")
            assert node.births == 2, "once"


def test_a_broker_that_restarts_is_a_new_beginning(tmp_path, mosquitto):
    """Who was born while nobody listened is asked, once it is heard; the journal says where the sessions of before have ended."""
    with online(running(tmp_path, mosquitto)) as ingest, LiveNode(mosquitto) as node:
        until(lambda: values(ingest.journal) == [4.0], "the value of the birth")
        mosquitto.restart()
        until(lambda: node.births >= 2 and not ingest.status.error, "born at its new connection")
        node.measure(7.0)
        until(lambda: values(ingest.journal)[-1] == 7.0, "data by alias again")
        records = [row for row in ingest.journal.rows(RowKind.CONTROL) if "sparkplug" in json.loads(row.body)]
        assert len(records) == 4, "two connections, two partitions"


def test_the_state_is_online_while_it_runs_and_offline_after_a_stop(tmp_path, mosquitto):
    listener = Listener(mosquitto)
    with online(running(tmp_path, mosquitto)) as ingest, listener.listening():
        until(lambda: listener.last() is True, "online")
        assert listener.said[0][2], "retained: who comes later knows it too"
        ingest.stop()
        until(lambda: listener.last() is False, "offline")
    with Listener(mosquitto).listening() as late:
        until(lambda: late.said, "the retained state")
        assert late.said[0][0] is False


def test_the_will_says_offline_with_the_timestamp_of_the_birth(tmp_path, mosquitto):
    """An edge node compares them: a will of a connection before must not count against the one that there is."""
    host = HostSession(broker_settings(mosquitto), sparkplug(), 1000)
    host.start()
    with Listener(mosquitto).listening() as listener:
        until(lambda: listener.last() is True, "online")
        cut(host)
        until(lambda: [online for online, *_ in listener.said][:3] == [True, False, True], f"the will, and online again: {listener.said}")
        assert listener.said[0][1] == listener.said[1][1] < listener.said[2][1]
        host.close()


def test_a_node_that_says_nothing_is_asked_after_a_new_connection(mosquitto):
    """It still measures by the aliases of a birth that nobody may have heard."""
    host = HostSession(broker_settings(mosquitto), sparkplug(), 1000)
    host.start()
    try:
        until(lambda: host.status.connected, "connected")
        with LiveNode(mosquitto) as node:
            until(lambda: host.take(100) and host.status.nodes, "the birth")
            cut(host)
            until(lambda: host.take(100) and node.births == 2, "asked")
            until(lambda: host.take(100) and host.status.nodes, "born again")
            assert host.status.asked == 1
    finally:
        host.close()


def cut(host: HostSession) -> None:
    """End the connection that there is, without a word to anybody."""
    sock = host._line._client.socket()
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)


def test_who_else_says_that_we_are_offline_is_contradicted(tmp_path, mosquitto):
    with online(running(tmp_path, mosquitto)), Listener(mosquitto).listening() as listener:
        until(lambda: listener.last() is True, "online")
        with publisher(mosquitto) as liar:
            liar.publish(STATE, b'{"online": false, "timestamp": 1}', qos=1, retain=True)
            until(lambda: len(listener.said) > 2 and listener.last(), "online again")
        assert [online for online, *_ in listener.said[-2:]] == [False, True]
        assert listener.said[0][1] == listener.said[-1][1], "of the same session as before"


def test_only_the_groups_that_are_named_are_listened_to(tmp_path, mosquitto):
    with online(running(tmp_path, mosquitto, groups=("plant",))) as ingest, publisher(mosquitto) as client:
        for group in ("other", "plant"):
            topic, payload = EdgeNode(group).nbirth([Value("temperature", 4.0)])
            client.publish(topic.decode(), payload)
        until(ingest.journal.messages, "a birth")
        assert [topic for topic, *_ in ingest.journal.messages()] == ["spBv1.0/plant/NBIRTH/line-1"]


def test_what_a_device_sends_and_what_an_edge_node_sends_stand_side_by_side(tmp_path, mosquitto):
    with online(running(tmp_path, mosquitto)) as ingest, LiveNode(mosquitto) as node, publisher(mosquitto) as client:
        ingest.connected()
        for number in range(50):
            client.publish("vitalane/v1/shipment/truck/readings", b'{"metric":"temperature","value":%d}' % number, qos=1)
            node.measure(float(number))
        until(lambda: len(readings(ingest.journal)) >= 101, "all of both")
        assert [value for device, _, value in readings(ingest.journal) if device == "truck"] == list(range(50))
        assert [value for value in values(ingest.journal) if value != 4.0] == [float(number) for number in range(50) if number != 4]


def test_an_account_that_may_not_say_its_state_is_told_what_to_look_at(tmp_path, start_mosquitto):
    """Mosquitto grants every subscription and every publish, and then is silent: connected and deaf would look well."""
    broker = start_mosquitto(acl="user vitalane\ntopic read vitalane/#\n")
    settings = IngestSettings(broker=broker_settings(broker, connect_timeout_s=0.1), sparkplug=sparkplug())
    with Running(tmp_path, settings) as ingest:
        assert f"does not pass on {STATE}: its access control list" in ingest.said("access control")
        assert ingest.status.connected, "the devices' own messages come all the same"


def test_a_broker_that_is_not_there_is_one_sentence(tmp_path, free_port):
    settings = IngestSettings(broker=BrokerSettings(port=free_port, backoff_first_s=0.05), sparkplug=sparkplug())
    with Running(tmp_path, settings) as ingest:
        assert f"nobody listens at 127.0.0.1:{free_port}" in ingest.said("nobody listens")
        until(lambda: ingest.status.sparkplug and ingest.status.sparkplug.error, "the session's own sentence")


def test_what_there_is_no_room_for_is_counted_and_what_follows_is_a_new_beginning(mosquitto):
    """Nobody takes what comes, as with a full disk: what is lost may have been a BIRTH, so nothing before it counts any more."""
    host = HostSession(broker_settings(mosquitto), sparkplug(max_waiting=10), 1000)
    host.start()
    taken: list[Taken] = []
    try:
        until(lambda: host.status.connected, "connected")
        with publisher(mosquitto) as client:
            for number in range(100):
                topic, payload = EdgeNode(node=f"n{number}").nbirth()
                client.publish(topic.decode(), payload, qos=1).wait_for_publish(30)
            until(lambda: host.status.lost == 91, "an overflow: the beginning of the connection has the tenth place")
            taken.append(host.take(1000))
            until(lambda: _more(client, host, taken), "what comes when there is room again")
    finally:
        host.close()
    assert [one.listening for one in taken if one.messages or one.listening][:2] == [True, True]
    assert len(taken[0].messages) == 9


def _more(client: paho.Client, host: HostSession, taken: list[Taken]) -> bool:
    topic, payload = EdgeNode(node="late").nbirth()
    client.publish(topic.decode(), payload, qos=1).wait_for_publish(30)
    taken.append(host.take(1000))
    return bool(taken[-1].messages)


def test_without_sparkplug_no_second_connection_is_made(tmp_path, mosquitto):
    with Running(tmp_path, IngestSettings(broker=broker_settings(mosquitto))) as ingest:
        ingest.connected()
        assert ingest.status.sparkplug is None
        assert not any(thread.name == "sparkplug" for thread in threading.enumerate())
