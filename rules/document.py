"""The rule document: YAML in, a RuleSet out, every problem of every file at once."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from documents import Tree, read_tree
from documents.model import validate
from documents.tree import read_text
from rules.condition import HAS, SCORE, Comparison, Silence
from rules.document_model import PlaceModel, RuleModel, RulesModel, Words
from rules.parsing import parse_condition
from rules.places import Place
from rules.reserved import RESERVED
from rules.rule import Rule, RuleSet, Step
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, Metric

DEFAULT_MESSAGE = "{subject}: {signal} {value:g} {unit}, {comparison} since {started_at}"
SCORE_MESSAGE = "{subject}: {signal} {value:g}, {comparison} since {started_at}"
PLAIN_MESSAGE = "{subject}: {signal} since {started_at}"

NOWHERE = Place(((0.0, 0.0),))
"""Stands for a place that is wrong, so that the rules that name it are not."""


def load_rules(paths: Iterable[Path | str], catalogue: Mapping[str, Metric] = CATALOGUE) -> RuleSet:
    """Return the rule set of files, folders of files, and shipped packs by name (`demo`). Raises ConfigError with every problem."""
    return compile_rules([document for path in paths for document in _documents(path)], catalogue)


def compile_rules(documents: Sequence[tuple[str, str]], catalogue: Mapping[str, Metric] = CATALOGUE) -> RuleSet:
    """Return the rule set of (name, text) documents. Raises ConfigError with every problem of all of them."""
    trees, problems = _trees(documents)
    known, twice = _places(trees)
    problems += twice
    words = Words(catalogue, known)
    rules: list[Rule] = []
    stands: dict[str, str] = {}
    for tree in trees:
        try:
            model = validate(tree, RulesModel, context={"words": words})
        except ConfigError as error:
            problems += error.problems
            continue
        for index, rule in enumerate(model.rules):
            line, column = tree.place(("rules", index, "id"))
            if rule.id in RESERVED:
                problems.append(Problem(tree.file, line, column, f"rules[{index}].id", f"`{rule.id}` is a rule of the engine's own"))
            if rule.id in stands:
                said = f"`{rule.id}` is a rule already, in {stands[rule.id]}"
                problems.append(Problem(tree.file, line, column, f"rules[{index}].id", said))
            stands.setdefault(rule.id, f"{tree.file}:{tree.place(('rules', index))[0]}")
            rules.append(_rule(rule, words))
    if problems:
        raise ConfigError(problems)
    digest = blake2b(digest_size=6)
    for _, text in documents:
        digest.update(f"{text}\x1f".encode())
    return RuleSet(digest.hexdigest(), tuple(rules), tuple(documents))


def _trees(documents: Sequence[tuple[str, str]]) -> tuple[list[Tree], list[Problem]]:
    """Return the documents that are YAML, and what is wrong with the others."""
    trees: list[Tree] = []
    problems: list[Problem] = []
    for name, text in documents:
        try:
            trees.append(read_tree(text, name))
        except ConfigError as error:
            problems += error.problems
    return trees, problems


def _places(trees: Sequence[Tree]) -> tuple[dict[str, Place], list[Problem]]:
    """Return the places of all documents, and those that stand there twice. Of one that is wrong it is told where it is validated."""
    found: dict[str, Place] = {}
    stands: dict[str, str] = {}
    problems: list[Problem] = []
    for tree in trees:
        written = tree.value.get("places") if isinstance(tree.value, dict) else None
        for place, plain in written.items() if isinstance(written, dict) else ():
            line, column = tree.place(("places", place))
            if place in stands:
                said = f"`{place}` is a place already, in {stands[place]}"
                problems.append(Problem(tree.file, line, column, f"places.{place}", said))
            stands.setdefault(place, f"{tree.file}:{line}")
            found[place] = NOWHERE
            with suppress(ValidationError):
                found[place] = PlaceModel.model_validate(plain).place()
    return found, problems


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


def _rule(model: RuleModel, words: Words) -> Rule:
    when = parse_condition(model.when, *words)
    clear, steps = None, []
    if not isinstance(when, Silence):
        (when, clear), *steps = model.pairs(when, words)
    return Rule(
        id=model.id,
        when=when,
        for_ms=model.for_ if model.accumulated is None else model.accumulated.amount_ms,
        max_gap_ms=model.max_gap,
        clear_when=clear,
        clear_for_ms=model.clear_for_ms(),
        severity=model.severity,
        alert_class=model.class_,
        kind=model.applies_to.kind,
        tags=tuple(sorted(model.applies_to.tags.items())),
        message=model.message or _default_message(when, "since" if model.steps else "started_at"),
        within_ms=0 if model.accumulated is None else model.accumulated.within_ms,
        for_limit=None if model.accumulated is None or not model.accumulated.limit else model.accumulated[2:],
        shadow=model.mode == "shadow",
        steps=tuple(
            Step(pair.when, item.for_, pair.clear, item.clear_for_ms(), item.severity)
            for pair, item in zip(steps, model.steps, strict=True)
        ),
        schedule=None if model.active is None else model.active.schedule(),
        latching=model.latching,
    )


def _default_message(when: Comparison | Silence, since: str) -> str:
    if isinstance(when, Silence) or when.operator == HAS:
        return PLAIN_MESSAGE
    message = SCORE_MESSAGE if when.signal.aggregate == SCORE else DEFAULT_MESSAGE
    return message.replace("started_at", since)


__all__ = ["RulesModel", "compile_rules", "load_rules", "pack_names", "packs_folder", "schema"]
