"""Alert events back to a broker, one topic a kind and rule: `vitalane/v1/alerts/{kind}/{rule}`, QoS 1. Delivered means PUBACK.

MQTT 5 by default, for there the broker says when it drops a message for want of permission; with 3.1.1 it acknowledges and drops.
"""

import logging
import re
import ssl
import threading
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from sinks.sink import Compose
from sinks.trouble import Trouble
from telemetry.alert import AlertEvent, to_json
from telemetry.errors import Rejected, Transient, VitalaneError

logger = logging.getLogger(__name__)

TOPIC = "vitalane/v1/alerts/{kind}/{rule}"
_LEVEL = re.compile(r"[^/+#\x00-\x1f\x7f]{1,128}")


class Mqtt:
    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        compose: Compose,
        *,
        client_id: str | None = None,
        user: str | None = None,
        password: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        tls: bool = False,
        protocol: Literal["3.1.1", "5"] = "5",
        timeout_s: float = 10.0,
    ) -> None:
        """Connect at the first event, and again by itself whenever the broker was away."""
        self.name = name
        self._compose, self._address, self._timeout_s = compose, (host, port), timeout_s
        self._trouble = Trouble(logger, "sinks.mqtt_connection", name)
        self._connected = threading.Event()
        self._refused: str | None = None
        self._lock = threading.Lock()
        self._started = False
        self._answers: dict[int, ReasonCode] = {}
        version = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id or f"vitalane-{name}", protocol=version)
        self._client.max_queued_messages_set(1000)
        self._client.connect_timeout = timeout_s
        self._client.reconnect_delay_set(1, 30)
        if user is not None:
            self._client.username_pw_set(user, password)
        if tls or ca:
            try:
                context = ssl.create_default_context(cafile=str(ca) if ca else None)
                if certificate:
                    context.load_cert_chain(certificate, key)
            except OSError as error:
                msg = f"{name}: its certificates cannot be used: {error.strerror or error}"
                raise VitalaneError(msg) from error
            self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    def send(self, event: AlertEvent) -> None:
        if not _LEVEL.fullmatch(event.kind) or not _LEVEL.fullmatch(event.rule):
            msg = f"{self.name}: the kind or the rule cannot be part of a topic"
            raise Rejected(msg)
        body = to_json(self._compose(event).event)
        self._connect()
        message = self._client.publish(TOPIC.format(kind=event.kind, rule=event.rule), body, qos=1)
        if message.rc != paho.MQTT_ERR_SUCCESS:  # without a connection paho keeps it: it may come twice, under one id
            msg = f"{self.name}: cannot publish: {paho.error_string(message.rc)}"
            raise Transient(msg)
        message.wait_for_publish(self._timeout_s)
        if not message.is_published():
            msg = f"{self.name}: the broker does not acknowledge"
            raise Transient(msg)
        answer = self._answers.pop(message.mid, None)
        if answer is not None and answer.is_failure:
            msg = f"{self.name}: the broker refuses the message: {answer}"
            # Permissions and quotas are for somebody to mend; a topic or payload that is wrong stays wrong.
            raise Rejected(msg) if answer.value in {0x90, 0x99} else Transient(msg)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self) -> None:
        """Return once connected. Raises Transient where that takes too long."""
        host, port = self._address
        with self._lock:
            if not self._started:
                self._client.connect_async(host, port, keepalive=30)
                self._client.loop_start()
                self._started = True
        if not self._connected.wait(self._timeout_s):
            msg = f"{self.name}: no connection to the broker at {host}:{port}" + (f": {self._refused}" if self._refused else "")
            raise Transient(msg)

    def _on_connect(self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            self._trouble.report(Transient(str(reason)))
            return
        self._refused = None
        self._trouble.over()
        self._connected.set()

    def _on_disconnect(self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._connected.clear()
        if reason.is_failure and self._refused is None:
            self._trouble.report(Transient(str(reason)))

    def _on_publish(self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._answers[mid] = reason
