"""Versions of our JSON: a message of an older one is written anew in the words of the newest before it is read, so one reader reads all.

Version 2 says several metrics with a unit each, and whole series, as a device with a backlog has them; version 1's `metric` and `value` are
that with one metric. A version is never taken back: devices are not updated.
"""

from collections.abc import Callable
from typing import Any

from decoders.packets import Unreadable, shown
from telemetry.reasons import Reason

NEWEST = 2

KEYS = {
    1: frozenset({"v", "device", "time", "metric", "value", "unit", "values", "readings"}),
    2: frozenset({"v", "device", "time", "times", "every_ms", "values", "units", "readings"}),
}
READING_KEYS = frozenset({"metric", "value", "unit", "time"})


def upcast(document: dict[str, Any], version: int) -> dict[str, Any]:
    """Return a message of any version in the form of the newest one. Raises Unreadable where it breaks the rules of its own."""
    while version < NEWEST:
        document = UPCASTERS[version](document)
        version += 1
    return document


def _one_to_two(document: dict[str, Any]) -> dict[str, Any]:
    forms = [form for form in ("metric", "values", "readings") if document.get(form) is not None]
    if len(forms) != 1:
        raise Unreadable(Reason.WRONG_TYPE, "exactly one of metric, values and readings says what was measured")
    own = [key for key in ("value", "unit") if document.get(key) is not None]
    if forms != ["metric"]:
        own += [key for key in ("units", "times", "every_ms") if key in document]  # who writes these means version 2, and other values
        if own:
            belongs = "a metric" if own[0] in {"value", "unit"} else "version 2"
            raise Unreadable(Reason.WRONG_TYPE, f"{own[0]} belongs to {belongs}, not to {forms[0]}")
        return {key: value for key, value in document.items() if key in {"device", "time", *forms}}
    name, unit = document["metric"], document.get("unit")
    if not isinstance(name, str):
        raise Unreadable(Reason.WRONG_TYPE, "metric is no text")
    if "value" not in document:
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} has no value")
    if isinstance(document["value"], list):
        raise Unreadable(Reason.WRONG_TYPE, f"the value of {shown(name)} is no number")
    changed: dict[str, Any] = {"values": {name: document["value"]}, "time": document.get("time")}
    return changed | ({"units": {name: unit}} if unit is not None else {})


UPCASTERS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _one_to_two}
