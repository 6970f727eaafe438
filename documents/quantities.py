"""Durations and sizes as people write them: `60 min`, `10 s`, `7 d`, `20 GB`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
LONGEST_MS = 10 * 365 * 86_400_000

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def _scaled(text: Any, units: dict[str, int], example: str) -> int:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        msg = f"{text!r} is not understood: write a number and a unit ({', '.join(units)}), like {example}"
        raise ValueError(msg)
    return round(float(match[1]) * units[match[2]])


def parse_duration(text: Any) -> int:
    """Return the milliseconds of a duration like `60 min` or `1.5 h`. Raises ValueError with a sentence."""
    if text in (0, "0"):
        return 0
    duration = _scaled(text, MILLISECONDS, "10 min")
    if duration > LONGEST_MS:
        msg = f"{text!r} is longer than ten years"
        raise ValueError(msg)
    return duration


def parse_size(text: Any) -> int:
    """Return the bytes of a size like `20 GB`. Raises ValueError with a sentence."""
    return _scaled(text, BYTES, "20 GB")


def format_duration(duration_ms: int) -> str:
    """Return the shortest exact text of a duration, `90 min`."""
    for unit, scale in reversed(MILLISECONDS.items()):
        if unit != "w" and duration_ms and duration_ms % scale == 0:
            return f"{duration_ms // scale} {unit}"
    return "0"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {"type": ["string", "integer"], "examples": ["10 s", "60 min", "3 d"], "description": "a number and ms, s, min, h, d or w"}
    ),
]
"""Milliseconds, written like `60 min`."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "examples": ["64 MB", "20 GB"], "description": "a number and B, kB, MB, GB, TB, KiB, MiB, GiB"}),
]
"""Bytes, written like `20 GB`."""
