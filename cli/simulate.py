"""`vitalane simulate`: devices that publish to a broker, seeded, at any speed; or a file of real readings, replayed."""

import json
import ssl
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.configuration import Configuration, read_configuration
from cli.exits import writing
from cli.lazy import LazyGroup
from cli.options import DurationType
from cli.settings import Settings
from cli.simulate_load import run_load
from cli.stopping import stop_on_signals
from documents import Tree, parse
from simulators import pace
from simulators.feeds import Feed, WorldSource, start_for
from simulators.load import MOST_READINGS, Plan
from simulators.patient import Patients
from simulators.publish import Broker, Publisher
from simulators.replay import ReplaySource, rows, scan, shift_to_now
from simulators.shipment import Shipments
from simulators.staging import NONE, OWN, disturb
from simulators.world import Device, registry
from telemetry.clock import format_ms, utc_now_ms
from telemetry.errors import Transient

OPEN_S = 3.0
PLAIN_LINE_S = 5.0
FLUSH_S = 30.0


@click.group(cls=LazyGroup, modules={"scenario": "cli.scenario", "upload": "cli.upload"})
@click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), envvar="VITALANE_CONFIG", help="Whose broker."
)
@click.option("--host", help="The broker's address, instead of the configuration's.")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port.")
@click.option("--clients", type=click.IntRange(1, 256), default=4, show_default=True, help="Connections that carry the devices.")
@click.option("--qos", type=click.IntRange(0, 2), default=1, show_default=True)
@click.pass_context
def simulate(ctx: click.Context, config_file: Path | None, host: str | None, port: int | None, clients: int, qos: int) -> None:
    """Publish as devices do: shipments, patients, a scenario, or a file."""
    if ctx.obj is None:
        ctx.obj = lambda: _publisher(_configuration(config_file), "simulator", clients=clients, qos=qos, host=host, port=port)


count_option = click.option("--count", type=click.IntRange(1, 1_000_000), default=40, show_default=True, help="How many devices.")
seed_option = click.option("--seed", type=int, default=1, show_default=True)
speed_option = click.option(
    "--speed", type=click.FloatRange(0), default=1.0, show_default=True, help="Event time against the wall clock; 0: as fast as possible."
)
for_option = click.option("--for", "duration_ms", type=DurationType(), help="How long; without it, until Ctrl-C.")
registry_option = click.option(
    "--registry", "registry_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the devices as a registry document there."
)
truth_option = click.option(
    "--truth", "truth_file", type=click.Path(path_type=Path, dir_okay=False), help="Write there what happened, as JSON lines."
)
faults_option = click.option(
    "--faults", default=OWN, show_default=True, metavar="KINDS", help="own, none, all (its own and a mixture of all), or kinds with commas."
)


@simulate.command()
@count_option
@seed_option
@speed_option
@for_option
@registry_option
@click.pass_obj
def shipments(publisher: Any, count: int, seed: int, speed: float, duration_ms: int | None, registry_file: Path | None) -> None:
    """Refrigerated vehicles: temperature, humidity, door, place and more, once a minute of their time."""
    world = Shipments(count, seed=seed, start_ms=_start(speed, duration_ms))
    _play_world(publisher(), world, speed, duration_ms, registry_file)


@simulate.command()
@count_option
@seed_option
@speed_option
@for_option
@registry_option
@click.pass_obj
def patients(publisher: Any, count: int, seed: int, speed: float, duration_ms: int | None, registry_file: Path | None) -> None:
    """Patient monitors: heart rate, saturation, respiration once a second of their time, blood pressure now and then."""
    world = Patients(count, seed=seed, start_ms=_start(speed, duration_ms))
    _play_world(publisher(), world, speed, duration_ms, registry_file)


