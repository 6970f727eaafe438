"""`vitalane verify`: one command that checks the journals' chains and both equations of law 7.

received = accepted + duplicate + quarantined, and every journal offset counted, in the books of each partition against its journal;
decided = delivered + pending + dead for each destination, and what was decided against what the outbox holds and the subscriptions want.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click

from alerts.subscriptions import Subscription, wants
from cli.configuration import Configuration, read_configuration
from cli.delivering import Baseline, baselines
from cli.destinations import subscriptions
from cli.exits import FAILED, Unreachable
from cli.lag import Lag
from cli.options import config_option
from cli.places import ledger_path, outbox_paths, telemetry_path
from journal.reader import JournalReader
from journal.rows import RowKind
from journal.verify import verify as walk
from sinks.ledger import ChannelLedger, Counts
from sinks.outbox import Cursor
from sinks.store_ledger import StoreLedger
from telemetry import alert
from telemetry.alert import AlertEvent
from telemetry.books import Books

READ_ROWS = 256


class Check(NamedTuple):
    """One thing that was checked, and what is wrong with it; empty where it holds."""

    what: str
    shown: str
    problem: str = ""


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="The checks as one JSON object.")
def verify(config_file: Path, as_json: bool) -> int:
    """Check that the journals are whole and that everything is accounted for; exit 1 where it is not."""
    configuration = read_configuration(config_file)
    checks = verified(configuration)
    balanced = not any(check.problem for check in checks)
    if as_json:
        click.echo(json.dumps({"balanced": balanced, "checks": [check._asdict() for check in checks]}, ensure_ascii=False))
    else:
        width = max(len(check.what) for check in checks)
        for check in checks:
            click.echo(f"{'ok ' if not check.problem else 'BAD'} {check.what:<{width}}  {check.shown}")
            if check.problem:
                click.echo(f"    {check.problem}")
        click.echo("everything is accounted for" if balanced else "NOT balanced", err=not balanced)
    return 0 if balanced else FAILED


def verified(configuration: Configuration) -> list[Check]:
    """Return every check, made. Raises Unreachable where there is no journal yet."""
    path = telemetry_path(configuration.data_dir)
    if not path.exists():
        msg = f"there is no journal in {configuration.data_dir} yet: `vitalane up` makes it"
        raise Unreachable(msg)
    # Positions that only grow are read in the order against the flow of data, so that a check beside running services is not unfair.
    destinations = destination_checks(configuration)
    return [*chain_checks(configuration), *books_checks(configuration), *destinations]


def chain_checks(configuration: Configuration) -> list[Check]:
    """Walk the hash chain of every stream."""
    outboxes = outbox_paths(configuration.data_dir, configuration.settings.partitions).values()
    paths = [telemetry_path(configuration.data_dir), *(path for path in outboxes if path.exists())]
    checks = []
    for path in paths:
        found = walk(path)
        checks.append(Check(f"chain {path.stem}", f"{found.rows} rows, {found.messages} messages", found.problem))
    return checks


def books_checks(configuration: Configuration) -> list[Check]:
    """Compare the books of each partition with themselves and with the journal up to where they were written."""
    with Lag(configuration.data_dir, configuration.settings.partitions) as lag:
        written = {books.partition: books for books in lag.books()}
        heads = lag.heads()
    checks = []
    for partition, head in heads.items():
        books = written.get(partition)
        what = f"books partition {partition}"
        if books is None:
            checks.append(Check(what, f"nothing decided yet, {head} offsets wait for the flow"))
            continue
        refused = sum(books.quarantined.values())
        shown = f"{books.received} received = {books.accepted} accepted + {books.duplicate} duplicate + {refused} quarantined"
        shown += f"; {books.late} late, {books.conflicts} with another value for their time" if books.late or books.conflicts else ""
        shown += f"; offsets {books.offset} = {books.messages} messages + {books.ticks} ticks + {books.controls} controls"
        if head > books.offset:
            shown += f"; {head - books.offset} wait for the flow or its next books"
        checks.append(Check(what, shown, _books_problem(configuration, books, head)))
    return checks


def _books_problem(configuration: Configuration, books: Books, head: int) -> str:
    if not books.balances():
        return "the books do not balance in themselves"
    if books.offset > head:
        return f"the books are at offset {books.offset}, the journal ends at {head}: rows that were decided on are gone"
    with JournalReader(telemetry_path(configuration.data_dir)) as reader:
        first = reader.first(books.partition)
        if first > 0:
            return ""  # retention has removed what the earlier counts were made from
        counted = dict.fromkeys((RowKind.MESSAGES, RowKind.TICK, RowKind.CONTROL), 0)
        offset = 0
        while offset < books.offset and (rows := reader.read(books.partition, offset, max_rows=READ_ROWS)):
            for row in rows:
                if row.offset < books.offset:
                    counted[row.kind] += row.count
            offset = rows[-1].offset + rows[-1].count
    expected = (counted[RowKind.MESSAGES], counted[RowKind.TICK], counted[RowKind.CONTROL])
    if expected != (books.messages, books.ticks, books.controls):
        return "the journal holds {} messages, {} ticks and {} controls up to there".format(*expected)
    return ""


def destination_checks(configuration: Configuration) -> list[Check]:
    """Compare each ledger with itself and with the outbox."""
    data_dir, settings = configuration.data_dir, configuration.settings
    subscribed = subscriptions(configuration)
    known = baselines(configuration, subscribed)
    checks = []
    for name in settings.channels:
        if not ledger_path(data_dir, name).exists():
            checks.append(Check(f"channel {name}", "has delivered nothing yet"))
            continue
        with closing(ChannelLedger(ledger_path(data_dir, name), serve=False)) as ledger:
            counts, cursor = _together(ledger)
        checks.append(_channel_check(configuration, name, counts, cursor, subscribed, known.get(name)))
    for name in settings.stores.names():
        if not ledger_path(data_dir, name).exists():
            checks.append(Check(f"store {name}", "has stored nothing yet"))
            continue
        with closing(StoreLedger(ledger_path(data_dir, name), serve=False)) as stored:
            counts, cursor = _together(stored)
        checks.append(_store_check(configuration, name, counts, cursor))
    return checks


def _together(ledger: ChannelLedger | StoreLedger) -> tuple[Counts, Cursor]:
    """Return the counts and the cursor as of one moment, whatever a running deliverer does meanwhile."""
    while True:
        before, cursor, counts = ledger.counts(), ledger.cursor(), ledger.counts()
        if counts == before and cursor == ledger.cursor():
            return counts, cursor


def _channel_check(
    configuration: Configuration, name: str, counts: Counts, cursor: Cursor, subscribed: Sequence[Subscription], baseline: Baseline | None
) -> Check:
    what, shown = f"channel {name}", _equation(counts)
    if not counts.balances():
        return Check(what, shown, "the ledger does not balance in itself")
    if counts.trimmed:
        return Check(what, shown, f"retention removed {counts.trimmed} outbox rows before this channel had read them")
    read, trimmed = alert_events(configuration, {}, cursor)
    seen = counts.decided + counts.repeated + counts.unmatched
    if not trimmed and seen != len(read):
        return Check(what, shown, f"it has seen {seen} alert events, the outbox holds {len(read)} up to where it has read")
    if baseline is None:
        return Check(what, f"{shown}; subscriptions have changed since the deliverer last ran, so what they want was not compared")
    since, trimmed = alert_events(configuration, baseline.cursor, cursor)
    wanted = wants(subscribed, name)
    expected = baseline.decided + len({event.event_id for event in since if wanted(event)})
    if not trimmed and expected != counts.decided:
        return Check(what, shown, f"the subscriptions want {expected} events of the outbox told")
    return Check(what, shown)


def _store_check(configuration: Configuration, name: str, counts: Counts, cursor: Cursor) -> Check:
    what, shown = f"store {name}", f"rows: {_equation(counts)}"
    if not counts.balances():
        return Check(what, shown, "the ledger does not balance in itself")
    if counts.trimmed:
        return Check(what, shown, f"retention removed {counts.trimmed} outbox rows before this store had read them")
    with Lag(configuration.data_dir, configuration.settings.partitions) as lag:
        heads, firsts = lag.outbox_heads(), lag.outbox_firsts()
    if not any(firsts.values()) and counts.decided != sum(cursor.values()):
        return Check(what, shown, f"it has read {sum(cursor.values())} outbox rows")
    ahead = [source for source, at in cursor.items() if at > heads.get(source, 0)]
    if ahead:
        return Check(what, shown, f"it has read more of outbox {ahead[0][0]} than there is")
    waiting = sum(heads.values()) - sum(cursor.values())
    return Check(what, f"{shown}; {waiting} wait" if waiting else shown)


def _equation(counts: Counts) -> str:
    shown = f"{counts.decided} decided = {counts.delivered} delivered + {counts.pending} pending + {counts.dead} dead"
    return f"{shown}; {counts.unmatched} not subscribed" if counts.unmatched else shown


def alert_events(configuration: Configuration, start: Cursor, end: Cursor) -> tuple[list[AlertEvent], bool]:
    """Return the alert events of the outbox between two cursors, and whether retention has removed some."""
    events: list[AlertEvent] = []
    trimmed = False
    for number, path in outbox_paths(configuration.data_dir, configuration.settings.partitions).items():
        if not path.exists():
            continue
        with JournalReader(path) as reader:
            offset, stop = start.get((number, 0), 0), end.get((number, 0), 0)
            first = reader.first(0)
            trimmed, offset = trimmed or first > offset, max(first, offset)
            while offset < stop and (rows := reader.read(0, offset, max_rows=READ_ROWS)):
                events += [alert.from_json(row.body) for row in rows if row.kind == RowKind.ALERT and row.offset < stop]
                offset = rows[-1].offset + rows[-1].count
    return events, trimmed
