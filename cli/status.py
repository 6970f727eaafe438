"""What a running service says of itself: data/status/<service>.json, replaced whole about twice a second.

For people and health checks only; nothing decides by it. A status that is older than a few seconds is of a service that does not run.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

from telemetry.clock import utc_now_ms
from telemetry.errors import VitalaneError

EVERY_S = 0.5

logger = logging.getLogger(__name__)


class StatusFile:
    """Writes `look()` with who and when, from a thread of its own, until closed."""

    def __init__(self, data_dir: Path, service: str, look: Callable[[], Mapping[str, Any]]) -> None:
        self.path = data_dir / "status" / f"{service}.json"
        self.service, self.look = service, look
        self.started_ms = utc_now_ms()
        self.told = ""
        self.closing = Event()
        self.thread = Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> "StatusFile":
        self._write("running")
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.thread.join(5)
        self._write("stopped")

    def _run(self) -> None:
        while not self.closing.wait(EVERY_S):
            self._write("running")

    def _write(self, state: str) -> None:
        status: dict[str, Any] = {
            "service": self.service,
            "state": state,
            "pid": os.getpid(),
            "started_ms": self.started_ms,
            "time_ms": utc_now_ms(),
        }
        try:
            status |= self.look()
        except VitalaneError as error:  # the journal is not there yet
            status["note"] = str(error)
        temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(status))
            temporary.replace(self.path)
        except OSError as error:  # a full disk stops no service: the service itself says what it cannot do
            if self.told != str(error):
                logger.warning("cli.status_unwritten file=%s error=%s", self.path.name, error.strerror)
            self.told = str(error)


def read_status(data_dir: Path, service: str) -> dict[str, Any]:
    """Return what a service last said, empty where it never did."""
    try:
        status = json.loads((data_dir / "status" / f"{service}.json").read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
