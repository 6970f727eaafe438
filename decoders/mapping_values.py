"""One value of a mapping: where it stands, what it means, and what becomes of it."""

import re
from collections.abc import Callable
from typing import NamedTuple

from decoders.mapping_model import ReadingModel
from decoders.packets import Run, Unreadable, shown
from decoders.paths import compile_path
from decoders.payloads import Document
from telemetry.reasons import Reason

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")


class Look(NamedTuple):
    """What became of one value, for people who ask."""

    what: str  # a metric, `time`, `device`, `status`
    path: str
    value: object
    outcome: str  # read as ..., not there, or why it was refused


Looker = Callable[[Look], None]


def nobody(_: Look) -> None:
    return None


class Value:
    """Where a value stands and what it means."""

    def __init__(self, model: ReadingModel, texts: bool) -> None:
        self.path, self._scale, self._shift, self.texts = compile_path(model.path), model.scale, model.shift, texts
        self._divisor = round(1 / model.scale) if 0 < model.scale < 1 and abs(round(1 / model.scale) * model.scale - 1) < 1e-12 else 0
        self._exact = model.scale == 1.0 and model.shift == 0.0
        self._codes, self._absent = model.values, model.not_measured
        self._numbered = any(_NUMBER.fullmatch(code) for code in model.values)  # the codes are numbers, so other numbers are none
        self.unit: str | None = model.unit if isinstance(model.unit, str) else None
        self._unit_from = None if model.unit is None or isinstance(model.unit, str) else model.unit
        self._unit_path = None if self._unit_from is None else compile_path(self._unit_from.path)

    def unit_of(self, document: Document, sample: Document, unit: str | None) -> str | None:
        """Return the unit's spelling, None for the catalogue's."""
        if self._unit_path is None or self._unit_from is None:
            return unit
        said = self._unit_path.find(document, sample)
        return said if isinstance(said, str) and said else self._unit_from.otherwise

    def meaning(self, value: object) -> object:
        """Return what a value means, before its unit. Raises Unreadable where it says that nothing was measured, or is no number."""
        if self._absent and any(is_code(value, code) for code in self._absent):
            raise Unreadable(Reason.NOT_MEASURED, f"{shown(str(value))} means that it was not measured")
        if self.texts:
            value = as_number(value)
        if self._codes:
            code = self._codes.get(_spelled(value))
            if code is not None:
                return code
            if self._numbered or isinstance(value, bool) or not isinstance(value, int | float):
                raise Unreadable(Reason.WRONG_TYPE, f"nobody said what {shown(str(value))} means")
        if self._exact or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        try:
            # A tenth is no binary number, ten is: 886 / 10 is 88.6, and 886 * 0.1 is not.
            return (value / self._divisor if self._divisor else value * self._scale) + self._shift
        except OverflowError:
            raise Unreadable(Reason.NOT_FINITE, "the value is not a finite number") from None


def add_value(run: Run, metric: str, value: Value, unit: str | None, where: tuple[Document, Document], time_ms: int, look: Looker) -> None:
    document, sample = where
    found = value.path.find(document, sample)
    if found is None or (found == "" and value.texts):
        if look is not nobody:
            look(Look(metric, value.path.text, None, "is not there"))
        return
    try:
        names, number = run.builder.value(metric, value.meaning(found), value.unit_of(document, sample, unit))
    except Unreadable as error:
        run.refuse(error, metric)
        look(Look(metric, value.path.text, found, f"refused: {error.reason}, {error.detail}"))
        return
    run.take(names[0], number, time_ms)
    if look is not nobody:
        look(Look(metric, value.path.text, found, "read"))


def as_number(value: object) -> object:
    """Return the number that a text writes, or the value as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else value


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)[:200]


def is_code(value: object, code: object) -> bool:
    """Return whether a value is a code, written as a number or a text; true and false are no numbers."""
    if isinstance(value, bool) or isinstance(code, bool):
        return value is code
    if isinstance(code, int | float):
        value = as_number(value)
        return isinstance(value, int | float) and value == code
    return value == code
