"""`vitalane ingest|flow|deliver`: put one service together from the configuration and run it until SIGTERM or SIGINT."""

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from cli.configuration import Configuration, partition_problems, read_configuration, rule_set, sparkplug_problems
from cli.exits import Unreachable
from cli.lag import Lag
from cli.options import config_option
from cli.places import ledger_path, telemetry_path
from cli.registered import registered
from cli.status import StatusFile
from cli.stopping import stop_on_signals
from cli.supervise import die_with_supervisor
from journal.reader import JournalReader
from sinks.ledger import ChannelLedger
from sinks.store_ledger import StoreLedger
from telemetry import books
from telemetry.errors import ConfigError

JOURNAL_POLL_S = 0.2

Look = Callable[[], Mapping[str, Any]]


@click.command()
@config_option
def ingest(config_file: Path) -> None:
    """From the broker to the journal: durable, then acknowledged."""
    from cli.ingesting import run

    configuration = _begin(config_file)
    stop = stop_on_signals().stop
    known = registered(configuration)
    run(configuration, known, rule_set(configuration, known.catalogue()), stop)


@click.command()
@config_option
def flow(config_file: Path) -> None:
    """From the journal to decisions: windows, rules, alerts."""
    from flows.service import FlowSettings, run

    configuration = _begin(config_file)
    settings, stop = configuration.settings, stop_on_signals().stop
    retention = settings.flow.retention
    if not await_journal(telemetry_path(configuration.data_dir), stop):
        return
    with StatusFile(configuration.data_dir, "flow", flow_look(configuration)):
        run(
            FlowSettings(
                configuration.data_dir,
                settings.partitions,
                settings.flow.epoch_ms,
                keep_age_ms=retention.max_age,
                keep_bytes=retention.max_size,
                consumers=(*settings.stores.names(), *settings.channels),
            ),
            stop,
        )


@click.command()
@config_option
def deliver(config_file: Path) -> None:
    """From decisions to people and stores: retry, confirm, dead letters."""
    from cli.delivering import run

    configuration = _begin(config_file)
    stop = stop_on_signals().stop
    with StatusFile(configuration.data_dir, "deliver", _deliver_look(configuration)):
        run(configuration, stop)


def _begin(config_file: Path) -> Configuration:
    """Return the configuration of a service that begins, its data folder there and writable."""
    die_with_supervisor()
    configuration = read_configuration(config_file)
    prepare(configuration.data_dir)
    problems = partition_problems(configuration) + sparkplug_problems(configuration)
    if problems:
        raise ConfigError(problems)
    return configuration


def prepare(data_dir: Path) -> None:
    """Make the data folder. Raises Unreachable where it cannot be made or written."""
    probe = data_dir / ".writable"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"the data folder {data_dir} cannot be written: {(error.strerror or str(error)).lower()}"
        raise Unreachable(msg) from error


def await_journal(path: Path, stop: threading.Event) -> bool:
    """Wait until ingest has made the journal; False where told to stop meanwhile."""
    if not path.exists():
        click.echo(f"flow waits for the journal {path}, which ingest makes", err=True)
    while not path.exists():
        if stop.wait(JOURNAL_POLL_S):
            return False
    with JournalReader(path):
        return True


def flow_look(configuration: Configuration) -> Look:
    """Return what tells how far the flow is, what it has counted, and the memory that it holds (in bytes)."""
    lag = Lag(configuration.data_dir, configuration.settings.partitions)

    def look() -> Mapping[str, Any]:
        counted = books.total(lag.books())
        return {
            "behind": lag.undecided(),
            "received": counted.received,
            "accepted": counted.accepted,
            "duplicate": counted.duplicate,
            "late": counted.late,
            "conflicts": counted.conflicts,
            "quarantined": sum(counted.quarantined.values()),
            "open_alerts": counted.open_alerts,
            "series": counted.series,
            "state_bytes": counted.state_bytes,
            "bytes_per_series": round(counted.state_bytes / counted.series) if counted.series else 0,
        }

    return look


def _deliver_look(configuration: Configuration) -> Look:
    data_dir, settings = configuration.data_dir, configuration.settings

    def look() -> Mapping[str, Any]:
        destinations: dict[str, Any] = {}
        for name in settings.channels:
            if ledger_path(data_dir, name).exists():
                with closing(ChannelLedger(ledger_path(data_dir, name), serve=False)) as ledger:
                    destinations[name] = ledger.counts()._asdict()
        for name in settings.stores.names():
            if ledger_path(data_dir, name).exists():
                with closing(StoreLedger(ledger_path(data_dir, name), serve=False)) as stored:
                    destinations[name] = stored.counts()._asdict()
        return {"destinations": destinations}

    return look
