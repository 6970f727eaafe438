"""Changing what a message of our JSON says: its stamps, its values, its keys. What is no such message stays as it is."""

import json
from collections.abc import Callable
from typing import Any


def restamped(payload: bytes, shift_ms: int) -> bytes:
    """Return a message with every stamp moved; one without a stamp is measured when it is received, whatever its clock says."""
    body = _body(payload)
    if body is None or not shift_ms:
        return payload
    for part in (body, *body.get("readings", ())):
        if isinstance(part.get("time"), int):
            part["time"] += shift_ms
    return encoded(body)


def revalued(payload: bytes, change: Callable[[str, float], float]) -> tuple[bytes, int]:
    """Return a message with its values changed, and how many were; `change` gets metric and value. States stay as they are."""
    body, changed = _body(payload), 0
    if body is None:
        return payload, 0
    if isinstance(body.get("values"), dict):
        before = body["values"]
        body["values"] = {metric: change(metric, value) if _is_number(value) else value for metric, value in before.items()}
        changed = sum(after != before[metric] for metric, after in body["values"].items())
    for part in (body, *body.get("readings", ())):
        if "metric" in part and _is_number(part.get("value")):
            after = change(part["metric"], part["value"])
            changed += after != part["value"]
            part["value"] = after
    return (encoded(body), changed) if changed else (payload, 0)


def readings(payload: bytes) -> list[tuple[str, int | None, float]]:
    """Return metric, stamp and value of every reading of a message, in its order; none of what is no message of ours."""
    body = _body(payload)
    if body is None:
        return []
    found = [(metric, body.get("time"), float(value)) for metric, value in (body.get("values") or {}).items()]
    return found + [
        (part["metric"], part.get("time"), float(part["value"])) for part in (body, *body.get("readings", ())) if "metric" in part
    ]


def rewritten(payload: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """Return a message with its object changed."""
    body = _body(payload)
    return payload if body is None else encoded(change(body))


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _body(payload: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(payload)
    except ValueError:
        return None
    return body if isinstance(body, dict) and ("values" in body or "readings" in body or "metric" in body) else None
