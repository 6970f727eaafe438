"""Readings as they flow: columns of packets, one packet being what one device measured at one time.

Plain arrays of the standard library, so that the hot path makes no object for a reading and this package needs no other.
"""

from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from telemetry.reasons import Reason

NO_TIME = -(2**63)
"""The time of a packet whose payload names none: it is measured when it is received."""


class SeriesKey(NamedTuple):
    """The unit of order: one metric of one device, for the subject that it watches."""

    kind: str  # shipment, patient
    subject: str
    device: str
    metric: str


class Packets(NamedTuple):
    """Decoded packets in the order of their messages.

    `message`, `kinds`, `devices`, `metrics`, `times_ms` have one entry a packet; `values` holds the values of all packets one after the
    other, `len(metrics[i])` of packet `i`, in the catalogue's unit of each metric.
    """

    message: "array[int]"  # 'q': index of the message in its journal row
    kinds: list[str]
    devices: list[str]
    metrics: list[tuple[str, ...]]
    times_ms: "array[int]"  # 'q': milliseconds since the epoch, or NO_TIME
    values: "array[float]"  # 'd'


def no_packets() -> Packets:
    """Return an empty Packets to append to."""
    return Packets(array("q"), [], [], [], array("q"), array("d"))


def divided(packets: Packets, keys: Sequence[int]) -> dict[int, Packets]:
    """Return packets by their keys, one a packet, each in the order of the row; of a key that none has, no packets."""
    found: dict[int, Packets] = defaultdict(no_packets)
    at = 0
    for index, key in enumerate(keys):
        theirs, names = found[key], packets.metrics[index]
        theirs.message.append(packets.message[index])
        theirs.kinds.append(packets.kinds[index])
        theirs.devices.append(packets.devices[index])
        theirs.metrics.append(names)
        theirs.times_ms.append(packets.times_ms[index])
        theirs.values.extend(packets.values[at : at + len(names)])
        at += len(names)
    return found


class Refusal(NamedTuple):
    """A message, or one reading of it, that was not taken, and why. The raw message stays with it."""

    message: int  # index in the journal row
    reason: Reason
    detail: str  # which value, where; never a whole payload
    metric: str = ""  # the one reading that was refused; empty: the whole message
    kind: str = ""
    device: str = ""


class DeviceStatus(NamedTuple):
    """What a status message or a last will says of its device."""

    message: int
    kind: str
    device: str
    online: bool


class Change(NamedTuple):
    """How the form of a device's messages has changed."""

    message: int
    kind: str
    device: str
    detail: str  # names of fields, never values


class Shed(NamedTuple):
    """Readings of a device that were left out with their messages: only their number stays."""

    message: int  # the first of them
    reason: Reason
    kind: str
    device: str
    number: int  # of readings


class Promise(NamedTuple):
    """A device's word on when the next reading of a metric comes."""

    message: int  # index in the journal row
    kind: str  # of the topic
    device: str
    metric: str
    time_ms: int  # of the reading that it came with, or NO_TIME: whose subject it is of
    within_ms: int


class Decoded(NamedTuple):
    """Everything that the messages of one journal row say. Durable, as part of `flows.part.Part`: grows at its end."""

    packets: Packets
    refusals: list[Refusal]
    statuses: list[DeviceStatus]
    retained: int  # messages that the broker delivered as stored state: journalled, not evaluated
    changes: Sequence[Change] = ()
    shed: Sequence[Shed] = ()
    promises: Sequence[Promise] = ()
