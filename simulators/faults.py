"""A little honest dirt, scripted: what real devices send besides good readings, placed at given event times. What was injected is counted,
so that what the other end quarantines can be held against it.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from decoders.topics import READINGS, Topic, format_topic
from decoders.wire import encode_values


class SlipKind(StrEnum):
    DUPLICATE = "duplicate"  # the same message again, as QoS 1 may
    MALFORMED = "malformed"  # a copy that was cut off half-way
    IMPLAUSIBLE = "implausible"  # 850 degrees Celsius: an open thermocouple


IMPLAUSIBLE_CELSIUS = 850.0


class Message(NamedTuple):
    """What is to be published, and at which event time."""

    time_ms: int
    topic: str
    payload: bytes
    retain: bool = False


class Slip(NamedTuple):
    """One piece of dirt: it follows the first message of the device at or after `time_ms`."""

    kind: SlipKind
    topic: str
    time_ms: int


class Fault(Protocol):
    """Something that happens to messages on their way: takes those of one tick in order of time, returns those to be published."""

    def apply(self, messages: list[Message]) -> list[Message]:
        """Return the messages with the fault's doing; the order of time is kept."""


class Slips:
    """Scripted slips, each injected once."""

    def __init__(self, slips: Sequence[Slip]) -> None:
        self.injected: Counter[str] = Counter()
        self._waiting = list(slips)

    def apply(self, messages: list[Message]) -> list[Message]:
        if not self._waiting or not messages or min(slip.time_ms for slip in self._waiting) > messages[-1].time_ms:
            return messages
        out: list[Message] = []
        for message in messages:
            out.append(message)
            for slip in [slip for slip in self._waiting if slip.topic == message.topic and slip.time_ms <= message.time_ms]:
                self._waiting.remove(slip)
                self.injected[slip.kind.value] += 1
                out.append(_slipped(slip.kind, message))
        return out


def slip(kind: SlipKind, device_kind: str, device: str, time_ms: int) -> Slip:
    """Return the slip of one device. Raises ValueError where no topic can name it."""
    return Slip(kind, format_topic(Topic(device_kind, device, READINGS)), time_ms)


def _slipped(kind: SlipKind, message: Message) -> Message:
    if kind is SlipKind.DUPLICATE:
        return message
    if kind is SlipKind.MALFORMED:
        return message._replace(payload=message.payload[: len(message.payload) // 2])
    return message._replace(payload=encode_values({"temperature": IMPLAUSIBLE_CELSIUS}, message.time_ms + 1))
