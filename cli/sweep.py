"""`vitalane sweep`: a rule with many thresholds and durations over the past, in one pass: alerts against time in breach without one."""

import json
from collections.abc import Callable, Sequence
from math import isfinite
from typing import TypeVar

import click

from cli.past import Source, source_options
from cli.rules_files import loaded
from documents import format_duration, parse_duration
from rules.sweep import Cell
from rules.sweep import sweep as swept
from telemetry.errors import ConfigError, Problem

MAX_VALUES = 200
SHADES = " ░▒▓█"

T = TypeVar("T", int, float)


@click.command()
@click.option(
    "--rules", "rules_files", multiple=True, metavar="FILE", help="Where the rule is: files, folders, packs; by default those of -c."
)
@click.option("--rule", "name", required=True, help="The rule that is varied.")
@click.option("--threshold", "thresholds", required=True, metavar="FROM:TO:STEP", help="In the catalogue's unit of its metric: `85:92:1`.")
@click.option("--for", "durations", required=True, metavar="FROM:TO:STEP", help="`0s:30s:5s`.")
@source_options
@click.option("--json", "as_json", is_flag=True, help="The grid as a JSON array.")
def sweep(*, rules_files: Sequence[str], name: str, thresholds: str, durations: str, source: Source, as_json: bool) -> None:
    """Show alerts, and minutes in breach without an alert, for each combination of threshold and duration."""
    rules = loaded(rules_files, source.config_file)
    if name not in {rule.id for rule in rules.rules}:
        raise ConfigError(
            [Problem("sweep", 0, 0, "--rule", f"there is no rule `{name}` (rules: {', '.join(item.id for item in rules.rules)})")]
        )
    values = _range(thresholds, "--threshold", _finite)
    spans = _range(durations, "--for", parse_duration)
    try:
        cells, done = swept(rules, name, values, spans, source.run, source.catalogue())
    except ValueError as error:
        raise ConfigError([Problem("sweep", 0, 0, "--rule", str(error))]) from error
    if as_json:
        click.echo(json.dumps([cell._asdict() for cell in cells]))
        return
    click.echo(f"{done.accepted} readings; {name} by threshold and duration")
    for title, numbers, digits in (
        ("alerts", [float(cell.alerts) for cell in cells], 0),
        ("minutes in breach without an alert", [cell.missed_minutes for cell in cells], 1),
    ):
        click.echo("\n".join(["", title, *_grid(cells, numbers, values, spans, digits)]))


def _grid(cells: Sequence[Cell], numbers: Sequence[float], thresholds: Sequence[float], spans: Sequence[int], digits: int) -> list[str]:
    """Return one number of all cells as a table, the larger the darker."""
    most = max(numbers) or 1.0
    known = {cell[:2]: number for cell, number in zip(cells, numbers, strict=True)}
    lines = [f"{'':>9}" + "".join(f"{format_duration(span):>9}" for span in spans)]
    for threshold in thresholds:
        row = [known[threshold, span] for span in spans]
        lines.append(f"{threshold:>9g}" + "".join(f"{_shade(number, most)}{number:>7,.{digits}f} " for number in row))
    return lines


def _shade(number: float, most: float) -> str:
    return SHADES[min(len(SHADES) - 1, round(number / most * (len(SHADES) - 1)))]


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        msg = f"{text} is no number"
        raise ValueError(msg)
    return number


def _range(text: str, option: str, parse: Callable[[str], T]) -> list[T]:
    """Return the values of `from:to:step`, both ends inclusive, or of one value."""
    parts = text.split(":")
    if len(parts) not in {1, 3}:
        raise ConfigError([Problem("sweep", 0, 0, option, f"{text!r} is not understood: write FROM:TO:STEP, or one value")])
    try:
        first, last, step = (parse(part) for part in (parts * 3 if len(parts) == 1 else parts))
        if len(parts) == 1:
            return [first]
        count = round((last - first) / step) + 1 if step > 0 else 0
    except ValueError as error:
        raise ConfigError([Problem("sweep", 0, 0, option, f"{text!r} is not understood: write FROM:TO:STEP ({error})")]) from error
    if not 0 < count <= MAX_VALUES:
        raise ConfigError([Problem("sweep", 0, 0, option, f"{text!r} is {max(count, 0)} values: 1 to {MAX_VALUES} are right")])
    return [first + number * step for number in range(count) if first + number * step <= last + step * 1e-9]
