"""`vitalane rules check|show|diff|schema`: what rule files say, before anybody is woken by them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from cli.configuration import read_configuration, rule_set
from cli.exits import CONFIG
from cli.places import telemetry_path
from cli.registered import registered
from rules.advice import Published, advice
from rules.comparison import Change, changes, shown
from rules.document import load_rules, pack_names
from rules.document import schema as rules_schema
from rules.rule import RuleSet
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, Metric

_COLUMN = re.compile(r"column ([0-9]+)")
MAX_SHOWN = 160

config_or_files = click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Take the rules and metrics of a configuration."
)


def catalogue_of(config_file: Path | None) -> dict[str, Metric]:
    """Return the metrics that there are, a configuration's own among them."""
    return CATALOGUE if config_file is None else registered(read_configuration(config_file)).catalogue()


def loaded(files: Sequence[str], config_file: Path | None) -> RuleSet:
    """Return the rules of files, folders and packs; without any, those of the configuration, or of all packs."""
    if files:
        return load_rules([file if file in pack_names() else Path(file) for file in files], catalogue_of(config_file))
    if config_file is not None:
        return rule_set(read_configuration(config_file), catalogue_of(config_file))
    raise ConfigError([Problem("rules", 0, 0, "", f"name rule files or packs ({', '.join(pack_names())}), or a configuration with -c")])


@click.command()
@click.argument("files", nargs=-1)
@config_or_files
@click.option("--strict", is_flag=True, help="Exit 2 where there is advice, too.")
@click.option("--json", "as_json", is_flag=True, help="Problems and advice as one JSON object.")
def check(files: Sequence[str], config_file: Path | None, strict: bool, as_json: bool) -> int:
    """Check rule FILES (files, folders, packs): every problem with its line and a caret, then advice; exit 2 where there are problems.

    With a configuration (-c) that has a journal, the advice knows what its devices publish, and how often.
    """
    problems: Sequence[Problem] = ()
    rules = None
    try:
        rules = loaded(files, config_file)
    except ConfigError as error:
        problems = error.problems
    given = [] if rules is None else advice(rules.rules, catalogue_of(config_file), _published(config_file))
    if as_json:
        told = {"problems": [problem._asdict() for problem in problems], "advice": [item._asdict() for item in given]}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo("\n".join(pointed(problem)), err=True)
        for item in given:
            click.echo(f"advice: {item.rule}: {item.text}")
        if rules is not None:
            click.echo(f"{len(rules.rules)} rules are right (version {rules.version})" + (f"; {len(given)} advice" if given else ""))
    return CONFIG if problems or (strict and given) else 0


def _published(config_file: Path | None) -> Published | None:
    """Return what the devices of a configuration publish, as far as its journal says."""
    if config_file is None:
        return None
    configuration = read_configuration(config_file)
    journal = telemetry_path(configuration.data_dir)
    if not journal.exists():
        return None
    from flows.published import intervals_ms

    return intervals_ms(journal, configuration.settings.partitions, registered(configuration).decoder())


def pointed(problem: Problem) -> list[str]:
    """Return a problem, the line where it is, and a caret under it."""
    lines = [str(problem)]
    try:
        text = Path(problem.file).read_text().splitlines()[problem.line - 1] if problem.line else ""
    except (OSError, UnicodeDecodeError, IndexError):
        return lines
    inside = _COLUMN.search(problem.message)
    column = problem.column
    if inside is not None:  # of a condition, which may stand in quotes
        column += int(inside[1]) - 1 + (text[problem.column - 1 : problem.column] in {"'", '"'})
    if text and column <= len(text) + 1 and len(text) <= MAX_SHOWN:
        lines += [f"    {text}", f"    {' ' * (column - 1)}^"]
    return lines


@click.command()
@click.argument("files", nargs=-1)
@config_or_files
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def show(files: Sequence[str], config_file: Path | None, as_json: bool) -> None:
    """Show the rules of FILES, or of a configuration, in normal form."""
    rules = loaded(files, config_file)
    if as_json:
        click.echo(json.dumps([{"id": rule.id, **shown(rule)} for rule in rules.rules], ensure_ascii=False))
        return
    for rule in rules.rules:
        click.echo(rule.id)
        for name, text in shown(rule).items():
            click.echo(f"    {name:10}  {text}")
    click.echo(f"{len(rules.rules)} rules, version {rules.version}")


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def diff(old: str, new: str, as_json: bool) -> None:
    """Say what changes from the rules in OLD to those in NEW, and which of them keep what they hold."""
    found = changes(loaded([old], None), loaded([new], None))
    if as_json:
        click.echo(json.dumps([item._asdict() for item in found], ensure_ascii=False))
        return
    click.echo("\n".join(change_lines(found)))


def change_lines(found: Sequence[Change]) -> list[str]:
    """Return changes as lines for people."""
    kept = {"changed": "begins anew: its open alerts are taken back", "reworded": "keeps what it holds"}
    lines = []
    for item in found:
        lines.append(f"{item.what:8} {item.rule}" + (f" ({kept[item.what]})" if item.what in kept else ""))
        lines += [f"    {name}: {before} -> {after}" for name, before, after in item.fields]
    return [*lines, f"{len(found)} rules differ" if found else "the rules mean the same"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of a rule file, for editors."""
    document: Mapping[str, object] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **rules_schema()}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
