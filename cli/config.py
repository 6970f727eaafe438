"""`vitalane config`: check a configuration whole, print its schema, show what is in force."""

import json
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import click
import yaml
from pydantic import BaseModel

from cli.configuration import (
    Configuration,
    attempt,
    partition_problems,
    read_configuration,
    rule_set,
    rule_sources,
    secrets_of,
    sparkplug_problems,
    tls_problems,
)
from cli.options import config_option
from cli.registered import registered
from cli.settings import Account, Secret, Settings
from documents import format_duration, parse_duration
from documents.quantities import BYTES, parse_size
from rules.window import read_window, write_window
from telemetry.errors import ConfigError, Problem


@click.group()
def config() -> None:
    """Check, explain and show the configuration."""


@config.command()
@config_option
def check(config_file: Path) -> None:
    """Check the configuration and every document it names; print all problems."""
    configuration = read_configuration(config_file)
    problems = every_problem(configuration)
    if problems:
        raise ConfigError(problems)
    known = registered(configuration)
    rules, devices = rule_set(configuration, known.catalogue()), len({entry.device for entry in known.entries()})
    mapped = f", {len(known.library.mappings)} mappings" if known.library.mappings else ""
    click.echo(f"{config_file} is right: {len(rules.rules)} rules (version {rules.version}), {devices} devices{mapped}")


@config.command()
def schema() -> None:
    """Print the JSON Schema of vitalane.yaml, for editors."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@config.command()
@config_option
def show(config_file: Path) -> None:
    """Print what is in force, defaults included; secrets as ***."""
    click.echo(yaml.safe_dump(shown(read_configuration(config_file).settings), sort_keys=False, allow_unicode=True), nl=False)


def every_problem(configuration: Configuration) -> list[Problem]:
    """Return what is wrong beyond the form: documents, secrets, files, and what refers to nothing."""
    from cli.destinations import channel, name_problems, subscriptions

    problems: list[Problem] = []
    known, sources = attempt(problems, lambda: registered(configuration)), attempt(problems, lambda: rule_sources(configuration))
    if known is not None and sources is not None:
        attempt(problems, lambda: rule_set(configuration, known.catalogue()))
    attempt(problems, lambda: subscriptions(configuration))
    for steps, secret in secrets_of(configuration.settings):
        attempt(problems, lambda steps=steps, secret=secret: configuration.secret(steps, secret))  # type: ignore[misc]
    problems += tls_problems(configuration, ("broker",), configuration.settings.broker)
    problems += name_problems(configuration) + partition_problems(configuration)
    problems += sparkplug_problems(configuration, () if known is None else known.mappings().filters)
    for name, entry in configuration.settings.channels.items():
        if isinstance(entry, Account):
            problems += tls_problems(configuration, ("channels", name), entry)
        attempt(problems, lambda name=name: channel(configuration, name, None))  # type: ignore[misc]
    return sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.column))


def shown(model: BaseModel) -> dict[str, Any]:
    """Return a model as people write it: durations and sizes with their units, secrets hidden."""
    return {
        field.alias or name: _shown(getattr(model, name), (field.annotation, *field.metadata))
        for name, field in type(model).model_fields.items()
    }


def _shown(value: Any, annotation: Any) -> Any:
    if isinstance(value, Secret):
        return f"*** ({f'environment variable {value.env}' if value.env else f'file {value.file}'})"
    if isinstance(value, BaseModel):
        return shown(value)
    if isinstance(value, dict):
        return {key: _shown(item, annotation) for key, item in value.items()}
    if _reads_with(annotation, read_window):
        return write_window(value)
    if isinstance(value, list):
        return [_shown(item, NoneType) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if _reads_with(annotation, parse_duration):
            return format_duration(value)
        if _reads_with(annotation, parse_size):
            return _size(value)
    return value


def _reads_with(annotation: Any, parse: Any) -> bool:
    """Return whether a field's annotation holds the validator that reads text with `parse`."""
    if isinstance(annotation, tuple):
        return any(_reads_with(part, parse) for part in annotation)
    if getattr(annotation, "func", None) is parse:
        return True
    return get_origin(annotation) is not None and _reads_with(get_args(annotation), parse)


def _size(size: int) -> str:
    """Return the shortest exact text of a size, `20 GB`."""
    unit = next(unit for unit in ("TB", "GB", "MB", "kB", "B") if size % BYTES[unit] == 0)
    return f"{size // BYTES[unit]} {unit}"
