"""Conditions: what a rule watches and when it holds. Immutable values; `rules/parsing.py` makes them of text.

A comparison is of one signal. Comparisons combined by `and`, `or` and `not` are a `Logic`. A rule on one, or on a score, watches a
*derived* signal: at each reading of any of the metrics in it, it says whether the rule holds and whether it clears (`rules/derived.py`).
"""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import NamedTuple, Union

from documents import format_duration
from rules.places import Place
from rules.window import Window

WHOLE_DEVICE = ""
"""The metric of a Silence that watches everything from a device."""

BOUNDED = frozenset({"mean", "min", "max", "first", "last", "median", "p95", "mkt"})
"""Aggregates that lie between the least and the greatest of their readings: of readings in band they are in band."""

DIFFERENCES = frozenset({"stddev", "range", "slope", "delta", "rate"})
"""Aggregates that are differences of readings: their unit has no zero point."""

SCORE, DISTANCE, ACCUMULATED = "score", "distance_from", "accumulated_time"
"""The aggregates of signals that are no metric: a score, how far it is from a place, how long a condition held in a trailing span."""

WITHOUT_METRIC = frozenset({SCORE, DISTANCE, ACCUMULATED})

HAS = "has"
"""The operator on a derived signal: its value is a sum of the bits HOLDS and CLEARS."""

HOLDS, CLEARS = 2, 1  # in this order: below HOLDS, a rule does not hold
INVERSE = {">": "<=", "<": ">=", ">=": "<", "<=": ">", "==": "!=", "!=": "=="}


class Derived(NamedTuple):
    """What a derived signal is made of: two conditions, or (both None) a score."""

    when: Union["Comparison", "Logic", None]
    clear: Union["Comparison", "Logic", None]
    valid_ms: int | None  # how long a reading stands for its metric; None: by kind, as the gap of a rule
    steps: tuple[tuple[Union["Comparison", "Logic"], Union["Comparison", "Logic"]], ...] = ()  # of each step, the same two conditions

    def sides(self) -> Iterator[Union["Comparison", "Logic"]]:
        """Return all its conditions."""
        for side in (self.when, self.clear, *(side for step in self.steps for side in step)):
            if side is not None:
                yield side


class Where(NamedTuple):
    """The place that a signal is about: one, or that which a tag of the subject names."""

    places: tuple[tuple[str, Place], ...]
    tag: str = ""

    def __hash__(self) -> int:
        """Return a hash without the geometry, which may be of thousands of points: signals are looked up for every row."""
        return hash((self.tag, len(self.places)))


class Held(NamedTuple):
    """How long a condition on one metric held, in all, within a trailing span."""

    condition: Union["Comparison", "Logic"]
    span_ms: int

    @property
    def metric(self) -> str:
        return next(self.condition.leaves()).signal.metric


class Signal(NamedTuple):
    """A metric, or an aggregate of it: over the trailing span at every reading, or over closed windows. Or what follows from several."""

    metric: str  # of what is no metric its text, of a score its name
    aggregate: str = ""  # empty: the readings themselves
    trailing_ms: int = 0  # the span of a trailing aggregate; of a derived signal, how far back the readings lie that make it
    window: Window | None = None  # of an aggregate over closed windows
    derived: Derived | None = None
    where: Where | None = None  # of a distance
    held: Held | None = None  # of accumulated time
    activation: float = 0.0  # of a mean kinetic temperature, the heat of activation, kJ/mol; 0: the customary one

    def __str__(self) -> str:
        if not self.aggregate or self.aggregate in WITHOUT_METRIC:
            return self.metric
        activation = f", {self.activation:g} kJ/mol" if self.activation else ""
        return f"{self.aggregate}({self.metric}, {self.window or format_duration(self.trailing_ms)}{activation})"

    @property
    def reach_ms(self) -> int:
        """How far back from an observation the readings lie that make it."""
        return self.trailing_ms if self.window is None else self.window.reach_ms

    def smooth(self) -> bool:
        """Return whether readings in band keep the signal in band."""
        return not self.aggregate or self.aggregate in BOUNDED


class Comparison(NamedTuple):
    """`signal operator threshold`, the threshold in `unit`, the catalogue's unit of the metric."""

    signal: Signal
    operator: str
    threshold: float
    unit: str
    limit: str = ""  # the tag of a subject whose number takes the place of the threshold
    scale: float = 1.0  # of that number, as the rule writes its unit
    shift: float = 0.0

    def of_subject(self, tags: Mapping[str, str]) -> "Comparison":
        """Return the comparison with a subject's own limit, where it has one that is a number."""
        try:
            number = float(tags[self.limit]) * self.scale + self.shift
        except (KeyError, ValueError):
            return self
        return self._replace(threshold=round(number, 9)) if isfinite(number) else self

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
            case "has":
                return bool(int(value) & int(threshold))
            case _:
                return value != threshold

    def band(self) -> tuple[float, float]:
        """Return the open interval (low, high) inside which the comparison surely fails; (inf, -inf) where there is none."""
        if self.operator in {">", ">="} or (self.operator == HAS and self.threshold == HOLDS):
            return float("-inf"), self.threshold
        if self.operator in {"<", "<="}:
            return self.threshold, float("inf")
        return float("inf"), float("-inf")

    def inverse(self) -> "Comparison":
        """Return the comparison that holds exactly where this one does not."""
        return self._replace(operator=INVERSE[self.operator])

    def leaves(self) -> Iterator["Comparison"]:
        """Return the comparisons that it is made of."""
        yield self

    def text(self) -> str:
        """Return it as a rule writes it."""
        unit = "" if self.unit in {"1", "{score}", "{state}"} else f" {self.unit}"
        unit += "/s" if self.signal.aggregate in {"rate", "slope"} else ""
        threshold = f"{self.threshold:.12g}{unit}"
        return f"{self.signal} {self.operator} {f'limit({self.limit}, {threshold})' if self.limit else threshold}"

    def __str__(self) -> str:
        return "" if self.operator == HAS else f"{self.operator} {self.threshold:g}"


class Logic(NamedTuple):
    """Conditions combined: `and` and `or` of two or more, `not` of one. A part that is not known leaves open what it decides (Kleene)."""

    operator: str
    parts: tuple[Union[Comparison, "Logic"], ...]

    def leaves(self) -> Iterator[Comparison]:
        """Return the comparisons that it is made of, as written."""
        for part in self.parts:
            yield from part.leaves()

    def text(self) -> str:
        """Return it as a rule writes it, with the parentheses that it needs."""
        shown = [f"({part.text()})" if isinstance(part, Logic) and part.operator != "not" else part.text() for part in self.parts]
        return f"not {shown[0]}" if self.operator == "not" else f" {self.operator} ".join(shown)


class Silence(NamedTuple):
    """Nothing of a metric (or, WHOLE_DEVICE, of a device) received for a duration on the journal's clock."""

    metric: str
    duration_ms: int

    def __str__(self) -> str:
        return f"absent({self.metric or 'device'}, {format_duration(self.duration_ms)})"


Expression = Comparison | Logic
Condition = Comparison | Logic | Silence
