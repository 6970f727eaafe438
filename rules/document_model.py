"""What a rule document may say: its model, every key with its meaning. `rules/document.py` makes rules of it."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from documents import Duration, Strict, parse_duration
from rules.combining import Pair, watched
from rules.condition import Expression, Silence
from rules.parsing import parse_condition
from rules.places import Place
from rules.schedule import DAYS, LEGS, Day, Hours, Leg, Schedule, minutes, zone
from telemetry.alert import AlertClass, Severity
from telemetry.metrics import CATALOGUE, Metric
from telemetry.template import problems

MAX_RULES, MAX_POINTS = 10_000, 2000


class Words(NamedTuple):
    """What conditions may name."""

    catalogue: Mapping[str, Metric]
    places: Mapping[str, Place]


NO_WORDS = Words(CATALOGUE, {})

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


def _checked_template(text: str) -> str:
    found = problems(text)
    if found:
        raise ValueError("; ".join(found))
    return text


class AppliesTo(Strict):
    kind: str = Field("", description="shipment, patient; empty: every kind")
    tags: dict[str, str] = Field({}, description="all of them must be the subject's tags")


class Clear(Strict):
    when: str
    for_: Duration = Field(0, alias="for")


class Amount(NamedTuple):
    """How much must be proved within a trailing span; `limit`, the tag of a subject whose own number of `unit_ms` takes its place."""

    amount_ms: int
    within_ms: int
    limit: str = ""
    unit_ms: int = 0


def _amount_within(text: Any) -> Amount:
    match = re.fullmatch(r"\s*(.+?)\s+within\s+(.+?)\s*", text) if isinstance(text, str) else None
    if match is None:
        msg = "must be an amount and a span, like `10 h within 7 d` or `limit(stability_budget, 72 h) within 60 d`"
        raise ValueError(msg)
    own = re.fullmatch(r"limit\(\s*([a-z][a-z0-9_]*)\s*,\s*(.+?)\s*\)", match[1])
    written = own[2] if own else match[1]
    amount, within = parse_duration(written), parse_duration(match[2])
    if not 0 < amount <= within:
        msg = "the amount must be more than 0 and no longer than the span"
        raise ValueError(msg)
    return Amount(amount, within, own[1], parse_duration(f"1 {written.lstrip('0123456789. ')}")) if own else Amount(amount, within)


Accumulated = Annotated[
    Amount,
    BeforeValidator(_amount_within),
    WithJsonSchema({"type": "string", "examples": ["10 h within 7 d", "limit(stability_budget, 72 h) within 60 d"]}),
]


def _metres(text: Any) -> float:
    match = re.fullmatch(r"\s*([0-9.]+)\s*(m|km)\s*", text) if isinstance(text, str) else None
    try:
        return float(match[1]) * (1000 if match[2] == "km" else 1)  # type: ignore[index]  # what is no match is no distance
    except (TypeError, ValueError):
        msg = "must be a distance, like `300 m` or `2 km`"
        raise ValueError(msg) from None


Distance = Annotated[
    float, BeforeValidator(_metres), Field(gt=0, le=1_000_000), WithJsonSchema({"type": "string", "examples": ["300 m", "2 km"]})
]
Position = Annotated[
    tuple[Annotated[float, Field(ge=-89, le=89)], Annotated[float, Field(ge=-180, le=180)]],
    Field(description="latitude, longitude: degrees"),
]
PlaceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def _hours(text: Any) -> tuple[int, int]:
    return minutes(str(text))


def _known_zone(name: str) -> str:
    try:
        zone(name)
    except (ValueError, KeyError, OSError) as error:
        near = get_close_matches(name, available_timezones(), n=1)
        msg = f"there is no time zone `{name}`" + (f", did you mean `{near[0]}`?" if near else ": write one like `Europe/Berlin`")
        raise ValueError(msg) from error
    return name


class Proof(Strict):
    """What raises, and what clears."""

    when: str = Field(description="temperature > 8 Cel | mean(spo2, 30 s) < 90 % | absent(spo2, 60 s)")
    for_: Duration = Field(0, alias="for", description="how long `when` must be proved without a break")
    clear: Clear | None = Field(None, description="what ends it; without it, the negation of `when`")
    keep_firing_for: Duration = Field(0, description="instead of `clear`: how long the negation of `when` must be proved")

    @field_validator("when")
    @classmethod
    def _when_reads(cls, text: str, info: ValidationInfo) -> str:
        parse_condition(text, *_words(info))
        return text

    @field_validator("clear")
    @classmethod
    def _clear_reads(cls, clear: Clear | None, info: ValidationInfo) -> Clear | None:
        if clear is not None:
            _expression(clear.when, "`clear`", _words(info))
        return clear

    @model_validator(mode="after")
    def _clears_one_way(self) -> "Proof":
        if self.keep_firing_for and self.clear is not None:
            msg = "`keep_firing_for` is short for a `clear` with a duration: leave one of them out"
            raise ValueError(msg)
        return self

    def clearing(self, words: Words) -> Expression | None:
        """Return what clears, where that is said."""
        return None if self.clear is None else _expression(self.clear.when, "`clear`", words)

    def clear_for_ms(self) -> int:
        """Return how long it must be proved that it is over."""
        return self.clear.for_ if self.clear else self.keep_firing_for


class StepModel(Proof):
    severity: Severity

    @field_validator("when")
    @classmethod
    def _is_no_absence(cls, text: str, info: ValidationInfo) -> str:
        _expression(text, "a step", _words(info))
        return text


class ActiveModel(Strict):
    days: Annotated[list[Day], Field(min_length=1)] = Field([*DAYS], description="on which days; over midnight, where it begins")
    hours: Annotated[tuple[int, int], BeforeValidator(_hours), WithJsonSchema({"type": "string", "examples": ["22:00-06:00"]})] = (0, 0)
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="whose clock: Europe/Berlin")
    legs: Annotated[list[Leg], Field(min_length=1)] | None = Field(
        None, description="of a shipment, by its tags `departed_at` and `arrived_at`; where they are not known, every leg"
    )

    def schedule(self) -> Schedule:
        """Return this as it is used."""
        whole = self.hours[0] == self.hours[1] and set(self.days) == set(DAYS)
        hours = None if whole else Hours(tuple(sorted(DAYS.index(day) for day in self.days)), *self.hours, self.timezone)
        return Schedule(hours, tuple(leg for leg in LEGS if leg in (self.legs or ())))


class RuleModel(Proof):
    id: Name
    applies_to: AppliesTo = AppliesTo(kind="", tags={})
    accumulated: Accumulated | None = Field(None, description="instead of `for`: how much must be proved within a trailing span")
    max_gap: Duration | None = Field(None, description="a longer gap between readings freezes the timer")
    severity: Severity
    steps: Annotated[list[StepModel], Field(max_length=2)] = Field([], description="more severe levels of the same alert, by severity")
    active: ActiveModel | None = Field(None, description="when it judges; else its condition does not hold, and its alert clears")
    latching: bool = Field(False, description="somebody must look, also when it is over")
    mode: Literal["live", "shadow"] = Field("live", description="shadow: evaluated and recorded, told to nobody")
    class_: AlertClass | None = Field(None, alias="class")
    message: Annotated[str, StringConstraints(max_length=500), AfterValidator(_checked_template)] | None = None

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> "RuleModel":
        when = parse_condition(self.when, *_words(info))
        if isinstance(when, Silence):
            if self.for_ or self.clear or self.accumulated or self.keep_firing_for or self.steps or self.active:
                msg = (
                    "an absence has its own duration and clears when the device is back: leave out `for`, `accumulated` and `clear`, "
                    "`steps` and `active`"
                )
                raise ValueError(msg)
            return self
        severities = [severity.rank for severity in (self.severity, *(step.severity for step in self.steps))]
        if severities != sorted(set(severities)):
            msg = "`steps` are more severe levels of the alert: each must be above the one before it, the first above the rule's `severity`"
            raise ValueError(msg)
        if self.accumulated is not None and self.for_:
            msg = "`for` asks for time without a break, `accumulated` for time in all: leave one of them out"
            raise ValueError(msg)
        if self.max_gap is not None and self.max_gap < 1:
            msg = "`max_gap` must be longer than 0"
            raise ValueError(msg)
        self.pairs(when, _words(info))
        return self

    def pairs(self, when: Expression, words: Words) -> list[Pair]:
        """Return the conditions of the rule and of its steps. Raises ValueError where they do not go together."""
        steps = [(_expression(item.when, "a step", words), item.clearing(words)) for item in self.steps]
        return watched(when, self.clearing(words), self.max_gap, tuple(steps))


class PlaceModel(Strict):
    """A circle, a polygon, or a route with a width."""

    center: Position | None = None
    polygon: Annotated[list[Position], Field(min_length=3, max_length=MAX_POINTS)] | None = None
    route: Annotated[list[Position], Field(min_length=2, max_length=MAX_POINTS)] | None = None
    radius: Distance = Field(0.0, description="of a circle: 300 m")
    width: Distance = Field(0.0, description="of a route, to each side: what is nearer is on it")

    @model_validator(mode="after")
    def _is_one_shape(self) -> "PlaceModel":
        if sum(shape is not None for shape in (self.center, self.polygon, self.route)) != 1:
            msg = "is one of `center` with a `radius`, `polygon` and `route`"
            raise ValueError(msg)
        if (self.radius and self.center is None) or (self.width and self.route is None) or (self.center is not None and not self.radius):
            msg = "a `center` has a `radius`, a `route` may have a `width`, a `polygon` has neither"
            raise ValueError(msg)
        return self

    def place(self) -> Place:
        """Return this as it is used."""
        if self.center is not None:
            return Place((self.center,), self.radius)
        return Place(tuple(self.polygon or self.route or ()), self.width, ring=self.polygon is not None)


class RulesModel(Strict):
    places: Annotated[dict[PlaceName, PlaceModel], Field(max_length=1000)] = Field(
        {}, description="zones and routes, by name, for all files"
    )
    rules: Annotated[list[RuleModel], Field(max_length=MAX_RULES)] = []


def _words(info: ValidationInfo) -> Words:
    return NO_WORDS if info.context is None else info.context["words"]


def _expression(text: str, what: str, words: Words) -> Expression:
    condition = parse_condition(text, *words)
    if not isinstance(condition, Silence):
        return condition
    msg = f"{what} cannot be an absence: silence proves nothing"
    raise ValueError(msg)
