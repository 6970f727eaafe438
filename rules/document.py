"""The rule document: YAML in, a RuleSet out, every problem of every file at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

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
from rules.combining import watched
from rules.condition import HAS, SCORE, Comparison, Silence
from rules.parsing import parse_condition
from rules.rule import Rule, RuleSet
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


class RuleModel(Strict):
    id: Name
    applies_to: AppliesTo = AppliesTo(kind="", tags={})
    when: str = Field(description="temperature > 8 Cel | mean(spo2, 30 s) < 90 % | absent(spo2, 60 s)")
    for_: Duration = Field(0, alias="for", description="how long `when` must be proved without a break")
    accumulated: Accumulated | None = Field(None, description="instead of `for`: how much must be proved within a trailing span")
    max_gap: Duration | None = Field(None, description="a longer gap between readings freezes the timer")
    clear: Clear | None = Field(None, description="what ends the alert; without it, the negation of `when`")
    keep_firing_for: Duration = Field(0, description="instead of `clear`: how long the negation of `when` must be proved")
    severity: Severity
    mode: Literal["live", "shadow"] = Field("live", description="shadow: evaluated and recorded, told to nobody")
    class_: AlertClass | None = Field(None, alias="class")
    message: Annotated[str, StringConstraints(max_length=500), AfterValidator(_checked_template)] | None = None

    @field_validator("when")
    @classmethod
    def _when_reads(cls, text: str, info: ValidationInfo) -> str:
        parse_condition(text, _catalogue(info))
        return text

    @field_validator("clear")
    @classmethod
    def _clear_reads(cls, clear: Clear | None, info: ValidationInfo) -> Clear | None:
        if clear is not None and isinstance(parse_condition(clear.when, _catalogue(info)), Silence):
            msg = "`clear` cannot be an absence: silence proves nothing"
            raise ValueError(msg)
        return clear

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> "RuleModel":
        when = parse_condition(self.when, _catalogue(info))
        if isinstance(when, Silence):
            if self.for_ or self.clear or self.accumulated or self.keep_firing_for:
                msg = "an absence has its own duration and clears when the device is back: leave out `for`, `accumulated` and `clear`"
                raise ValueError(msg)
            return self
        if self.keep_firing_for and self.clear is not None:
            msg = "`keep_firing_for` is short for a `clear` with a duration: leave one of them out"
            raise ValueError(msg)
        if self.accumulated is not None and self.for_:
            msg = "`for` asks for time without a break, `accumulated` for time in all: leave one of them out"
            raise ValueError(msg)
        if self.max_gap is not None and self.max_gap < 1:
            msg = "`max_gap` must be longer than 0"
            raise ValueError(msg)
        clear = None if self.clear is None else parse_condition(self.clear.when, _catalogue(info))
        assert not isinstance(clear, Silence)
        watched(when, clear, self.max_gap)
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
    when, clear = _conditions(model, catalogue)
    return Rule(
        id=model.id,
        when=when,
        for_ms=model.for_ if model.accumulated is None else model.accumulated[0],
        max_gap_ms=model.max_gap,
        clear_when=clear,
        clear_for_ms=model.clear.for_ if model.clear else model.keep_firing_for,
        severity=model.severity,
        alert_class=model.class_,
        kind=model.applies_to.kind,
        tags=tuple(sorted(model.applies_to.tags.items())),
        message=model.message or _default_message(when),
        within_ms=0 if model.accumulated is None else model.accumulated[1],
        shadow=model.mode == "shadow",
    )


def _conditions(model: RuleModel, catalogue: Mapping[str, Metric]) -> tuple[Comparison | Silence, Comparison | None]:
    when = parse_condition(model.when, catalogue)
    if isinstance(when, Silence):
        return when, None
    clear = None if model.clear is None else parse_condition(model.clear.when, catalogue)
    assert not isinstance(clear, Silence)
    return watched(when, clear, model.max_gap)


def _default_message(when: Comparison | Silence) -> str:
    if isinstance(when, Silence) or when.operator == HAS:
        return PLAIN_MESSAGE
    return SCORE_MESSAGE if when.signal.aggregate == SCORE else DEFAULT_MESSAGE


__all__ = ["RulesModel", "compile_rules", "load_rules", "pack_names", "packs_folder", "schema"]
