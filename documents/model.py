"""Trees to validated models: all problems at once, each where it stands, with the key that was probably meant."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from documents.tree import Steps, Tree, read_text, read_tree, where
from telemetry.errors import ConfigError, Problem

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """The base of every document's model: immutable, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def load(path: Path, model: type[Model]) -> Model:
    """Return the model of a YAML file. Raises ConfigError with every problem."""
    return parse(read_text(path), str(path), model)


def parse(text: str, file: str, model: type[Model]) -> Model:
    """Return the model of a YAML text; `file` names it in problems. Raises ConfigError with every problem."""
    return validate(read_tree(text, file), model)


def validate(tree: Tree, model: type[Model], context: dict[str, Any] | None = None) -> Model:
    """Return the model of a tree, an empty document being an empty mapping. Raises ConfigError with every problem.

    `context` reaches the model's own validators.
    """
    try:
        return model.model_validate({} if tree.value is None else tree.value, context=context)
    except ValidationError as error:
        names = _key_names(model)
        found = {_problem(tree, dict(item), names) for item in error.errors(include_url=False, include_context=True)}
        raise ConfigError(sorted(found, key=lambda problem: (problem.line, problem.column, problem.where))) from error


def _problem(tree: Tree, item: dict[str, Any], names: set[str]) -> Problem:
    path = _path_in(tree, item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    is_key = item["type"] == "extra_forbidden"
    if is_key:
        key = str(path[-1]) if path else ""
        near = get_close_matches(key, names - {key}, n=1)
        message = "unknown key" + (f", did you mean `{near[0]}`?" if near else "")
    elif item["type"] == "missing":
        message = f"`{item['loc'][-1]}` is missing"
    elif item["type"] in {"model_type", "dict_type", "model_attributes_type"}:
        message = "must be a mapping (`key: value` lines)"
    else:
        value = _value_at(tree.value, path)
        if isinstance(value, str | int | float) and repr(value) not in message and not _is_secret(path):
            message += f" (it is {str(value)[:80]!r})" if isinstance(value, str) else f" (it is {value})"
    line, column = tree.place(path, key=is_key)
    return Problem(tree.file, line, column, where(path), message)


def _path_in(tree: Tree, loc: tuple[str | int, ...]) -> Steps:
    """Return the part of pydantic's location that is a path of the document; union tags and validators' names are not."""
    path: Steps = ()
    for step in loc:
        if (*path, step) in tree.places:
            path = (*path, step)
    return path


def _value_at(value: Any, path: Steps) -> Any:
    for step in path:
        value = value[step]
    return value


def _is_secret(path: Steps) -> bool:
    return any(str(step) in {"password", "secret", "token", "key", "url"} for step in path)


def _key_names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}
