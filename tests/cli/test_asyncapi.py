"""The AsyncAPI document is one, and is true: the real decoder takes its examples, the real events fit its schemas."""

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
import yaml
from asyncapi3.models.asyncapi import AsyncAPI3
from jsonschema import Draft7Validator, FormatChecker
from pydantic import ValidationError

from cli.asyncapi import as_yaml, document
from cli.asyncapi_channels import ALERT, CHANNELS, schemas
from cli.asyncapi_others import SPARKPLUG, SPARKPLUG_SCHEMAS, mapped
from cli.main import run
from decoders.decode import decode_row
from decoders.library import read_document
from decoders.senml import LABELS
from decoders.topics import FORMS, KINDS, alert_topic, parse
from journal.messages import decode_messages, encode_messages
from sinks.mqtt import TOPIC
from telemetry.alert import AlertEvent, Phase, Severity, from_json, to_json
from telemetry.metrics import CATALOGUE
from telemetry.readings import Decoded
from tests.edge_nodes import EdgeNode
from tests.goldens import assert_golden

ROOT = Path(__file__).parents[2]
RECEIVED_MS = 1_763_674_100_000

CONFIGURATION = """\
mappings: [{use: tasmota, zone: Europe/Amsterdam}]
broker: {host: broker.example, port: 8883, user: ingest, password: {env: VITALANE_TEST_SECRET}, protocol: 5, tls: {}}
channels:
  here: {type: mqtt}
  there: {type: mqtt, host: "::1", user: teller, password: {env: VITALANE_TEST_SECRET}}
"""


def nodes(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(node for child in children for node in nodes(child))]


def resolved(made: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), reference
    found: Any = made
    for step in reference[2:].split("/"):
        found = found[step]
    return found


def validator(schema: str) -> Draft7Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas()}}
    return Draft7Validator(root, format_checker=FormatChecker())


def decode(form: str, payload: bytes) -> Decoded:
    body = encode_messages([f"vitalane/v1/shipment/truck-01/{form}".encode()], [payload], b"\0")
    return decode_row(decode_messages(body), RECEIVED_MS, CATALOGUE)


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "vitalane.yaml").write_text(CONFIGURATION)
    return tmp_path / "vitalane.yaml"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["asyncapi", *arguments]) == 0
    return capsys.readouterr().out


def test_the_document_is_asyncapi_3(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("-c", str(configured))):
        made = json.loads(printed(capsys, "--json", *arguments))
        assert yaml.safe_load(printed(capsys, *arguments)) == made
        mapped = {"tasmotaSensor", "tasmotaLwt", "tasmotaState"} if arguments else set()
        assert set(AsyncAPI3.model_validate(made).channels.root) == {*FORMS, "alerts", *SPARKPLUG, *mapped}
        references = [node["$ref"] for node in nodes(made) if isinstance(node, dict) and "$ref" in node]
        assert len(references) > 20
        assert all(resolved(made, reference) is not None for reference in references)


@pytest.mark.parametrize("steps", [("info", "title"), ("operations", "receiveReadings", "action"), ("channels", "readings", "address")])
def test_a_document_that_is_none_is_found(steps: tuple[str, ...]) -> None:
    """The check itself: models that took everything would prove nothing."""
    made = document()
    holder = made
    for step in steps[:-1]:
        holder = holder[step]
    holder[steps[-1]] = {"wrong": [1]}
    with pytest.raises(ValidationError):
        AsyncAPI3.model_validate(made)


def test_the_document_in_the_docs_is_the_programs() -> None:
    assert_golden(ROOT / "docs/asyncapi.yaml", as_yaml(document()).encode())


def test_the_schemas_are_schemas() -> None:
    for name, schema in (schemas() | SPARKPLUG_SCHEMAS).items():
        Draft7Validator.check_schema(schema)
        assert schema["title"] == name


EXAMPLES = [
    (form, message.content_type, message.schema, payload)
    for form, channel in CHANNELS.items()
    for message in channel.messages.values()
    for payload in message.examples.values()
]


@pytest.mark.parametrize(("form", "content_type", "schema", "payload"), EXAMPLES)
def test_an_example_is_what_its_schema_says(form: str, content_type: str, schema: str, payload: Any) -> None:
    assert not list(validator(schema).iter_errors(payload)), (form, content_type)


@pytest.mark.parametrize(("form", "content_type", "schema", "payload"), [example for example in EXAMPLES if example[0] != "alerts"])
def test_what_a_device_may_send_is_taken(form: str, content_type: str, schema: str, payload: Any) -> None:
    """By the decoder that runs live: what somebody builds against the document works."""
    body = json.dumps(payload).encode()
    if content_type.endswith("cbor"):
        numbers = {name: schemas()[schema]["items"]["properties"][name]["x-cbor-label"] for name in LABELS.values()}
        body = cbor2.dumps([{numbers[key]: value for key, value in record.items()} for record in payload])
    decoded = decode(form, body)
    assert not decoded.refusals
    assert decoded.packets.values or decoded.statuses


