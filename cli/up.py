"""`vitalane up`: all services of one machine as supervised processes, stopped in the order in which data flows."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.config import every_problem
from cli.configuration import Configuration, read_configuration
from cli.exits import Unreachable
from cli.lag import Lag, caught_up
from cli.options import config_option
from cli.services import prepare
from cli.stopping import stop_on_signals
from cli.supervise import Service, Supervisor, own_command
from telemetry.errors import ConfigError, VitalaneError

PATIENCE_S = 15.0
"""How long the flow, and then the deliverer, may take at the end to catch up with what is there."""


@click.command()
@config_option
def up(config_file: Path) -> int:
    """Run ingest, flow and deliver; restart what fails; stop in order on SIGTERM or Ctrl-C, at once on the second."""
    configuration = read_configuration(config_file)
    problems = every_problem(configuration)
    if problems:
        raise ConfigError(problems)
    prepare(configuration.data_dir)
    stopping = stop_on_signals()
    with alone(configuration.data_dir):
        click.echo(f"vitalane: ingest, flow and deliver run on {configuration.data_dir}; Ctrl-C stops them in order", err=True)
        code = Supervisor(services(configuration), _tell, _listen).run(stopping.stop, stopping.hurry)
        click.echo("vitalane: stopped", err=True)
    return code


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Keep a second supervisor off a data folder. Raises Unreachable where there is one."""
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            msg = f"another `vitalane up` (process {lock.read().strip() or 'unknown'}) runs on {data_dir}: stop it first"
            raise Unreachable(msg) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def services(configuration: Configuration) -> list[Service]:
    """Return the services of one machine, in the order in which data flows through them."""
    file, data_dir = str(configuration.path), configuration.data_dir
    settings = configuration.settings
    channels, stores = list(settings.channels), settings.stores.names()

    def decided(lag: Lag) -> bool:
        return lag.undecided() == 0

    def delivered(lag: Lag) -> bool:
        return caught_up(lag, channels, stores)

    def asked(question: Callable[[Lag], bool]) -> Callable[[], bool]:
        def ask() -> bool:
            try:
                with Lag(data_dir, settings.partitions) as lag:
                    return question(lag)
            except VitalaneError:  # a file that is being made, or damaged: whoever owns it says so
                return False

        return ask

    return [
        Service("ingest", own_command("ingest", "-c", file)),
        Service("flow", own_command("flow", "-c", file), asked(decided), PATIENCE_S),
        Service("deliver", own_command("deliver", "-c", file), asked(delivered), PATIENCE_S),
    ]


def _tell(sentence: str) -> None:
    click.echo(f"vitalane: {sentence}", err=True)


def _listen(service: str, stream: str, line: str) -> None:
    if stream == "stdout":
        click.echo(line)
    else:
        sys.stderr.write(f"{service}: {line}\n")
