"""Somebody who listens at a broker, to see what really arrives."""

import threading
import time
from itertools import count

import paho.mqtt.client as mqtt

from simulators.publish import Broker

WAIT_S = 20
NUMBERS = count()


class Listener:
    """A plain paho subscriber: what a broker gives to anybody."""

    def __init__(self, broker, pattern="vitalane/v1/#", qos=1):
        self.messages = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"listener-{next(NUMBERS)}", clean_session=False)
        self._client.username_pw_set(broker.user, broker.password)
        self._client.on_message = lambda client, data, message: self.messages.append(message)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe(pattern, qos)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S)

    def of(self, form):
        return [message for message in self.messages if message.topic.endswith(f"/{form}")]

    def wait_for(self, least, form="readings"):
        until(lambda: len(self.of(form)) >= least)
        return self.of(form)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def until(condition):
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to that in time"
        time.sleep(0.01)


def address(broker, **options):
    return Broker(port=broker.port, user=broker.user, password=broker.password, **options)
