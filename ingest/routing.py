"""Which journal partition a message belongs to: a function of its subject where the registry knows it, else of its device.

All messages of a subject are in one partition, so that one row order exists of all that is known of it. CRC-32 of the name, because it must
be the same in every process and every year; Python's own hash is neither.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any
from zlib import crc32

from decoders.mappings import from_plain
from decoders.sparkplug import parse_topic
from decoders.topics import OWN_ALERTS, REMEMBERED_TOPICS, parse

OWN = -1
"""Where our own alerts go, should a subscription bring them back: nowhere."""


def partition_of(name: str, partitions: int) -> int:
    """Return the partition of a subject or a device."""
    return crc32(name.encode()) % partitions


def subjects_of(registry: Mapping[str, Any]) -> dict[str, str]:
    """Return the subject of each device in a registry record: of several assignments, the one that begins last.

    A hint: live readings mostly belong to it. The flow sends readings of other times to the shard of their own subject.
    """
    return {entry["device"]: entry.get("subject") or entry["device"] for entry in sorted(registry["devices"], key=_begins_ms)}


def _begins_ms(entry: Mapping[str, Any]) -> float:
    """Return when an assignment begins: one that does not say so always was."""
    return -inf if entry.get("from_ms") is None else float(entry["from_ms"])


class Router(dict[bytes, int]):
    """Topic -> partition, worked out once for each topic and forgotten when there are too many."""

    def __init__(self, partitions: int, registry: Mapping[str, Any] | None = None) -> None:
        """`registry` is the control record in force."""
        super().__init__()
        self.partitions = partitions
        self._subjects = subjects_of(registry) if registry else {}
        self._mappings = from_plain((registry or {}).get("mappings", []))

    def __missing__(self, topic: bytes) -> int:
        if len(self) >= REMEMBERED_TOPICS:
            self.clear()
        partition = self[topic] = self._work_out(topic)
        return partition

    def route(self, topics: Iterable[bytes]) -> list[int]:
        """Return the partition of each topic, or OWN."""
        return [self[topic] for topic in topics]

    def _work_out(self, topic: bytes) -> int:
        if topic.startswith(OWN_ALERTS):
            return OWN
        parsed = parse(topic)
        said = parse_topic(topic) if parsed is None else None
        if said is not None:
            return partition_of(said.node_name, self.partitions)  # one order of all that an edge node says of itself and its devices
        device = self._mappings.home(topic) if parsed is None else parsed.device
        if device is None:
            return crc32(topic) % self.partitions  # nobody's, or the message says whose: anywhere, but not all of them in one partition
        return partition_of(self._subjects.get(device, device), self.partitions)
