"""Where in a message a value stands: JMESPath, compiled once. A path that leads through names alone, as most do, is walked without it.

`$.` before a path means the whole message where the path would else be looked for in one sample of it.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

MAX_PATH = 500
MAX_LISTS = 4

WHOLE = "$."

_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class Path(NamedTuple):
    """A compiled path: `find(document, sample)` returns what stands there, None where nothing does."""

    text: str
    find: Callable[[Any, Any], Any]


def compile_path(text: str) -> Path:
    """Return a path. Raises ValueError with a sentence where it is none."""
    if len(text) > MAX_PATH:
        msg = f"a path has at most {MAX_PATH} characters, this one {len(text)}"
        raise ValueError(msg)
    expression = text.removeprefix(WHOLE)
    find = _walk(expression) if _NAMES.fullmatch(expression) else _search(expression)
    if text.startswith(WHOLE):
        return Path(text, lambda document, _sample: find(document))
    return Path(text, lambda _document, sample: find(sample))


def _walk(expression: str) -> Callable[[Any], Any]:
    names = expression.split(".")
    if len(names) == 1:
        return lambda value: value.get(expression) if isinstance(value, dict) else None

    def walk(value: Any) -> Any:
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return walk


def _check(node: Any, expression: str) -> None:
    """Refuse functions that there are not, and lists that are made of a value again and again: each doubles what is to be done."""
    made = 0
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if item["type"] == "function_expression" and item["value"] not in Functions.FUNCTION_TABLE:
            near = get_close_matches(item["value"], Functions.FUNCTION_TABLE, n=1)
            msg = f"{expression!r} calls the function {item['value']}, which there is not" + (f": did you mean {near[0]}?" if near else "")
            raise ValueError(msg)
        made += item["type"] == "multi_select_list"
        waiting += item.get("children", [])
    if made > MAX_LISTS:
        msg = f"{expression!r} makes more than {MAX_LISTS} lists"
        raise ValueError(msg)


def _search(expression: str) -> Callable[[Any], Any]:
    try:
        compiled = jmespath.compile(expression)
    except (JMESPathError, RecursionError) as error:
        msg = f"{expression!r} is no JMESPath: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}"
        raise ValueError(msg) from error
    _check(compiled.parsed, expression)

    def search(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, ArithmeticError, TypeError, ValueError, RecursionError):
            return None  # a function that was given what it does not take: nothing stands there

    return search