@pytest.mark.parametrize(
    ("form", "schema", "payload"),
    [
        ("readings", "WireMessage", {}),
        ("readings", "WireMessage", {"metric": "temperature"}),
        ("readings", "WireMessage", {"metric": "temperature", "vlaue": 1}),
        ("readings", "WireMessage", {"metric": "temperature", "value": "4"}),
        ("readings", "WireMessage", {"metric": "temperature", "value": 4, "values": {"humidity": 1}}),
        ("readings", "WireMessage", {"v": 2, "metric": "temperature", "value": 4}),
        ("readings", "WireMessage", {"metric": "temperature", "value": 4, "time": 12}),
        ("readings", "WireMessage", {"readings": []}),
        ("readings", "WireMessage", {"readings": [{"metric": "temperature"}]}),
        ("readings", "WireMessage", [1]),
        ("senml", "SenmlPack", []),
        ("senml", "SenmlPack", {}),
        ("senml", "SenmlPack", [1]),
        ("senml", "SenmlPack", [{"n": "temperature", "v": "4"}]),
        ("senml", "SenmlPack", [{"n": "temperature", "v": 4, "bver": 11}]),
        ("senml", "SenmlPack", [{"n": "temperature", "v": 4, "new_": 1}]),
        ("status", "WireStatus", {"status": "away"}),
        ("status", "WireStatus", {"status": "online", "since": 1}),
    ],
)
def test_what_the_schema_refuses_is_refused(form: str, schema: str, payload: Any) -> None:
    """Were the schema laxer than the decoder, a device's author would learn of it from the quarantine."""
    assert list(validator(schema).iter_errors(payload))
    assert decode(form, json.dumps(payload).encode()).refusals


EVENTS = [
    ALERT,
    ALERT._replace(phase=Phase.RESOLVED, revision=2, ended_at_ms=ALERT.time_ms, tags={}, threshold=None, value=None, peak=None),
    ALERT._replace(
        phase=Phase.ESCALATED,
        escalated_at_ms=ALERT.time_ms,
        worst_severity=Severity.CRITICAL,
        told_severities=(Severity.WARNING, Severity.CRITICAL),
        latching=True,
        superseded_by="0123456789abcdef",
        inhibited_by="shadow",
        evidence=(ALERT.evidence[0]._replace(signal="mean(spo2, 30 s)"),),
    ),
]


def test_what_mappings_read_is_said(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(printed(capsys, "--json", "-c", str(configured)))
    assert made["channels"]["tasmotaSensor"]["address"] == "tele/{device}/SENSOR"
    assert made["components"]["schemas"]["TasmotaSensorPayload"]["x-readings"]["temperature"] == "*.Temperature | [0]"
    channels, _ = mapped(read_document("zigbee2mqtt").mappings)
    assert {channel.address for channel in channels.values()} >= {"zigbee2mqtt/bridge/{rest}", "zigbee2mqtt/{device}"}


def test_an_edge_node_speaks_as_the_document_says() -> None:
    node = EdgeNode()
    for name, (topic, _) in {"edgeNode": node.nbirth(), "edgeDevice": node.dbirth("probe", [])}.items():
        levels = SPARKPLUG[name].address.split("/")
        said = dict(zip(levels, topic.decode().split("/"), strict=True))
        assert said["{type}"] in SPARKPLUG[name].parameters["type"]["enum"]
        assert said["spBv1.0"] == "spBv1.0"


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_what_its_schema_says_and_nothing_of_it_is_unsaid(event: AlertEvent) -> None:
    written = json.loads(to_json(event))
    assert not list(validator("AlertEvent").iter_errors(written))
    made = schemas()
    assert set(written) == set(made["AlertEvent"]["properties"])
    assert set(written["data"]) <= set(made["AlertData"]["properties"])
    assert {key for item in written["data"]["evidence"] for key in item} <= set(made["Evidence"]["properties"])
    assert from_json(json.dumps(written).encode()) == event


def test_an_event_without_what_it_always_has_is_none() -> None:
    for key in ("id", "data"):
        written = json.loads(to_json(ALERT))
        del written[key]
        assert list(validator("AlertEvent").iter_errors(written))
    written = json.loads(to_json(ALERT))
    del written["data"]["alert_id"]
    assert list(validator("AlertEvent").iter_errors(written))


def test_the_addresses_are_those_of_the_program() -> None:
    example = {"device": "truck-01", "rule": "warm"}
    for form, channel in CHANNELS.items():
        for kind in KINDS:
            topic = channel.address.format(kind=kind, **{name: example[name] for name in channel.parameters if name != "kind"})
            if form == "alerts":
                assert topic == alert_topic(kind, "warm")
            else:
                assert parse(topic.encode()) == (kind, "truck-01", form)
    assert CHANNELS["alerts"].address == TOPIC


def test_the_brokers_are_those_of_the_configuration_and_nothing_secret_is_told(configured: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("VITALANE_TEST_SECRET", "hunter2")
    text = printed(capsys, "-c", str(configured))
    made = yaml.safe_load(text)
    assert {name: (server["host"], server["protocol"], server["protocolVersion"]) for name, server in made["servers"].items()} == {
        "broker": ("broker.example:8883", "secure-mqtt", "5"),
        "there": ("[::1]:1883", "mqtt", "5"),
    }
    assert made["channels"]["readings"]["servers"] == [{"$ref": "#/servers/broker"}]
    assert made["channels"]["alerts"]["servers"] == [{"$ref": "#/servers/broker"}, {"$ref": "#/servers/there"}]
    assert not any(word in text for word in ("hunter2", "VITALANE_TEST_SECRET", "teller"))
