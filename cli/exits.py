"""Exit codes, and the error for what cannot be reached, started or written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry.errors import VitalaneError

FAILED = 1
CONFIG = 2
UNREACHABLE = 3
INTERRUPTED = 130


class Unreachable(VitalaneError):
    """A service, a server or a folder that a command needs is not to be had: exit 3."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Say in a sentence that a file or folder cannot be written. Raises Unreachable."""
    try:
        yield
    except OSError as error:
        msg = f"{error.filename or place} cannot be written: {(error.strerror or str(error)).lower()}"
        raise Unreachable(msg) from error
