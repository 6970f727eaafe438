"""A mapping to begin with, from messages that none claims: what could be a device in their topics, what could be a metric in their fields.

A guess, for a person to look at: nothing is ever read by it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from typing import Any, NamedTuple

from decoders.packets import Unreadable
from decoders.payloads import read_json_document
from decoders.senml import NAMES
from telemetry.metrics import Metric

MAX_LOOKED_AT = 50
MAX_DEPTH = 5

DEVICE_NAMES = ("device", "deviceid", "device_id", "id", "serial", "mac", "deveui", "dev_eui", "name")
TIME_NAMES = ("time", "timestamp", "ts", "datetime", "date", "received_at", "measured_at", "epoch", "dateobserved")
HINTS = {
    "temp": "temperature", "tempc": "temperature", "hum": "humidity", "rh": "humidity", "batt": "battery", "bat": "battery",
    "lat": "latitude", "lon": "longitude", "lng": "longitude", "lux": "light", "illuminance": "light", "contact": "door", "opened": "door",
    "hr": "heart_rate", "heartrate": "heart_rate", "pulse": "heart_rate", "rr": "respiratory_rate", "sao2": "spo2", **NAMES,
}  # fmt: skip
"""What fields of other makes are often called."""

_VARIES = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){3,}[0-9A-Fa-f]{2}|0x[0-9A-Fa-f]{6,}|[0-9A-Fa-f]{12,}|(?!v[0-9]+$).*[0-9].*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def topic_shape(topics: Sequence[str]) -> str:
    """Return a pattern that topics of one length share: the last level that varies, or looks like a name with a number, is the device."""
    levels = list(zip(*(topic.split("/") for topic in topics), strict=True))
    varies = [len(set(level)) > 1 or bool(_VARIES.fullmatch(level[0])) for level in levels]
    device = max((at for at, yes in enumerate(varies) if yes), default=None)
    return "/".join("{device}" if at == device else "+" if varies[at] else level[0] for at, level in enumerate(levels))


def group_of(topic: str) -> str:
    """Return what topics of one shape have in common, to group by."""
    return "/".join("*" if _VARIES.fullmatch(level) else level for level in topic.split("/"))


def suggest(topics: Sequence[str], payloads: Iterable[bytes], catalogue: Dict[str, Metric]) -> str:
    """Return a mapping document in YAML for messages of one shape."""
    pattern = topic_shape(topics[:MAX_LOOKED_AT])
    name = (
        re.sub(r"[^a-z0-9]+", "-", "-".join(level for level in pattern.lower().split("/") if level[:1] not in "+{#")).strip("-") or "device"
    )
    fields: dict[str, Any] = {}
    readable = False
    for payload, _ in zip(payloads, range(MAX_LOOKED_AT), strict=False):
        try:
            document = read_json_document(payload)
        except Unreadable:
            continue
        readable = True
        for leaf in leaves(document):
            fields.setdefault(leaf.path, leaf.value)
    lines = ["mappings:", f"  - name: {name}", f"    topic: {pattern}"]
    if "{device}" not in pattern:
        lines.append(f"    device: {_device(fields, name)}")
    if not readable:
        return "\n".join([*lines, "    # no JSON: see `lines`, `columns` and `bytes` for texts and bytes", "    payload: text", ""])
    return "\n".join([*lines, *_time(fields), *_readings(fields, catalogue), ""])


class Leaf(NamedTuple):
    """One value of a document and where it stands."""

    path: str  # as JMESPath
    steps: tuple[str | int, ...]
    value: Any


def leaves(document: Any, path: str = "", steps: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yield the values of a document; of a list, its first element's."""
    if isinstance(document, dict) and len(steps) < MAX_DEPTH:
        for name, value in document.items():
            step = name if _WORD.fullmatch(name) else json.dumps(name)
            yield from leaves(value, f"{path}.{step}" if path else step, (*steps, name))
    elif isinstance(document, list) and document and len(steps) < MAX_DEPTH:
        yield from leaves(document[0], f"{path}[0]", (*steps, 0))
    elif document is not None:
        yield Leaf(path or "@", steps, document)


def _device(fields: Dict[str, Any], name: str) -> str:
    for path, value in fields.items():
        if isinstance(value, str) and _last(path) in DEVICE_NAMES:
            return f"{{path: {path}}}"
    return name


def _time(fields: Dict[str, Any]) -> list[str]:
    for path, value in fields.items():
        if _last(path) not in TIME_NAMES:
            continue
        if isinstance(value, bool | list):
            continue
        if isinstance(value, int | float):
            form = "s" if value < 1e11 else "ms" if value < 1e14 else "us" if value < 1e17 else "ns"
            return [f"    time: {{path: {path}, form: {form}}}"]
        if re.search(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$", str(value)):
            return [f"    time: {path}"]
        return [f"    time: {{path: {path}, form: local, zone: UTC}}  # which zone?"]
    return []


def _readings(fields: Dict[str, Any], catalogue: Dict[str, Metric]) -> list[str]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, value in fields.items():
        if isinstance(value, int | float | bool) and _last(path) not in TIME_NAMES:
            metric = _metric(path, catalogue)
            if metric is not None:
                found[metric].append(path)
    if not found:
        names = [path for path, value in fields.items() if isinstance(value, int | float) and not isinstance(value, bool)]
        return [f"    # numbers: {', '.join(names[:20]) or 'none'}", "    readings: {}"]
    unit = {name: "" if metric.unit == "{state}" else f', unit: "{metric.unit}"' for name, metric in catalogue.items()}
    return ["    readings:", *(f"      {name}: {{path: '{paths[0]}'{unit[name]}}}" for name, paths in found.items())]


def _metric(path: str, catalogue: Dict[str, Metric]) -> str | None:
    for word in reversed(re.findall(r"[A-Za-z0-9_]+", path)):
        plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", word).lower()
        candidates = (plain, word.lower(), HINTS.get(plain.replace("_", "")), HINTS.get(plain.split("_")[0]), plain.split("_")[0])
        for name in candidates:
            if name in catalogue:
                return name
    return None


def _last(path: str) -> str:
    words = re.findall(r"[A-Za-z0-9_]+", path)
    return words[-1].lower() if words else ""
