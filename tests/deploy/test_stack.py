"""The services of docker-compose.yml as plain processes: their commands and configuration, the broker's accounts and access rules."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from telemetry.clock import utc_now_ms
from tests.deploy.broker import DEVICES, ROOT, USERS, ComposeBroker
from tests.servers import TETHER, Influx, started

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PATIENCE_S = 60
MINUTE_MS = 60_000

pytestmark = pytest.mark.servers


class Stack:
    """deploy/compose with the addresses of this test in place of the containers' names; everything else is as compose has it."""

    def __init__(self, folder: Path, broker: ComposeBroker, influxd: Influx) -> None:
        self.folder = shutil.copytree(ROOT / "deploy/compose", folder / "vitalane")
        self.broker, self.influxd = broker, influxd
        for name in ("vitalane.yaml", "simulate.yaml"):
            text = (self.folder / name).read_text()
            text = text.replace("host: mosquitto", "host: 127.0.0.1").replace("port: 1883", f"port: {broker.port}")
            text = text.replace("http://influxdb:8086", influxd.url).replace("/var/lib/vitalane", str(folder / "data"))
            (self.folder / name).write_text(text)
        secrets = {f"VITALANE_{user.upper()}_PASSWORD": password for user, password in USERS.items()}
        self.secrets = secrets | {"VITALANE_INFLUXDB_TOKEN": influxd.token}

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Start one service with its command and only the secrets that compose gives it."""
        words = [word.replace("/etc/vitalane", str(self.folder)) for word in SERVICES[name]["command"]] + list(more)
        given = {secret: self.secrets[secret] for secret in SERVICES[name].get("environment", {})}
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [*TETHER, sys.executable, "-m", "cli.main", *words]
            return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **given}, stdout=log, stderr=log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def healthy(self, name: str) -> bool:
        """Ask the service's own health check."""
        check = SERVICES[name]["healthcheck"]["test"][1].replace("/var/lib/vitalane", str(self.folder.parent / "data"))
        return subprocess.run(["sh", "-c", check], capture_output=True).returncode == 0


@pytest.fixture
def stack(tmp_path: Path, start_influxd: Callable[..., Influx]) -> Iterator[Stack]:
    broker = started(lambda: ComposeBroker(tmp_path / "broker"))
    yield Stack(tmp_path, broker, start_influxd(auth=True))
    broker.kill()


@pytest.fixture
def running(stack: Stack) -> Iterator[Callable[..., None]]:
    with ExitStack() as processes:

        def start(name: str, *more: str) -> None:
            process = stack.start(name, *more)
            processes.callback(process.wait, 30)
            processes.callback(process.terminate)

        yield start


def until(what: Callable[[], object], stack: Stack) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > give_up_at:
            pytest.fail("\n".join(f"{name}:\n{stack.log(name)[-2000:]}" for name in ("ingest", "flow", "deliver")))
        threading.Event().wait(0.1)


def subjects(stack: Stack, kind: str) -> int:
    return len(stack.influxd.query(f'SHOW TAG VALUES FROM "readings" WITH KEY = "subject" WHERE "kind" = \'{kind}\''))


def client(stack: Stack, user: str) -> mqtt.Client:
    opened = mqtt.Client(CallbackAPIVersion.VERSION2)
    opened.username_pw_set(user, (USERS | DEVICES)[user])
    opened.connect("127.0.0.1", stack.broker.port)
    opened.loop_start()
    return opened


def test_a_reading_becomes_an_alert_with_every_service_under_its_own_account(stack, running):
    """One wrong name in the access rules, the configuration or the environment would stop the path, and only in the containers."""
    for name in ("ingest", "flow", "deliver"):
        running(name)
        until(partial(stack.healthy, name), stack)
    display, heard = client(stack, "display"), []
    display.on_message = lambda _client, _data, message: heard.append((message.topic, json.loads(message.payload)))
    display.subscribe("vitalane/v1/alerts/#", qos=1)
    truck = client(stack, "truck-01")
    begin_ms = utc_now_ms() - 60 * MINUTE_MS
    for minute in range(45):
        reading = {"v": 1, "time": begin_ms + minute * MINUTE_MS, "values": {"temperature": 9.5}}
        truck.publish("vitalane/v1/shipment/truck-01/readings", json.dumps(reading), qos=1)
    until(lambda: heard, stack)
    topic, event = heard[0]
    assert topic == "vitalane/v1/alerts/shipment/cold-chain-too-warm"
    assert event["data"]["phase"] == "raised"
    readings = 'SELECT count("value") FROM "readings" WHERE "subject" = \'truck-01\''
    until(lambda: [row["count"] for row in stack.influxd.query(readings)] == [45], stack)
    until(lambda: stack.influxd.query('SELECT "alert_id" FROM "alerts" WHERE "rule" = \'cold-chain-too-warm\''), stack)
    assert re.search(r"truck-01.*above 8", stack.log("deliver")), "the channel `log` prints the alert"
    for one in (display, truck):
        one.disconnect()
        one.loop_stop()


def test_the_simulators_of_the_profile_are_heard(stack, running):
    for name in ("ingest", "flow", "deliver"):
        running(name)
    running("ward")
    running("fleet", "--speed", "60")  # a vehicle reports once a minute of its own time
    until(lambda: subjects(stack, "patient") == 12 and subjects(stack, "shipment") == 40, stack)
    known = {entry["subject"] for entry in yaml.safe_load((ROOT / "deploy/compose/registry.yaml").read_text())["devices"]}
    seen = {row["value"] for row in stack.influxd.query('SHOW TAG VALUES FROM "readings" WITH KEY = "subject"')}
    assert known <= seen, "the registry names devices that the simulators do not have"
