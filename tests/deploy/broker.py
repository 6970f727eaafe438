"""The broker of docker-compose.yml as a plain process, with the accounts that its tests use, and a client that remembers its answers."""

import os
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests import tools
from tests.servers import Server, accepts

WAIT_S = 20
REFUSED = str(ReasonCode(PacketTypes.PUBACK, "Not authorized"))
UNHEARD = str(ReasonCode(PacketTypes.PUBACK, "No matching subscribers"))

ROOT = Path(__file__).resolve().parent.parent.parent
USERS = {"ingest": "i", "deliver": "d", "simulator": "s", "display": "y"}
DEVICES = {"truck-01": "t1", "monitor.7": "m7"}


class ComposeBroker(Server):
    """Mosquitto as deploy/mosquitto/entrypoint.sh starts it."""

    name = "mosquitto"

    def __init__(self, directory: Path, certificates: Path | None = None, client_certificates: str = "") -> None:
        super().__init__(directory)
        self.port, self.tls_port = tools.free_port(), tools.free_port()
        (directory / "run").mkdir(exist_ok=True)
        self.environment = {
            **{f"VITALANE_{user.upper()}_PASSWORD": password for user, password in USERS.items()},
            "VITALANE_DEVICE_PASSWORDS": " ".join(f"{device}:{password}" for device, password in DEVICES.items()),
            "VITALANE_MQTT_CLIENT_CERTIFICATES": client_certificates,
            "VITALANE_MOSQUITTO_CONFIG": str(ROOT / "deploy/mosquitto"),
            "VITALANE_MOSQUITTO_RUN": str(directory / "run"),
            "VITALANE_MOSQUITTO_DATA": str(directory),
            "VITALANE_MOSQUITTO_CERTS": str(certificates or directory),
            "VITALANE_MQTT_ADDRESS": "127.0.0.1",
            "VITALANE_MQTT_PORT": str(self.port),
            "VITALANE_MQTT_TLS_PORT": str(self.tls_port),
            "PATH": os.pathsep.join([str(tools.find_mosquitto().parent), str(tools.find_mosquitto_passwd().parent), os.environ["PATH"]]),
        }

    def command(self) -> list[str]:
        return ["env", *(f"{name}={value}" for name, value in self.environment.items()), "sh", str(ROOT / "deploy/mosquitto/entrypoint.sh")]

    def answers(self) -> bool:
        return accepts(self.port) and ("certfile" not in self.configuration or accepts(self.tls_port))

    @property
    def configuration(self) -> str:
        return (self.directory / "run/mosquitto.conf").read_text()


class Session:
    """An MQTT 5 client that remembers what the broker answered: 5, because 3.1.1 cannot say that a publish was refused."""

    def __init__(self, port: int, user: str | None, password: str | None, tls: dict[str, Any] | None = None) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if user is not None:
            self.client.username_pw_set(user, password)
        if tls is not None:
            self.client.tls_set(**tls)
        self.answered = threading.Event()
        self.answers: list[ReasonCode] = []
        self.received: list[str] = []
        self.client.on_connect = lambda _client, _data, _flags, reason, _properties: self._answer([reason])
        self.client.on_subscribe = lambda _client, _data, _id, reasons, _properties: self._answer(reasons)
        self.client.on_publish = lambda _client, _data, _id, reason, _properties: self._answer([reason])
        self.client.on_message = lambda _client, _data, message: self.received.append(message.topic)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _answer(self, reasons: list[ReasonCode]) -> None:
        self.answers += reasons
        self.answered.set()

    def answer(self) -> str:
        """Return what the broker said to the last thing that was asked of it."""
        assert self.answered.wait(WAIT_S), "the broker did not answer"
        self.answered.clear()
        return str(self.answers.pop())

    def publish(self, topic: str, payload: str = "x") -> str:
        self.client.publish(topic, payload, qos=1)
        return self.answer()

    def subscribe(self, topic: str) -> str:
        self.client.subscribe(topic, qos=1)
        return self.answer()

    def heard(self) -> list[str]:
        """Return the topics received so far: after a round trip, for the broker answers in the order in which it delivers."""
        self.subscribe("settled")
        return list(self.received)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
