"""One line an event, to whoever looks at this terminal. It is the operator's own screen: who starts it says once what it is not."""

import threading
from collections.abc import Callable

from sinks.sink import Compose
from telemetry.alert import AlertEvent
from telemetry.clock import format_ms


class Terminal:
    def __init__(self, name: str, write: Callable[[str], None], compose: Compose) -> None:
        self.name = name
        self._write = write
        self._compose = compose
        self._lock = threading.Lock()

    def send(self, event: AlertEvent) -> None:
        title = " ".join(self._compose(event).title.split())
        with self._lock:
            self._write(f"{format_ms(event.time_ms)}  {title}")

    def close(self) -> None:
        """Nothing is kept open."""
