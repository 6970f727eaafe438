"""`vitalane deadletters`: what destinations refused for good, or could not be told in time; and another try once the cause is mended."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from cli.configuration import Configuration, read_configuration
from cli.exits import FAILED
from cli.options import config_option
from cli.places import ledger_path
from sinks.ledger import ChannelLedger
from sinks.store_ledger import StoreLedger
from telemetry.clock import format_ms, utc_now_ms

MOST = 100_000


@click.group()
def deadletters() -> None:
    """List and retry what could not be delivered."""


destination_option = click.option("--to", "only", help="One channel or store; without it, all of them.")


@deadletters.command("list")
@config_option
@destination_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(config_file: Path, only: str | None, as_json: bool) -> None:
    """Show dead letters, the latest first."""
    configuration = read_configuration(config_file)
    letters = [letter for name in destinations(configuration, only) for letter in dead_of(configuration, name)]
    for letter in letters:
        if as_json:
            click.echo(json.dumps(letter, ensure_ascii=False))
        else:
            click.echo(f"{letter['died']} {letter['to']} {letter['id']}: {letter['why']}")
    if not letters and not as_json:
        click.echo("there are no dead letters")


@deadletters.command()
@config_option
@destination_option
@click.argument("ids", nargs=-1)
def retry(config_file: Path, only: str | None, ids: tuple[str, ...]) -> int:
    """Owe dead letters again, all of them or those of these ids; a running deliverer takes them up within seconds."""
    configuration = read_configuration(config_file)
    asked = 0
    for name in destinations(configuration, only):
        path = ledger_path(configuration.data_dir, name)
        if name in configuration.settings.channels:
            with closing(ChannelLedger(path, serve=False)) as ledger:
                asked += ledger.retry(list(ids) or None, now_ms=utc_now_ms())
        else:
            numbers = [int(text) for text in ids if text.isdigit()]
            with closing(StoreLedger(path, serve=False)) as stored:
                asked += stored.retry(numbers if ids else None) if numbers or not ids else 0
    click.echo(f"{asked} dead letters are owed again")
    return 0 if asked or not ids else FAILED


def destinations(configuration: Configuration, only: str | None) -> list[str]:
    """Return the channels and stores that have a ledger already."""
    names = [*configuration.settings.channels, *configuration.settings.stores.names()]
    if only is not None and only not in names:
        msg = f"there is no channel or store {only!r}: there are {', '.join(names)}"
        raise click.UsageError(msg)
    return [name for name in names if only in {None, name} and ledger_path(configuration.data_dir, name).exists()]


def dead_of(configuration: Configuration, name: str) -> list[dict[str, Any]]:
    """Return a destination's dead letters as records for people and tools."""
    path = ledger_path(configuration.data_dir, name)
    if name in configuration.settings.channels:
        with closing(ChannelLedger(path, serve=False)) as ledger:
            return [
                {"to": name, "id": letter.event_id, "died": format_ms(letter.died_ms), "attempts": letter.attempts, "why": letter.error}
                for letter in ledger.dead(MOST)
            ]
    with closing(StoreLedger(path, serve=False)) as stored:
        return [
            {"to": name, "id": str(row.id), "died": format_ms(row.died_ms), "row": f"{row.source[0]}@{row.offset}", "why": row.why}
            for row in stored.dead(MOST)
        ]
