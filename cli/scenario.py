"""`vitalane simulate scenario`: devices, what happens to them and what goes wrong on the way, by a document; live, or rehearsed at once."""

import json
from pathlib import Path
from typing import Any

import click

from cli.exits import FAILED, Unreachable
from cli.rehearsal import Rehearsed, limits_of, rehearse, rules_of, staged, unbalanced
from cli.score import plain, table
from cli.simulate import faults_option, play, seed_option, truth_option, write_registry
from documents import format_duration
from rules.rule import RuleSet
from simulators.feeds import Feed, start_for
from simulators.scenario import Scenario, library, read_scenario, schema
from simulators.score import Score, by_fault, score
from simulators.staging import Played, stage
from simulators.truth_file import parse_truth
from telemetry import alert
from telemetry.clock import utc_now_ms


@click.command()
@click.argument("name", required=False)
@click.option("--list", "list_them", is_flag=True, help="Say which scenarios are shipped.")
@click.option("--schema", "print_schema", is_flag=True, help="Print the JSON Schema of a scenario document, for editors.")
@click.option("--rehearse", "rehearsed", is_flag=True, help="At once, without a broker: through decoder and rules; then the score.")
@seed_option
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100_000),
    default=1.0,
    show_default=True,
    help="Event time against the wall clock, where it is live.",
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
    rehearsed: bool,
    seed: int,
    speed: float,
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
    if name is None:
        msg = "name a scenario: --list says which are shipped"
        raise click.UsageError(msg)
    found = read_scenario(name)
    rules = rules_of(found)
    lasts_s = found.model.lasts / 1000 / speed
    if rehearsed:
        played = staged(found, rules, seed=seed, faults=faults)
    else:
        now_ms = utc_now_ms()
        start_ms = start_for(speed, lasts_s, now_ms)
        played = stage(found, seed=seed, start_ms=start_ms, limits=limits_of(rules), faults=faults, speed=speed, played_ms=now_ms)
    if folder is not None:
        prepare(folder, played)
        return 0
    try:
        if rehearsed:
            return _rehearse(played, rules, alerts_file, as_json=as_json)
        play([Feed(source, speed) for source in played.sources], publisher(), None, shown_s=lasts_s)
        return 0
    finally:
        if truth_file is not None:
            played.truth.write(truth_file)


def prepare(folder: Path, played: Played) -> None:
    """Write the rules and the registry of a scenario into a folder. Raises Unreachable where they cannot be, or are there already."""
    rules, devices, packs = folder / "rules.yaml", folder / "registry.yaml", played.scenario.model.packs
    there = [str(file) for file in (rules, devices) if file.exists()]
    if there:
        msg = f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'} there already: name another folder"
        raise Unreachable(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rules.write_text(own_rules(played.scenario))
        write_registry(devices, played.devices)
    except OSError as error:
        msg = f"{folder} cannot be written: {(error.strerror or str(error)).lower()}"
        raise Unreachable(msg) from error
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


def _rehearse(played: Played, rules: RuleSet, alerts_file: Path | None, *, as_json: bool) -> int:
    done = rehearse(played, rules)
    if alerts_file is not None:
        alerts_file.write_bytes(b"".join(alert.to_json(event) + b"\n" for event in done.events))
    result = score(parse_truth(played.truth.lines()), done.events)
    wrong = [*unbalanced(played, done.books), *below_floors(played, result)]
    if as_json:
        click.echo(json.dumps({**plain(result), "books": done.books._asdict(), "wrong": wrong}, ensure_ascii=False))
    else:
        click.echo("\n".join([*table(result), *_books(done), *(f"WRONG: {line}" for line in wrong)]))
    return FAILED if wrong else 0


def below_floors(played: Played, result: Score) -> list[str]:
    """Return where a result is below what the scenario promises."""
    floors = played.scenario.model.floors
    wrong = []
    if result.recall < floors.recall:
        wrong.append(f"recall {result.recall:.3f} is below {floors.recall}")
    if result.precision < floors.precision:
        wrong.append(f"precision {result.precision:.3f} is below {floors.precision}")
    undisturbed = by_fault(result)[0].p95_ms
    if floors.p95 and undisturbed is not None and undisturbed > floors.p95:
        wrong.append(f"without faults, 95 % were found within {undisturbed / 60_000:.1f} min, not {format_duration(floors.p95)}")
    return wrong


def _books(done: Rehearsed) -> list[str]:
    books, quarantined = done.books, sum(done.books.quarantined.values())
    refused = ", ".join(f"{reason} {count}" for reason, count in books.quarantined.items())
    equation = f"{books.received} received = {books.accepted} accepted + {books.duplicate} duplicate + {quarantined} quarantined"
    return [f"{books.messages} messages; {equation}" + (f" ({refused})" if refused else "")]
