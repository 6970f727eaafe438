"""What a destination is. A Channel tells people about one alert event; a Store keeps the rows of the outbox.

Both return only when the other side has confirmed, and both mean once when they are told twice. They raise `Transient` where trying again
can help and `Rejected` where it cannot; nothing else is expected of them, and they neither retry nor wait by themselves.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from journal.rows import Row
from telemetry.alert import AlertEvent
from telemetry.errors import Rejected


class Notice(Protocol):
    """An alert event as one channel may say it: identifiers already replaced where the channel must not see them."""

    @property
    def title(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def event(self) -> AlertEvent: ...


Compose = Callable[[AlertEvent], Notice]


class Channel(Protocol):
    name: str

    def send(self, event: AlertEvent) -> None:
        """Tell people. Returning means that the other side has taken it. Called from several threads at once."""

    def close(self) -> None:
        """Let go of connections. Twice is once."""


class Store(Protocol):
    def write(self, rows: Sequence[Row]) -> None:
        """Keep the rows. Returning means that they are durable.

        `Rejected` promises nothing about the rows it does not name: they will be written again without those it names.
        `PartlyRejected` promises that everything but its parts is durable.
        """

    def close(self) -> None:
        """Let go of connections. Twice is once."""


class Part(NamedTuple):
    """One piece of a row that a store refused for good: a line of its points."""

    row: int  # its index in the batch
    body: bytes
    why: str


class PartlyRejected(Rejected):
    """Everything was kept but these parts."""

    def __init__(self, message: str, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        super().__init__(message, {part.row: part.why for part in parts})
