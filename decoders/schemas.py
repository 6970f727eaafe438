"""JSON Schemas of what devices may publish, made from the types and tables that decode it. For people: nothing is decoded with them."""

from typing import Any

import msgspec

from decoders.packets import EARLIEST_MS, LATEST_MS
from decoders.senml import LABELS, MAX_UPDATE_S, VERSION
from decoders.versions import NEWEST
from decoders.wire import MAX_READINGS, WireMessage, WireReading, WireSeries, WireStatus
from decoders.wire import VERSION as WIRE_VERSION
from telemetry.metrics import UNITS

REFERENCE = "#/components/schemas/{name}"

_TIME = {
    "description": "Milliseconds since 1970, or RFC 3339 with a zone; absent: when it is received.",
    "anyOf": [
        {"type": "integer", "minimum": EARLIEST_MS, "maximum": LATEST_MS},
        {"type": "string", "format": "date-time"},
        {"type": "null"},
    ],
}
_FORMS: tuple[dict[str, Any], ...] = (
    {"metric": "string", "value": ["number", "boolean"]},
    {"values": "object"},
    {"readings": "array"},
)
"""What says what was measured: exactly one of these is there."""
_SERIES_FORMS = {"values": "object", "readings": "array"}

_SENML_TYPES = {"bver": "integer", "vb": "boolean"} | dict.fromkeys(("bn", "bu", "n", "u", "vs", "vd"), "string")
_SENML_WORDS = {
    "bver": "base version",
    "bn": "base name",
    "bt": "base time, in seconds",
    "bu": "base unit",
    "bv": "base value",
    "bs": "base sum",
    "n": "name; the last part after `/` or `:` is the metric",
    "u": "unit; `%` and `/` are ratios, `%RH`, `%EL` and `/100` percent",
    "v": "value",
    "vs": "text: no reading of ours",
    "vb": "state",
    "s": "sum: no reading of ours",
    "t": "time, in seconds; below 2^28 relative to now",
    "ut": f"seconds until the next reading at the latest, up to {MAX_UPDATE_S}: who is silent for longer is told of",
    "vd": "data: no reading of ours",
}


def wire_schemas() -> dict[str, Any]:
    """Return the schemas of our JSON by the names of its types: `WireMessage`, `WireSeries`, `WireReading`, `WireStatus`."""
    _, schemas = msgspec.json.schema_components([WireMessage, WireReading, WireSeries, WireStatus], ref_template=REFERENCE)
    for schema in schemas.values():
        if "v" in schema["properties"]:
            schema["properties"]["v"] = {"const": WIRE_VERSION, "default": WIRE_VERSION}
        if "time" in schema["properties"]:
            schema["properties"]["time"] = dict(_TIME)
        if "unit" in schema["properties"]:
            schema["properties"]["unit"] |= {"examples": sorted(UNITS)[:3]}
    message = schemas["WireMessage"]
    message["oneOf"] = [{"required": list(keys), "properties": {key: {"type": kind} for key, kind in keys.items()}} for keys in _FORMS]
    message["properties"]["readings"]["anyOf"][0] |= {"minItems": 1, "maxItems": MAX_READINGS}
    schemas["WireSeries"]["properties"]["v"] = {"const": NEWEST}
    schemas["WireSeries"]["oneOf"] = [{"required": [key], "properties": {key: {"type": kind}}} for key, kind in _SERIES_FORMS.items()]
    schemas["WireStatus"]["properties"]["status"] = {"enum": ["online", "offline"]}
    return dict(sorted(schemas.items()))


def senml_schema() -> dict[str, Any]:
    """Return the schema of a SenML pack (RFC 8428), in the names of its JSON; in CBOR the labels are `x-cbor-label`."""
    record = {
        name: {"type": _SENML_TYPES.get(name, "number"), "description": _SENML_WORDS[name], "x-cbor-label": label}
        for label, name in LABELS.items()
    }
    record["bver"] |= {"minimum": 1, "maximum": VERSION}
    return {
        "title": "SenmlPack",
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_READINGS,
        "items": {"type": "object", "properties": record, "patternProperties": {"_$": False}},
    }
