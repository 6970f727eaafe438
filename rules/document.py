"""The rule document: YAML in, a RuleSet out, every problem of every file at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
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

from documents import Duration, Strict, parse_duration, read_tree
from documents.model import validate
from documents.tree import read_text
from rules.combining import Pair, watched
from rules.condition import HAS, SCORE, Comparison, Expression, Silence
from rules.parsing import parse_condition
from rules.rule import Rule, RuleSet, Step
from rules.schedule import DAYS, LEGS, Hours, Schedule, minutes
from telemetry.alert import AlertClass, Severity
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, Metric
from telemetry.template import problems

MAX_RULES = 10_000
RESERVED = ("device-clock-ahead", "device-too-late", "device-flood")
"""Rules of the engine's own, on devices that misbehave."""

DEFAULT_MESSAGE = "{subject}: {signal} {value:g} {unit}, {comparison} since {started_at}"
SCORE_MESSAGE = "{subject}: {signal} {value:g}, {comparison} since {started_at}"
PLAIN_MESSAGE = "{subject}: {signal} since {started_at}"

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


def _amount_within(text: Any) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(.+?)\s+within\s+(.+?)\s*", text) if isinstance(text, str) else None
    if match is None:
        msg = "must be an amount and a span, like `10 h within 7 d`"
        raise ValueError(msg)
    amount, within = parse_duration(match[1]), parse_duration(match[2])
    if not 0 < amount <= within:
        msg = "the amount must be more than 0 and no longer than the span"
        raise ValueError(msg)
    return amount, within


Accumulated = Annotated[
    tuple[int, int], BeforeValidator(_amount_within), WithJsonSchema({"type": "string", "examples": ["10 h within 7 d"]})
]


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Leg = Literal["at origin", "in transit", "at destination"]


def _hours(text: Any) -> tuple[int, int]:
    return minutes(str(text))


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        near = get_close_matches(name, available_timezones(), n=1)
        msg = f"there is no time zone `{name}`" + (f", did you mean `{near[0]}`?" if near else ": write one like `Europe/Berlin`")
        raise ValueError(msg)
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
        parse_condition(text, _catalogue(info))
        return text

    @field_validator("clear")
    @classmethod
    def _clear_reads(cls, clear: Clear | None, info: ValidationInfo) -> Clear | None:
        if clear is not None:
            _expression(clear.when, "`clear`", _catalogue(info))
        return clear

    @model_validator(mode="after")
    def _clears_one_way(self) -> "Proof":
        if self.keep_firing_for and self.clear is not None:
            msg = "`keep_firing_for` is short for a `clear` with a duration: leave one of them out"
            raise ValueError(msg)
        return self

    def clearing(self, catalogue: Mapping[str, Metric]) -> Expression | None:
        """Return what clears, where that is said."""
        return None if self.clear is None else _expression(self.clear.when, "`clear`", catalogue)

    def clear_for_ms(self) -> int:
        """Return how long it must be proved that it is over."""
        return self.clear.for_ if self.clear else self.keep_firing_for


class StepModel(Proof):
    severity: Severity

    @field_validator("when")
    @classmethod
    def _is_no_absence(cls, text: str, info: ValidationInfo) -> str:
        _expression(text, "a step", _catalogue(info))
        return text


class ActiveModel(Strict):
    days: Annotated[list[Day], Field(min_length=1)] = Field([*get_args(Day)], description="on which days; over midnight, where it begins")
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
        when = parse_condition(self.when, _catalogue(info))
        if isinstance(when, Silence):
            if self.for_ or self.clear or self.accumulated or self.keep_firing_for or self.steps or self.active:
                msg = (
                    "an absence has its own duration and clears when the device is back: leave out `for`, `accumulated` and `clear`, "
                    "`steps` and `active`"
                )
                raise ValueError(msg)
            return self
        severities = [list(Severity).index(severity) for severity in (self.severity, *(step.severity for step in self.steps))]
        if severities != sorted(set(severities)):
            msg = "`steps` are more severe levels of the alert: each must be above the one before it, the first above the rule's `severity`"
            raise ValueError(msg)
        if self.accumulated is not None and self.for_:
            msg = "`for` asks for time without a break, `accumulated` for time in all: leave one of them out"
            raise ValueError(msg)
        if self.max_gap is not None and self.max_gap < 1:
            msg = "`max_gap` must be longer than 0"
            raise ValueError(msg)
        _pairs(self, when, _catalogue(info))
        return self


class RulesModel(Strict):
    rules: Annotated[list[RuleModel], Field(max_length=MAX_RULES)] = []


def _catalogue(info: ValidationInfo) -> Mapping[str, Metric]:
    return CATALOGUE if info.context is None else info.context


