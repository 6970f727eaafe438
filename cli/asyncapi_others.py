"""The channels of other makes: Sparkplug's, which are fixed, and those that a configuration's mappings read."""

import re
from typing import Any

from cli.asyncapi_channels import Channel, Message
from decoders.mapping_model import LongModel, MappingModel, PartModel
from decoders.topics import Pattern

NAME = {"description": "without / + #"}
ANY = {"description": "anything: it is not looked at"}

SPARKPLUG_SCHEMAS: dict[str, Any] = {
    "SparkplugPayload": {
        "title": "SparkplugPayload",
        "description": "Sparkplug B 3.0: a protocol buffer, `Payload` of sparkplug_b.proto; here the fields that are read",
        "type": "object",
        "properties": {
            "timestamp": {"type": "integer", "description": "ms since 1970"},
            "seq": {"type": "integer", "minimum": 0, "maximum": 255},
            "metrics": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "alias": {"type": "integer", "minimum": 0},
                        "timestamp": {"type": "integer"},
                        "datatype": {"type": "integer"},
                        "is_historical": {"type": "boolean"},
                        "is_null": {"type": "boolean"},
                        "value": {"type": ["number", "boolean", "string"]},
                    },
                },
            },
        },
    },
    "SparkplugState": {
        "title": "SparkplugState",
        "type": "object",
        "required": ["online", "timestamp"],
        "properties": {"online": {"type": "boolean"}, "timestamp": {"type": "integer", "description": "ms since 1970"}},
    },
}

_PAYLOAD = Message("Sparkplug payload", "application/x-protobuf", "SparkplugPayload", {})

SPARKPLUG: dict[str, Channel] = {
    "edgeNode": Channel(
        "spBv1.0/{group}/{type}/{node}",
        "receive",
        "What an edge node says of itself, where `sparkplug` is configured",
        {"group": NAME, "node": NAME, "type": {"enum": ["NBIRTH", "NDATA", "NDEATH"]}},
        {"edgeNodePayload": _PAYLOAD},
    ),
    "edgeDevice": Channel(
        "spBv1.0/{group}/{type}/{node}/{device}",
        "receive",
        "What an edge node says of a device",
        {"group": NAME, "node": NAME, "device": NAME, "type": {"enum": ["DBIRTH", "DDATA", "DDEATH"]}},
        {"edgeDevicePayload": _PAYLOAD},
    ),
    "rebirth": Channel(
        "spBv1.0/{group}/NCMD/{node}",
        "send",
        "An edge node is asked to be born again: something of it was lost",
        {"group": NAME, "node": NAME},
        {"rebirthPayload": _PAYLOAD},
    ),
    "hostState": Channel(
        "spBv1.0/STATE/{host}",
        "send",
        "Whether we listen, retained; its last will says no",
        {"host": NAME},
        {
            "hostState": Message(
                "Host state", "application/json", "SparkplugState", {"online": {"online": True, "timestamp": 1763674000123}}
            )
        },
        retained=True,
    ),
}


def mapped(mappings: list[MappingModel]) -> tuple[dict[str, Channel], dict[str, Any]]:
    """Return the channels that mappings read, by their names, and the schemas of their messages."""
    channels, schemas = {}, {}
    for mapping in mappings:
        name = re.sub(r"[^a-zA-Z0-9]+(.)?", lambda match: (match[1] or "").upper(), mapping.name)
        schema = f"{name[0].upper()}{name[1:]}Payload"
        address, parameters = _address(mapping.topic)
        message = Message(mapping.name, _content_type(mapping), schema, {}, mapping.about)
        channels[name] = Channel(address, "receive", f"Read by the mapping `{mapping.name}`", parameters, {f"{name}Payload": message})
        schemas[schema] = {"title": schema, "description": mapping.about or mapping.name, "x-readings": _readings(mapping)}
    return channels, schemas


def _address(topic: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return a topic in which every level that is open has a name."""
    levels, parameters = [], dict.fromkeys(Pattern(topic).parts, NAME)
    for number, level in enumerate(topic.split("/"), start=1):
        named = {"+": f"level{number}", "#": "rest"}.get(level)
        levels.append(f"{{{named}}}" if named else level)
        parameters |= {named: ANY} if named else {}
    return "/".join(levels), parameters


def _content_type(mapping: MappingModel) -> str:
    if mapping.columns is not None:
        return "text/csv"
    if mapping.lines is not None or mapping.payload == "text":
        return "text/plain"
    if mapping.bytes is not None and mapping.bytes.path is None:
        return "application/octet-stream" if mapping.bytes.encoding == "raw" else "text/plain"
    return "application/json"


def _readings(mapping: MappingModel) -> dict[str, str]:
    """Return where each metric stands."""
    found: dict[str, str] = {}
    parts: list[PartModel] = list(mapping.parts or [mapping])
    for part in parts:
        found |= {metric: reading.path for metric, reading in part.readings.items()}
        found |= {} if part.long is None else _long(part.long)
    return found


def _long(model: LongModel) -> dict[str, str]:
    return {metric: f"{model.value.path}, where {model.name} is {name}" for name, metric in model.names.items()}
