"""What goes over which topic, as data: every channel of Vitalane, its messages with examples, and who sends them.

A new form of payload is documented by a line in CHANNELS.
"""

import json
from functools import partial
from typing import Any, Literal, NamedTuple

from cli.asyncapi_alert import alert_schemas
from decoders.schemas import senml_schema, wire_schemas
from decoders.topics import KINDS, PREFIX, READINGS, SENML, STATUS
from decoders.wire import OFFLINE, ONLINE, Sample, encode_batch, encode_reading, encode_series, encode_values
from telemetry.alert import AlertClass, AlertEvent, Evidence, Phase, Severity, alert_id, to_json

EXAMPLE_MS = 1_763_674_000_123
KIND = {"enum": list(KINDS), "description": "what is watched"}
DEVICE = {"description": "letters, digits and `. _ : -`, at most 128, the first a letter or digit", "examples": ["truck-01"]}
RULE = {"description": "the id of the rule", "examples": ["cold-chain-too-warm"]}


class Message(NamedTuple):
    title: str
    content_type: str
    schema: str  # of `schemas`
    examples: dict[str, Any]  # by their names: the payload as JSON
    summary: str = ""


class Channel(NamedTuple):
    address: str
    action: Literal["receive", "send"]  # what Vitalane does
    summary: str
    parameters: dict[str, dict[str, Any]]
    messages: dict[str, Message]
    retained: bool = False


def schemas() -> dict[str, Any]:
    """Return every schema that messages refer to, by its name."""
    return wire_schemas() | {"SenmlPack": senml_schema()} | alert_schemas()


def _from_device(form: str, summary: str, *, retained: bool = False, **messages: Message) -> Channel:
    return Channel(f"{PREFIX}/{{kind}}/{{device}}/{form}", "receive", summary, {"kind": KIND, "device": DEVICE}, messages, retained)


def _read(payload: bytes) -> Any:
    return json.loads(payload)


PACK = [
    {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1_763_674_000, "n": "temperature", "u": "Cel", "v": 4.2, "ut": 60},
    {"n": "humidity", "u": "%RH", "v": 40.1},
    {"n": "door", "vb": False},
]

ALERT = AlertEvent(
    alert_id=alert_id("cold-chain-too-warm", "shipment/shipment-7", EXAMPLE_MS - 3_600_000),
    revision=1,
    phase=Phase.RAISED,
    rule="cold-chain-too-warm",
    rule_version="6f1d2a9c0b34",
    severity=Severity.CRITICAL,
    alert_class=AlertClass.ENVIRONMENTAL,
    kind="shipment",
    subject="shipment-7",
    tags={"product": "vaccine"},
    signal="temperature",
    unit="Cel",
    comparison="> 8",
    threshold=8.0,
    value=9.4,
    peak=9.8,
    started_at_ms=EXAMPLE_MS - 3_600_000,
    ended_at_ms=None,
    time_ms=EXAMPLE_MS,
    detected_at_ms=EXAMPLE_MS + 40,
    historic=False,
    message="{subject}: {value:.1f} °C, above 8 °C since {started_at}",
    evidence=(Evidence(EXAMPLE_MS - 3_600_000, 8.1, "truck-01"), Evidence(EXAMPLE_MS, 9.4, "truck-01")),
    positions=((0, 41_022), (0, 44_187)),
    correlation_id="0-44187",
)

ours = partial(Message, content_type="application/json")

CHANNELS: dict[str, Channel] = {
    READINGS: _from_device(
        READINGS,
        "Readings in our JSON",
        readings=ours(
            "Readings",
            schema="WireMessage",
            examples={
                "one": _read(encode_reading("temperature", 4.2, EXAMPLE_MS, "Cel")),
                "several": _read(encode_values({"temperature": 4.2, "humidity": 40.1}, EXAMPLE_MS)),
                "batch": _read(encode_batch([Sample("temperature", 4.2 + step / 10, EXAMPLE_MS + 1000 * step) for step in range(2)])),
            },
        ),
        series=ours(
            "Series, version 2",
            schema="WireSeries",
            examples={
                "uneven": _read(encode_series({"temperature": [4.2, 4.3], "humidity": [40.1, None]}, [EXAMPLE_MS, EXAMPLE_MS + 60_000])),
                "even": {"v": 2, "time": EXAMPLE_MS, "every_ms": 1000, "values": {"spo2": [97, 96, 96]}},
            },
            summary="Several readings of each metric, as of a backlog.",
        ),
    ),
    SENML: _from_device(
        SENML,
        "Readings in SenML (RFC 8428)",
        senmlJson=Message("SenML, JSON", "application/senml+json", "SenmlPack", {"pack": PACK}),
        senmlCbor=Message("SenML, CBOR", "application/senml+cbor", "SenmlPack", {"pack": PACK}, "The labels are numbers: `x-cbor-label`."),
    ),
    STATUS: _from_device(
        STATUS,
        "Whether a device is there: by itself, or by its last will",
        retained=True,
        status=ours(
            "Status",
            schema="WireStatus",
            examples={"online": _read(ONLINE), "offline": _read(OFFLINE)},
            summary="The bare words `online` and `offline` mean the same.",
        ),
    ),
    "alerts": Channel(
        f"{PREFIX}/alerts/{{kind}}/{{rule}}",
        "send",
        "Alert events, where a channel of type `mqtt` is configured",
        {"kind": KIND, "rule": RULE},
        {"alert": Message("Alert event", "application/cloudevents+json", "AlertEvent", {"raised": _read(to_json(ALERT))})},
    ),
}
