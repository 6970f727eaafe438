"""A mapping to begin with, from messages that none claims: what could be a device in their topics, what could be a metric in their fields.

A guess, for a person to look at: nothing is ever read by it. Only what a whole name says is guessed, and what comes from outside is written
on one line, as a quoted text: a suggestion is a document that loads, whatever the messages hold.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from itertools import islice
from typing import Any, NamedTuple

from decoders.packets import Unreadable
from decoders.paths import compile_path
from decoders.payloads import read_json_document
from decoders.senml import NAMES
from decoders.topics import Pattern
from telemetry.metrics import Metric, conversion

MAX_LOOKED_AT = 50
MAX_FIELDS = 500
MAX_NAMED = 20
MAX_DEPTH = 5
MAX_NAME = 64  # characters of a mapping's name
SHOWN_TOPIC = 200

DEVICE_NAMES = ("device", "deviceid", "device_id", "id", "serial", "mac", "deveui", "dev_eui", "name")
TIME_NAMES = ("time", "timestamp", "ts", "datetime", "date", "received_at", "measured_at", "epoch", "dateobserved")
HINTS = {
    **NAMES, "rh": "humidity", "bat": "battery", "lng": "longitude", "lux": "light", "illuminance": "light", "opened": "door",
    "hr": "heart_rate", "pulse": "heart_rate", "rr": "respiratory_rate", "sao2": "spo2",
}  # fmt: skip
"""What fields of other makes are often called. A `contact` is none of them: true is open on one make, closed on another."""

SUFFIXES = {
    "c": "Cel", "cel": "Cel", "degc": "Cel", "celsius": "Cel", "f": "[degF]", "degf": "[degF]", "fahrenheit": "[degF]",
    "k": "K", "kelvin": "K", "pct": "%", "perc": "%", "percent": "%", "bpm": "/min", "mmhg": "mm[Hg]", "kpa": "kPa",
    "lx": "lx", "lux": "lx", "deg": "deg", "g": "[g]", "kmh": "km/h", "kph": "km/h", "mps": "m/s",
}  # fmt: skip
"""Units at the end of a field's name: `temp_f`, `humidityPct`. With any other ending it is another field."""

_VARIES = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){3,}[0-9A-Fa-f]{2}|0x[0-9A-Fa-f]{6,}|[0-9A-Fa-f]{12,}|(?!v[0-9]+$).*[0-9].*")
_NO_LEVEL = re.compile(r"[{}+#]")  # means something else in a pattern
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[A-Za-z0-9 _.-]{1,64}")
_RUNS_ON = re.compile(r"(temp|temperature)([cf])")  # in lower case alone


class Leaf(NamedTuple):
    """One value of a document and where it stands."""

    path: str  # as JMESPath
    steps: tuple[str | int, ...]
    value: Any

    @property
    def name(self) -> str:
        """The field's own name; of an element, its list's."""
        return next((step for step in reversed(self.steps) if isinstance(step, str)), "")


class Guess(NamedTuple):
    metric: str
    unit: str


def topic_shape(topics: Sequence[str]) -> str:
    """Return a pattern that topics of one length share: the last level that varies, or looks like a name with a number, is the device."""
    levels = list(zip(*(topic.split("/") for topic in topics), strict=True))
    varies = [len(set(level)) > 1 or bool(_VARIES.fullmatch(level[0])) for level in levels]
    device = max((at for at, yes in enumerate(varies) if yes), default=None)
    return "/".join(
        "{device}" if at == device else "+" if varies[at] or _NO_LEVEL.search(level[0]) else level[0] for at, level in enumerate(levels)
    )


def group_of(topic: str) -> str:
    """Return what topics of one shape have in common, to group by."""
    return "/".join("*" if _VARIES.fullmatch(level) else level for level in topic.split("/"))


def printable(text: str) -> str:
    """Return a text on one line, in which what does not print is escaped."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def quoted(text: str) -> str:
    """Return a text as a YAML scalar on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def suggest(topics: Sequence[str], payloads: Iterable[bytes], catalogue: Dict[str, Metric]) -> str:
    """Return a mapping document in YAML for messages of one shape; a comment alone where their topics cannot be written as a pattern."""
    pattern = topic_shape(topics[:MAX_LOOKED_AT])
    try:
        pattern.encode()
        Pattern(pattern)
    except ValueError:  # too long, empty, or no Unicode
        return f"# no mapping can name the topic {quoted(topics[0][:SHOWN_TOPIC])}: it is no topic of MQTT\n"
    name = _mapping_name(pattern)
    fields = _fields(payloads)
    lines = ["mappings:", f"  - name: {quoted(name)}", f"    topic: {quoted(pattern)}"]
    if "{device}" not in pattern:
        lines.append(f"    device: {_device(fields or [], name)}")
    if fields is None:
        text = (
            "    # no JSON with fields: a text that is a number is read as below; for others and for bytes, see `lines`, `columns`, `bytes`"
        )
        return "\n".join([*lines, text, "    payload: text", '    # readings: {temperature: "@"}', ""])
    return "\n".join([*lines, *_time(fields), *_readings(fields, catalogue), ""])


