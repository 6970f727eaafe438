"""The shape of each device's messages: which fields there are, and of which type, so that a change is noticed once, not ten thousand times.
Messages of mappings only; the form of our own JSON is ours.

A device's first LEARNT messages teach its fields. After them a field that was never there is *new*; one that was in every message and is
missing from GONE_AFTER in a row is *gone*; one of another type has *changed*. What was noticed is known from then on. State of the flow,
durable.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from telemetry.readings import Change

LEARNT = 5
GONE_AFTER = 5
MAX_FIELDS = 64  # of a message: the rest is not looked at
MAX_DEPTH = 5
MAX_DEVICES = 100_000  # more are not looked at
SHOWN = 3  # changes of one message that are named

Shape = tuple[tuple[str, str], ...]

_TYPES = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object", bytes: "bytes"}


class Known(NamedTuple):
    """What is known of one device's messages by one mapping."""

    seen: int
    types: dict[str, str]
    steady: dict[str, int]  # fields that were in every message, and how many in a row they have been missing from


class Shapes:
    """By (device, mapping)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Known] = {}
        self._last: dict[tuple[str, str], Shape] = {}  # not state: what the last message looked like, to be quick about the next

    def note(self, message: int, kind: str, device: str, mapping: str, document: Any) -> Change | None:
        """Note the shape of a message; returns what has changed."""
        name, shape = (device, mapping), shape_of(document)
        known = self._known.get(name)
        if known is None:
            if len(self._known) < MAX_DEVICES:
                self._known[name] = Known(1, dict(shape), dict.fromkeys((path for path, _ in shape), 0))
                self._last[name] = shape
            return None
        if known.seen >= LEARNT and self._last.get(name) == shape and not any(known.steady.values()):
            return None
        self._last[name] = shape
        told = _compare(known, dict(shape))
        learning = known.seen < LEARNT
        self._known[name] = known._replace(seen=min(known.seen + 1, LEARNT))
        if learning or not told:
            return None
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return Change(message, kind, device, f"{mapping}: " + ", ".join(told[:SHOWN]) + more)

    def dump(self) -> list[tuple[Any, ...]]:
        """Return the state as plain values."""
        return [(*name, known.seen, dict(known.types), dict(known.steady)) for name, known in self._known.items()]

    def restore(self, dumped: list[tuple[Any, ...]]) -> None:
        """Take what `dump` returned."""
        for device, mapping, seen, types, steady in dumped:
            self._known[device, mapping] = Known(seen, dict(types), dict(steady))


def shape_of(document: Any) -> Shape:
    """Return the fields of a message with their types, in the order of their names; those without a value are not there."""
    return tuple(sorted(item for item, _ in zip(_fields(document, "", 0), range(MAX_FIELDS), strict=False)))


def _fields(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth < MAX_DEPTH:
        for name, item in value.items():
            yield from _fields(item, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list) and value and depth < MAX_DEPTH:
        yield from _fields(value[0], f"{path}[]", depth + 1)
    elif value is not None:
        yield path[:200], _TYPES.get(type(value), "something else")


def _compare(known: Known, now: dict[str, str]) -> list[str]:
    """Return how a message differs from what is known, in words, and know it from now on."""
    told = []
    for path, kind in now.items():
        before = known.types.get(path)
        if before is None:
            told.append(f"`{path}` is new")
        elif before != kind:
            told.append(f"`{path}` is {kind}, it was {before}")
        if before != kind and (before is not None or len(known.types) < 4 * MAX_FIELDS):
            known.types[path] = kind
    for path in [path for path in known.steady if path not in now]:
        known.steady[path] += 1
        if known.seen < LEARNT:
            del known.steady[path]  # not in every message after all
        elif known.steady[path] >= GONE_AFTER:
            told.append(f"`{path}` is gone")
            del known.steady[path]
    for path in known.steady.keys() & now.keys():
        known.steady[path] = 0
    return told
