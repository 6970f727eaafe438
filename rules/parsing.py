"""From the text of a condition to its value, thresholds in the catalogue's unit of their metric. What is wrong is shown with a caret."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from documents import format_duration, parse_duration
from rules.condition import (
    ACCUMULATED,
    DIFFERENCES,
    DISTANCE,
    SCORE,
    WHOLE_DEVICE,
    Comparison,
    Condition,
    Expression,
    Held,
    Logic,
    Signal,
    Silence,
    Where,
)
from rules.places import Place
from rules.scores import scores
from rules.window import AGGREGATES, TRAILING, Window
from telemetry.metrics import Metric, conversion, unit_code

SHORTEST_WINDOW_MS = 1000
MAX_TEXT = 1000
MAX_COMPARISONS = 30
MAX_DEPTH = 20

LEAST_ACTIVATION, MOST_ACTIVATION = 20.0, 300.0
"""Plausible heats of activation, kJ/mol: wide around the customary 83.144. What is outside is a slip of the unit."""

INSIDE = "inside"
SPECIAL_UNITS = {SCORE: "{score}", DISTANCE: "m", ACCUMULATED: "h"}
NO_PLACES: Mapping[str, Place] = {}

PER = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
LIKE = "`temperature > 8 Cel`, `mean(spo2, 30 s) < 90 %`, `heart_rate > 120 /min and sbp < 90 mmHg` or `absent(spo2, 60 s)`"


def parse_condition(text: str, catalogue: Mapping[str, Metric], places: Mapping[str, Place] = NO_PLACES) -> Condition:
    """Return the condition that a text says, of some metrics and places. Raises ValueError with a sentence that shows where it is wrong."""
    if len(text) > MAX_TEXT:
        msg = f"is of {len(text)} characters: {MAX_TEXT} are the most"
        raise ValueError(msg)
    try:
        condition: Condition = _Reader(catalogue, places).transform(_parser().parse(text))
    except UnexpectedInput as error:
        ended = getattr(getattr(error, "token", None), "type", "") == "$END"
        column = len(text) + 1 if ended or getattr(error, "column", -1) < 1 else error.column
        msg = f"is not understood at column {column}, {_shown(text, column)}: write it like {LIKE}"
        raise ValueError(msg) from error
    except VisitError as error:
        raise ValueError(str(error.orig_exc)) from error
    if isinstance(condition, Logic):
        _check_size(condition)
    return condition


class _Misread(ValueError):
    """A word that is not what it must be, and the column where it stands."""

    def __init__(self, message: str, at: Token) -> None:
        super().__init__(message if at.column == 1 else f"{message} (column {at.column})")


def _shown(text: str, column: int) -> str:
    rest = text[column - 1 :][:20]
    return f"at {rest!r}" if rest else "at its end"


def _check_size(condition: Logic) -> None:
    if _depth(condition) > MAX_DEPTH or sum(1 for _ in condition.leaves()) > MAX_COMPARISONS:
        msg = f"is too much for one rule: {MAX_COMPARISONS} comparisons, {MAX_DEPTH} deep, are the most"
        raise ValueError(msg)
    for leaf in condition.leaves():
        if leaf.signal.window is not None:
            msg = f"`{leaf.signal}` is of closed windows, which do not combine with others: leave out how often it begins"
            raise ValueError(msg)


def _depth(condition: Expression) -> int:
    return 1 + max(map(_depth, condition.parts)) if isinstance(condition, Logic) else 0


def _suggested(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f", did you mean `{near[0]}`?" if near else ""


@cache
def _parser() -> Lark:
    grammar = files("rules").joinpath("condition.lark").read_text()
    return Lark(grammar, parser="lalr", lexer="contextual")


class _Reader(Transformer[Token, Condition]):
    """The tree of a condition to its value; the names of methods are the grammar's."""

    def __init__(self, catalogue: Mapping[str, Metric], places: Mapping[str, Place]) -> None:
        super().__init__()
        self.catalogue, self.places = catalogue, places

    def _known(self, name: Token) -> str:
        if name not in self.catalogue:
            msg = f"unknown metric `{name}`{_suggested(name, [*self.catalogue, *scores()])}"
            raise _Misread(msg, name)
        return self.catalogue[name].name

    # -- signals ------------------------------------------------------------------------------------------------------------------

    def metric(self, parts: list[Token]) -> Signal:
        if parts[0] in scores():
            return Signal(str(parts[0]), SCORE)
        return Signal(self._known(parts[0]))

    def trailing(self, parts: list[Token | int]) -> Signal:
        function, metric, span = self._over(parts, TRAILING)
        return Signal(metric, function, trailing_ms=span)

    def kinetic(self, parts: list[Any]) -> Signal:
        *over, energy = parts
        if over[0] != "mkt":
            msg = f"a heat of activation is of `mkt`, not of `{over[0]}`"
            raise _Misread(msg, over[0])
        activation = float(energy)
        if not LEAST_ACTIVATION <= activation <= MOST_ACTIVATION:
            msg = f"a heat of activation is {LEAST_ACTIVATION:g} to {MOST_ACTIVATION:g} kJ/mol, not {energy}"
            raise _Misread(msg, energy)
        return self.trailing(over)._replace(activation=activation)

    def windowed(self, parts: list[Token | int]) -> Signal:
        function, metric, size, every = *self._over(parts, AGGREGATES), parts[3]
        assert isinstance(every, int)
        if not SHORTEST_WINDOW_MS <= every <= size:
            length = format_duration(size)
            msg = f"a window of {length} cannot begin every {format_duration(every)}: write one second to {length}"
            raise ValueError(msg)
        return Signal(metric, function, window=Window(size, every, 0))

    def session(self, parts: list[Token | int]) -> Signal:
        function, metric, gap = self._over(parts, AGGREGATES)
        return Signal(metric, function, window=Window(0, 0, gap))

    def accumulated(self, parts: list[Any]) -> Signal:
        function, condition, span = parts
        if function != ACCUMULATED:
            msg = f"`{function}` is not of a condition: `{ACCUMULATED}`, how long it held, is"
            raise _Misread(msg, function)
        if span < SHORTEST_WINDOW_MS:
            msg = f"a span of {format_duration(span)} is too short: one second is the shortest"
            raise ValueError(msg)
        metrics = {leaf.signal for leaf in condition.leaves()}
        if len(metrics) > 1 or any(signal.aggregate for signal in metrics):
            msg = f"`{ACCUMULATED}` is of conditions on the readings of one metric, like `{ACCUMULATED}(temperature > 8 Cel, 7 d) > 10 h`"
            raise _Misread(msg, function)
        if any(leaf.limit for leaf in condition.leaves()):
            msg = f"`limit` does not go into `{ACCUMULATED}`: it may stand where its hours are compared"
            raise _Misread(msg, function)
        text = f"{ACCUMULATED}({condition.text()}, {format_duration(span)})"
        return Signal(text, ACCUMULATED, span, held=Held(condition, span))

    def place(self, parts: list[Token]) -> tuple[Token, str, Where]:
        function, name = parts
        if name not in self.places:
            near = _suggested(name, self.places) or (
                f": there are {', '.join(self.places)}" if self.places else ": write it under `places`"
            )
            msg = f"unknown place `{name}`{near}"
            raise _Misread(msg, name)
        return function, str(name), Where(((str(name), self.places[name]),))

    def tagged(self, parts: list[Token]) -> tuple[Token, str, Where]:
        function, tag = parts
        return function, f"tag {tag}", Where(tuple(self.places.items()), str(tag))

    def distance(self, parts: list[tuple[Token, str, Where]]) -> Signal:
        function, name, where = parts[0]
        if function != DISTANCE:
            msg = f"`{function}({name})` has no value to compare: write `{DISTANCE}({name}) > 2 km`, or `{INSIDE}({name})` alone"
            raise _Misread(msg, function)
        return Signal(f"{DISTANCE}({name})", DISTANCE, where=where)

    def inside(self, parts: list[tuple[Token, str, Where]]) -> Comparison:
        function, name, where = parts[0]
        if function != INSIDE:
            msg = f"`{function}({name})` alone is no condition: write `{INSIDE}({name})`, or compare `{DISTANCE}({name})` with a distance"
            raise _Misread(msg, function)
        return Comparison(Signal(f"{DISTANCE}({name})", DISTANCE, where=where), "<=", 0.0, SPECIAL_UNITS[DISTANCE])

    def _over(self, parts: list[Token | int], known: Collection[str]) -> tuple[str, str, int]:
        """Return the aggregate, the metric and the first duration. Raises ValueError where one of them cannot be."""
        function, metric, size = parts[:3]
        assert isinstance(function, Token)
        assert isinstance(metric, Token)
        assert isinstance(size, int)
        if function in TRAILING and function not in known:
            msg = f"`{function}` is of a trailing span, not of closed windows: leave out how often it begins"
            raise _Misread(msg, function)
        if function not in known:
            msg = f"unknown aggregate `{function}`" + (_suggested(function, known) or f": it is one of {', '.join(known)}")
            raise _Misread(msg, function)
        if size < SHORTEST_WINDOW_MS:
            msg = f"a window of {format_duration(size)} is too short: one second is the shortest"
            raise ValueError(msg)
        name = self._known(metric)
        if function == "mkt" and self.catalogue[name].unit != "Cel":
            msg = f"`mkt` is a mean of temperatures: {name} is in {self.catalogue[name].unit}"
            raise _Misread(msg, metric)
        return str(function), name, size

    def duration(self, parts: list[Token]) -> int:
        return parse_duration(f"{parts[0]} {parts[1]}")

    def number(self, parts: list[Token | None]) -> tuple[float, Token | None, str]:
        number = float(str(parts[0]))
        if not isfinite(number):
            msg = f"{parts[0]} is too large a number"
            raise ValueError(msg)
        return number, parts[1], ""

    def limited(self, parts: list[Any]) -> tuple[float, Token | None, str]:
        name, (number, spelling, _) = parts
        return number, spelling, str(name)

    # -- conditions ---------------------------------------------------------------------------------------------------------------

    def comparison(self, parts: list[object]) -> Comparison:
        signal, operator, quantity = parts
        assert isinstance(signal, Signal)
        assert isinstance(quantity, tuple)
        number, spelling, limit = quantity
        unit = self._unit(signal)
        if spelling is None or signal.aggregate == "count":
            return Comparison(signal, str(operator), number, unit, limit)
        per_s = 1
        code = unit_code(spelling)
        if signal.aggregate in {"rate", "slope"}:
            base, _, per = spelling.rpartition("/")
            if per not in PER or not base:
                msg = f"`{signal.aggregate}` is a change with time: write the unit as `{unit}/min`"
                raise _Misread(msg, spelling)
            code, per_s = unit_code(base), PER[per]
        if code is None:
            msg = f"unknown unit `{spelling}`: {signal.metric} is in {unit}"
            raise _Misread(msg, spelling)
        scale_shift = conversion(code, unit)
        if scale_shift is None:
            msg = f"`{spelling}` does not measure what {signal.metric} is: it is in {unit}"
            raise _Misread(msg, spelling)
        scale, shift = scale_shift
        if signal.aggregate in DIFFERENCES:
            shift = 0.0  # a difference has no zero point
        scale, shift = scale / per_s, shift / per_s
        threshold = round(number * scale + shift, 9 if per_s == 1 else 15)
        return Comparison(signal, str(operator), threshold, unit, limit, *((scale, shift) if limit else (1.0, 0.0)))

    def _unit(self, signal: Signal) -> str:
        if signal.aggregate in SPECIAL_UNITS:
            return SPECIAL_UNITS[signal.aggregate]
        return self.catalogue[signal.metric].unit if signal.aggregate != "count" else "1"

    def disjunction(self, parts: list[Expression]) -> Logic:
        return Logic("or", tuple(parts))

    def conjunction(self, parts: list[Expression]) -> Logic:
        return Logic("and", tuple(parts))

    def negation(self, parts: list[Expression]) -> Logic:
        return Logic("not", tuple(parts))

    def silence(self, parts: list[Token | int]) -> Silence:
        name, duration = parts
        assert isinstance(name, Token)
        assert isinstance(duration, int)
        if duration < SHORTEST_WINDOW_MS:
            msg = "a silence shorter than one second cannot be told from an ordinary pause"
            raise ValueError(msg)
        return Silence(WHOLE_DEVICE if name == "device" else self._known(name), duration)


__all__ = ["parse_condition"]
