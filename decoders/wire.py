"""Our own JSON on the wire: its forms as types, and the encoders that devices and simulators use.

A key that a form does not have is quarantined by its name, and the rest of the message is read. A version grows by optional keys only; a
change that an old reader would misread is a new `v` (`decoders/versions.py`). Version 1 is the fast path.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

VERSION = 1

MAX_READINGS = 10_000
"""Readings in one message: more is refused, for one message is decided in one go."""

ONLINE = b'{"v":1,"status":"online"}'
OFFLINE = b'{"v":1,"status":"offline"}'
"""What a device publishes, retained, on its status topic; `OFFLINE` is also its last will."""


class WireReading(msgspec.Struct, forbid_unknown_fields=True):
    """One element of `readings`."""

    metric: str
    value: float | bool
    unit: str | None = None  # absent: the catalogue's
    time: int | str | None = None  # milliseconds since the epoch, or RFC 3339 with a zone; absent: when received


class WireMessage(msgspec.Struct, forbid_unknown_fields=True):
    """Any message of the form `readings`. Exactly one of `metric` with `value`, `values` and `readings` is there."""

    v: int = VERSION
    device: str | None = None  # where given, the topic's
    time: int | str | None = None
    metric: str | None = None
    value: float | bool | None = None
    unit: str | None = None
    values: dict[str, float | bool] | None = None  # several metrics at one time, in the catalogue's units
    readings: list[WireReading] | None = None


class WireSeries(msgspec.Struct, forbid_unknown_fields=True):
    """A message of version 2: metrics of one time, or series of them, with their units; or `readings` as in version 1."""

    v: int
    device: str | None = None
    time: int | str | None = None  # of the values; with `every_ms`, of the first of each list
    times: list[int | str] | None = None  # of each element of the lists
    every_ms: int | None = None
    values: dict[str, float | bool | list[float | bool | None]] | None = None  # null: not measured then
    units: dict[str, str] | None = None  # absent: the catalogue's
    readings: list[WireReading] | None = None


class WireStatus(msgspec.Struct, forbid_unknown_fields=True):
    """A message of the form `status`; the bare words `online` and `offline` mean the same."""

    status: str
    v: int = VERSION
    device: str | None = None
    time: int | str | None = None


class Sample(NamedTuple):
    """One reading to be encoded."""

    metric: str
    value: float
    time_ms: int
    unit: str | None = None


_encode = msgspec.json.Encoder().encode


def encode_reading(metric: str, value: float, time_ms: int | None = None, unit: str | None = None) -> bytes:
    """Return a message with one reading: `{"v":1,"metric":"temperature","value":4.2,"unit":"Cel","time":1763674000123}`."""
    return _encode({"v": VERSION, **_reading(metric, value, time_ms, unit)})


def encode_values(values: Mapping[str, float], time_ms: int | None = None) -> bytes:
    """Return a message with several metrics measured at one time, in the catalogue's units."""
    message: dict[str, object] = {"v": VERSION}
    if time_ms is not None:
        message["time"] = time_ms
    return _encode({**message, "values": values})


def encode_batch(samples: Iterable[Sample]) -> bytes:
    """Return a message with a batch of readings, each with its own time."""
    return _encode({"v": VERSION, "readings": [_reading(s.metric, s.value, s.time_ms, s.unit) for s in samples]})


def encode_series(values: Mapping[str, Sequence[float | None]], times_ms: Sequence[int]) -> bytes:
    """Return a message of version 2 with series of metrics in the catalogue's units, as of a backlog; None where nothing was measured."""
    return _encode({"v": 2, "times": list(times_ms), "values": {name: list(series) for name, series in values.items()}})


def _reading(metric: str, value: float, time_ms: int | None, unit: str | None) -> dict[str, object]:
    reading: dict[str, object] = {"metric": metric, "value": value}
    if unit is not None:
        reading["unit"] = unit
    if time_ms is not None:
        reading["time"] = time_ms
    return reading
