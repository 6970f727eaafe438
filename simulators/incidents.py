"""Scripted incidents and the truth about them: what was made to happen to whom, from when until when, and which rule must find it.

Truth is known twice over: the script says when the cause acted, and what was really published says when a rule's limit was passed. An
alert is right when it begins where the breach does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simulators.patient import Patients
from simulators.shipment import Shipments
from simulators.world import Booleans, Device, Floats, Reports
from telemetry.clock import format_ms


class IncidentKind(StrEnum):
    DOOR_OPEN = "door_open"
    DESATURATION = "desaturation"
    PROBE_SILENT = "probe_silent"


class Incident(NamedTuple):
    """One thing that was made to happen. Event times; the cause acts in `[start_ms, end_ms)`."""

    kind: IncidentKind
    subject: str
    device: str
    start_ms: int
    end_ms: int
    rule: str  # the rule that must find it
    also: tuple[str, ...] = ()  # rules that may find it too


class Breach(NamedTuple):
    """What the readings show: the first one past the limit, and the first one back; None while there is none.

    Of silence, which shows nothing, it is the first reading that is missing and the first one that is there again.
    """

    start_ms: int
    end_ms: int | None

    def length_ms(self, now_ms: int) -> int:
        return (now_ms if self.end_ms is None else self.end_ms) - self.start_ms


class Limit(NamedTuple):
    """When a value is past what the incident's rule allows; NaN is a value that was not measured."""

    metric: str
    passed: Callable[[Floats], Booleans]


LIMITS = {
    IncidentKind.DOOR_OPEN: Limit("temperature", lambda values: values > 8.0),
    IncidentKind.DESATURATION: Limit("spo2", lambda values: values < 90.0),
    IncidentKind.PROBE_SILENT: Limit("spo2", np.isnan),
}


def leave_door_open(world: Shipments, index: int, start_ms: int, end_ms: int, *, rule: str, also: tuple[str, ...] = ()) -> Incident:
    """Leave a vehicle's door open; the air warms past 8 degrees Celsius after some minutes."""
    world.open_door(index, start_ms, end_ms)
    return _incident(IncidentKind.DOOR_OPEN, world.devices[index], start_ms, end_ms, rule, also)


def desaturate(world: Patients, index: int, start_ms: int, end_ms: int, *, rule: str, nadir: float = 82.0, lag_s: float = 30.0) -> Incident:
    """Let a patient's oxygen saturation fall below 90 % and recover."""
    world.desaturate(index, start_ms, end_ms, nadir=nadir, lag_s=lag_s)
    return _incident(IncidentKind.DESATURATION, world.devices[index], start_ms, end_ms, rule)


def silence_probe(world: Patients, index: int, start_ms: int, end_ms: int, *, rule: str) -> Incident:
    """Let a patient's oxygen probe fall silent and return."""
    world.silence(index, "spo2", start_ms, end_ms)
    return _incident(IncidentKind.PROBE_SILENT, world.devices[index], start_ms, end_ms, rule)


class _Watch:
    """One incident under observation: the run of readings past the limit that is going on, and the longest one that has ended."""

    def __init__(self, incident: Incident) -> None:
        self.limit = LIMITS[incident.kind]
        self.start_ms = incident.start_ms
        self._end_ms = incident.end_ms
        self._began: int | None = None
        self._longest: Breach | None = None
        self.over = False

    def note(self, time_ms: int, passed: bool) -> None:
        if passed:
            self._began = time_ms if self._began is None else self._began
        elif self._began is not None:
            if self._longest is None or time_ms - self._began > self._longest.length_ms(time_ms):
                self._longest = Breach(self._began, time_ms)
            self._began = None
            self.over = time_ms >= self._end_ms

    def breach(self, now_ms: int) -> Breach | None:
        if self._began is None or (self._longest is not None and self._longest.length_ms(now_ms) >= now_ms - self._began):
            return self._longest
        return Breach(self._began, None)


class Truth:
    """The incidents of a run, and the breaches that its reports have shown so far."""

    def __init__(self, incidents: Sequence[Incident]) -> None:
        self.incidents = list(incidents)
        self._watches = {incident: _Watch(incident) for incident in self.incidents}
        self._seen_ms = 0

    def observe(self, places: Mapping[str, int], reports: Reports) -> None:
        """Note what reports of one world show of the incidents; `places` gives each device's index in that world."""
        latest = int(reports.times_ms.max())
        self._seen_ms = max(self._seen_ms, latest)
        for incident, watch in self._watches.items():
            place = places.get(incident.device)
            if place is None or watch.over or latest < watch.start_ms or watch.limit.metric not in reports.metrics:
                continue
            rows = np.flatnonzero(reports.devices == place)
            past = watch.limit.passed(reports.values[rows, reports.metrics.index(watch.limit.metric)])
            for time_ms, passed in zip(reports.times_ms[rows].tolist(), past.tolist(), strict=True):
                if time_ms >= watch.start_ms:
                    watch.note(time_ms, passed)

    def breach(self, incident: Incident) -> Breach | None:
        """Return the longest run of readings past the limit so far; one that goes on has no end."""
        return self._watches[incident].breach(self._seen_ms)

    def lines(self) -> list[str]:
        """Return the truth as JSON lines, in the order of the incidents' beginnings."""
        return [self._line(incident) for incident in sorted(self.incidents, key=lambda item: (item.start_ms, item.device))]

    def write(self, path: Path) -> None:
        path.write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")

    def _line(self, incident: Incident) -> str:
        breach = self.breach(incident)
        shown = breach and {"start": format_ms(breach.start_ms), "end": None if breach.end_ms is None else format_ms(breach.end_ms)}
        fields = {
            "incident": incident.kind,
            "subject": incident.subject,
            "device": incident.device,
            "start": format_ms(incident.start_ms),
            "end": format_ms(incident.end_ms),
            "rule": incident.rule,
            "also": list(incident.also),
            "breach": shown,
        }
        return json.dumps(fields, ensure_ascii=False)


def _incident(kind: IncidentKind, device: Device, start_ms: int, end_ms: int, rule: str, also: tuple[str, ...] = ()) -> Incident:
    return Incident(kind, device.subject, device.device, start_ms, end_ms, rule, also)
