"""`vitalane simulate scenario`: devices, what happens to them and what goes wrong on the way, by a document; live, or rehearsed at once."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cli.exits import FAILED, Unreachable, writing
from cli.progress import Progress
from cli.rehearsal import Rehearsed, limits_of, rules_of
from cli.rehearsals import rehearse_all, rehearsed, table
from cli.score import plain
from cli.score import table as scored
from cli.simulate import faults_option, play, seed_option, truth_option, write_registry
from documents import format_duration
from simulators.feeds import Feed, start_for
from simulators.scenario import Scenario, library, read_scenario, schema
from simulators.score import merged
from simulators.staging import Played, stage
from telemetry import alert
from telemetry.clock import utc_now_ms

MOST_SEEDS = 10_000


class SeedsType(click.ParamType[str]):
    """`1-50`, or one number."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", str(value))
        if match is None or not 0 <= int(match[2] or match[1]) - int(match[1]) < MOST_SEEDS:
            self.fail(f"{value!r} is no range of seeds: write 1-50, {MOST_SEEDS} at most", param, ctx)
        return str(value)


@click.command()
@click.argument("name", required=False)
@click.option("--list", "list_them", is_flag=True, help="Say which scenarios are shipped.")
@click.option("--schema", "print_schema", is_flag=True, help="Print the JSON Schema of a scenario document, for editors.")
@click.option("--rehearse", "at_once", is_flag=True, help="At once, without a broker: through decoder and rules; then the score.")
@click.option("--seeds", type=SeedsType(), help="Rehearsed: with each of these seeds, like 1-50; without NAME, the whole library.")
@seed_option
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100_000),
    show_default="1.0",
    help="Live: event time against the wall clock.",
)
@faults_option
@truth_option
@click.option("--alerts", "alerts_file", type=click.Path(path_type=Path, dir_okay=False), help="Rehearsed: write the alert events there.")
@click.option(
    "--prepare",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Only write into this folder what must be in force to watch it: rules.yaml and registry.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="Rehearsed: the result as one JSON object.")
