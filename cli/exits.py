"""Exit codes, and the error for what cannot be reached or started."""

from telemetry.errors import VitalaneError

FAILED = 1
CONFIG = 2
UNREACHABLE = 3
INTERRUPTED = 130


class Unreachable(VitalaneError):
    """A service, a server or a folder that a command needs is not to be had: exit 3."""
