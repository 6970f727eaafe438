"""The JSON Schema of an alert event as it leaves: a CloudEvents 1.0 envelope around the fields of `telemetry.alert.AlertEvent`."""

from datetime import datetime
from typing import Any, NamedTuple, Optional, get_type_hints

from pydantic import BaseModel, create_model

from telemetry.alert import ADDED, EVENT_TYPE, AlertEvent, Evidence

IN_THE_ENVELOPE = ("correlation_id",)


def alert_schemas() -> dict[str, Any]:
    """Return the schemas of the event and of its parts by their names: `AlertEvent`, `AlertData` and what that refers to."""
    evidence = _model(Evidence, "Evidence", optional=tuple(Evidence._field_defaults))
    data = _model(AlertEvent, "AlertData", optional=ADDED, evidence=list[evidence], positions=list[list[int]])  # type: ignore[valid-type]
    schema = data.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    parts: dict[str, Any] = schema.pop("$defs")
    return {"AlertEvent": _envelope(), "AlertData": schema, **parts}


def _model(record: type[NamedTuple], title: str, optional: tuple[str, ...], **kinds: Any) -> type[BaseModel]:
    """Return the model of a record as `to_json` writes it: instants as RFC 3339, what is optional left out where there is nothing of it."""
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(record).items():
        written, kind = name.removesuffix("_ms"), kinds.get(name, hint)
        if name != written:
            kind = Optional[datetime] if type(None) in getattr(hint, "__args__", ()) else datetime  # noqa: UP045 - a value
        if name not in IN_THE_ENVELOPE:
            fields[written] = (kind, None) if written in optional else (kind, ...)
    return create_model(title, **fields)


def _envelope() -> dict[str, Any]:
    text, constant = {"type": "string"}, "const"
    properties: dict[str, Any] = {
        "specversion": {constant: "1.0"},
        "id": text | {"description": "The idempotency key: the same decision always has the same."},
        "source": text,
        "type": {constant: EVENT_TYPE},
        "subject": text,
        "time": text | {"format": "date-time"},
        "correlationid": text | {"description": "One over everything that follows from the deciding message."},
        "datacontenttype": {constant: "application/json"},
        "data": {"$ref": "#/components/schemas/AlertData"},
    }
    return {"title": "AlertEvent", "type": "object", "properties": properties, "required": list(properties)}
