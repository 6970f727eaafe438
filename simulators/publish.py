"""Many devices over few connections, as gateways carry them: each device keeps to one connection, so that its messages stay in order.

What is in flight is bounded; where the broker does not keep up, sending waits. With QoS 1 and 2 every message is sent until it is
acknowledged, over reconnects too; with QoS 0 what a broken connection swallowed is counted as lost. Each connection leaves a last will on
its status topic.
"""

import logging
import random
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import Event
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self
from zlib import crc32

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from decoders.topics import STATUS, Topic, format_topic
from decoders.wire import OFFLINE, ONLINE
from simulators.faults import Message
from telemetry.errors import Rejected, Transient, VitalaneError

logger = logging.getLogger(__name__)

PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
MOST_IN_FLIGHT = 60_000  # a packet identifier has 16 bits
RETRY_S = 0.2
GOODBYE_S = 2.0
HALF_A_MESSAGE = b"\x32\x40\x00\x20vitalane/v1/"  # a PUBLISH that says it has 64 bytes, and ends in its topic
LOOK_S = 0.05  # how often somebody who waits looks again, whatever he has not been told


class Broker(NamedTuple):
    """Where to publish, and as whom. `ca` set means TLS; `certificate` and `key` are the client's own."""

    host: str = "127.0.0.1"
    port: int = 1883
    user: str | None = None
    password: str | None = None
    protocol: str = "3.1.1"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keepalive_s: int = 30

    def __repr__(self) -> str:
        """Leave the password out of logs and tracebacks."""
        return f"Broker({self.host}:{self.port}, user={self.user!r})"


class Counts(NamedTuple):
    sent: int
    acked: int  # by the broker; with QoS 0, written to the socket
    lost: int  # QoS 0 only
    refused: int  # acknowledged with a reason why not: MQTT 5 only, 3.1.1 cannot say
    connected: int  # connections that are up
    reconnects: int


