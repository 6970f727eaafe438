"""A world: devices, and what they would measure, advanced in event time. Its law: the same seed and start give the same reports, however
large the steps are in which somebody asks for them. It reads no clock, and what it reports is columns, for 10,000 devices in one process.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

DAY_S = 86_400.0


class Device(NamedTuple):
    device: str
    subject: str  # the shipment or patient that it watches
    kind: str
    tags: dict[str, str]


class Reports(NamedTuple):
    """What some devices measured: a row a report, a column a metric, in the catalogue's units."""

    metrics: tuple[str, ...]
    devices: Integers  # indexes into the world's devices
    times_ms: Integers
    values: Floats  # one row a report; NaN where the device measured nothing


class World(Protocol):
    """Anything that advances in event time and says what its devices measured."""

    @property
    def devices(self) -> Sequence[Device]:
        """All devices, in the order that `Reports.devices` counts."""

    @property
    def next_ms(self) -> int:
        """The event time of the next tick."""

    def step(self, time_ms: int) -> list[Reports]:
        """Advance over every tick up to and including `time_ms`; return what was measured, tick by tick.

        The readings of a tick are stamped from the tick's time up to just before the next one.
        """


class TickedWorld(ABC):
    """A world in equal ticks. Each device reports once in `report_ms`, at an instant of its own, so that reports come evenly spread."""

    def __init__(self, devices: Sequence[Device], *, seed: int, start_ms: int, tick_ms: int, report_ms: int) -> None:
        if not devices:
            msg = "a world needs at least one device"
            raise ValueError(msg)
        if tick_ms <= 0 or report_ms <= 0 or report_ms % tick_ms:
            msg = f"the report interval of {report_ms} ms is no multiple of the tick of {tick_ms} ms"
            raise ValueError(msg)
        self.devices = list(devices)
        self.next_ms = start_ms
        self.tick_ms = tick_ms
        self._random = np.random.default_rng(seed)
        self._ticks = 0
        self._ticks_a_report = report_ms // tick_ms
        count = len(self.devices)
        self._turn = self._random.integers(0, self._ticks_a_report, count)
        self._stagger = self._random.integers(0, 2**30, count)
        self._delay_ms = self._random.integers(0, tick_ms, count)

    def step(self, time_ms: int) -> list[Reports]:
        """Advance over every tick up to and including `time_ms`; return what was measured, tick by tick."""
        reports: list[Reports] = []
        while self.next_ms <= time_ms:
            reports += self._tick(self.next_ms)
            self._ticks += 1
            self.next_ms += self.tick_ms
        return reports

    @abstractmethod
    def _tick(self, time_ms: int) -> list[Reports]:
        """Return what is measured in the tick that begins at `time_ms`, and bring the state to its end."""

    def _due(self, every: int = 1) -> Integers:
        """Return the indexes of the devices whose turn it is; with `every`, at only every `every`th of a device's reports."""
        turn = self._ticks + self._turn
        due = turn % self._ticks_a_report == 0
        if every > 1:
            due &= (turn // self._ticks_a_report + self._stagger) % every == 0
        return np.flatnonzero(due)

    def _reports(self, metrics: tuple[str, ...], due: Integers, time_ms: int, columns: Sequence[Floats]) -> Reports:
        return Reports(metrics, due, time_ms + self._delay_ms[due], np.column_stack(columns))


def named(prefix: str, count: int) -> list[str]:
    """Return `count` names, `truck-0001` and on, padded to one width."""
    width = max(2, len(str(count)))
    return [f"{prefix}-{number:0{width}d}" for number in range(1, count + 1)]


def fleet(kind: str, names: Sequence[str], subjects: Sequence[str], tags: Sequence[Mapping[str, str]] | None) -> list[Device]:
    """Return the devices of one kind; `tags` has one mapping for each, or is taken in turn where it has fewer."""
    own = tags or [{}]
    return [
        Device(name, subject, kind, dict(own[index % len(own)])) for index, (name, subject) in enumerate(zip(names, subjects, strict=True))
    ]


def registry(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return the devices as the registry document and its control record list them."""
    return [{"device": item.device, "subject": item.subject, "kind": item.kind, "tags": dict(item.tags)} for item in devices]


def follow(value: Floats, goal: Floats, seconds: float, lag_s: float) -> Floats:
    """Return a first-order lag's next value: what follows `goal` with the time constant `lag_s`."""
    following: Floats = goal + (value - goal) * math.exp(-seconds / lag_s)
    return following
