"""`vitalane journal`: look at the journal, prove that it is whole, take it elsewhere. Payloads are shown only where asked for."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import IO

import click

from cli.configuration import Configuration, read_configuration
from cli.exits import FAILED, Unreachable
from cli.options import config_option
from cli.places import TELEMETRY, outbox_path, telemetry_path
from journal.export import export as lines_of
from journal.messages import FLAG_RETAIN, decode_messages
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from journal.verify import verify as walk
from telemetry import alert, blocks, books
from telemetry.clock import format_ms

SHOWN_TOPICS = 3
SHOWN_PAYLOAD_BYTES = 400
POLL_S = 0.2

stream_option = click.option(
    "--stream",
    type=click.Choice(["telemetry", "outbox"]),
    default="telemetry",
    show_default=True,
    help="What came in, or what was decided.",
)


@click.group()
def journal() -> None:
    """Look at the journal, verify it, export it."""


@journal.command()
@config_option
@stream_option
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=20, show_default=True, help="How many of the newest rows first.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--payload", is_flag=True, help="Show payloads, which may name patients.")
def tail(config_file: Path, stream: str, lines: int, follow: bool, payload: bool) -> None:
    """Print the newest rows, a line each."""
    readers = [JournalReader(path) for path in existing_journals(read_configuration(config_file), stream)]
    places = [(reader, partition) for reader in readers for partition in range(reader.partitions)]
    after = {place: place[0].head(place[1]) for place in places}
    newest = [(row, _label(place[0], row)) for place in places for row in _last_rows(*place, lines)]
    for row, label in sorted(newest, key=lambda item: item[0].time_ms)[-lines:] if lines else []:
        _print(row, label, payload=payload)
    pause = Event()
    while follow:
        for reader, partition in places:
            for row in reader.read(partition, after[reader, partition]):
                _print(row, _label(reader, row), payload=payload)
                after[reader, partition] = row.offset + row.count
        pause.wait(POLL_S)


@journal.command()
@config_option
def verify(config_file: Path) -> int:
    """Walk the hash chains, offsets and times of every stream; exit 1 where one does not hold."""
    configuration = read_configuration(config_file)
    code = 0
    for path in existing_journals(configuration, "telemetry") + existing_journals(configuration, "outbox", required=False):
        found = walk(path)
        for part in found.partitions:
            state = part.problem or f"whole, head {part.head_hash}"
            click.echo(f"{path.name} partition {part.partition}: offsets {part.first} to {part.next_offset}, {part.rows} rows, {state}")
        if not found.ok:
            click.echo(f"{path.name}: {found.problem}", err=True)
            code = FAILED
    return code


@journal.command()
@config_option
@stream_option
@click.option("--from", "first", type=click.IntRange(0), help="The first offset of each partition; without it, the first retained.")
@click.option("--payload/--no-payload", default=True, show_default=True, help="With what was measured, or only what there is.")
@click.argument("output", type=click.File("w"), default="-")
def export(config_file: Path, stream: str, first: int | None, payload: bool, output: IO[str]) -> None:
    """Write rows as JSON lines. Payloads may name patients."""
    for path in existing_journals(read_configuration(config_file), stream):
        with JournalReader(path) as reader:
            for line in lines_of(reader, first=first, payload=payload):
                click.echo(line, file=output)


def existing_journals(configuration: Configuration, stream: str, *, required: bool = True) -> list[Path]:
    """Return the files of a stream. Raises Unreachable where there is none yet."""
    data_dir = configuration.data_dir
    paths = (
        [telemetry_path(data_dir)]
        if stream == "telemetry"
        else [outbox_path(data_dir, n) for n in range(configuration.settings.partitions)]
    )
    found = [path for path in paths if path.exists()]
    if required and not found:
        service = "ingest" if stream == "telemetry" else "flow"
        msg = f"there is no journal of {stream} in {data_dir} yet: `vitalane {service}` or `vitalane up` makes it"
        raise Unreachable(msg)
    return found


def _last_rows(reader: JournalReader, partition: int, lines: int) -> list[Row]:
    """Return the newest rows of a partition: going back by doubling, for a row's length is not known beforehand."""
    head, first, back = reader.head(partition), reader.first(partition), max(lines, 1)
    while True:
        start = max(first, head - back)
        rows = list(_rows(reader, partition, start))
        if len(rows) >= lines or start == first:
            return rows[-lines:] if lines else []
        back *= 4


def _rows(reader: JournalReader, partition: int, offset: int) -> Iterator[Row]:
    while rows := reader.read(partition, offset):
        yield from rows
        offset = rows[-1].offset + rows[-1].count


def _label(reader: JournalReader, row: Row) -> str:
    """Return the name of a row's partition: its number, or of an outbox, which has one partition a file, the file."""
    return str(row.partition) if reader.partitions > 1 or reader.path.stem == TELEMETRY else reader.path.stem


def _print(row: Row, label: str, *, payload: bool) -> None:
    click.echo(f"{format_ms(row.time_ms)} {label}@{row.offset:<9} {described(row)}")
    if payload and row.kind == RowKind.MESSAGES:
        messages = decode_messages(row.body)
        for topic, body in zip(messages.topics, messages.payloads, strict=True):
            click.echo(f"    {topic.decode(errors='replace')}  {body[:SHOWN_PAYLOAD_BYTES].decode(errors='backslashreplace')}")
    elif payload and row.kind in {RowKind.CONTROL, RowKind.ALERT, RowKind.BOOKS}:
        click.echo(f"    {row.body.decode(errors='replace')}")


def described(row: Row) -> str:
    """Return a row as a line for people, without anything that was measured."""
    match row.kind:
        case RowKind.MESSAGES:
            messages = decode_messages(row.body)
            retained = sum(bool(flag & FLAG_RETAIN) for flag in messages.flags)
            topics = Counter(topic.decode(errors="replace") for topic in messages.topics)
            named = ", ".join(f"{topic} ({n})" if n > 1 else topic for topic, n in topics.most_common(SHOWN_TOPICS))
            more = f" and {len(topics) - SHOWN_TOPICS} more" if len(topics) > SHOWN_TOPICS else ""
            return f"{row.count} messages{f', {retained} retained' if retained else ''}: {named}{more}"
        case RowKind.TICK:
            return "tick"
        case RowKind.CONTROL:
            record = json.loads(row.body)
            return f"control: {record['type']} {record['version']}"
        case RowKind.ALERT:
            event = alert.from_json(row.body)
            return f"alert {event.event_id} {event.phase} {event.severity}: {event.rule} for {event.subject}"
        case RowKind.WINDOWS | RowKind.READINGS:
            return f"{len(blocks.unpack(row.body))} {row.kind.name.lower()}"
        case RowKind.QUARANTINE:
            reasons = Counter(item["reason"] for item in json.loads(row.body))
            return "quarantined: " + ", ".join(f"{reason} ({n})" for reason, n in reasons.items())
        case _:
            counted = books.from_json(row.body)
            return f"books to {counted.offset}: {counted.received} received, {counted.accepted} accepted, {counted.open_alerts} alerts open"
