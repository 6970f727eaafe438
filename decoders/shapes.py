"""The shape of each device's messages: which fields there are, and of which type, so that a change is noticed once, not ten thousand times.
Messages of mappings only; the form of our own JSON is ours.

A device's first LEARNT messages teach its fields. After them a field that was never there is *new*; one that was in every message and is
missing from GONE_AFTER in a row is *gone*; one of a type that it never had has *changed*. What was noticed is known from then on. Whoever
has more fields than can be watched, as one whose fields are named after what it measures, is not watched. State of the flow, durable and
bounded; devices of one make share what is known of them.
"""

import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

from decoders.packets import shown
from telemetry.readings import Change

LEARNT = 5
GONE_AFTER = 5
MAX_FIELDS = 128  # of a device
MAX_DEPTH = 5
MAX_PATH = 100  # characters of a field's path that tell it from another
MAX_DEVICES = 20_000  # more are not watched
MAX_HELD = 50_000  # fields of all different shapes together: where there are more, no new one is learnt
SHOWN = 3  # changes of one message that are named

Field = tuple[str, str]  # path, type
Shape = frozenset[Field]

_TYPES = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object", bytes: "bytes"}


class Known(NamedTuple):
    """What is known of one device's messages by one mapping."""

    seen: int
    fields: Shape  # every field with every type that it ever had; shared among devices that are alike
    steady: frozenset[str]  # fields that were in every message
    missing: tuple[tuple[str, int], ...]  # of those, how many messages in a row they have been missing from


class Shapes:
    """By (device, mapping)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Known | None] = {}  # None: not watched
        self._shapes: dict[Any, Any] = {}  # each frozen set once
        self._held = 0
        self._dumped: bytes | None = None

    def note(self, message: int, kind: str, device: str, mapping: str, document: Any) -> Change | None:
        """Note the shape of a message; returns what has changed."""
        name = (device, mapping)
        known = self._known.get(name)
        if known is None and (name in self._known or len(self._known) >= MAX_DEVICES):
            return None
        shape = shape_of(document)
        if shape is None:
            self._put(name, None)
            return None
        paths = frozenset(path for path, _ in shape)
        if known is None:
            self._put(name, Known(1, shape, paths, ()))
            return None
        if known.seen >= LEARNT and not known.missing and shape <= known.fields and known.steady <= paths:
            return None
        told = self._compare(name, known, shape, paths)
        if known.seen < LEARNT or not told:
            return None
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return Change(message, kind, device, f"{mapping}: " + ", ".join(told[:SHOWN]) + more)

    def _compare(self, name: tuple[str, str], known: Known, shape: Shape, paths: frozenset[str]) -> list[str]:
        """Return how a message differs from what is known, in words, and know it from now on."""
        types = dict(sorted(known.fields))
        told = [
            f"`{shown(path)}` is {kind}, it was {types[path]}" if path in types else f"`{shown(path)}` is new"
            for path, kind in sorted(shape - known.fields)
        ]
        learning = known.seen < LEARNT
        counts = dict(known.missing)
        missing = {path: counts.get(path, 0) + 1 for path in known.steady - paths}
        gone = frozenset(missing if learning else [path for path, count in missing.items() if count >= GONE_AFTER])
        told += [] if learning else [f"`{shown(path)}` is gone" for path in sorted(gone)]
        fields = known.fields | shape
        if len(fields) > MAX_FIELDS:
            self._put(name, None)
            return []
        left = tuple(sorted((path, count) for path, count in missing.items() if path not in gone))
        self._put(name, Known(min(known.seen + 1, LEARNT), fields, known.steady - gone, left))
        return told

    def _put(self, name: tuple[str, str], known: Known | None) -> None:
        if known is not None:
            fields, steady = self._one(known.fields), self._one(known.steady)
            known = None if fields is None or steady is None else known._replace(fields=fields, steady=steady)
        if known != self._known.get(name) or name not in self._known:
            self._known[name], self._dumped = known, None

    def _one(self, items: frozenset[Any]) -> frozenset[Any] | None:
        """Return the one object for equal sets, None where there is no room for another."""
        found = self._shapes.get(items)
        if found is None and self._held + len(items) <= MAX_HELD:
            found = self._shapes[items] = items
            self._held += len(items)
        return found

    def dump(self) -> bytes:
        """Return the state; the same bytes as long as nothing new was noticed."""
        if self._dumped is None:
            sets = list({id(item): item for known in self._known.values() if known for item in (known.fields, known.steady)}.values())
            at = {id(item): number for number, item in enumerate(sets)}
            devices = [
                (*name, None if known is None else (known.seen, at[id(known.fields)], at[id(known.steady)], known.missing))
                for name, known in self._known.items()
            ]
            self._dumped = pickle.dumps(([sorted(item) for item in sets], devices), protocol=5)
        return self._dumped

    def restore(self, dumped: bytes) -> None:
        """Take what `dump` returned."""
        sets, devices = pickle.loads(dumped)  # noqa: S301 - our own
        made = [frozenset(tuple(item) if isinstance(item, list) else item for item in plain) for plain in sets]
        for device, mapping, plain in devices:
            known = None if plain is None else Known(plain[0], made[plain[1]], made[plain[2]], tuple(plain[3]))
            self._put((device, mapping), known)
        self._dumped = dumped


def shape_of(document: Any) -> Shape | None:
    """Return the fields of a message with their types, those without a value left out; None where there are more than can be watched."""
    found: set[Field] = set()
    for item in _fields(document, "", 0):
        found.add(item)
        if len(found) > MAX_FIELDS:
            return None
    return frozenset(found)


def _fields(value: Any, path: str, depth: int) -> Iterator[Field]:
    if isinstance(value, dict) and depth < MAX_DEPTH:
        for name, item in value.items():
            yield from _fields(item, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for item in value[:MAX_FIELDS]:  # elements may differ: together they say what there is
            yield from _fields(item, f"{path}[]", depth + 1)
    elif value is not None:
        yield path[:MAX_PATH], _TYPES.get(type(value), "something else")
