"""`vitalane rules`: rule files from their first check to the day they are in force."""

import click

from cli.lazy import LazyGroup

COMMANDS = {
    "check": "cli.rules_files",
    "show": "cli.rules_files",
    "diff": "cli.rules_files",
    "apply": "cli.rules_apply",
    "schema": "cli.rules_files",
    "test": "cli.rules_test",
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def rules() -> None:
    """Check, test, show and apply rule files."""
