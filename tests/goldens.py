"""Golden files: durable formats as they were first written. `VITALANE_UPDATE_GOLDEN=1` writes them anew; the diff is for review."""

import os
from pathlib import Path


def assert_golden(path: Path, written: bytes) -> None:
    """Assert that what is written now is what the golden file holds."""
    if os.environ.get("VITALANE_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
    assert written == path.read_bytes(), f"{path.name} is a durable format and has changed"
