"""`vitalane rules apply`: the rules that the configuration names, in force in a running system, without a restart."""

import getpass
import json
import os
import time
from pathlib import Path

import click

from cli.applying import answered, ask, in_force
from cli.configuration import read_configuration, rule_set
from cli.exits import FAILED
from cli.options import config_option
from cli.registered import registered
from cli.rules_files import change_lines
from cli.status import read_status
from rules.comparison import changes
from telemetry.clock import utc_now_ms

ANSWER_S = 15.0
STALE_MS = 5_000
LOOK_S = 0.05


@click.command()
@config_option
@click.option("--why", default="", help="The reason, for the record: it is journalled with the rules.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def apply(config_file: Path, why: str, as_json: bool) -> int:
    """Put the rules that the configuration names in force now. What did not change keeps its state; what changed says so first."""
    configuration = read_configuration(config_file)
    rules = rule_set(configuration, registered(configuration).catalogue())
    found = changes(in_force(configuration.data_dir), rules)
    if not as_json:
        click.echo("\n".join(change_lines(found)))
    status = read_status(configuration.data_dir, "ingest")
    if status.get("state") != "running" or utc_now_ms() - int(status.get("time_ms", 0)) > STALE_MS:
        _tell(as_json, f"ingest does not run: rules version {rules.version} are in force when it starts", rules.version, {})
        return 0
    request = ask(configuration.data_dir, rules, _who(), why)
    give_up_at = time.monotonic() + ANSWER_S
    while (answer := answered(configuration.data_dir, request)) is None and time.monotonic() < give_up_at:
        time.sleep(LOOK_S)
    if answer is None:
        click.echo(f"vitalane: ingest has not answered in {ANSWER_S:.0f} s: its log says why; the request stands", err=True)
        return FAILED
    if answer.problem:
        click.echo(f"vitalane: ingest refused the rules: {answer.problem}", err=True)
        return FAILED
    at = ", ".join(f"{partition}:{offset}" for partition, offset in answer.offsets.items())
    _tell(as_json, f"rules version {answer.version} are in force from journal offsets {at} on", answer.version, answer.offsets)
    return 0


def _who() -> str:
    """Return who asks: the user's name, or the number where the system has no name for it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _tell(as_json: bool, sentence: str, version: str, offsets: dict[str, int]) -> None:
    click.echo(json.dumps({"version": version, "applied": bool(offsets), "offsets": offsets}) if as_json else sentence)
