"""Patterns of mappings, by RE2: one pass over the text, whatever the pattern and whatever the text, so that no message holds the flow up.

`^` and `$` are the ends of lines; there is no looking ahead or back, and no reference to an earlier group.
"""

from typing import Any

import re2

Pattern = Any
"""What `re2` compiles a pattern to: `search`, `finditer` and matches as the standard library has them."""

_QUIET = re2.Options()
_QUIET.log_errors = False


def compile_pattern(text: str) -> Pattern:
    """Return a pattern. Raises ValueError with a sentence where it is none."""
    try:
        return re2.compile(f"(?m){text}", _QUIET)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        msg = f"is no pattern of RE2: {why.decode(errors='replace') if isinstance(why, bytes) else why}"
        raise ValueError(msg) from error
