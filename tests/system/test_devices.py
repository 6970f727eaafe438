"""Devices of other makes in a running system: read as mapped, assigned while all runs, strangers kept apart, nobody speaks for another."""

import json

import pytest

from cli.places import telemetry_path
from journal.reader import JournalReader
from journal.rows import RowKind
from rules.control import read_record
from simulators.faults import Message
from simulators.publish import Broker, Publisher
from tests.house import House, until

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(180)]

RULES = "rules: [{id: warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, severity: warning}]"
REGISTRY = """\
devices: [{device: fridge, subject: crate-1, kind: shipment}, {device: d1, kind: shipment}, {device: simulator-1, kind: shipment}]
unknown: quarantine
"""
MAPPING = "mappings: [{name: acme, topic: 'acme/{device}/data', claims: me, readings: {temperature: {path: t, unit: Cel}}}]"


@pytest.fixture
def house(tmp_path, start_mosquitto):
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    (tmp_path / "acme.yaml").write_text(MAPPING)
    settings = {"rules": ["rules.yaml"], "registry": "registry.yaml", "mappings": ["acme.yaml", "zigbee2mqtt"]}
    with House(tmp_path, start_mosquitto(), **settings) as running:
        until(lambda: running.status("ingest").get("connected"), running.told)
        yield running


def publish(house: House, *messages: tuple[str, object]) -> None:
    broker = Broker(port=house.broker.port, user=house.broker.user, password=house.broker.password)
    with Publisher(broker, clients=1) as publisher:
        for topic, payload in messages:
            body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            assert publisher.send(Message(0, topic, body))


def heard(house: House) -> dict[str, dict]:
    return {item["device"]: item for item in map(json.loads, house.command("devices", "list", "--json").stdout.splitlines())}


def refused(house: House) -> set[tuple[str, str]]:
    return {(item["reason"], item["topic"]) for item in map(json.loads, house.command("quarantine", "list", "--json").stdout.splitlines())}


def test_devices_of_other_makes_in_a_running_system(house):
    publish(house, ("zigbee2mqtt/fridge", {"temperature": 9}), ("acme/d1/data", {"t": 4, "me": "d1"}))
    until(lambda: [event.subject for event in house.events()] == ["crate-1"], house.told)
    assert heard(house)["d1"]["heard"]["readings"] == {"temperature": 1}

    publish(house, ("zigbee2mqtt/stranger", {"temperature": 3}), ("acme/d1/data", {"t": 4, "me": "fridge"}), ("other/x1/y", {"temp": 1}))
    publish(house, *[("acme/d1/data", b"{")] * 6)
    expected = {("unknown_device", "zigbee2mqtt/stranger"), ("device_mismatch", "acme/d1/data"), ("malformed", "acme/d1/data")}
    until(lambda: refused(house) == expected, house.told)  # nobody subscribed to the third topic
    technical = {("unknown-device", "stranger"), ("device-mismatch", "d1"), ("device-malformed", "d1")}
    until(lambda: technical <= {(event.rule, event.subject) for event in house.events()}, house.told)
    assert heard(house)["stranger"]["registered"] is False

    arguments = ("--kind", "shipment", "--subject", "crate-9", "--why", "a new crate", "--json")
    told = json.loads(house.command("devices", "assign", "stranger", *arguments).stdout)
    assert (told["applied"], set(told["offsets"])) == (True, {"0", "1"})
    publish(house, ("zigbee2mqtt/stranger", {"temperature": 9.5}))
    until(lambda: ("warm", "crate-9") in {(event.rule, event.subject) for event in house.events()}, house.told)

    with JournalReader(telemetry_path(house.data_dir)) as reader:
        rows = [row for partition in range(2) for row in reader.read(partition, 0, max_rows=5_000) if row.kind == RowKind.CONTROL]
    registries = [record for record in map(read_record, (row.body for row in rows)) if record["type"] == "registry"]
    assert [record.get("why", "") for record in registries] == ["", "a new crate"] * 2
    assert "everything is accounted for" in house.command("verify").stdout
