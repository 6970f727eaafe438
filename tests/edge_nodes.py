"""An edge node of Sparkplug B, scripted: what it would publish, its counters kept as the specification says."""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tahutils.tahu.sparkplug_b_pb2 import DataType, Payload

from telemetry.clock import utc_now_ms
from tests.servers import Broker

FIELDS = {
    "Int8": "int_value", "Int16": "int_value", "Int32": "int_value", "Int64": "long_value", "UInt8": "int_value", "UInt16": "int_value",
    "UInt32": "int_value", "UInt64": "long_value", "Float": "float_value", "Double": "double_value", "Boolean": "boolean_value",
    "String": "string_value",
}  # fmt: skip
BITS = {"int_value": 32, "long_value": 64}


class Value(NamedTuple):
    """One metric as it is to be sent."""

    name: str
    value: Any = None  # None: is_null
    type: str = "Double"
    alias: int | None = None
    time_ms: int | None = None
    unit: str | None = None
    quality: int | None = None
    historical: bool = False


class EdgeNode:
    """Makes (topic, payload) pairs. `seq` and `bdSeq` go on by themselves."""

    def __init__(self, group: str = "plant", node: str = "line-1", bd_seq: int = 0, seq: int = 0) -> None:
        self.group, self.node, self.bd_seq, self.seq = group, node, bd_seq, seq

    def topic(self, kind: str, device: str = "") -> bytes:
        return f"spBv1.0/{self.group}/{kind}/{self.node}{f'/{device}' if device else ''}".encode()

    def nbirth(self, values: Iterable[Value] = (), time_ms: int = 0) -> tuple[bytes, bytes]:
        payload = _payload([*values, Value("Node Control/Rebirth", False, "Boolean")], time_ms, aliased=False)
        payload.metrics.add(name="bdSeq", datatype=DataType.Value("Int64"), long_value=self.bd_seq)
        return self.topic("NBIRTH"), self._numbered(payload)

    def ndeath(self) -> tuple[bytes, bytes]:
        payload = Payload()
        payload.metrics.add(name="bdSeq", datatype=DataType.Value("Int64"), long_value=self.bd_seq)
        return self.topic("NDEATH"), payload.SerializeToString()

    def dbirth(self, device: str, values: Iterable[Value], time_ms: int = 0) -> tuple[bytes, bytes]:
        return self.topic("DBIRTH", device), self._numbered(_payload(values, time_ms, aliased=False))

    def ddeath(self, device: str, time_ms: int = 0) -> tuple[bytes, bytes]:
        return self.topic("DDEATH", device), self._numbered(_payload((), time_ms, aliased=True))

    def data(self, device: str, *values: Value, time_ms: int = 0) -> tuple[bytes, bytes]:
        """Return NDATA, or DDATA of a device. A metric with an alias is sent without its name, type and unit."""
        return self.topic("DDATA" if device else "NDATA", device), self._numbered(_payload(values, time_ms, aliased=True))

    def reconnected(self) -> "EdgeNode":
        """Return the node in a new session at the broker."""
        return EdgeNode(self.group, self.node, (self.bd_seq + 1) % 256)

    def _numbered(self, payload: Any) -> bytes:
        payload.seq = self.seq
        self.seq = (self.seq + 1) % 256
        return bytes(payload.SerializeToString())


def asks_for_rebirth(body: bytes) -> bool:
    """Return whether the payload of an NCMD asks for a rebirth."""
    return [(metric.name, metric.boolean_value) for metric in Payload.FromString(body).metrics] == [("Node Control/Rebirth", True)]


def _payload(values: Iterable[Value], time_ms: int, *, aliased: bool) -> Any:
    payload = Payload()
    if time_ms:
        payload.timestamp = time_ms
    for value in values:
        metric = payload.metrics.add()
        if value.alias is not None:
            metric.alias = value.alias
        if value.alias is None or not aliased:
            metric.name = value.name
            metric.datatype = DataType.Value(value.type)
        if value.time_ms is not None:
            metric.timestamp = value.time_ms
        if value.historical:
            metric.is_historical = True
        if value.unit is not None and not (aliased and value.alias is not None):
            metric.properties.keys.append("engUnit")
            metric.properties.values.add(type=DataType.Value("String"), string_value=value.unit)
        if value.quality is not None:
            metric.properties.keys.append("Quality")
            metric.properties.values.add(type=DataType.Value("Int32"), int_value=value.quality)
        if value.value is None:
            metric.is_null = True
        else:
            field = FIELDS[value.type]
            setattr(metric, field, value.value % (1 << BITS[field]) if field in BITS else value.value)
    return payload


class LiveNode:
    """An edge node at a broker: born with one device when it connects, and again when it is asked; its will is its death."""

    def __init__(self, broker: Broker, *, group: str = "plant", node: str = "line-1", device: str = "probe") -> None:
        self.script = EdgeNode(group, node)
        self.device = device
        self.births = 0
        self.born = threading.Event()
        self.value = 4.0
        self.lock = threading.Lock()  # what is said is numbered, and said in that order
        self._broker = broker

    def __enter__(self) -> "LiveNode":
        self.connect()
        assert self.born.wait(30), "the broker did not let the node in"
        return self

    def __exit__(self, *_: object) -> None:
        self.client.loop_stop()
        self.client.disconnect()

    def connect(self) -> None:
        """Begin a session: its will first, then its BIRTH certificates."""
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311, clean_session=True)
        self.client.username_pw_set(self._broker.user, self._broker.password)
        topic, payload = self.script.ndeath()
        self.client.will_set(topic.decode(), payload, qos=1)
        self.client.on_connect = lambda client, *_: client.subscribe(f"spBv1.0/{self.script.group}/NCMD/{self.script.node}", 1)
        self.client.on_subscribe = lambda *_: self.bear()
        self.client.on_message = lambda _client, _data, message: self.bear() if asks_for_rebirth(bytes(message.payload)) else None
        self.client.connect("127.0.0.1", self._broker.port)
        self.client.loop_start()

    def bear(self) -> None:
        with self.lock:
            self._publish(self.script.nbirth())
            self._publish(self.script.dbirth(self.device, [self._temperature()._replace(name="Sensors/Temperature", unit="°C")]))
            self.births += 1
            self.born.set()

    def measure(self, value: float, *, lost: bool = False) -> None:
        """Publish a temperature by its alias; `lost`: number it and keep it."""
        with self.lock:
            self.value = value
            message = self.script.data(self.device, self._temperature())
            if not lost:
                self._publish(message)

    def die(self) -> None:
        """Lose the connection without a word."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock.close()
        self.script = self.script.reconnected()

    def _temperature(self) -> Value:
        return Value("", self.value, alias=7, time_ms=utc_now_ms())

    def _publish(self, message: tuple[bytes, bytes]) -> None:
        self.client.publish(message[0].decode(), message[1], qos=0)
