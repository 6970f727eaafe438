"""The truth about a run: what happened, what the readings showed of it, what faults did, and what of the evidence arrived.

Truth is known three times over: the script says when a cause acted, the world's own readings say when a rule's limit was passed, and the
messages that were let go say whether that could be seen at the other end. An incident that was long enough for its rule, and of which too
little arrived, is hidden, and by which faults is said; it is the only excuse for not finding it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulators.faults import Fault, FaultKind, Parcel, device_of, taken
from simulators.incidents import Incident, Limit
from simulators.world import Device, Reports
from telemetry.clock import format_ms

AFTER_MS = 15 * 60_000
"""What is measured so long after an incident may still show it: air cools down again, a clock was wrong."""


class Breach(NamedTuple):
    """What the readings show: the first one past the limit, and the first one back; None while there is none.

    Of silence, which shows nothing, it is the first reading that is missing and the first one that is there again.
    """

    start_ms: int
    end_ms: int | None
    proved_ms: int = 0  # from the first to the last reading past the limit, longer gaps not counted

    def length_ms(self, now_ms: int) -> int:
        return (now_ms if self.end_ms is None else self.end_ms) - self.start_ms


class Run(NamedTuple):
    """What was played. Times are event times but for `played_ms`, the instant on the wall clock at which `start_ms` was played."""

    name: str
    seed: int
    start_ms: int
    end_ms: int
    devices: int
    speed: float = 1.0
    played_ms: int = 0
    grain_ms: int = 0  # what is published within so long is received together, at its end; 0: at once

    def on_the_clock(self, time_ms: int) -> int:
        """Return when, on the receiver's clock, something is published that is due at an event time."""
        if self.grain_ms:
            return (time_ms // self.grain_ms + 1) * self.grain_ms
        return time_ms if self.speed == 1.0 else self.played_ms + round((time_ms - self.start_ms) / (self.speed or 1.0))


NO_RUN = Run("", 0, 0, 0, 0)


class _Watch:
    """One incident under observation: the run of readings past the limit that is going on, and the longest one that has ended."""

    def __init__(self, incident: Incident, limit: Limit) -> None:
        self.limit = limit
        self.start_ms = incident.start_ms
        self._end_ms = incident.end_ms
        self._began: int | None = None
        self._last_ms = self._proved_ms = 0
        self._longest: Breach | None = None
        self.over = False

    def note(self, time_ms: int, passed: bool) -> None:
        if passed:
            if self._began is None:
                self._began, self._proved_ms = time_ms, 0
            elif self.limit.gap_ms is None or time_ms - self._last_ms <= self.limit.gap_ms:
                self._proved_ms += time_ms - self._last_ms
            self._last_ms = time_ms
        elif self._began is not None:
            if self._longest is None or time_ms - self._began > self._longest.length_ms(time_ms):
                self._longest = Breach(self._began, time_ms, self._proved_ms)
            self._began = None
            self.over = time_ms >= self._end_ms

    def breach(self, now_ms: int) -> Breach | None:
        if self._began is None or (self._longest is not None and self._longest.length_ms(now_ms) >= now_ms - self._began):
            return self._longest
        return Breach(self._began, None, self._proved_ms)


class Arrived(NamedTuple):
    """A reading that can be taken, as it was let go."""

    stamp_ms: int
    value: float
    published_ms: int
    measured_ms: int
    doubtful: bool  # part of a flood: the other end may leave it out


class Truth:
    """The incidents of a run, the breaches that its reports have shown so far, and what arrived of them."""

    def __init__(
        self, incidents: Sequence[Incident], *, devices: Iterable[Device] = (), faults: Sequence[Fault] = (), run: Run = NO_RUN
    ) -> None:
        self.incidents = list(incidents)
        self.faults = list(faults)
        self.run = run
        self._subjects = {item.device: item.subject for item in devices}
        self._watches = {incident: _Watch(incident, incident.limit) for incident in self.incidents if incident.limit is not None}
        self._arrived: dict[tuple[str, str], list[Arrived]] = {
            (incident.subject, incident.limit.metric): [] for incident in self.incidents if incident.limit is not None
        }
        self._watched = {subject for subject, _ in self._arrived}
        self._until_ms: dict[Fault, int] = {}  # when the last message was let go that a fault touched
        self._stamps: dict[Fault, tuple[int, int]] = {}  # the earliest and the latest stamp of those
        self._reached: dict[Fault, set[str]] = {}  # the subjects under whose devices' topics those came
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

    def let_go(self, parcel: Parcel) -> None:
        """Note what is published of a subject to whom something happens."""
        self._seen_ms = max(self._seen_ms, parcel.measured_ms)
        published_ms = parcel.message.time_ms
        device = device_of(parcel.message.topic)
        subject = self._subjects.get(device, device)
        for fault in parcel.by:
            self._reached.setdefault(fault, set()).add(subject)
            self._until_ms[fault] = max(self._until_ms.get(fault, 0), published_ms)
            stamped_ms = parcel.measured_ms + parcel.offset_ms
            first_ms, last_ms = self._stamps.get(fault, (stamped_ms, stamped_ms))
            self._stamps[fault] = min(first_ms, stamped_ms), max(last_ms, stamped_ms)
        if subject not in self._watched:
            return
        doubtful = any(fault.kind is FaultKind.FLOOD for fault in parcel.by)
        for metric, stamp, value in taken(parcel):
            held = self._arrived.get((subject, metric))
            if held is not None:
                held.append(Arrived(published_ms if stamp is None else stamp, value, published_ms, parcel.measured_ms, doubtful))

    def breach(self, incident: Incident) -> Breach | None:
        """Return the longest run of readings past the limit so far; one that goes on has no end."""
        watch = self._watches.get(incident)
        return None if watch is None else watch.breach(self._seen_ms)

    def is_due(self, incident: Incident) -> bool:
        """Return whether it was long enough for its rule, as the sensor saw it; of a rule on several metrics, whether it is over."""
        limit, breach = incident.limit, self.breach(incident)
        if limit is None:
            return incident.end_ms <= self._seen_ms
        if breach is None:
            return False
        if limit.is_silence:
            return breach.length_ms(self.run.end_ms) >= self._silence_ms(limit)
        return breach.proved_ms >= limit.for_ms

    def was_shown(self, incident: Incident) -> bool:
        """Return whether what arrived shows it for long enough: the rule's definition, read aloud over the readings as they were let go."""
        limit = incident.limit
        if limit is None:
            return True
        if limit.is_silence:
            ends_ms, arrived = self._ends_ms(incident), self._arrived[incident.subject, limit.metric]
            times = sorted(item.published_ms for item in arrived)
            gaps = zip([self.run.start_ms, *times], [*times, self.run.end_ms], strict=True)
            return any(b - a >= self._silence_ms(limit) and a < ends_ms and b > incident.start_ms for a, b in gaps)
        during, certain = self._during(incident, limit), set(_in_time(self._arrived[incident.subject, limit.metric], limit))
        proved = (_longest_proved(items, limit) for items in (during, [item for item in during if item in certain]))
        return min(proved) >= limit.for_ms

    def _during(self, incident: Incident, limit: Limit) -> list[Arrived]:
        """Return what arrived of what was measured during an incident, in the order of its stamps."""
        arrived = self._arrived[incident.subject, limit.metric]
        return sorted(item for item in arrived if incident.start_ms <= item.measured_ms <= self._ends_ms(incident) + AFTER_MS)

    def _ends_ms(self, incident: Incident) -> int:
        breach = self.breach(incident)
        return max(incident.end_ms, incident.end_ms if breach is None or breach.end_ms is None else breach.end_ms)

    def hidden_by(self, incident: Incident) -> tuple[str, ...]:
        """Return the kinds of faults because of which an incident that was long enough could not be seen; empty where it could."""
        if not self.is_due(incident) or self.was_shown(incident):
            return ()
        devices = {device for device, subject in self._subjects.items() if subject == incident.subject}
        return tuple(
            sorted(
                {
                    fault.kind.value
                    for fault in self.faults
                    if devices & fault.touched.keys()
                    and fault.span.start_ms <= incident.end_ms + AFTER_MS
                    and fault.span.end_ms >= incident.start_ms
                }
            )
        )

    def lines(self) -> list[str]:
        """Return the truth as JSON lines: the run where there is one, the incidents in the order of their beginnings, then the faults."""
        head = [_json(self._run_line())] if self.run.name else []
        incidents = sorted(self.incidents, key=lambda item: (item.start_ms, item.device))
        faults = sorted((fault for fault in self.faults if fault.touched), key=lambda item: (item.span.start_ms, item.kind, item.devices))
        return [*head, *(_json(self._incident_line(item)) for item in incidents), *(_json(self._fault_line(item)) for item in faults)]

    def write(self, path: Path) -> None:
        path.write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")

    def _silence_ms(self, limit: Limit) -> float:
        """Return how long, in event time, nothing must come until a rule on the receiver's clock says so."""
        return limit.for_ms * (self.run.speed or 1.0) + self.run.grain_ms

    def _run_line(self) -> dict[str, Any]:
        run = self.run._replace(end_ms=min(self.run.end_ms, max(self._seen_ms, self.run.start_ms)))  # where somebody stopped it
        times = {"start": format_ms(run.start_ms), "end": format_ms(run.end_ms), "played": format_ms(run.played_ms)}
        return {"run": run.name, "seed": run.seed, "speed": run.speed, "devices": run.devices, **times}

    def _incident_line(self, incident: Incident) -> dict[str, Any]:
        breach, limit = self.breach(incident), incident.limit
        stamps = [] if limit is None or limit.is_silence else [item.stamp_ms for item in self._during(incident, limit)]
        return {
            "incident": incident.kind,
            "subject": incident.subject,
            "device": incident.device,
            "start": format_ms(incident.start_ms),
            "end": format_ms(incident.end_ms),
            "rule": incident.rule,
            "also": list(incident.also),
            "silence": limit is not None and limit.is_silence,
            "breach": breach and {"start": format_ms(breach.start_ms), "end": None if breach.end_ms is None else format_ms(breach.end_ms)},
            "stamps": {"first": format_ms(stamps[0]), "last": format_ms(stamps[-1])} if stamps else None,
            "due": self.is_due(incident),
            "hidden_by": list(self.hidden_by(incident)),
        }

    def _fault_line(self, fault: Fault) -> dict[str, Any]:
        ends_ms = min(fault.span.end_ms, self.run.end_ms or self._seen_ms)
        until_ms = max(ends_ms, self._until_ms.get(fault, 0))
        stamps = self._stamps.get(fault, (fault.span.start_ms, ends_ms))
        touched = sorted(fault.touched)
        return {
            "fault": fault.kind,
            "subjects": sorted({self._subjects.get(device, device) for device in fault.devices} | self._reached.get(fault, set())),
            "devices": touched,
            "start": format_ms(max(fault.span.start_ms, self.run.start_ms)),
            "end": format_ms(ends_ms),
            "until": format_ms(until_ms),
            "stamps": {"first": format_ms(stamps[0]), "last": format_ms(stamps[1])},
            "messages": fault.touched.total(),
            "metrics": list(fault.metrics),
        }


def _in_time(arrived: Sequence[Arrived], limit: Limit) -> Iterator[Arrived]:
    """Yield what is certainly taken: no part of a flood, and not behind the horizon of what was published before."""
    newest_ms = 0
    for item in arrived:
        newest_ms = max(newest_ms, item.stamp_ms)
        if not item.doubtful and (limit.horizon_ms is None or item.stamp_ms >= newest_ms - limit.horizon_ms):
            yield item


def _longest_proved(arrived: Sequence[Arrived], limit: Limit) -> int:
    """Return the longest time that a run of readings past a limit proves, -1 where none is past it."""
    past = limit.passed(np.array([item.value for item in arrived]))
    longest, proved = -1, 0
    last_ms: int | None = None
    for item, passed in zip(arrived, past.tolist(), strict=True):
        if not passed:
            last_ms = None
            continue
        if last_ms is None:
            proved = 0
        elif limit.gap_ms is None or item.stamp_ms - last_ms <= limit.gap_ms:
            proved += item.stamp_ms - last_ms
        last_ms, longest = item.stamp_ms, max(longest, proved)
    return longest


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False)
