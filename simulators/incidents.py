"""Incidents: what was made to happen to whom, from when until when, and which rule must find it. Each is a cause in a world, not a number
in a message: a door that stays open, oxygen that runs short.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from simulators.patient import EpisodeKind, Patients
from simulators.shipment import Shipments
from simulators.world import Booleans, Floats


class IncidentKind(StrEnum):
    DOOR_OPEN = "door_open"
    COMPRESSOR_FAILURE = "compressor_failure"
    DWELL = "dwell"  # it stands, its engine idling
    SHOCK = "shock"
    HYPOXIA = "hypoxia"
    SEPSIS = "sepsis"
    HAEMORRHAGE = "haemorrhage"
    BRADYCARDIA = "bradycardia"
    DESATURATION = "desaturation"  # hypoxia, by the saturation that it comes to
    PROBE_SILENT = "probe_silent"

    @property
    def is_of_shipments(self) -> bool:
        """Return whether it happens to shipments; else to patients."""
        return self in {IncidentKind.DOOR_OPEN, IncidentKind.COMPRESSOR_FAILURE, IncidentKind.DWELL, IncidentKind.SHOCK}


BLOW_G = 40.0  # more than any kerb
NADIR = 82.0  # % of oxygen saturation
OPERATORS = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}
ABSENT = "absent"


class Limit(NamedTuple):
    """What a rule allows of one metric: past `threshold` for `for_ms`, gaps over `gap_ms` not counted; or ABSENT for so long."""

    metric: str
    operator: str  # of OPERATORS, or ABSENT
    threshold: float = 0.0
    for_ms: int = 0
    gap_ms: int | None = None
    horizon_ms: int | None = None  # what is stamped so long before its series' newest comes too late to be judged

    @property
    def is_silence(self) -> bool:
        return self.operator == ABSENT

    def passed(self, values: Floats) -> Booleans:
        """Return where values are past the limit; NaN is a value that was not measured."""
        if self.is_silence:
            return np.isnan(values)
        past: Booleans = OPERATORS[self.operator](values, self.threshold)
        return past


class Incident(NamedTuple):
    """One thing that was made to happen. Event times; the cause acts in `[start_ms, end_ms)`."""

    kind: IncidentKind
    subject: str
    device: str
    start_ms: int
    end_ms: int
    rule: str  # the rule that must find it
    also: tuple[str, ...] = ()  # rules that may find it too
    limit: Limit | None = None  # of that rule; None where it judges more than one metric


def strike(
    world: Shipments | Patients,
    kind: IncidentKind,
    index: int,
    start_ms: int,
    end_ms: int,
    *,
    rule: str,
    also: tuple[str, ...] = (),
    limit: Limit | None = None,
    depth: float = 1.0,
    lag_s: float | None = None,
) -> Incident:
    """Let something happen to a device's subject; a depth of 1 is severe. `lag_s`: how fast it comes and goes, where that can be chosen.

    Raises ValueError where it does not happen in such a world.
    """
    if isinstance(world, Shipments) is not kind.is_of_shipments:
        msg = f"{kind} does not happen to {type(world).__name__.lower()}"
        raise ValueError(msg)
    if isinstance(world, Shipments):
        _strike_vehicle(world, kind, index, start_ms, end_ms, depth)
    elif kind is IncidentKind.PROBE_SILENT:
        world.silence(index, "spo2", start_ms, end_ms)
    elif kind is IncidentKind.DESATURATION:
        world.desaturate(index, start_ms, end_ms, nadir=100 - depth * (100 - NADIR), lag_s=30.0 if lag_s is None else lag_s)
    else:
        world.episode(index, EpisodeKind(kind.value), start_ms, end_ms, depth=depth, lag_s=lag_s)
    device = world.devices[index]
    return Incident(kind, device.subject, device.device, start_ms, end_ms, rule, also, limit)


def _strike_vehicle(world: Shipments, kind: IncidentKind, index: int, start_ms: int, end_ms: int, depth: float) -> None:
    match kind:
        case IncidentKind.DOOR_OPEN:
            world.open_door(index, start_ms, end_ms)
        case IncidentKind.COMPRESSOR_FAILURE:
            world.fail_compressor(index, start_ms, end_ms)
        case IncidentKind.DWELL:
            world.dwell(index, start_ms, end_ms)
        case _:
            world.shock(index, start_ms, BLOW_G * depth)
