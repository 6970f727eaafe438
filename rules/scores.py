"""Scores as data (`rules/scores.yaml`): the points of each parameter, how long its readings are valid, where the numbers come from.

For every score of points there is one more, `<name>_single`: the most points of any one parameter (NEWS2 acts on a single 3).
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, NamedTuple

from pydantic import Field, RootModel, model_validator

from documents import Duration, Strict, parse
from telemetry.metrics import CATALOGUE

SINGLE = "_single"
DEFAULT_VALID_MS = 15 * 60_000


class Points(Strict):
    up_to: dict[float, int] = Field(description="from the lowest on: inclusive bound -> points")
    above: int

    @model_validator(mode="after")
    def _ascend(self) -> "Points":
        if list(self.up_to) != sorted(self.up_to):
            msg = "the bounds must ascend"
            raise ValueError(msg)
        return self


class Variant(Strict):
    tags: dict[str, str] = {}
    where: dict[str, float] = Field({}, description="another metric of the score -> the value at which this holds")
    points: Points

    def is_for(self, tags: tuple[tuple[str, str], ...]) -> bool:
        """Return whether a subject has all the tags."""
        own = dict(tags)
        return all(own.get(name) == value for name, value in self.tags.items())


class Parameter(Strict):
    metric: str
    resolution: float = 1
    valid: Duration
    points: Points
    variants: tuple[Variant, ...] = ()


class Score(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    ratio: tuple[str, str] | None = Field(None, description="instead of points: one metric over another")
    valid: Duration = DEFAULT_VALID_MS

    @model_validator(mode="after")
    def _is_of_metrics(self) -> "Score":
        if bool(self.parameters) is bool(self.ratio):
            msg = "a score has `parameters`, or is the `ratio` of two metrics"
            raise ValueError(msg)
        unknown = [metric for metric in self.metrics if metric not in CATALOGUE]
        if unknown or self.name in CATALOGUE:
            msg = f"unknown metric `{unknown[0]}`" if unknown else f"`{self.name}` is a metric"
            raise ValueError(msg)
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it is made of."""
        return self.ratio or tuple(parameter.metric for parameter in self.parameters)

    def valid_of(self, metric: str) -> int:
        """Return how long a reading of a metric stands for it, milliseconds."""
        return next((parameter.valid for parameter in self.parameters if parameter.metric == metric), self.valid)

    @property
    def valid_ms(self) -> int:
        """How long the longest valid of its readings is, milliseconds."""
        return max((parameter.valid for parameter in self.parameters), default=self.valid)


class Use(NamedTuple):
    """A score as a rule names it."""

    score: Score
    single: bool  # the most points of one parameter, not their sum


class _Scores(RootModel[tuple[Score, ...]]):
    pass


@cache
def scores() -> Mapping[str, Use]:
    """Return what each name of a score in a rule stands for."""
    text = files("rules").joinpath("scores.yaml").read_text()
    known: dict[str, Use] = {}
    for score in parse(text, "scores.yaml", _Scores).root:
        known[score.name] = Use(score, single=False)
        if score.parameters:
            known[score.name + SINGLE] = Use(score, single=True)
    return known
