"""`vitalane init`: a configuration to start from, with comments. It overwrites nothing."""

from importlib.resources import files
from pathlib import Path

import click

from cli.exits import writing

STARTING = ("vitalane.yaml", "rules.yaml", "registry.yaml", "subscriptions.yaml")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a commented vitalane.yaml, rules, registry and subscriptions to start from."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in STARTING:
            target = folder / name
            if target.exists():
                click.echo(f"{target} is there already and stays as it is")
                continue
            target.write_text(files("cli").joinpath("starting", name).read_text())
            click.echo(f"{target} written")
    click.echo(f"next: `vitalane config check -c {folder / 'vitalane.yaml'}`, then `vitalane up -c {folder / 'vitalane.yaml'}`")