@simulate.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@speed_option
@click.option(
    "--kind", type=click.Choice(["shipment", "patient"]), default="shipment", show_default=True, help="Where the file names none."
)
@click.option("--shift-to-now", "shift", is_flag=True, help="Move the times so that the last reading is measured when it is sent.")
@click.option("--faults", default=NONE, show_default=True, metavar="KINDS", help="none, all, or kinds with commas, on top.")
@seed_option
@truth_option
@click.pass_obj
def replay(publisher: Any, *, file: Path, speed: float, kind: str, shift: bool, faults: str, seed: int, truth_file: Path | None) -> None:
    """Replay a CSV of `time,device,metric,value[,unit][,kind]`, its times kept or shifted to now, with faults on top."""
    if truth_file is not None and not speed:
        msg = "--truth needs a --speed above 0: as fast as possible, nobody knows when on the clock something was"
        raise click.UsageError(msg)
    span = scan(file, kind=kind)
    lasts = f"{format_ms(span.first_ms)} to {format_ms(span.last_ms)}"
    click.echo(f"{file}: {span.rows} readings of {len(span.devices)} devices, {lasts}", err=True)
    now_ms = utc_now_ms()
    shift_ms = shift_to_now(span, speed, now_ms) if shift else 0
    source = ReplaySource(rows(file, kind=kind), kind=kind, shift_ms=shift_ms)
    disturbed, truth = disturb(source, span, faults, name=file.name, seed=seed, shift_ms=shift_ms, speed=speed, played_ms=now_ms)
    try:
        play([Feed(disturbed, speed, never_ahead=shift)], publisher(), None)
    finally:
        if truth_file is not None:
            with writing(truth_file):
                truth.write(truth_file)


@simulate.command()
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="How many vehicles.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=20_000, show_default=True, help="Messages a second, of all.")
@click.option("--for", "duration_ms", type=DurationType(), default="60s", show_default=True, help="How long.")
@click.option("--clients", type=click.IntRange(1, 256), help="Connections, instead of those of `simulate`.")
@click.option("--qos", type=click.IntRange(0, 1), help="Instead of that of `simulate`.")
@click.option(
    "--readings-per-message", "readings", type=click.IntRange(1, MOST_READINGS), default=6, show_default=True, help="What a message holds."
)
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures for machines.")
@click.pass_context
def load(
    ctx: click.Context,
    *,
    devices: int,
    rate: float,
    duration_ms: int,
    clients: int | None,
    qos: int | None,
    readings: int,
    seed: int,
    as_json: bool,
) -> int:
    """Publish at a rate, come what may, and tell how long acknowledgements took.

    A message is due at its time, whatever became of those before it, and its latency counts from then. Speaks MQTT 3.1.1. Exits with 1
    where more than 2 % of the rate was missed or a message was not acknowledged.
    """
    assert ctx.parent is not None
    asked = ctx.parent.params
    plan = Plan(devices, rate, duration_ms / 1000, asked["qos"] if qos is None else qos, clients or asked["clients"], readings, seed)
    return run_load(ctx.obj().broker, plan, _shown(plan.duration_s), as_json=as_json)


def _start(speed: float, duration_ms: int | None) -> int:
    return start_for(speed, None if duration_ms is None else duration_ms / 1000, utc_now_ms())


def _play_world(
    publisher: Publisher, world: Shipments | Patients, speed: float, duration_ms: int | None, registry_file: Path | None
) -> None:
    if registry_file is not None:
        with writing(registry_file):
            write_registry(registry_file, world.devices)
    play([Feed(WorldSource(world), speed)], publisher, None if duration_ms is None else duration_ms / 1000)


def write_registry(file: Path, devices: list[Device]) -> None:
    """Write devices as a registry document."""
    file.write_text("devices:\n" + "".join(f"  - {json.dumps(entry, ensure_ascii=False)}\n" for entry in registry(devices)))


