"""Message templates: which names a rule's message may use. Checked when a rule is read, and again before it is filled in.

Only plain names and number formats: no attribute, no call, no conversion, no unbounded width, so that a template is data.
"""

import re
import string
from difflib import get_close_matches

NUMBERS = ("value", "threshold", "peak")
TEXTS = ("subject", "device", "rule", "severity", "signal", "comparison", "unit", "started_at", "ended_at", "since", "phase", "kind")
NAMES = (*TEXTS, *NUMBERS)

MAX_TEMPLATE = 1000

_TAG = re.compile(r"tags\[([^\[\]{}]{1,64})\]")
_SPEC = re.compile(r"(?:[<>^][0-9]{1,2})?[+]?,?(?:\.[0-9])?[feg%]?")


def problems(template: str) -> list[str]:
    """Return what is wrong with a template, one sentence each; an empty list means that it can be filled in for every event."""
    if len(template) > MAX_TEMPLATE:
        return [f"a message has at most {MAX_TEMPLATE} characters, this one {len(template)}"]
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        return [f"the message is not a template: {error} (write {{{{ and }}}} for plain braces)"]
    return [problem for field in fields if (problem := _problem(*field)) is not None]


def _problem(name: str, spec: str | None, conversion: str | None) -> str | None:
    if name not in NAMES and not _TAG.fullmatch(name):
        near = get_close_matches(name, NAMES, n=1)
        return f"the message names {{{name}}}" + (
            f", did you mean {{{near[0]}}}?" if near else f": it may name {', '.join(NAMES)} or tags[...]"
        )
    if conversion:
        return f"{{{name}!{conversion}}} is not understood: conversions are not allowed"
    if spec and not _SPEC.fullmatch(spec):
        return f"the format of {{{name}:{spec}}} is not understood: write it like {{value:.1f}}"
    if spec and name not in NUMBERS:
        return f"the format of {{{name}:{spec}}} is not understood: only {', '.join(NUMBERS)} take one"
    return None
