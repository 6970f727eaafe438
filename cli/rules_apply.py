"""`vitalane rules apply`: the rules that the configuration names, in force in a running system, without a restart."""

from pathlib import Path

import click

from cli.applying import ask, in_force
from cli.asking import one_at_a_time, put_in_force, who
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
    with one_at_a_time(configuration.data_dir):
        return put_in_force(configuration, lambda: ask(configuration.data_dir, rules, who(), why), "rules", rules.version, as_json)
