"""Which subject a device watches: the assignments in force, as journalled. A device that nobody assigned is its own subject."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Assignment(NamedTuple):
    subject: str
    kind: str
    tags: tuple[tuple[str, str], ...]


class Registry:
    """Assignments by device."""

    def __init__(self, devices: Sequence[Mapping[str, Any]] = ()) -> None:
        self.assigned = {
            str(item["device"]): Assignment(
                str(item.get("subject") or item["device"]),
                str(item["kind"]),
                tuple(sorted((str(name), str(value)) for name, value in (item.get("tags") or {}).items())),
            )
            for item in devices
        }

    def assignment(self, kind: str, device: str) -> Assignment:
        """Return what a device watches; `kind` is what its topic says, for a device that nobody assigned."""
        return self.assigned.get(device) or Assignment(device, kind, ())
