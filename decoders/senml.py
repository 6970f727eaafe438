"""SenML JSON, RFC 8428: packs resolved to records that stand for themselves, and those that name a metric of ours to packets.

The trap of its units: `/` and, in spite of its looks, `%` are ratios from 0 to 1 (RFC 8428 section 12.1, note 1). Percentages are `%RH`,
`%EL` and `/100`. A device that sends 97 as `%` is 9700 % and fails as implausible, in sight; the other reading would make 0.97 a deadly
saturation. The device is the topic's; of a record's name only the last part counts, which is the metric.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from decoders.examine import read_json
from decoders.packets import EARLIEST_MS, LATEST_MS, PacketBuilder, Run, Unreadable, shown
from decoders.topics import Topic
from decoders.wire import MAX_READINGS
from telemetry.metrics import unit_code
from telemetry.reasons import Reason

VERSION = 10  # of RFC 8428; a pack with a greater `bver` may mean what we do not know

RELATIVE_BELOW = 2**28
"""Times below this many seconds are relative to now (section 4.5.3)."""

NAMES = {"temp": "temperature", "hum": "humidity", "batt": "battery", "lat": "latitude", "lon": "longitude"}
"""Usual short names of our metrics."""

UNITS = {"%": "1", "lat": "deg", "lon": "deg"}
"""Units that SenML means otherwise than our catalogue's spellings do, or that only SenML has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_SEPARATORS = re.compile(r"[/:]")
_NUMBERS = ("bt", "bv", "bs", "v", "s", "t", "ut")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")
_BASE = frozenset({"bn", "bt", "bu", "bv", "bs", "bver"})


def resolve(pack: Sequence[Any], now: float) -> list[dict[str, Any]]:
    """Return a pack's records resolved (section 4.6): full names, absolute times in seconds, no base fields; in the pack's order.

    Records that carry only base fields vanish. Raises Unreadable where the pack breaks the RFC.
    """
    if not isinstance(pack, list):
        raise Unreadable(Reason.WRONG_TYPE, "a SenML pack is a JSON array")
    if not pack:
        raise Unreadable(Reason.WRONG_TYPE, "a SenML pack has at least one record")
    base: dict[str, Any] = {}
    records = []
    for record in pack:
        _check(record)
        base.update((key, record[key]) for key in ("bn", "bt", "bu", "bv", "bs") if key in record)
        if record.keys() - _BASE:
            records.append(_resolve_record(record, base, now))
    return records


def add_pack(builder: PacketBuilder, index: int, topic: Topic, payload: bytes, received_ms: int) -> None:
    """Add the readings of one message of the form `senml`, and the refusals of what is none."""
    try:
        records = _records(read_json(payload), received_ms)
    except Unreadable as error:
        builder.refuse(index, topic, error.reason, error.detail)
        return
    run = Run(builder, index, topic)
    for record in records:
        name = _metric(record["n"])
        try:
            run.add(name, _value(record, name), _unit(builder, name, record.get("u")), _time_ms(record["t"]))
        except Unreadable as error:
            run.refuse(error, name)
    run.close()


def _records(pack: Any, received_ms: int) -> list[dict[str, Any]]:
    if isinstance(pack, list) and len(pack) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} records in one pack")
    records = resolve(pack, received_ms / 1000)
    if not records:
        raise Unreadable(Reason.WRONG_TYPE, "no record of the pack has a value")
    return records


def _check(record: object) -> None:
    """Raise Unreadable unless a record's fields have the types of table 3."""
    if not isinstance(record, dict):
        raise Unreadable(Reason.WRONG_TYPE, "a record of the pack is no object")
    version = record.get("bver", VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Unreadable(Reason.WRONG_TYPE, "bver is no version number")
    if version > VERSION:
        raise Unreadable(Reason.UNSUPPORTED_VERSION, f"bver is above {VERSION}")
    for key in _NUMBERS:
        if key in record:
            _number(key, record[key])
    for key in _TEXTS:
        if key in record and not isinstance(record[key], str):
            raise Unreadable(Reason.WRONG_TYPE, f"{key} is no text")
    if not isinstance(record.get("vb", False), bool):
        raise Unreadable(Reason.WRONG_TYPE, "vb is neither true nor false")
    for key in record:
        if key.endswith("_"):
            raise Unreadable(Reason.UNSUPPORTED_VERSION, f"{shown(key)} must be understood, and is not")


def _number(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(Reason.WRONG_TYPE, f"{key} is no number")
    if not (math.isfinite(value) if isinstance(value, float) else -(2**1023) < value < 2**1023):
        raise Unreadable(Reason.NOT_FINITE, f"{key} is not a finite number")


def _resolve_record(record: dict[str, Any], base: dict[str, Any], now: float) -> dict[str, Any]:
    name = base.get("bn", "") + record.get("n", "")
    if not _NAME.fullmatch(name):
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} is no SenML name")
    values = [key for key in ("v", "vs", "vb", "vd") if key in record]
    if len(values) > 1 or not (values or "s" in record or "bs" in base or "bv" in base):
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} has not exactly one value")
    time = base.get("bt", 0) + record.get("t", 0)
    resolved = {key: value for key, value in record.items() if key not in _BASE}
    resolved["n"] = name
    resolved["t"] = now + time if time < RELATIVE_BELOW else time
    if "u" in record or "bu" in base:
        resolved["u"] = record.get("u", base.get("bu"))
    if "v" in record or ("bv" in base and not values and "s" not in record):
        resolved["v"] = base.get("bv", 0) + record.get("v", 0)
    if "s" in record or "bs" in base:
        resolved["s"] = base.get("bs", 0) + record.get("s", 0)
    return resolved


def _metric(name: str) -> str:
    last = _SEPARATORS.split(name)[-1]
    return NAMES.get(last, last)


def _value(record: dict[str, Any], name: str) -> object:
    value = record.get("v", record.get("vb"))
    if value is None:
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} has no value that is a number or a state")
    return value


def _unit(builder: PacketBuilder, name: str, unit: str | None) -> str | None:
    """Return our spelling of a record's unit; None, the catalogue's, where a ratio is how SenML writes the value of a switch."""
    metric = builder.plans.catalogue.get(name)
    if unit is None or metric is None:
        return None
    code = UNITS.get(unit, unit)
    return None if metric.unit == "{state}" and unit_code(code) == "1" else code


def _time_ms(seconds: float) -> int:
    if not EARLIEST_MS <= seconds * 1000 <= LATEST_MS:
        raise Unreadable(Reason.IMPOSSIBLE_TIME, "the time is not between the years 2000 and 9999")
    return round(seconds * 1000)