def leaves(document: Any, path: str = "", steps: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yield the values of a document; of a list, its first element's."""
    if isinstance(document, dict) and len(steps) < MAX_DEPTH:
        for name, value in document.items():
            step = name if _WORD.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())
            yield from leaves(value, f"{path}.{step}" if path else step, (*steps, name))
    elif isinstance(document, list) and document and len(steps) < MAX_DEPTH:
        yield from leaves(document[0], f"{path}[0]", (*steps, 0))
    elif document is not None:
        yield Leaf(path or "@", steps, document)


def _mapping_name(pattern: str) -> str:
    literal = "-".join(level for level in pattern.lower().split("/") if level[:1] not in {"+", "{"})
    return re.sub(r"[^a-z0-9]+", "-", literal).strip("-")[:MAX_NAME].strip("-") or "device"


def _fields(payloads: Iterable[bytes]) -> list[Leaf] | None:
    """Return the fields of the first messages, each where it stands first; None where no message has any."""
    found: dict[str, Leaf] = {}
    structured = False
    for payload in islice(payloads, MAX_LOOKED_AT):
        try:
            document = read_json_document(payload)
        except Unreadable:
            continue
        if not isinstance(document, dict | list):
            continue
        structured = True
        for leaf in islice(leaves(document), MAX_FIELDS):
            if leaf.path not in found and len(found) < MAX_FIELDS and _is_path(leaf.path):
                found[leaf.path] = leaf
    return list(found.values()) if structured else None


def _is_path(text: str) -> bool:
    try:
        compile_path(text)
    except ValueError:  # too long
        return False
    return True


def _device(fields: Sequence[Leaf], name: str) -> str:
    for leaf in fields:
        if isinstance(leaf.value, str) and leaf.name.lower() in DEVICE_NAMES:
            return f"{{path: {quoted(leaf.path)}}}"
    return quoted(name)


def _time(fields: Sequence[Leaf]) -> list[str]:
    for leaf in fields:
        value, path = leaf.value, quoted(leaf.path)
        if leaf.name.lower() not in TIME_NAMES or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            form = "s" if value < 1e11 else "ms" if value < 1e14 else "us" if value < 1e17 else "ns"
            return [f"    time: {{path: {path}, form: {form}}}"]
        if isinstance(value, str):
            if re.search(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$", value):
                return [f"    time: {path}"]
            return [f"    time: {{path: {path}, form: local, zone: UTC}}  # which zone?"]
    return []


def _readings(fields: Sequence[Leaf], catalogue: Dict[str, Metric]) -> list[str]:
    known = {_squeezed(short): name for short, name in HINTS.items() if name in catalogue} | {_squeezed(name): name for name in catalogue}
    found: dict[str, str] = {}
    others: list[str] = []
    for leaf in fields:
        if not isinstance(leaf.value, int | float) or leaf.name.lower() in TIME_NAMES:
            continue
        guess = _guess(leaf, known, catalogue)
        if guess is None or guess.metric in found:
            others.append(quoted(leaf.path))
        else:
            unit = "" if guess.unit == "{state}" else f", unit: {quoted(guess.unit)}"
            found[guess.metric] = f"      {guess.metric}: {{path: {quoted(leaf.path)}{unit}}}"
    more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    look = [f"    # numbers to look at: {', '.join(others[:MAX_NAMED])}{more}"] if others else []
    return [*look, "    readings:", *found.values()] if found else [*look, "    readings: {}"]


def _guess(leaf: Leaf, known: Dict[str, str], catalogue: Dict[str, Metric]) -> Guess | None:
    """Return the metric that a whole name means, with a unit behind it at most, where the value is one that this metric can have."""
    if not _NAME.fullmatch(leaf.name):
        return None
    if (name := known.get(_squeezed(leaf.name))) is not None:
        guess = Guess(name, catalogue[name].unit)
    else:
        # camelCase and a run of lower case alone: `tempC`, `tempc`
        parted = _RUNS_ON.sub(r"\1_\2", leaf.name) if _RUNS_ON.fullmatch(leaf.name) else re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", leaf.name)
        *words, suffix = re.split(r"[ _.-]+", parted.lower())
        name, unit = known.get("".join(words)), SUFFIXES.get(suffix)
        if name is None or unit is None:
            return None
        guess = Guess(name, unit)
    return guess if _can_be(leaf.value, guess, catalogue[guess.metric]) else None


def _can_be(value: float, guess: Guess, metric: Metric) -> bool:
    if metric.unit == "{state}" or isinstance(value, bool):
        return metric.unit == guess.unit == "{state}" and value in {0, 1}
    line = conversion(guess.unit, metric.unit)
    return line is not None and abs(value) < 1e15 and metric.low <= value * line[0] + line[1] <= metric.high


def _squeezed(name: str) -> str:
    return re.sub(r"[ _.-]", "", name).lower()
