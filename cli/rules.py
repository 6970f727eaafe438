"""`vitalane rules`: rule files from their first check to the day they are in force."""

import click

from cli.lazy import LazyGroup

COMMANDS = {
    "test": "cli.rules_test",
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def rules() -> None:
    """Check, test, show and apply rule files."""
