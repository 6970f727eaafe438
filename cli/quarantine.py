"""`vitalane quarantine`: what was refused, by reason, with its raw bytes; and back to the broker once the cause is mended.

A replay is a publish: the message takes the whole path again, as a new message with a new receive time. Which messages were replayed is
kept in data/quarantine-replayed.json, so that asking twice replays once.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.configuration import Configuration, read_configuration
from cli.exits import FAILED
from cli.journal import existing_journals
from cli.options import config_option
from cli.places import telemetry_path
from decoders.sparkplug import PREFIX
from decoders.suggest import group_of, printable, suggest
from journal.messages import decode_messages
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from telemetry.clock import format_ms
from telemetry.errors import OffsetTrimmed, VitalaneError
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason

EXAMPLES = 3
SHAPES = 10
SHOWN_BYTES = 120
READ_ROWS = 256
EDGE_NODES = PREFIX.decode()
"""Topics on which only an edge node may say what it says next: its sequence is broken by anybody else's message."""

Place = tuple[int, int]  # journal partition and offset of the message


class Refused(NamedTuple):
    """One message, or one reading of it, that was not taken."""

    place: Place
    reason: str
    detail: str
    metric: str
    topic: str
    payload: bytes  # cut where it was long
    whole: bool
    received_ms: int


@click.group()
def quarantine() -> None:
    """List what was refused, and replay it."""


reason_option = click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), help="Only this reason.")


@quarantine.command("list")
@config_option
@reason_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, every one of them, payload in base64.")
@click.option("--payload", is_flag=True, help="Show the payloads of examples, which may name patients.")
def list_(config_file: Path, reason: str | None, as_json: bool, payload: bool) -> None:
    """Show what was refused, by reason, with examples."""
    configuration = read_configuration(config_file)
    if as_json:
        for item in _items(configuration):
            if reason in {None, item["reason"]}:
                click.echo(json.dumps(item, ensure_ascii=False))
        return
    done, groups = replayed(configuration), dict[str, list[Refused]]()
    for refused in refusals(configuration):
        if reason in {None, refused.reason}:
            groups.setdefault(refused.reason, []).append(refused)
    if not groups:
        click.echo("nothing is in quarantine")
    for name, members in sorted(groups.items(), key=lambda group: -len(group[1])):
        again = sum(member.place in done for member in members)
        click.echo(f"{name}: {len(members)}{f', {again} of them replayed' if again else ''}")
        for member in members[-EXAMPLES:]:
            metric = f" {member.metric}" if member.metric else ""
            said = printable(f"{member.topic}{metric}: {member.detail}")
            click.echo(f"    {format_ms(member.received_ms)} {member.place[0]}@{member.place[1]} {said}")
            if payload:
                click.echo(f"        {printable(member.payload[:SHOWN_BYTES].decode(errors='backslashreplace'))}")
        if name == Reason.UNMAPPED:
            _suggest(members)


def _suggest(members: list[Refused]) -> None:
    """Show what nobody reads by the shapes of its topics, each with a mapping to begin with."""
    shapes: dict[str, list[Refused]] = {}
    for member in members:
        shapes.setdefault(group_of(member.topic), []).append(member)
    for shape, group in sorted(shapes.items(), key=lambda item: -len(item[1]))[:SHAPES]:
        click.echo(f"    {len(group)} on {printable(shape)}: a mapping to begin with (`vitalane decode` shows what it reads)")
        suggestion = suggest([member.topic for member in group], [member.payload for member in group if member.whole], CATALOGUE)
        click.echo("\n".join(f"        {line}" for line in suggestion.splitlines()))
    if len(shapes) > SHAPES:
        click.echo(f"    {len(shapes) - SHAPES} more shapes")


