"""Alerts back to a real broker: acknowledged or not delivered."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from alerts.message import compose_with
from sinks.mqtt import Mqtt
from telemetry.alert import from_json
from telemetry.errors import Rejected, Transient, VitalaneError
from tests.servers import Broker
from tests.sinks.parts import event

pytestmark = pytest.mark.servers


class Subscriber:
    """A client that keeps what the broker gives it."""

    def __init__(self, broker: Broker) -> None:
        self.messages: queue.Queue[tuple[str, bytes | bytearray, int]] = queue.Queue()
        self.ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "subscriber")
        self.client.username_pw_set(broker.user, broker.password)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _client, _userdata, message: self.messages.put((message.topic, message.payload, message.qos))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        self.client.subscribe("vitalane/v1/alerts/#", qos=1)
        assert self.ready.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def subscriber(mosquitto: Broker) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto)
    yield made
    made.close()


def sink(broker: Broker, **given: Any) -> Mqtt:
    options: dict[str, Any] = {"user": broker.user, "password": broker.password, "timeout_s": 5.0} | given
    return Mqtt("broker", "127.0.0.1", options.pop("port", broker.port), compose_with(None), **options)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_an_event_goes_to_the_topic_of_its_kind_and_rule(mosquitto: Broker, subscriber: Subscriber, protocol: str) -> None:
    channel = sink(mosquitto, protocol=protocol)
    channel.send(event(1))
    channel.send(event(2))
    topic, payload, qos = subscriber.messages.get(timeout=10)
    assert (topic, qos) == ("vitalane/v1/alerts/shipment/vaccine-too-warm", 1)
    assert from_json(bytes(payload)).event_id == event(1).event_id
    assert json.loads(subscriber.messages.get(timeout=10)[1])["id"] == event(2).event_id
    channel.close()
    channel.close()


def test_over_tls(mosquitto: Broker, subscriber: Subscriber) -> None:
    channel = sink(mosquitto, port=mosquitto.tls_port, ca=mosquitto.ca)
    channel.send(event(1))
    assert subscriber.messages.get(timeout=10)
    channel.close()


def test_a_wrong_password_says_so(mosquitto: Broker) -> None:
    channel = sink(mosquitto, password="wrong", timeout_s=1.0)
    with pytest.raises(Transient, match=r"Not authorized|Bad user name"):
        channel.send(event())
    channel.close()


def test_a_broker_that_is_away_passes_and_is_found_again(mosquitto: Broker) -> None:
    channel = sink(mosquitto, timeout_s=0.5)
    channel.send(event(1))
    mosquitto.kill()
    with pytest.raises(Transient):
        channel.send(event(2))
    mosquitto.start()
    back = Subscriber(mosquitto)
    channel._timeout_s = 10.0
    channel.send(event(3))
    ids = set()
    while event(3).event_id not in ids:
        ids.add(from_json(bytes(back.messages.get(timeout=10)[1])).event_id)
    back.close()
    channel.close()


def test_a_broker_that_does_not_answer_passes(mosquitto: Broker) -> None:
    channel = sink(mosquitto, timeout_s=0.5)
    channel.send(event(1))
    mosquitto.pause()
    with pytest.raises(Transient, match="does not acknowledge"):
        channel.send(event(2))
    mosquitto.resume()
    channel.close()


def test_a_message_that_the_broker_drops_is_not_delivered(start_mosquitto: Callable[..., Broker]) -> None:
    """Without permission to write, a broker of 3.1.1 acknowledges and drops; of 5, it says so."""
    broker = start_mosquitto(acl="user vitalane\ntopic read vitalane/#\n")
    channel = sink(broker)
    with pytest.raises(Transient, match="Not authorized"):
        channel.send(event())
    channel.close()


def test_a_rule_that_is_no_part_of_a_topic_is_refused(mosquitto: Broker) -> None:
    channel = sink(mosquitto)
    for rule in ("a/b", "a+", "#", "", "a\x00b"):
        with pytest.raises(Rejected, match="part of a topic"):
            channel.send(event(rule=rule))
    channel.close()


def test_certificates_that_cannot_be_read_are_one_sentence(mosquitto: Broker) -> None:
    with pytest.raises(VitalaneError, match="certificates cannot be used"):
        sink(mosquitto, ca=mosquitto.directory / "absent.pem")


def test_many_at_once(mosquitto: Broker, subscriber: Subscriber) -> None:
    """The senders of a channel share one connection."""
    channel = sink(mosquitto)
    threads = [threading.Thread(target=channel.send, args=(event(number),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    ids = {from_json(bytes(subscriber.messages.get(timeout=10)[1])).event_id for _ in range(20)}
    assert ids == {event(number).event_id for number in range(20)}
    channel.close()
