"""Faults from what a document or a command line asks for: the usual numbers of each kind, and on which devices and when a mixture acts.

Faults that keep the evidence (late, doubled, in another order, by a clock that is slightly wrong) fall on any device; those that falsify or
lose it fall on devices to which nothing happens, so that nothing is hidden by design. `Truth` says where something is hidden all the same.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from simulators.faults import Fault, FaultKind, Span, dice
from simulators.faults_device import BatteryDeath, ClockDayAhead, ClockDrift, ClockJump, ClockSkew, Frozen, Spike, Teleport, UnitMixUp
from simulators.faults_payload import Flood, GatewayMerge, Malformed, SchemaChange
from simulators.faults_way import Backlog, Disconnect, Distribution, Dropout, Duplicates, Latency, Reordering

MINUTE_MS, HOUR_MS = 60_000, 3_600_000

CLASSES: dict[FaultKind, type[Fault]] = {
    kind.kind: kind
    for kind in (
        *(Dropout, Disconnect, Duplicates, Reordering, Latency, ClockSkew, ClockDrift, ClockJump, ClockDayAhead),
        *(Frozen, Spike, UnitMixUp, BatteryDeath, Teleport, Flood, Malformed, SchemaChange, GatewayMerge),
    )
}
HARMLESS = {
    FaultKind.DROPOUT,
    FaultKind.DISCONNECT,
    FaultKind.DUPLICATES,
    FaultKind.REORDERING,
    FaultKind.LATENCY,
    FaultKind.CLOCK_SKEW,
    FaultKind.CLOCK_DRIFT,
}
"""Kinds that, within the usual numbers, keep the evidence: what was measured arrives, inside the horizon."""

SHIPMENTS_ONLY = {FaultKind.BATTERY_DEATH, FaultKind.TELEPORT}
SHARE = 0.25  # of a group's devices, that a harmless kind falls on in a mixture
VICTIMS_SHARE = 0.05  # and any other, though on one device at least


class Group(NamedTuple):
    """Devices that faults may fall on."""

    name: str
    kind: str  # shipment, patient
    devices: tuple[str, ...]
    report_ms: int

    @property
    def is_ward(self) -> bool:
        return self.kind == "patient"


class Sensors(NamedTuple):
    """What sensors of a kind of device are wrong about, usually."""

    metric: str
    values: tuple[float, float]  # of spikes: one that could be, one that cannot
    of_units: tuple[str, str]  # metrics whose unit is mistaken


SENSORS = {
    "shipment": Sensors("temperature", (45.0, 850.0), ("temperature", "temperature")),
    "patient": Sensors("heart_rate", (240.0, 400.0), ("spo2", "body_temperature")),
}


def can_have(kind: FaultKind, group: Group) -> bool:
    """Return whether devices of a group can have a fault at all."""
    return not (group.is_ward and kind in SHIPMENTS_ONLY) and not (kind is FaultKind.GATEWAY_MERGE and len(group.devices) < 2)


def make(kind: FaultKind, group: Group, devices: Sequence[str], span: Span, *, seed: int, most: int | None = None, **asked: Any) -> Fault:
    """Return a fault of some devices of a group: with the usual numbers but for those that are asked for."""
    numbers = _usual(kind, group, seed) | asked
    if kind is FaultKind.FLOOD and most is None:
        most = 2
    return CLASSES[kind](devices, span, seed=seed, most=most, **numbers)


def _usual(kind: FaultKind, group: Group, seed: int) -> dict[str, Any]:
    """Return the numbers of a kind. Those of a ward are in minutes, for its horizon is ten; those of a fleet in hours."""
    throw, sensors = dice(seed, kind, group.name, "usual"), SENSORS[group.kind]
    sign = 1 if throw < 0.5 else -1
    match kind:
        case FaultKind.DROPOUT:
            return {"backlog": Backlog.OLDEST if throw < 0.5 else Backlog.NEWEST}
        case FaultKind.DISCONNECT:
            return {"every_ms": 40 * MINUTE_MS, "lasts_ms": 2 * MINUTE_MS}
        case FaultKind.DUPLICATES:
            return {"probability": 0.2, "within_ms": 2 * group.report_ms}
        case FaultKind.REORDERING:
            return {"within_ms": min(3 * group.report_ms, 2 * MINUTE_MS if group.is_ward else HOUR_MS)}
        case FaultKind.LATENCY:
            longest_ms = MINUTE_MS if group.is_ward else 20 * MINUTE_MS
            chosen = list(Distribution)[int(throw * len(Distribution))]
            return {"mean_ms": min(longest_ms // 10, group.report_ms), "distribution": chosen, "longest_ms": longest_ms}
        case FaultKind.CLOCK_SKEW:
            return {"offset_ms": sign * 91_337}  # no multiple of an interval: stamps would meet
        case FaultKind.CLOCK_DRIFT:
            return {"ppm": sign * 2_000.0}  # 7 s an hour
        case FaultKind.CLOCK_JUMP:
            return {"offset_ms": sign * (5 * HOUR_MS + 7_331)}  # more than a dropout lasts, which would make up for it
        case FaultKind.FROZEN:
            return {"metric": sensors.metric}
        case FaultKind.SPIKE:
            return {"metric": sensors.metric, "value": sensors.values[throw < 0.5], "probability": 0.05}
        case FaultKind.UNIT_MIX_UP:
            return {"metric": sensors.of_units[throw < 0.5]}
        case FaultKind.TELEPORT:
            return {"probability": 0.1}
        case FaultKind.FLOOD:
            return {"per_minute": 14_000 if group.is_ward else 2_000}
        case FaultKind.MALFORMED:
            return {"probability": 0.05}
        case _:
            return {}


def lasts_ms(kind: FaultKind, group: Group, run_ms: int) -> int:
    """Return how long a kind usually acts in a run: what is put off stays within the horizon of its kind."""
    if kind is FaultKind.DROPOUT:
        return min(6 * MINUTE_MS, run_ms // 4) if group.is_ward else min(3 * HOUR_MS, run_ms // 4)
    return run_ms // 3


def mixture(
    kinds: Collection[FaultKind], groups: Sequence[Group], run: Span, *, seed: int, struck: Collection[str]
) -> list[tuple[Group, Fault]]:
    """Return faults of these kinds for each group that can have them. To the devices that are `struck` something happens."""
    found = []
    for group in groups:
        free, taken = [device for device in group.devices if device not in struck], set[str]()
        for kind in (kind for kind in FaultKind if can_have(kind, group)):  # those that nobody asks for too: they change no lot
            if kind in HARMLESS or kind is FaultKind.MALFORMED:
                devices = chosen(group.devices, max(1, round(SHARE * len(group.devices))), seed, kind, group.name)
            else:
                left = [device for device in free if device not in taken] or free
                least = 2 if kind is FaultKind.GATEWAY_MERGE else 1
                devices = chosen(left, max(least, round(VICTIMS_SHARE * len(left))), seed, kind, group.name)
                taken |= set(devices)
            if devices and kind in kinds:
                found.append((group, make(kind, group, devices, _span(kind, group, run, seed), seed=seed)))
    return found


def chosen(devices: Sequence[str], count: int, seed: int, *names: str) -> list[str]:
    """Return so many of some devices, by the seed and names: each device has its own dice, so that others do not change its lot."""
    return sorted(sorted(devices, key=lambda device: dice(seed, *names, device, "chosen"))[:count])


def _span(kind: FaultKind, group: Group, run: Span, seed: int) -> Span:
    length_ms = run.end_ms - run.start_ms
    acts_ms = lasts_ms(kind, group, length_ms)
    start_ms = run.start_ms + round((0.1 + 0.5 * dice(seed, kind, group.name, "when")) * length_ms)
    return Span(start_ms, min(start_ms + acts_ms, run.end_ms))