def load_rules(paths: Iterable[Path | str], catalogue: Mapping[str, Metric] = CATALOGUE) -> RuleSet:
    """Return the rule set of files, folders of files, and shipped packs by name (`demo`). Raises ConfigError with every problem."""
    return compile_rules([document for path in paths for document in _documents(path)], catalogue)


def compile_rules(documents: Sequence[tuple[str, str]], catalogue: Mapping[str, Metric] = CATALOGUE) -> RuleSet:
    """Return the rule set of (name, text) documents. Raises ConfigError with every problem of all of them."""
    problems: list[Problem] = []
    rules: list[Rule] = []
    places: dict[str, str] = {}
    for name, text in documents:
        try:
            tree = read_tree(text, name)
            model = validate(tree, RulesModel, context=dict(catalogue))
        except ConfigError as error:
            problems += error.problems
            continue
        for index, rule in enumerate(model.rules):
            if rule.id in RESERVED:
                line, column = tree.place(("rules", index, "id"))
                problems.append(Problem(name, line, column, f"rules[{index}].id", f"`{rule.id}` is a rule of the engine's own"))
            if rule.id in places:
                line, column = tree.place(("rules", index, "id"))
                problems.append(Problem(name, line, column, f"rules[{index}].id", f"`{rule.id}` is a rule already, in {places[rule.id]}"))
            places.setdefault(rule.id, f"{name}:{tree.place(('rules', index))[0]}")
            rules.append(_rule(rule, catalogue))
    if problems:
        raise ConfigError(problems)
    digest = blake2b(digest_size=6)
    for _, text in documents:
        digest.update(f"{text}\x1f".encode())
    return RuleSet(digest.hexdigest(), tuple(rules), tuple(documents))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a rule document, for editors."""
    return RulesModel.model_json_schema()


def packs_folder() -> Path:
    """Return the folder of the shipped rule packs and their trials."""
    return Path(str(files("rules"))) / "packs"


def pack_names() -> list[str]:
    """Return the names of the rule packs that are shipped."""
    return sorted(file.stem for file in packs_folder().glob("*.yaml") if not file.name.endswith(".trial.yaml"))


def _documents(path: Path | str) -> list[tuple[str, str]]:
    if isinstance(path, str) and path in pack_names():
        return [(f"pack {path}", (packs_folder() / f"{path}.yaml").read_text())]
    file = Path(path)
    if file.is_dir():
        return [(str(child), read_text(child)) for child in sorted(file.glob("*.yaml")) if not child.name.endswith(".trial.yaml")]
    if not file.exists():
        message = f"no such file, and no pack of this name (packs: {', '.join(pack_names())})"
        raise ConfigError([Problem(str(path), 0, 0, "", message)])
    return [(str(file), read_text(file))]


def _rule(model: RuleModel, catalogue: Mapping[str, Metric]) -> Rule:
    when = parse_condition(model.when, catalogue)
    clear, steps = None, []
    if not isinstance(when, Silence):
        (when, clear), *steps = _pairs(model, when, catalogue)
    return Rule(
        id=model.id,
        when=when,
        for_ms=model.for_ if model.accumulated is None else model.accumulated[0],
        max_gap_ms=model.max_gap,
        clear_when=clear,
        clear_for_ms=model.clear_for_ms(),
        severity=model.severity,
        alert_class=model.class_,
        kind=model.applies_to.kind,
        tags=tuple(sorted(model.applies_to.tags.items())),
        message=model.message or _default_message(when, "since" if model.steps else "started_at"),
        within_ms=0 if model.accumulated is None else model.accumulated[1],
        shadow=model.mode == "shadow",
        steps=tuple(
            Step(pair.when, item.for_, pair.clear, item.clear_for_ms(), item.severity)
            for pair, item in zip(steps, model.steps, strict=True)
        ),
        schedule=None if model.active is None else model.active.schedule(),
        latching=model.latching,
    )


def _pairs(model: RuleModel, when: Expression, catalogue: Mapping[str, Metric]) -> list[Pair]:
    """Return the conditions of a rule and of its steps. Raises ValueError where they do not go together."""
    steps = [(_expression(item.when, "a step", catalogue), item.clearing(catalogue)) for item in model.steps]
    return watched(when, model.clearing(catalogue), model.max_gap, tuple(steps))


def _expression(text: str, what: str, catalogue: Mapping[str, Metric]) -> Expression:
    condition = parse_condition(text, catalogue)
    if not isinstance(condition, Silence):
        return condition
    msg = f"{what} cannot be an absence: silence proves nothing"
    raise ValueError(msg)


def _default_message(when: Comparison | Silence, since: str) -> str:
    if isinstance(when, Silence) or when.operator == HAS:
        return PLAIN_MESSAGE
    message = SCORE_MESSAGE if when.signal.aggregate == SCORE else DEFAULT_MESSAGE
    return message.replace("started_at", since)


__all__ = ["RulesModel", "compile_rules", "load_rules", "pack_names", "packs_folder", "schema"]
