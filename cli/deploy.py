"""`vitalane deploy`: what other programs need to know of ours, written from the configuration."""

import click

from cli.lazy import LazyGroup

COMMANDS = {"mosquitto": "cli.deploy_mosquitto"}


@click.group(cls=LazyGroup, modules=COMMANDS)
def deploy() -> None:
    """Write the files that a broker needs, from the configuration and the registry."""
