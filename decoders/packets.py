"""What every decoder builds: packets of readings in the catalogue's units, and refusals with a reason.

One place decides what a name, a unit and a time mean, so that no form of payload can mean something else than another.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from decoders.topics import Topic
from telemetry.clock import parse_ms
from telemetry.metrics import UNITS, Metric, conversion, unit_code
from telemetry.readings import NO_TIME, Change, Decoded, DeviceStatus, Packets, Promise, Refusal, no_packets
from telemetry.reasons import Reason

if TYPE_CHECKING:
    from decoders.shapes import Shapes

EARLIEST_MS = 946_684_800_000  # 2000-01-01: an earlier time is a clock that was never set
LATEST_MS = 253_402_300_799_999  # the end of the year 9999: what a time can be written as

SHOWN_CHARACTERS = 64  # of a name that came from outside, in a refusal

_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})")


class Unreadable(ValueError):
    """A message or one reading of it cannot be taken; caught where the refusal is written."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class Plan(NamedTuple):
    """How a value of one metric in one unit becomes a value in the catalogue's unit."""

    names: tuple[str, ...]  # the metric's name alone, one object for all packets
    scale: float
    shift: float
    exact: bool  # the unit is the catalogue's: nothing to compute
    state: bool  # true and false are values of it


def shown(text: str) -> str:
    """Return a name from outside in a form that is safe to store and to print."""
    return text if len(text) <= SHOWN_CHARACTERS and text.isprintable() else repr(text[:SHOWN_CHARACTERS])


def event_time(time: int | str | None) -> int:
    """Return the milliseconds since the epoch that a payload's time means, or NO_TIME. Raises Unreadable where it means none."""
    if time is None:
        return NO_TIME
    if isinstance(time, str):
        if not _RFC_3339.fullmatch(time):
            raise Unreadable(Reason.IMPOSSIBLE_TIME, "the time is no RFC 3339 instant with a zone")
        try:
            time = parse_ms(time.upper())
        except (ValueError, OverflowError):
            raise Unreadable(Reason.IMPOSSIBLE_TIME, "the time does not exist in the calendar") from None
    if not EARLIEST_MS <= time <= LATEST_MS:
        raise Unreadable(Reason.IMPOSSIBLE_TIME, "the time is not between the years 2000 and 9999 in milliseconds since 1970")
    return time


class Plans:
    """The plans of one catalogue, each worked out once. Only what the catalogue knows is remembered, so it cannot grow with bad input."""

    def __init__(self, catalogue: Mapping[str, Metric]) -> None:
        self.catalogue = catalogue
        self.known: dict[tuple[str, str | None], Plan] = {}

    def plan(self, name: str, unit: str | None) -> Plan:
        """Return the plan of a metric and a unit's spelling. Raises Unreadable where there is none."""
        found = self.known.get((name, unit))
        if found is None:
            found = self.known[name, unit] = self._work_out(name, unit)
        return found

    def _work_out(self, name: str, unit: str | None) -> Plan:
        metric = self.catalogue.get(name)
        if metric is None:
            raise Unreadable(Reason.UNKNOWN_METRIC, f"no metric is called {shown(name)}")
        code = metric.unit if unit is None or unit == metric.unit else unit_code(unit)
        if code is None:
            raise Unreadable(Reason.UNKNOWN_UNIT, f"{name}: no unit is called {shown(unit or '')}")
        if code == metric.unit:
            return Plan((metric.name,), 1.0, 0.0, exact=True, state=metric.unit == "{state}")
        factors = conversion(code, metric.unit) if metric.unit in UNITS else None
        if factors is None:
            raise Unreadable(Reason.UNIT_MISMATCH, f"{name} is measured in {metric.unit}, which {code} does not convert to")
        return Plan((metric.name,), *factors, exact=False, state=False)


class Sessions(Protocol):
    """Those of devices whose messages mean something only after what they sent before."""

    def add_message(self, builder: "PacketBuilder", index: int, topic: bytes, payload: bytes | Unreadable) -> None:
        """Add what one message says; never raise. The payload is Unreadable where it was not kept."""


class PacketBuilder:
    """Collects what the messages of one row say, in their order."""

    def __init__(self, plans: Plans, shapes: "Shapes | None" = None, sessions: Sessions | None = None) -> None:
        self.plans, self.shapes, self.sessions = plans, shapes, sessions
        self.changes: list[Change] = []
        self.packets: Packets = no_packets()
        self.refusals: list[Refusal] = []
        self.statuses: list[DeviceStatus] = []
        self.promises: list[Promise] = []
        self.retained = 0

    def decoded(self) -> Decoded:
        return Decoded(self.packets, self.refusals, self.statuses, self.retained, self.changes, promises=self.promises)

    def refuse(self, index: int, topic: Topic | None, reason: Reason, detail: str, metric: str = "") -> None:
        kind, device = (topic.kind, topic.device) if topic else ("", "")
        self.refusals.append(Refusal(index, reason, detail, shown(metric), kind, device))

    def packet(self, index: int, topic: Topic, names: tuple[str, ...], time_ms: int, values: list[float]) -> None:
        """Add what one device measured at one time."""
        packets = self.packets
        packets.message.append(index)
        packets.kinds.append(topic.kind)
        packets.devices.append(topic.device)
        packets.metrics.append(names)
        packets.times_ms.append(time_ms)
        packets.values.extend(values)

    def value(self, name: str, value: object, unit: str | None) -> tuple[tuple[str, ...], float]:
        """Return the packet's name and the value in the catalogue's unit. Raises Unreadable."""
        plan = self.plans.plan(name, unit)
        if isinstance(value, bool):
            if not plan.state:
                raise Unreadable(Reason.WRONG_TYPE, f"{name} is a number, not true or false")
        elif not isinstance(value, int | float):
            raise Unreadable(Reason.WRONG_TYPE, f"the value of {name} is no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not plan.exact:
            number = number * plan.scale + plan.shift
        if not math.isfinite(number):
            raise Unreadable(Reason.NOT_FINITE, f"the value of {name} is not a finite number")
        return plan.names, number


class Run:
    """Readings of one message, put together to packets: what stands side by side with one time is one packet."""

    def __init__(self, builder: PacketBuilder, index: int, topic: Topic) -> None:
        self.builder = builder
        self.index = index
        self.topic = topic
        self._time_ms = NO_TIME
        self._names: list[str] = []
        self._values: list[float] = []

    def add(self, name: str, value: object, unit: str | None, time_ms: int) -> None:
        """Add one reading, or its refusal."""
        try:
            names, number = self.builder.value(name, value, unit)
        except Unreadable as error:
            self.refuse(error, name)
            return
        self.take(names[0], number, time_ms)

    def take(self, name: str, number: float, time_ms: int) -> None:
        """Add one reading in the catalogue's unit."""
        if time_ms != self._time_ms or name in self._names:
            self.close()
            self._time_ms = time_ms
        self._names.append(name)
        self._values.append(number)

    def refuse(self, error: Unreadable, name: str) -> None:
        self.builder.refuse(self.index, self.topic, error.reason, error.detail, name)

    def close(self) -> None:
        """Write the packet that is open."""
        if self._names:
            self.builder.packet(self.index, self.topic, tuple(self._names), self._time_ms, self._values)
            self._names, self._values = [], []
