"""Conditions: what a rule watches and when it holds. Text in, immutable values out, thresholds in the catalogue's unit of their metric."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import NamedTuple

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from documents import format_duration, parse_duration
from telemetry.metrics import Metric, conversion, unit_code

AGGREGATES = ("count", "mean", "min", "max", "first", "last", "stddev")
WHOLE_DEVICE = ""
"""The metric of a Silence that watches everything from a device."""

INVERSE = {">": "<=", "<": ">=", ">=": "<", "<=": ">", "==": "!=", "!=": "=="}


class Signal(NamedTuple):
    """A metric, or an aggregate of it over closed windows of one size."""

    metric: str
    aggregate: str = ""  # empty: the readings themselves
    size_ms: int = 0

    def __str__(self) -> str:
        if not self.aggregate:
            return self.metric
        size = format_duration(self.size_ms)
        return f"{self.aggregate}({self.metric}, {size}, {size})"


class Comparison(NamedTuple):
    """`signal operator threshold`, the threshold in `unit`, the catalogue's unit of the metric."""

    signal: Signal
    operator: str
    threshold: float
    unit: str

    def holds(self, value: float) -> bool:
        """Return whether a value satisfies the comparison, exactly as the operator says."""
        threshold = self.threshold
        match self.operator:
            case ">":
                return value > threshold
            case "<":
                return value < threshold
            case ">=":
                return value >= threshold
            case "<=":
                return value <= threshold
            case "==":
                return value == threshold
            case _:
                return value != threshold

    def band(self) -> tuple[float, float]:
        """Return the open interval (low, high) inside which the comparison surely fails; (inf, -inf) where there is none."""
        if self.operator in {">", ">="}:
            return float("-inf"), self.threshold
        if self.operator in {"<", "<="}:
            return self.threshold, float("inf")
        return float("inf"), float("-inf")

    def inverse(self) -> "Comparison":
        """Return the comparison that holds exactly where this one does not."""
        return self._replace(operator=INVERSE[self.operator])

    def __str__(self) -> str:
        return f"{self.operator} {self.threshold:g}"


class Silence(NamedTuple):
    """Nothing of a metric (or, WHOLE_DEVICE, of a device) received for a duration on the journal's clock."""

    metric: str
    duration_ms: int

    def __str__(self) -> str:
        return f"absent({self.metric or 'device'}, {format_duration(self.duration_ms)})"


Condition = Comparison | Silence


def parse_condition(text: str, catalogue: Mapping[str, Metric]) -> Condition:
    """Return the condition that a text says. Raises ValueError with a sentence that shows where it goes wrong."""
    try:
        tree = _parser().parse(text)
        condition: Condition = _Reader(catalogue).transform(tree)
    except UnexpectedInput as error:
        column = min(getattr(error, "column", 1), len(text) + 1) if getattr(error, "column", -1) > 0 else len(text) + 1
        msg = f"is not understood at column {column}, at {text[column - 1 :][:20]!r}: write it like `temperature > 8 Cel`"
        msg += ", `mean(spo2, 10 s, 10 s) < 90 %` or `absent(spo2, 60 s)`"
        raise ValueError(msg) from error
    except VisitError as error:
        raise ValueError(str(error.orig_exc)) from error
    return condition


@cache
def _parser() -> Lark:
    grammar = files("rules").joinpath("condition.lark").read_text()
    return Lark(grammar, parser="lalr", lexer="contextual")


class _Reader(Transformer[Token, Condition]):
    """The tree of a condition to its value; the names of methods are the grammar's."""

    def __init__(self, catalogue: Mapping[str, Metric]) -> None:
        super().__init__()
        self.catalogue = catalogue

    def _known(self, name: str) -> Metric:
        if name not in self.catalogue:
            near = get_close_matches(name, self.catalogue, n=1)
            msg = f"unknown metric `{name}`" + (f", did you mean `{near[0]}`?" if near else "")
            raise ValueError(msg)
        return self.catalogue[name]

    def metric(self, parts: list[Token]) -> Signal:
        return Signal(self._known(str(parts[0])).name)

    def aggregate(self, parts: list[Token | int]) -> Signal:
        function, metric, size, every = str(parts[0]), str(parts[1]), parts[2], parts[3]
        assert isinstance(size, int)
        if function not in AGGREGATES:
            near = get_close_matches(function, AGGREGATES, n=1)
            msg = f"unknown aggregate `{function}`" + (
                f", did you mean `{near[0]}`?" if near else f": it is one of {', '.join(AGGREGATES)}"
            )
            raise ValueError(msg)
        if size != every:
            length = format_duration(size)
            msg = f"windows must tumble: write the same duration twice, {function}({metric}, {length}, {length})"
            raise ValueError(msg)
        if size < 1000:
            msg = f"a window of {format_duration(size)} is too short: one second is the shortest"
            raise ValueError(msg)
        return Signal(self._known(metric).name, function, size)

    def duration(self, parts: list[Token]) -> int:
        return parse_duration(f"{parts[0]} {parts[1]}")

    def quantity(self, parts: list[Token | None]) -> tuple[float, str | None]:
        number = float(str(parts[0]))
        if not isfinite(number):
            msg = f"{parts[0]} is too large a number"
            raise ValueError(msg)
        return number, None if parts[1] is None else str(parts[1])

    def comparison(self, parts: list[object]) -> Comparison:
        signal, operator, quantity = parts
        assert isinstance(signal, Signal)
        assert isinstance(quantity, tuple)
        number, spelling = quantity
        unit = self.catalogue[signal.metric].unit if signal.aggregate != "count" else "1"
        if spelling is None or signal.aggregate == "count":
            return Comparison(signal, str(operator), number, unit)
        code = unit_code(spelling)
        if code is None:
            msg = f"unknown unit `{spelling}`: {signal.metric} is in {unit}"
            raise ValueError(msg)
        scale_shift = conversion(code, unit)
        if scale_shift is None:
            msg = f"`{spelling}` does not measure what {signal.metric} is: it is in {unit}"
            raise ValueError(msg)
        scale, shift = scale_shift
        if signal.aggregate == "stddev":
            shift = 0.0  # a spread has no zero point
        return Comparison(signal, str(operator), round(number * scale + shift, 9), unit)

    def silence(self, parts: list[Token | int]) -> Silence:
        name, duration = str(parts[0]), parts[1]
        assert isinstance(duration, int)
        if duration < 1000:
            msg = "a silence shorter than one second cannot be told from an ordinary pause"
            raise ValueError(msg)
        return Silence(WHOLE_DEVICE if name == "device" else self._known(name).name, duration)


__all__ = ["AGGREGATES", "WHOLE_DEVICE", "Comparison", "Condition", "Signal", "Silence", "parse_condition"]
