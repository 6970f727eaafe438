"""`vitalane rules test`: run the trials that lie beside rule files, on the evaluator that runs live.

A trial file is `<name>.trial.yaml` and tries `<name>.yaml`, unless it names other rules. Exit 0 where all pass, 1 where one does not, 2
where a file is wrong.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import click

from cli.exits import FAILED
from documents import format_duration, read_tree
from documents.tree import read_text
from rules.condition import Silence
from rules.document import load_rules, packs_folder
from rules.rule import RuleSet
from rules.trial import Expected, Placed, read_trials
from rules.trying import Episode, Result, run_trial
from telemetry.alert import Phase
from telemetry.errors import ConfigError, Problem

SUFFIX = ".trial.yaml"
WIDTH = 60


class Tried(NamedTuple):
    """A trial, where it stands, what came of it and how long that took (seconds)."""

    placed: Placed
    rules: RuleSet
    result: Result
    took_s: float


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("-k", "select", default="", metavar="TEXT", help="Only trials with this in their name.")
@click.option("--coverage", is_flag=True, help="Say what no trial reached: rules, and phases of their alerts.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write JUnit XML for CI.")
@click.option("--json", "as_json", is_flag=True, help="The results as one JSON object.")
def test(paths: Sequence[Path], select: str, coverage: bool, junit: Path | None, as_json: bool) -> int:
    """Run trials: files, folders of files, or without PATHS those of the shipped packs."""
    if junit is not None and not junit.parent.is_dir():
        raise ConfigError([Problem(str(junit), 0, 0, "--junit", f"there is no folder {junit.parent}")])
    files = [file for path in paths or [packs_folder()] for file in _files(path)]
    tried = [item for file in files for item in _run_file(file, select, quiet=as_json)]
    failed = sum(not item.result.passed for item in tried)
    if not tried:
        raise ConfigError([Problem("rules test", 0, 0, "-k", f"no trial's name has {select!r} in it")])
    gaps = _unreached(tried) if coverage else []
    if junit is not None:
        junit.write_bytes(junit_xml(tried))
    if as_json:
        click.echo(json.dumps({"passed": len(tried) - failed, "failed": failed, "trials": list(map(_plain, tried)), "unreached": gaps}))
    else:
        for gap in gaps:
            click.echo(f"no trial reached {gap}")
        click.echo(f"{len(tried)} trials: {len(tried) - failed} passed, {failed} failed")
    return FAILED if failed else 0


def _files(path: Path) -> list[Path]:
    """Return the trial files that a path means. Raises ConfigError where there are none."""
    if path.is_dir():
        found = sorted(path.rglob(f"*{SUFFIX}"))
    elif path.name.endswith(SUFFIX):
        found = [path]
    else:
        found = [path.with_suffix("").with_name(path.stem + SUFFIX)]
    if not found or not found[0].exists():
        raise ConfigError([Problem(str(path), 0, 0, "", f"there is no trial here: write one into NAME{SUFFIX}, beside NAME.yaml")])
    return found


def _run_file(file: Path, select: str, *, quiet: bool) -> list[Tried]:
    named, trials = read_trials(read_tree(read_text(file), str(file)))
    beside = file.with_name(file.name.removesuffix(SUFFIX) + ".yaml")
    rules = load_rules([_beside(file, name) for name in named] if named else [beside])
    known = {rule.id for rule in rules.rules}
    tried = []
    for placed in trials:
        unknown = [item.rule for item in placed.trial.expect if item.rule not in known and not item.rule.startswith("device-")]
        if unknown:
            problem = f"{placed.trial.name!r} expects the rule `{unknown[0]}`, which is not there"
            raise ConfigError([Problem(str(file), placed.line, 0, "", problem)])
        if select not in placed.trial.name:
            continue
        began = time.perf_counter()
        item = Tried(placed, rules, run_trial(placed.trial, rules), time.perf_counter() - began)
        tried.append(item)
        if not quiet:
            _show(item)
    return tried


def _beside(file: Path, name: str) -> Path | str:
    beside = file.parent / name
    return beside if beside.exists() else name


def _show(item: Tried) -> None:
    trial, result = item.placed.trial, item.result
    click.echo(f"{'ok    ' if result.passed else 'FAILED'} {Path(item.placed.file).name}:{item.placed.line}  {trial.name}")
    if result.passed:
        return
    for line in explained(result):
        click.echo(f"       {line}")


def explained(result: Result) -> list[str]:
    """Return why a trial failed, and what it looked like."""
    lines = [f"missing     {_expected(item)}" for item in result.missing]
    lines += [f"unexpected  {_episode(item)}" for item in result.unexpected]
    if result.shuffled is not None:
        lines.append(
            "shuffled and doubled, its readings come to something else: " + ("; ".join(map(_episode, result.shuffled)) or "nothing")
        )
    if result.quarantined:
        lines.append("refused     " + ", ".join(f"{count} {reason}" for reason, count in sorted(result.quarantined.items())))
    return lines + timeline(result)


def timeline(result: Result) -> list[str]:
    """Return readings by metric and episodes by rule over one axis of time."""
    end_ms = max([reading.measured_ms for reading in result.readings] + [episode.end_ms or 0 for episode in result.episodes] + [1])
    lines = []
    for metric in dict.fromkeys(reading.metric for reading in result.readings):
        values = [(reading.measured_ms, reading.value) for reading in result.readings if reading.metric == metric]
        low, high = min(value for _, value in values), max(value for _, value in values)
        row = [" "] * (WIDTH + 1)
        for at_ms, value in values:
            row[_column(at_ms, end_ms)] = "▁▂▃▄▅▆▇█"[min(7, int(8 * (value - low) / (high - low)))] if high > low else "▄"
        lines.append(f"{metric[:18]:18} |{''.join(row)}| {low:g} to {high:g}")
    for rule in dict.fromkeys(episode.rule for episode in result.episodes):
        row = [" "] * (WIDTH + 1)
        for episode in result.episodes:
            if episode.rule == rule:
                until = WIDTH if episode.end_ms is None else _column(episode.end_ms, end_ms)
                for at in range(_column(episode.start_ms, end_ms), until + 1):
                    row[at] = "#"
        lines.append(f"{rule[:18]:18} |{''.join(row)}|")
    return [*lines, f"{'':18}  0{format_duration(end_ms):>{WIDTH}}"]


def _column(at_ms: int, end_ms: int) -> int:
    return max(0, min(WIDTH, at_ms * WIDTH // end_ms))


def _expected(item: Expected) -> str:
    extra = "".join(f", {name} {value}" for name, value in (("severity", item.severity), ("peak", item.peak)) if value is not None)
    return f"{item.rule} from {_offset(item.from_)} until {_offset(item.until)}{extra}"


def _episode(item: Episode) -> str:
    peak = "" if item.peak is None else f", peak {item.peak:g}"
    return f"{item.rule} from {_offset(item.start_ms)} until {_offset(item.end_ms)}, {item.severity}{peak}"


def _offset(time_ms: int | None) -> str:
    return "the end (open)" if time_ms is None else format_duration(time_ms)


def _unreached(tried: Sequence[Tried]) -> list[str]:
    """Return what no trial reached: rules that never fired, alerts that never ended or changed severity, that nothing late changed."""
    phases: Counter[tuple[str, Phase]] = Counter()
    rules = {rule.id: rule for item in tried for rule in item.rules.rules}
    for item in tried:
        phases.update((event.rule, event.phase) for event in item.result.events)
    gaps = []
    for name, rule in rules.items():
        if not phases[name, Phase.RAISED]:
            gaps.append(f"{name}: raised")
            continue
        if not phases[name, Phase.RESOLVED]:
            gaps.append(f"{name}: resolved")
        gaps += [f"{name}: {phase}" for phase in (Phase.ESCALATED, Phase.DEESCALATED) if rule.steps and not phases[name, phase]]
        if (
            not isinstance(rule.when, Silence)
            and not phases[name, Phase.AMENDED] + phases[name, Phase.RETRACTED]
            and not _late(tried, name)
        ):
            gaps.append(f"{name}: late data")
    return gaps


def _late(tried: Iterable[Tried], rule: str) -> bool:
    """Return whether some trial in which a rule fired had late readings."""
    return any(
        any(fault.late for fault in item.placed.trial.faults) and any(event.rule == rule for event in item.result.events) for item in tried
    )


def _plain(item: Tried) -> dict[str, Any]:
    result = item.result
    return {
        "name": item.placed.trial.name,
        "file": item.placed.file,
        "line": item.placed.line,
        "passed": result.passed,
        "missing": [expected.model_dump(by_alias=True, exclude_none=True) for expected in result.missing],
        "unexpected": [episode._asdict() for episode in result.unexpected],
        "episodes": [episode._asdict() for episode in result.episodes],
        "quarantined": result.quarantined,
        "took_s": round(item.took_s, 3),
    }


def junit_xml(tried: Sequence[Tried]) -> bytes:
    """Return the results in the form that CI servers read."""
    suites = ElementTree.Element("testsuites")
    for file in dict.fromkeys(item.placed.file for item in tried):
        of_file = [item for item in tried if item.placed.file == file]
        failures = sum(not item.result.passed for item in of_file)
        took = f"{sum(item.took_s for item in of_file):.3f}"
        suite = ElementTree.SubElement(suites, "testsuite", name=file, tests=str(len(of_file)), failures=str(failures), time=took)
        for item in of_file:
            name = item.placed.trial.name
            case = ElementTree.SubElement(suite, "testcase", classname=file, name=name, time=f"{item.took_s:.3f}")
            if not item.result.passed:
                lines = explained(item.result)
                failure = ElementTree.SubElement(case, "failure", message=lines[0], type="trial")
                failure.text = "\n".join(lines)
    written: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return written
