"""The program in a process of its own, as a person starts it, and a small data folder with everything decided and delivered."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cli import delivering
from cli.configuration import Configuration, read_configuration
from cli.lag import Lag, caught_up
from tests.flows.journals import run_to_end, write_world

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
PATIENCE_S = 60.0
CONFIGURATION = """\
data_dir: data
partitions: 2
channels:
  screen: {type: terminal}
  quiet: {type: terminal}
subscriptions:
  - {name: everything, channels: screen}
  - {name: critical, match: {severity: critical}, channels: quiet}
"""


def vitalane(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
    )


class Running:
    """A command that runs until it is told to stop; everything that it says, on both streams, in `lines`."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "cli.main", *arguments]
        self.process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip())

    def says(self, text: str) -> str:
        """Wait for a line that holds a text, and return it."""
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            found = next((line for line in list(self.lines) if text in line), None)
            if found is not None:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not said: {self.lines}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.reader.join()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def decided_world(folder: Path, *, rows: int = 40, seed: int = 7) -> Configuration:
    """Return a configuration whose journal is decided and not delivered yet."""
    (folder / "vitalane.yaml").write_text(CONFIGURATION)
    (folder / "data").mkdir()
    write_world(folder / "data", PARTITIONS, rows, seed)
    run_to_end(folder / "data", PARTITIONS)
    return read_configuration(folder / "vitalane.yaml")


def deliver_all(configuration: Configuration) -> None:
    """Deliver until nothing waits."""
    stop = threading.Event()
    thread = threading.Thread(target=delivering.run, args=(configuration, stop))
    thread.start()
    give_up_at = time.monotonic() + PATIENCE_S
    channels, stores = list(configuration.settings.channels), configuration.settings.stores.names()
    try:
        with Lag(configuration.data_dir, PARTITIONS) as lag:
            while not caught_up(lag, channels, stores):
                assert time.monotonic() < give_up_at
                time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