@click.pass_obj
def scenario(
    publisher: Any,
    *,
    name: str | None,
    list_them: bool,
    print_schema: bool,
    at_once: bool,
    seeds: str | None,
    seed: int,
    speed: float | None,
    faults: str,
    truth_file: Path | None,
    alerts_file: Path | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Play the scenario NAME, one of the library (--list) or a file, with its truth: live to the broker, or rehearsed at once."""
    if print_schema:
        document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema()}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    if list_them:
        click.echo("\n".join(_described(path) for path in library()))
        return 0
    _refuse_what_means_nothing(
        "in a rehearsal" if at_once else "without --rehearse",
        {"--speed": speed, "--prepare": folder} if at_once else {"--seeds": seeds, "--alerts": alerts_file, "--json": as_json or None},
    )
    if seeds is not None:
        _refuse_what_means_nothing("with --seeds", {"--truth": truth_file, "--alerts": alerts_file})
        return _rehearse_many([name] if name else [path.stem for path in library()], seeds, faults, as_json=as_json)
    if name is None:
        msg = "name a scenario: --list says which are shipped"
        raise click.UsageError(msg)
    if at_once:
        return _rehearse_once(name, seed, faults, truth_file, alerts_file, as_json=as_json)
    found, speed = read_scenario(name), speed or 1.0
    rules, lasts_s, now_ms = rules_of(found), found.model.lasts / 1000 / speed, utc_now_ms()
    start_ms = start_for(speed, lasts_s, now_ms)
    played = stage(found, seed=seed, start_ms=start_ms, limits=limits_of(rules), faults=faults, speed=speed, played_ms=now_ms)
    if folder is not None:
        prepare(folder, played)
        return 0
    try:
        play([Feed(source, speed) for source in played.sources], publisher(), None, shown_s=lasts_s)
        return 0
    finally:
        if truth_file is not None:
            with writing(truth_file):
                played.truth.write(truth_file)


def _refuse_what_means_nothing(where: str, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            msg = f"{option} means nothing {where}: leave it out"
            raise click.UsageError(msg)


def prepare(folder: Path, played: Played) -> None:
    """Write the rules and the registry of a scenario into a folder. Raises Unreachable where they cannot be, or are there already."""
    rules, devices, packs = folder / "rules.yaml", folder / "registry.yaml", played.scenario.model.packs
    there = [str(file) for file in (rules, devices) if file.exists()]
    if there:
        msg = f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'} there already: name another folder"
        raise Unreachable(msg)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        rules.write_text(own_rules(played.scenario))
        write_registry(devices, played.devices)
    named = ", ".join([*packs, str(rules)])
    click.echo(f"{rules} and {devices} written; a configuration with `rules: [{named}]` and `registry: {devices}` watches it")


def own_rules(found: Scenario) -> str:
    """Return the rules that stand in a scenario as a rule file."""
    lines = [f"# Of the scenario {found.name}; packs that it names besides: {', '.join(found.model.packs) or 'none'}"]
    if found.model.places:
        lines.append(f"places: {json.dumps(found.model.places, ensure_ascii=False)}")
    lines += ["rules:", *(f"  - {json.dumps(rule, ensure_ascii=False)}" for rule in found.model.rules)]
    return "".join(f"{line}\n" for line in lines)


def _described(path: Path) -> str:
    model = read_scenario(path.stem).model
    count = sum(group.count for group in model.devices.values())
    return f"{path.stem:18} {format_duration(model.lasts):>5}, {count:3} devices: {model.about}"


def _rehearse_once(name: str, seed: int, faults: str, truth_file: Path | None, alerts_file: Path | None, *, as_json: bool) -> int:
    outcome, played, done = rehearsed(name, seed, faults)
    if truth_file is not None:
        with writing(truth_file):
            played.truth.write(truth_file)
    if alerts_file is not None:
        with writing(alerts_file):
            alerts_file.write_bytes(b"".join(alert.to_json(event) + b"\n" for event in done.events))
    if as_json:
        click.echo(json.dumps({**plain(outcome.result), "books": done.books._asdict(), "wrong": outcome.wrong}, ensure_ascii=False))
    else:
        click.echo("\n".join([*scored(outcome.result), *_books(done), *(f"WRONG: {line}" for line in outcome.wrong)]))
    return FAILED if outcome.wrong else 0


def _rehearse_many(names: Sequence[str], seeds: str, faults: str, *, as_json: bool) -> int:
    first, _, last = seeds.partition("-")
    chosen = range(int(first), int(last or first) + 1)
    with Progress("rehearsing", len(names) * len(chosen), "runs") as progress:
        outcomes = rehearse_all(names, chosen, faults, lambda done: progress(done, done))
    together = merged([outcome.result for outcome in outcomes])
    wrong = [f"{line}: {outcome.command}" for outcome in outcomes for line in outcome.wrong]
    if as_json:
        by_name = {name: plain(merged([item.result for item in outcomes if item.name == name])) for name in names}
        click.echo(json.dumps({"all": plain(together), "by_scenario": by_name, "wrong": wrong}, ensure_ascii=False))
    else:
        click.echo("\n".join([*table(outcomes), "", *scored(together), *(f"WRONG: {line}" for line in wrong)]))
    return FAILED if wrong else 0


def _books(done: Rehearsed) -> list[str]:
    books, quarantined = done.books, sum(done.books.quarantined.values())
    refused = ", ".join(f"{reason} {count}" for reason, count in books.quarantined.items())
    equation = f"{books.received} received = {books.accepted} accepted + {books.duplicate} duplicate + {quarantined} quarantined"
    return [f"{books.messages} messages; {equation}" + (f" ({refused})" if refused else "")]
