"""Which subject a device watches, and when: the assignments in force, as journalled. A device that nobody assigned is its own subject.

A reading belongs to the subject to which its device was assigned at the reading's own time, `[from, until)`. So the backlog of a logger
that was exchanged mid-way goes to the shipment that it was measured on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from telemetry.readings import SeriesKey
from telemetry.routing import partition_of

ALWAYS_FROM_MS, ALWAYS_UNTIL_MS = -(2**62), 2**62


class Assignment(NamedTuple):
    subject: str
    kind: str
    tags: tuple[tuple[str, str], ...]
    from_ms: int = ALWAYS_FROM_MS  # event time, inclusive
    until_ms: int = ALWAYS_UNTIL_MS  # exclusive


class Registry:
    """Assignments by device, each device's in the order of time. Of two that overlap, the one that began later holds."""

    def __init__(self, devices: Sequence[Mapping[str, Any]] = ()) -> None:
        self.assigned: dict[str, tuple[Assignment, ...]] = {}
        for item in devices:
            device, assignment = str(item["device"]), _assignment(item)
            self.assigned[device] = tuple(sorted((*self.assigned.get(device, ()), assignment), key=lambda one: one.from_ms))
        self.timed = frozenset(
            device
            for device, given in self.assigned.items()
            if len(given) > 1 or given[0].from_ms != ALWAYS_FROM_MS or given[0].until_ms != ALWAYS_UNTIL_MS
        )
        """Devices whose subject depends on the time of the reading."""

    def assignment(self, kind: str, device: str, time_ms: int = ALWAYS_UNTIL_MS - 1) -> Assignment:
        """Return what a device watched at a time (without one: last); `kind` is what its topic says, for one that nobody assigned then."""
        held = self.held(device, time_ms)
        return Assignment(device, kind, ()) if held is None else held

    def held(self, device: str, time_ms: int) -> Assignment | None:
        """Return which of a device's assignments holds at a time, None where none does."""
        return next((one for one in reversed(self.assigned.get(device, ())) if one.from_ms <= time_ms < one.until_ms), None)

    def watches(self, key: SeriesKey, time_ms: int) -> bool:
        """Return whether the device of a series has no other subject at a time."""
        return key.device not in self.assigned or self.assignment(key.kind, key.device, time_ms).subject == key.subject

    def subjects_at(self, time_ms: int) -> set[str]:
        """Return the subjects that some device watches at a time: where assignments overlap, the one that holds."""
        held = (self.held(device, time_ms) for device in self.assigned)
        return {one.subject for one in held if one is not None}

    def next_change_ms(self, time_ms: int) -> int:
        """Return when, after a time, the next assignment begins or ends; ALWAYS_UNTIL_MS where none does."""
        bounds = (bound for device in self.timed for one in self.assigned[device] for bound in (one.from_ms, one.until_ms))
        return min((bound for bound in bounds if bound > time_ms), default=ALWAYS_UNTIL_MS)

    def home(self, device: str, time_ms: int, partitions: int) -> int:
        """Return the shard in which a device's reading of some time is evaluated."""
        return partition_of(self.assignment("", device, time_ms).subject, partitions)


def _assignment(item: Mapping[str, Any]) -> Assignment:
    return Assignment(
        subject=str(item.get("subject") or item["device"]),
        kind=str(item["kind"]),
        tags=tuple(sorted((str(name), str(value)) for name, value in (item.get("tags") or {}).items())),
        from_ms=ALWAYS_FROM_MS if item.get("from_ms") is None else int(item["from_ms"]),
        until_ms=ALWAYS_UNTIL_MS if item.get("until_ms") is None else int(item["until_ms"]),
    )
