"""Message templates: which names a rule's message may use. Checked when a rule is read, filled in by whoever tells people.

Only plain names and number formats: no attribute, no call, no width or precision above two digits, so that a template is data.
"""

import re
from difflib import get_close_matches
from string import Formatter

NAMES = (
    "subject", "device", "rule", "severity", "signal", "value", "threshold", "comparison", "unit", "peak", "started_at", "ended_at",
    "phase", "kind",
)  # fmt: skip

_TAG = re.compile(r"tags\[[A-Za-z0-9_.-]{1,64}\]")
_SPEC = re.compile(r"(?:[<>^]?[+ ]?\d{0,2}(?:\.\d{1,2})?[fgds]?)?")


def template_problem(text: str) -> str | None:
    """Return what is wrong with a template in one sentence, or None."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError as error:
        return f"the message is not a template: {error}"
    for _, name, spec, conversion in fields:
        if name is None:
            continue
        if name not in NAMES and not _TAG.fullmatch(name):
            near = get_close_matches(name, NAMES, n=1)
            return f"the message names {{{name}}}" + (
                f", did you mean {{{near[0]}}}?" if near else f": it may name {', '.join(NAMES)} or tags[...]"
            )
        if conversion or not _SPEC.fullmatch(spec or ""):
            return f"the format of {{{name}}} is not understood: write it like {{value:.1f}}"
    return None
