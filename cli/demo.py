"""`vitalane demo`: a real broker, the real services, simulated devices with scripted incidents, and a verdict.

Everything runs as `vitalane up` would run it, on a folder that an operator could have written; only the devices are not real.
"""

import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from threading import Event, Thread
from typing import TextIO

import click

from cli import summary
from cli.broker import KINDS, LocalBroker, start_broker
from cli.configuration import Configuration, read_configuration
from cli.exits import FAILED, Unreachable
from cli.lag import Lag
from cli.live import Progress, Screen
from cli.options import DurationType
from cli.simulate import publisher_for
from cli.stage import CHANNEL, set_stage
from cli.status import read_status
from cli.stopping import Stopping, stop_on_signals
from cli.supervise import Supervisor
from cli.up import services
from simulators import pace, scenes
from simulators.incidents import IncidentKind
from simulators.publish import Publisher
from telemetry import books
from telemetry.clock import utc_now_ms
from telemetry.errors import VitalaneError

READY_S = 40.0
SETTLE_S = 4.0
"""How long messages may take from the broker to the journal at the end: less than the silence that would raise alerts."""
TICK_S = 0.25
CLIENTS = 4


@click.command()
@click.option("--for", "duration_ms", type=DurationType(), help="How long, like 60s; without it, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as JSON.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep configuration, journal and logs in this new folder.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same devices and incidents.")
@click.option("--broker", type=click.Choice(KINDS), default="auto", show_default=True, help="auto: Mosquitto, or amqtt without it.")
def demo(duration_ms: int | None, as_json: bool, keep: Path | None, seed: int, broker: str) -> int:
    """Show it all: devices, broker, alerts as they happen, and whether every incident was found and everything is accounted for."""
    duration_s = None if duration_ms is None else duration_ms / 1000
    if duration_s is not None and duration_s < scenes.SHORTEST_S:
        msg = f"the demo needs at least {scenes.SHORTEST_S:.0f} s for its incidents to happen"
        raise click.BadParameter(msg, param_hint="--for")
    logging.getLogger("simulators").setLevel(logging.WARNING)  # what they say of connections is on the screen already
    stopping = stop_on_signals()
    folder = _folder(keep)
    try:
        with Screen(quiet_stdout=as_json) as screen:
            found = Demo(folder, screen, stopping, duration_s, seed).run(broker)
        if as_json:
            click.echo(json.dumps(summary.as_json(found), indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(summary.lines(found)))
        return 0 if found.good else FAILED
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            click.echo(f"configuration, journal and logs are in {folder}", err=True)


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="vitalane-demo-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        occupied = any(keep.iterdir())
    except OSError as error:
        msg = f"the folder {keep} cannot be made: {(error.strerror or str(error)).lower()}"
        raise Unreachable(msg) from error
    if occupied:
        msg = f"the folder {keep} is not empty: the demo writes its own configuration and journal"
        raise Unreachable(msg)
    return keep.resolve()


class Demo:
    """One run."""

    def __init__(self, folder: Path, screen: Screen, stopping: Stopping, duration_s: float | None, seed: int) -> None:
        self.folder, self.screen, self.stopping, self.duration_s, self.seed = folder, screen, stopping, duration_s, seed
        self.logs: dict[str, TextIO] = {}
        self.supervised: int | None = None  # the supervisor's exit code, when it has ended

    def run(self, kind: str) -> summary.Summary:
        """Run the whole demo on a broker of this kind. Raises VitalaneError where it cannot begin."""
        broker = start_broker(self.folder / "broker", kind)
        self.screen.say(f"broker: {broker.name}, on 127.0.0.1:{broker.port} with a password")
        try:
            return self._with(broker)
        finally:
            broker.close()
            for log in self.logs.values():
                log.close()

    def _with(self, broker: LocalBroker) -> summary.Summary:
        scene = self._scene()
        configuration = read_configuration(set_stage(self.folder, broker, scene.registry()))
        with publisher_for(configuration, "gateway", clients=CLIENTS) as publisher:
            for message in scene.retained:
                publisher.send(message)
            publisher.flush()
            self.screen.say(
                f"devices: {len(scene.devices)}, simulated with seed {self.seed}: a fleet whose hour passes in a minute, and a ward"
            )
            end, hurry = Event(), self.stopping.hurry
            supervisor = Supervisor(services(configuration), self.screen.say, self._listen)
            thread = Thread(target=self._supervise, args=(supervisor, end, hurry), name="supervisor")
            thread.start()
            try:
                self._await_services(configuration)
                scene = self._scene()._replace(retained=scene.retained)  # the same devices, their clocks set to now
                played_s = self._play(configuration, scene, publisher)
                counts = publisher.counts()
                self.screen.say("the devices have stopped; now ingest, flow and deliver, in this order, each when it has caught up")
                self._settle(configuration, counts.sent)
            finally:
                end.set()
                thread.join()
        incidents = [(incident, scene.truth.breach(incident), self._is_over(scene, incident.kind)) for incident in scene.truth.incidents]
        events = summary.outbox_events(configuration)
        found, unexpected = summary.findings(incidents, events)
        return summary.Summary(
            broker=broker.name,
            seconds=played_s,
            sent=counts.sent,
            acknowledged=counts.acked,
            counted=summary.counted_books(configuration),
            injected=scene.dirt(),
            findings=found,
            unexpected=unexpected,
            latencies_ms=summary.latencies(configuration, CHANNEL, events),
            checks=summary.checked(configuration),
        )

    def _scene(self) -> scenes.Scene:
        return scenes.demo(seed=self.seed, duration_s=self.duration_s, now_ms=utc_now_ms())

    def _supervise(self, supervisor: Supervisor, end: Event, hurry: Event) -> None:
        self.supervised = supervisor.run(end, hurry)

    def _listen(self, service: str, stream: str, line: str) -> None:
        if stream == "stdout":
            self.screen.say(line)
            return
        if service not in self.logs:
            (self.folder / "logs").mkdir(exist_ok=True)
            self.logs[service] = (self.folder / "logs" / f"{service}.log").open("a", buffering=1)
        self.logs[service].write(f"{line}\n")
        if " ERROR " in line:
            self.screen.say(f"{service}: {line}")

    def _await_services(self, configuration: Configuration) -> None:
        """Wait until all three run and ingest has subscribed: what is published before is nobody's."""
        give_up_at = time.monotonic() + READY_S
        while not self.stopping.stop.is_set():
            states = {name: read_status(configuration.data_dir, name) for name in ("ingest", "flow", "deliver")}
            if all(state.get("state") == "running" for state in states.values()) and states["ingest"].get("connected"):
                return
            if self.supervised is not None or time.monotonic() > give_up_at:
                missing = ", ".join(name for name, state in states.items() if state.get("state") != "running") or "ingest"
                msg = f"the demo's services did not start within {READY_S:.0f} s ({missing}): see the lines above"
                raise Unreachable(msg)
            self.stopping.stop.wait(TICK_S / 5)

    def _play(self, configuration: Configuration, scene: scenes.Scene, publisher: Publisher) -> float:
        """Play the scene in a thread and show how it goes; return for how long."""
        stop, failed = self.stopping.stop, list[VitalaneError]()

        def play() -> None:
            try:
                pace.play(scene.feeds, publisher, stop, duration_s=self.duration_s)
            except VitalaneError as error:
                failed.append(error)

        thread, began = Thread(target=play, name="devices"), time.monotonic()
        thread.start()
        with Lag(configuration.data_dir, configuration.settings.partitions) as lag:
            while thread.is_alive():
                thread.join(TICK_S)
                self._show(lag, time.monotonic() - began)
                if self.supervised is not None:
                    stop.set()
        if failed:
            raise failed[0]
        return time.monotonic() - began

    def _show(self, lag: Lag, elapsed_s: float, note: str = "") -> None:
        try:
            counted, undecided = books.total(lag.books()), lag.undecided()
        except VitalaneError:  # a journal that is being made
            return
        self.screen.show(Progress(elapsed_s, self.duration_s, counted.received, undecided, counted.open_alerts, note))

    def _settle(self, configuration: Configuration, sent: int) -> None:
        """Wait until what was published is in the journal, so that the end cuts nothing off on its way from the broker."""
        give_up_at, before = time.monotonic() + SETTLE_S, -1
        while time.monotonic() < give_up_at and not self.stopping.hurry.is_set():
            received = int(read_status(configuration.data_dir, "ingest").get("received", 0))
            if received >= sent and received == before:
                return
            before = received
            time.sleep(0.6)  # the status is written twice a second

    def _is_over(self, scene: scenes.Scene, kind: IncidentKind) -> bool:
        """Return whether an incident was played to its end: without a Ctrl-C every one was."""
        incident = next(item for item in scene.truth.incidents if item.kind is kind)
        breach = scene.truth.breach(incident)
        return (breach is not None and breach.end_ms is not None) or not self.stopping.stop.is_set()
