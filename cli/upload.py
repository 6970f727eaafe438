"""`vitalane simulate upload`: a file as some device exports it, published as it is to a topic that a mapping reads."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from decoders.library import read_document, shipped_names
from decoders.mapping_model import MappingModel
from simulators.exports import ExportSource, topic_for
from simulators.feeds import Feed
from telemetry.errors import ConfigError, Problem


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--as", "name", required=True, help="The mapping that reads it: one of the shipped ones, or FILE:NAME of a document.")
@click.option("--device", default="export-1", show_default=True, help="The device, where the topic names it.")
@click.option("--topic", help="The topic, instead of the mapping's for this device.")
@click.option("--rows", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Rows of a table in one message.")
@click.pass_obj
def upload(publisher: Any, file: Path, name: str, device: str, topic: str | None, rows: int) -> None:
    """Publish an export as it is: CSV some rows at a time, other files whole.

    \b
    vitalane simulate upload vitals.csv --as clif-vitals
    vitalane simulate upload watch.csv --as garmin --device watch-7
    """
    from cli.simulate import play

    mapping = _mapping(name)
    source = ExportSource(file, mapping, topic or topic_for(mapping, device), rows)
    play([Feed(source, 0.0, never_ahead=False)], publisher(), None)


def _mapping(name: str) -> MappingModel:
    file, _, wanted = name.rpartition(":")
    documents = [read_document(Path(file))] if file else [read_document(shipped) for shipped in shipped_names()]
    found = {mapping.name: mapping for document in documents for mapping in document.mappings}
    if wanted not in found:
        near = get_close_matches(wanted, found, n=1)
        hint = f", did you mean `{near[0]}`?" if near else f": there are {', '.join(sorted(found))}"
        raise ConfigError([Problem("--as", 0, 0, "", f"no mapping is called `{wanted}`{hint}")])
    return found[wanted]