def play(feeds: list[Feed], publisher: Publisher, duration_s: float | None, *, shown_s: float | None = None) -> None:
    """Publish until the end, the duration, or Ctrl-C, showing how it goes; then wait for what is not acknowledged yet.

    `shown_s` is how long that should take, where the feeds end by themselves.
    """
    stop = stop_on_signals().stop
    publisher.stop = stop
    publisher.open(OPEN_S)
    with closing(publisher):
        with _shown(duration_s if shown_s is None else shown_s) as show:
            began = time.monotonic()
            pace.play(feeds, publisher, stop, duration_s=duration_s, progress=show, progress_s=0.5)
            played_s = time.monotonic() - began
        complete = publisher.flush(FLUSH_S)
        counts = publisher.counts()
    rate = counts.acked / played_s if played_s else 0.0
    click.echo(f"{counts.sent} messages sent, {counts.acked} acknowledged, in {played_s:.1f} s ({rate:.0f}/s)", err=True)
    if not complete:
        msg = f"the broker did not acknowledge {counts.sent - counts.acked} messages within {FLUSH_S:.0f} s"
        raise Transient(msg)


def _shown(duration_s: float | None) -> AbstractContextManager[Any]:
    console = Console(stderr=True)
    return _Bar(duration_s, console) if console.is_terminal else nullcontext(_plain_lines())


class _Bar:
    """A progress bar with the rate, for a terminal."""

    def __init__(self, duration_s: float | None, console: Console) -> None:
        columns = [SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
        self.bar = Progress(*columns, console=console, transient=True)
        self.task: TaskID = self.bar.add_task("connecting", total=duration_s)
        self.last = (0.0, 0)

    def __enter__(self) -> "_Bar":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, progress: pace.Progress) -> None:
        self.last, rate = (progress.elapsed_s, progress.counts.acked), _rate(progress, self.last)
        self.bar.update(self.task, completed=progress.elapsed_s, description=_described(progress, rate))


def _plain_lines() -> Any:
    last, told_s = (0.0, 0), 0.0

    def show(progress: pace.Progress) -> None:
        nonlocal last, told_s
        if progress.elapsed_s - told_s < PLAIN_LINE_S:
            return
        told_s = progress.elapsed_s
        last, rate = (progress.elapsed_s, progress.counts.acked), _rate(progress, last)
        click.echo(f"{progress.elapsed_s:.0f} s: {_described(progress, rate)}", err=True)

    return show


def _rate(progress: pace.Progress, last: tuple[float, int]) -> float:
    elapsed_s = progress.elapsed_s - last[0]
    return (progress.counts.acked - last[1]) / elapsed_s if elapsed_s > 0 else 0.0


def _described(progress: pace.Progress, rate: float) -> str:
    counts = progress.counts
    connected = "" if counts.connected else ", not connected"
    behind = f", {max(progress.behind_ms) / 1000:.1f} s behind" if max(progress.behind_ms, default=0) >= 1000 else ""
    return f"{counts.acked} acknowledged, {rate:.0f}/s, {counts.sent - counts.acked} in flight{behind}{connected}"


def _configuration(config_file: Path | None) -> Configuration:
    default = Path("vitalane.yaml")
    if config_file is None and not default.exists():
        return Configuration(default, parse("", str(default), Settings), Tree(str(default), "", {}, {}, {}))
    return read_configuration(config_file or default)


def publisher_for(configuration: Configuration, name: str, *, clients: int) -> Publisher:
    """Return a publisher to the configuration's broker, with its account."""
    return _publisher(configuration, name, clients=clients, qos=1, host=None, port=None)


def _publisher(configuration: Configuration, name: str, *, clients: int, qos: int, host: str | None, port: int | None) -> Publisher:
    return Publisher(broker_of(configuration, host, port), clients=clients, qos=qos, name=name)


def broker_of(configuration: Configuration, host: str | None = None, port: int | None = None) -> Broker:
    """Return the configuration's broker as simulators know it; TLS without files is the system's authorities."""
    account, tls = configuration.settings.broker, configuration.settings.broker.tls
    system = ssl.get_default_verify_paths().cafile
    authorities = (
        configuration.folder / tls.ca if tls is not None and tls.ca is not None else Path(system) if tls is not None and system else None
    )
    return Broker(
        host=host or account.host,
        port=port or account.port,
        user=account.user,
        password=None if account.password is None else configuration.secret(("broker", "password"), account.password),
        protocol=account.protocol,
        ca=authorities,
        certificate=None if tls is None or tls.certificate is None else configuration.folder / tls.certificate,
        key=None if tls is None or tls.key is None else configuration.folder / tls.key,
    )
