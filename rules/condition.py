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
from rules.window import AGGREGATES, Window
from telemetry.metrics import Metric, conversion, unit_code

WHOLE_DEVICE = ""
"""The metric of a Silence that watches everything from a device."""

BOUNDED = frozenset({"mean", "min", "max", "first", "last", "median", "p95"})
"""Aggregates that lie between the least and the greatest of their readings: of readings in band they are in band."""

SHORTEST_WINDOW_MS = 1000
INVERSE = {">": "<=", "<": ">=", ">=": "<", "<=": ">", "==": "!=", "!=": "=="}


class Signal(NamedTuple):
    """A metric, or an aggregate of it: over the trailing span at every reading, or over closed windows."""

    metric: str
    aggregate: str = ""  # empty: the readings themselves
    trailing_ms: int = 0  # the span of a trailing aggregate
    window: Window | None = None  # of an aggregate over closed windows

    def __str__(self) -> str:
        if not self.aggregate:
            return self.metric
        return f"{self.aggregate}({self.metric}, {self.window or format_duration(self.trailing_ms)})"

    @property
    def reach_ms(self) -> int:
        """How far back from an observation the readings lie that make it."""
        return self.trailing_ms if self.window is None else self.window.reach_ms

    def smooth(self) -> bool:
        """Return whether readings in band keep the signal in band."""
        return self.aggregate in BOUNDED


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
        msg += ", `mean(spo2, 30 s) < 90 %` or `absent(spo2, 60 s)`"
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

    def trailing(self, parts: list[Token | int]) -> Signal:
        function, metric, span = self._over(parts)
        return Signal(metric, function, trailing_ms=span)

    def windowed(self, parts: list[Token | int]) -> Signal:
        function, metric, size, every = *self._over(parts), parts[3]
        assert isinstance(every, int)
        if not SHORTEST_WINDOW_MS <= every <= size:
            length = format_duration(size)
            msg = f"a window of {length} cannot begin every {format_duration(every)}: write one second to {length}"
            raise ValueError(msg)
        return Signal(metric, function, window=Window(size, every, 0))

    def session(self, parts: list[Token | int]) -> Signal:
        function, metric, gap = self._over(parts)
        return Signal(metric, function, window=Window(0, 0, gap))

    def _over(self, parts: list[Token | int]) -> tuple[str, str, int]:
        """Return the aggregate, the metric and the first duration. Raises ValueError where one of them cannot be."""
        function, metric, size = str(parts[0]), str(parts[1]), parts[2]
        assert isinstance(size, int)
        if function not in AGGREGATES:
            near = get_close_matches(function, AGGREGATES, n=1)
            msg = f"unknown aggregate `{function}`" + (
                f", did you mean `{near[0]}`?" if near else f": it is one of {', '.join(AGGREGATES)}"
            )
            raise ValueError(msg)
        if size < SHORTEST_WINDOW_MS:
            msg = f"a window of {format_duration(size)} is too short: one second is the shortest"
            raise ValueError(msg)
        return function, self._known(metric).name, size

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
        if signal.aggregate in {"stddev", "range", "slope"}:
            shift = 0.0  # a difference has no zero point
        return Comparison(signal, str(operator), round(number * scale + shift, 9), unit)

    def silence(self, parts: list[Token | int]) -> Silence:
        name, duration = str(parts[0]), parts[1]
        assert isinstance(duration, int)
        if duration < 1000:
            msg = "a silence shorter than one second cannot be told from an ordinary pause"
            raise ValueError(msg)
        return Silence(WHOLE_DEVICE if name == "device" else self._known(name).name, duration)


__all__ = ["WHOLE_DEVICE", "Comparison", "Condition", "Signal", "Silence", "parse_condition"]
