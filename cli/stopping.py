"""Signals to events: the first SIGTERM or SIGINT asks to stop in order, the second to hurry."""

import signal
from threading import Event
from types import FrameType
from typing import NamedTuple


class Stopping(NamedTuple):
    stop: Event
    hurry: Event


def stop_on_signals() -> Stopping:
    """Return the events that SIGTERM and SIGINT set from now on; call it in the main thread."""
    stopping = Stopping(Event(), Event())

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stopping.stop.is_set():
            stopping.hurry.set()
        stopping.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stopping