@quarantine.command()
@config_option
@reason_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--again", is_flag=True, help="Also what was replayed before.")
def replay(config_file: Path, reason: str | None, yes: bool, again: bool) -> int:
    """Publish refused messages to their topics again, whole and as they were received; never for an edge node of Sparkplug."""
    configuration = read_configuration(config_file)
    done = set() if again else replayed(configuration)
    wanted = (item for item in refusals(configuration) if reason in {None, item.reason} and not item.topic.startswith(EDGE_NODES))
    places = sorted({item.place for item in wanted} - done)
    if not places:
        click.echo("nothing to replay")
        return 0
    if not yes:
        click.confirm(f"publish {len(places)} messages to {configuration.settings.broker.host} again?", abort=True)
    return publish(configuration, places)


def publish(configuration: Configuration, places: list[Place]) -> int:
    """Publish the messages at these places; remember those that the broker has acknowledged."""
    from cli.simulate import FLUSH_S, OPEN_S, publisher_for
    from simulators.faults import Message

    gone = sent = 0
    path = telemetry_path(configuration.data_dir)
    done = replayed(configuration)
    publisher = publisher_for(configuration, "replay", clients=1)
    publisher.open(OPEN_S)
    with closing(publisher), JournalReader(path) as reader:
        for place in places:
            message = message_at(reader, place)
            if message is None:
                gone += 1
                continue
            publisher.send(Message(0, message[0], message[1], retain=False))
            sent += 1
        acknowledged = publisher.flush(FLUSH_S)
    if not acknowledged:
        msg = f"the broker did not acknowledge all of {sent} messages within {FLUSH_S:.0f} s: nothing was marked as replayed"
        raise VitalaneError(msg)
    remember(configuration, done | set(places))
    click.echo(f"{sent} messages published again" + (f", {gone} no longer in the journal" if gone else ""))
    return FAILED if gone else 0


def message_at(reader: JournalReader, place: Place) -> tuple[str, bytes] | None:
    """Return the topic and payload of a message as it was received, or None where retention has removed it."""
    partition, offset = place
    row = _row_holding(reader, partition, offset)
    if row is None or row.kind != RowKind.MESSAGES:
        return None
    messages = decode_messages(row.body)
    return messages.topics[offset - row.offset].decode(errors="replace"), messages.payloads[offset - row.offset]


def _row_holding(reader: JournalReader, partition: int, offset: int) -> Row | None:
    """Return the row that holds an offset; rows are found by their first, so it is looked for from further and further back."""
    first, back = reader.first(partition), 1
    if offset < first:
        return None
    while True:
        start = max(first, offset - back)
        try:
            rows = reader.read(partition, start, max_rows=READ_ROWS)
        except OffsetTrimmed:
            return None
        while rows and rows[0].offset <= offset:
            for row in rows:
                if row.offset <= offset < row.offset + row.count:
                    return row
            rows = reader.read(partition, rows[-1].offset + rows[-1].count, max_rows=READ_ROWS)
        if start == first:
            return None
        back *= 8


def refusals(configuration: Configuration) -> Iterator[Refused]:
    """Yield everything in quarantine, in the order of each outbox."""
    for item in _items(configuration):
        payload = b64decode(item["payload"])
        yield Refused(
            (item["partition"], item["offset"]),
            item["reason"],
            item["detail"],
            item["metric"],
            item["topic"],
            payload,
            item.get("bytes", len(payload)) == len(payload),
            item["received_ms"],
        )


def _items(configuration: Configuration) -> Iterator[dict[str, Any]]:
    for path in existing_journals(configuration, "outbox"):
        with JournalReader(path) as reader:
            offset = reader.first(0)
            while rows := reader.read(0, offset, max_rows=READ_ROWS):
                for row in rows:
                    if row.kind == RowKind.QUARANTINE:
                        yield from json.loads(row.body)
                offset = rows[-1].offset + rows[-1].count


def replayed(configuration: Configuration) -> set[Place]:
    """Return the places of messages that were replayed."""
    file = configuration.data_dir / "quarantine-replayed.json"
    try:
        return {(partition, offset) for partition, offset in json.loads(file.read_text())}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        msg = f"{file} cannot be read, so it is not known what was replayed: {error}"
        raise VitalaneError(msg) from error


def remember(configuration: Configuration, places: set[Place]) -> None:
    file = configuration.data_dir / "quarantine-replayed.json"
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(sorted(places)))
    temporary.replace(file)
