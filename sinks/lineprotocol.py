"""InfluxDB's line protocol: `measurement,tag=value field=value time`. Pure text; its law is that every line means exactly one point.

What cannot be said is refused and never bent: a newline in a name (it would end the line), a backslash at its end (it would swallow what
follows), NaN and infinities. A tag without a value is left out, for the protocol has no empty one. Numbers of rows are always floats,
because the first write of a field fixes its type for ever.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from telemetry.blocks import Block
from telemetry.readings import SeriesKey

FieldValue = float | int | bool | str

_NAME = str.maketrans({",": "\\,", " ": "\\ "})
_KEY = str.maketrans({",": "\\,", " ": "\\ ", "=": "\\="})
_STRING = str.maketrans({'"': '\\"', "\\": "\\\\"})

WINDOW_FIELDS = (
    "count", "mean", "min", "max", "first", "last", "stddev", "sum", "median", "p95", "range", "slope", "revision", "closes_ms",
)  # fmt: skip
READING_FIELDS = ("value",)
SERIES_TAGS = ("device", "kind", "metric", "subject")  # sorted: InfluxDB stores series by their sorted tags


class Unencodable(ValueError):
    """The line protocol cannot say this."""


class Unsigned(int):
    """A field of InfluxDB's unsigned integer type."""


def measurement(text: str) -> str:
    return _checked(text, "measurement").translate(_NAME)


def key(text: str) -> str:
    """Return a tag key, tag value or field key, escaped."""
    return _checked(text, "name").translate(_KEY)


def field(value: FieldValue) -> str:
    """Return a field's value, its type by the protocol's suffixes and quotes."""
    if isinstance(value, str):
        return f'"{value.translate(_STRING)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Unsigned):
        return f"{int(value)}u"
    if isinstance(value, int):
        return f"{value}i"
    if not math.isfinite(value):
        msg = f"a field cannot be {value}"
        raise Unencodable(msg)
    return repr(value)


def point(name: str, tags: Iterable[tuple[str, str]], fields: Iterable[tuple[str, FieldValue]], time_ns: int) -> str:
    """Return the line of one point; the caller gives tags sorted by key."""
    said = ",".join([f"{key(label)}={field(value)}" for label, value in fields])
    if not said:
        msg = "a point needs a field"
        raise Unencodable(msg)
    return f"{head(name, tags)} {said} {time_ns}"


def head(name: str, tags: Iterable[tuple[str, str]]) -> str:
    """Return what a line begins with: measurement and tags. An empty tag is left out."""
    return measurement(name) + "".join([f",{key(label)}={key(value)}" for label, value in tags if value])


def series_head(name: str, series: SeriesKey) -> str:
    """Return what each line of a series begins with."""
    return head(name, [(tag, getattr(series, tag)) for tag in SERIES_TAGS])


def reading_lines(block: Block, heads: Sequence[str]) -> list[str]:
    """Return the lines of a block of readings; `heads` gives what those of each of its series begin with.

    The hot path: values that are not finite come out as `nan` or `inf`, for `unsayable` to find.
    """
    columns = block.columns
    return [
        f"{heads[series]} value={value!r} {time_ms}000000"
        for series, time_ms, value in zip(columns["series"], columns["time_ms"], columns["value"], strict=True)
    ]


def window_lines(block: Block, heads: Sequence[str]) -> list[str]:
    """Return the lines of a block of window summaries, at the time each opens."""
    columns = block.columns
    names = ("series", "opens_ms", *WINDOW_FIELDS)
    lines = [
        f"{heads[series]} count={count}.0,mean={mean!r},min={low!r},max={high!r},first={first!r},last={last!r},stddev={stddev!r},"
        f"sum={total!r},median={median!r},p95={p95!r},range={spread!r},slope={slope!r},revision={revision}.0,closes_ms={closes_ms}.0 "
        f"{opens_ms}000000"
        for series, opens_ms, count, mean, low, high, first, last, stddev, total, median, p95, spread, slope, revision, closes_ms in zip(
            *(columns[name] for name in names), strict=True
        )
    ]
    for index in unsayable(block, WINDOW_FIELDS[1:-2]):  # a summary that does not exist is an absent field, not a bad line
        fields = [(name, float(columns[name][index])) for name in WINDOW_FIELDS]
        said = ",".join(f"{name}={value!r}" for name, value in fields if math.isfinite(value))
        lines[index] = f"{heads[columns['series'][index]]} {said} {columns['opens_ms'][index]}000000"
    return lines


def unsayable(block: Block, names: Sequence[str]) -> list[int]:
    """Return the indices of rows that hold a value that is not finite in one of these columns."""
    found: set[int] = set()
    for name in names:
        column: Any = block.columns[name]
        if not math.isfinite(sum(column)):  # a finite sum has finite terms: the cheap answer, and nearly always the last
            found |= {index for index, value in enumerate(column) if not math.isfinite(value)}
    return sorted(found)


def _checked(text: str, what: str) -> str:
    """Return the text where it can be said. The messages do not repeat it: it may name a patient."""
    problem = ""
    if "\n" in text or "\r" in text:
        problem = "hold a line break"
    elif text.endswith("\\"):
        problem = "end in a backslash"
    elif not text:
        problem = "be empty"
    if problem:
        msg = f"a {what} cannot {problem}"
        raise Unencodable(msg)
    return text