class Publisher:
    """Connections to one broker; a context manager that opens them and, having waited for the acknowledgements, closes them."""

    def __init__(
        self,
        broker: Broker,
        *,
        clients: int = 4,
        qos: int = 1,
        max_inflight: int = 200,
        name: str = "simulator",
        kind: str = "shipment",
        stop: Event | None = None,
    ) -> None:
        """`max_inflight` holds for each connection. The connections' status topics name the devices `<name>-1` and on, of `kind`.

        Raises ValueError for a number out of range or a name that is none, VitalaneError where a TLS file cannot be read.
        """
        if clients < 1 or qos not in {0, 1, 2} or not 1 <= max_inflight <= MOST_IN_FLIGHT:
            msg = f"clients is at least 1, qos 0 to 2, max_inflight 1 to {MOST_IN_FLIGHT}"
            raise ValueError(msg)
        self.broker = broker
        self.stop = stop or Event()
        self._connections = [_Connection(broker, f"{name}-{number}", kind, qos, max_inflight) for number in range(1, clients + 1)]
        self._carriers: dict[str, _Connection] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.flush(GOODBYE_S * 5)
        self.close()

    def open(self, timeout_s: float = 10.0) -> None:
        """Connect. Raises Transient where no broker answers in time, Rejected where it refuses us; nothing stays open then."""
        give_up_at = monotonic() + timeout_s
        try:
            for connection in self._connections:
                connection.connect(give_up_at, self.stop)
        except VitalaneError:
            self.close()
            raise
        logger.info(
            "simulators.broker_connected host=%s port=%d connections=%d", self.broker.host, self.broker.port, len(self._connections)
        )

    def send(self, message: Message) -> bool:
        """Publish, waiting for room; False where it was told to stop meanwhile and nothing was sent."""
        topic = message.topic
        connection = self._carriers.get(topic)
        if connection is None:
            device = topic.rpartition("/")[0]
            connection = self._carriers[topic] = self._connections[crc32(device.encode()) % len(self._connections)]
        if message.cut:
            connection.sever()
        return connection.send(topic, message.payload, message.retain, self.stop)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything sent is acknowledged; False where it was not in time."""
        give_up_at = monotonic() + timeout_s
        return all(connection.drained(give_up_at) for connection in self._connections)

    def close(self) -> None:
        """Say offline and disconnect; does not wait for acknowledgements that are missing."""
        give_up_at = monotonic() + GOODBYE_S
        for connection in self._connections:
            connection.say_goodbye()
        for connection in self._connections:
            connection.disconnect(give_up_at)

    def counts(self) -> Counts:
        every = self._connections
        return Counts(
            sent=sum(item.sent for item in every),
            acked=sum(item.acked for item in every),
            lost=sum(item.lost for item in every),
            refused=sum(item.refused for item in every),
            connected=sum(item.up.is_set() for item in every),
            reconnects=sum(max(item.connects - 1, 0) for item in every),
        )


class _Connection:
    """One MQTT client with its own network thread. `sent` is written by the sender, the other counters by that thread."""

    def __init__(self, broker: Broker, name: str, kind: str, qos: int, max_inflight: int) -> None:
        self.sent = self.lost = self.refused = self.connects = 0
        self._acks = 0
        self.up, self._answered, self._room, self._down = Event(), Event(), Event(), Event()
        self._why: str | None = None
        self._broker, self._qos, self._limit = broker, qos, max_inflight
        self._most = max_inflight
        self._status = format_topic(Topic(kind, name, STATUS))
        self._own: set[int] = set()  # packet identifiers of `online`; only the network thread looks at them
        self._goodbye: mqtt.MQTTMessageInfo | None = None
        self._started = False
        self._client = self._configured(name)

    @property
    def acked(self) -> int:
        """Acknowledged messages of devices; our own status messages are not counted."""
        own = self._goodbye is not None and self._goodbye.is_published()
        return min(self._acks - own, self.sent - self.lost)

    def connect(self, give_up_at: float, stop: Event) -> None:
        broker, place = self._broker, f"{self._broker.host}:{self._broker.port}"
        while True:
            try:
                self._client.connect(broker.host, broker.port, broker.keepalive_s)
                break
            except (OSError, ValueError) as error:
                if monotonic() >= give_up_at or stop.wait(RETRY_S):
                    msg = f"no MQTT broker at {place}: {error}"
                    raise Transient(msg) from error
        self._started = True
        self._client.loop_start()
        while not self._answered.wait(LOOK_S):
            if monotonic() >= give_up_at or stop.is_set():
                msg = f"what listens at {place} does not answer as an MQTT broker"
                raise Transient(msg)
        if self._why is not None:
            msg = f"the broker at {place} refuses {'nobody' if broker.user is None else f'user {broker.user!r}'}: {self._why}"
            raise Rejected(msg)

    def send(self, topic: str, payload: bytes, retain: bool, stop: Event) -> bool:
        if self._qos == 0:
            while not self.up.is_set():
                if stop.is_set():
                    return False
                self.up.wait(LOOK_S)
        while self.sent - self._acks - self.lost >= self._limit:
            if stop.is_set():
                return False
            self._room.clear()
            if self.sent - self._acks - self.lost >= self._limit:
                self._room.wait(LOOK_S)
        self.sent += 1
        result = self._client.publish(topic, payload, self._qos, retain).rc
        if self._qos == 0 and result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.lost = self.sent - self._acks  # counted anew, for the network thread may have counted this one already
        return True

    def sever(self) -> None:
        """Break the connection in the middle of a message, as a network does: half a packet, then nothing more."""
        connected = self._client.socket()
        if isinstance(connected, socket):  # else it is broken already
            with suppress(OSError):
                connected.send(HALF_A_MESSAGE)
                connected.shutdown(SHUT_RDWR)

    def drained(self, give_up_at: float) -> bool:
        while self.sent - self._acks - self.lost > 0:
            if monotonic() >= give_up_at:
                return False
            self._room.clear()
            self._room.wait(0.01)
        return True

    def say_goodbye(self) -> None:
        if self.up.is_set():
            said = self._client.publish(self._status, OFFLINE, qos=1, retain=True)
            self._goodbye = said if said.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def disconnect(self, give_up_at: float) -> None:
        if not self._started:
            return
        while self._goodbye is not None and not self._goodbye.is_published() and self.up.is_set() and monotonic() < give_up_at:
            self._down.wait(0.005)
        self._client.disconnect()
        if not self.up.is_set() or self._down.wait(max(give_up_at - monotonic(), LOOK_S)):
            self._client.loop_stop()  # joins the network thread, which a broker that has stopped reading would hold for ever

    def _configured(self, name: str) -> mqtt.Client:
        broker = self._broker
        protocol = PROTOCOLS.get(broker.protocol)
        if protocol is None:
            msg = f"MQTT {broker.protocol!r} is not spoken here: it is one of {', '.join(PROTOCOLS)}"
            raise ValueError(msg)
        unique = f"{random.getrandbits(24):06x}"  # two simulators of one name must not disconnect each other
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{name}-{unique}", protocol=protocol)
        client.max_inflight_messages_set(0)  # ours is the only bound: paho looks through its whole queue at each acknowledgement
        client.reconnect_delay_set(1, 10)
        client.will_set(self._status, OFFLINE, qos=1, retain=True)
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.ca is not None:
            ca, certificate, key = (None if path is None else str(path) for path in (broker.ca, broker.certificate, broker.key))
            try:
                client.tls_set(ca, certificate, key)
            except (OSError, ValueError) as error:
                msg = f"TLS for the broker cannot be set up from {', '.join(path for path in (ca, certificate, key) if path)}: {error}"
                raise VitalaneError(msg) from error
        client.on_connect, client.on_disconnect, client.on_publish = self._on_connect, self._on_disconnect, self._on_publish
        return client

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:  # noqa: ARG002
        if reason.is_failure:
            self._why = str(reason)
            if self.connects:
                logger.warning("simulators.broker_refused reason=%s", self._why.replace(" ", "_"))
        else:
            self._why = None
            self.connects += 1
            self._limit = min(self._most, getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT))
            self._down.clear()
            self._own.add(client.publish(self._status, ONLINE, qos=1, retain=True).mid)
            self.up.set()
            if self.connects > 1:
                logger.info("simulators.broker_reconnected times=%d", self.connects - 1)
        self._answered.set()

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:  # noqa: ARG002
        self.up.clear()
        self._down.set()
        if self._qos == 0:
            self.lost = self.sent - self.acked
        if reason.is_failure and self.connects:
            logger.warning("simulators.broker_disconnected reason=%s", str(reason).replace(" ", "_"))

    def _on_publish(self, client: mqtt.Client, data: Any, mid: int, reason: ReasonCode, properties: Properties | None) -> None:  # noqa: ARG002
        if mid in self._own:
            self._own.discard(mid)
            return
        self._acks += 1
        if reason.is_failure:
            self.refused += 1
        if not self._room.is_set():
            self._room.set()
