"""`vitalane rules apply`: the rules that the configuration names, in force in a running system, without a restart."""

import json
from pathlib import Path

import click

from cli.applying import ask, in_force
from cli.asking import asked, ingest_runs, one_at_a_time, who
from cli.configuration import read_configuration, rule_set
from cli.options import config_option
from cli.registered import registered
from cli.rules_files import change_lines
from rules.comparison import changes


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
    if not ingest_runs(configuration):
        said = f"ingest does not run: rules version {rules.version} are in force when it starts"
        click.echo(json.dumps({"version": rules.version, "applied": False, "offsets": {}}) if as_json else said)
        return 0
    with one_at_a_time(configuration.data_dir):
        return asked(configuration, ask(configuration.data_dir, rules, who(), why), "rules", as_json)
