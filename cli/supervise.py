"""Services as child processes: started, restarted with backoff, stopped in order. Its law: no child outlives it, a failure is told once.

Every service may be killed at any instant without loss, so the answer to any failure is the same: start it again, later each time.
What the supervisor adds at the end is order: a service is asked to stop only when those before it have stopped and it has
caught up with what they left, or its patience is over.
"""

import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import IO, NamedTuple

from telemetry.errors import VitalaneError

SUPERVISOR_PID = "VITALANE_SUPERVISOR_PID"
CONFIG_WRONG = 2  # the exit code that no restart can mend

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
HEALTHY_S = 5.0
"""A child that lived so long has not failed at its start: its backoff begins anew."""
KEEPS_FAILING = 4
STOP_S = 15.0
"""How long a child may take from SIGTERM to its end before it is killed."""
LONGEST_LINE = 8192
POLL_S = 0.05


class Service(NamedTuple):
    """One child. `caught_up` says whether anything is left for it, asked before it is told to stop, for at most `patience_s`."""

    name: str
    command: tuple[str, ...]
    caught_up: Callable[[], bool] = lambda: True
    patience_s: float = 0.0


Listener = Callable[[str, str, str], None]
"""Takes (service, "stdout" or "stderr", line), from several threads."""


def own_command(*arguments: str) -> tuple[str, ...]:
    """Return how to run our own program with these arguments, wherever it is installed and whatever the current folder holds."""
    return (sys.executable, "-P", "-m", "cli.main", *arguments)


def tethered() -> list[str]:
    """Return what to put before another program's command, so that it dies with us too; needs `environment()`."""
    code = "import os, sys; from cli.supervise import die_with_supervisor; die_with_supervisor(); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-P", "-c", code]


def environment() -> dict[str, str]:
    """Return the environment of a child: ours, with the place of our packages, and who its supervisor is."""
    home = str(Path(__file__).resolve().parent.parent)
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != home]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *others]), "PYTHONUNBUFFERED": "1", SUPERVISOR_PID: str(os.getpid())}


def die_with_supervisor(values: Mapping[str, str] = os.environ) -> None:
    """Ask the kernel to end this process when its supervisor ends, however that happens. Without a supervisor: nothing."""
    parent = values.get(SUPERVISOR_PID, "")
    if not parent.isdigit() or not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


class _Child:
    """One service's process, its readers, and when it may start again."""

    def __init__(self, service: Service, listen: Listener) -> None:
        self.service = service
        self.listen = listen
        self.process: subprocess.Popen[bytes] | None = None
        self.readers: list[Thread] = []
        self.started_at = 0.0
        self.start_at = 0.0
        self.failures = 0
        self.last_line = ""
        self.told = ""

    @property
    def running(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        try:
            self.process = subprocess.Popen(  # its own group: Ctrl-C is for the supervisor, who stops children in order
                self.service.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                process_group=0,
            )
        except OSError as error:
            msg = f"{self.service.name} cannot be started: {error.strerror}"
            raise VitalaneError(msg) from error
        self.started_at = monotonic()
        self.last_line = ""
        streams = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        self.readers = [Thread(target=self._read, args=(name, stream), daemon=True) for name, stream in streams.items()]
        for reader in self.readers:
            reader.start()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        while line := stream.readline(LONGEST_LINE):
            text = line.decode(errors="replace").rstrip()
            if text and name == "stderr":
                self.last_line = text
            self.listen(self.service.name, name, text)
        stream.close()

    def ended(self) -> int | None:
        """Return the exit code where the process has ended since it was last asked."""
        if self.process is None or self.process.poll() is None:
            return None
        code = self.process.returncode
        self.process = None
        for reader in self.readers:
            reader.join(2.0)
        return code

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """Runs services until told to stop. `tell` gets one sentence for each change that a person should know."""

    def __init__(self, services: Sequence[Service], tell: Callable[[str], None], listen: Listener, *, stop_s: float = STOP_S) -> None:
        self.children = [_Child(service, listen) for service in services]
        self.tell = tell
        self.stop_s = stop_s

    def pid(self, name: str) -> int | None:
        """Return the process id of a running service."""
        process = next(child.process for child in self.children if child.service.name == name)
        return None if process is None else process.pid

    def run(self, stop: Event, hurry: Event) -> int:
        """Run until `stop`, then end all in order (`hurry`: at once). Returns 0, or 2 where a service refuses its configuration.

        The calling thread must live as long as the children: the kernel ends them with it.
        """
        code = 0
        try:
            while not stop.is_set() and code == 0:
                now = monotonic()
                for child in self.children:
                    if not child.running and now >= child.start_at:
                        child.start()
                    code = code or self._after_end(child)
                stop.wait(POLL_S)
            for child in self.children:
                self._stop(child, hurry)
        finally:
            for child in self.children:
                child.signal(signal.SIGKILL)
                if child.process is not None:
                    child.process.wait()
        return code

    def _after_end(self, child: _Child) -> int:
        """Plan the next start of a child that has ended; return 2 where there shall be none."""
        exit_code = child.ended()
        if exit_code is None:
            return 0
        lived_s = monotonic() - child.started_at
        child.failures = child.failures + 1 if lived_s < HEALTHY_S else 1
        name, why = child.service.name, _why(exit_code, child.last_line)
        if exit_code == CONFIG_WRONG:
            self.tell(f"{name} refuses its configuration: {child.last_line or 'it did not say why'}")
            return CONFIG_WRONG
        longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(child.failures - 1, 16))
        backoff_s = longest * random.uniform(0.5, 1.0)
        child.start_at = monotonic() + backoff_s
        if child.failures < KEEPS_FAILING:
            self.tell(f"{name} {why}; it starts again in {backoff_s:.1f} s")
        elif child.told != why or child.failures & (child.failures - 1) == 0:
            self.tell(f"{name} keeps failing, {child.failures} times in a row, and {why}; it is tried again every {longest:.0f} s or so")
        child.told = why
        return 0

    def _stop(self, child: _Child, hurry: Event) -> None:
        """End one child: wait until it has caught up, ask it to stop, and kill it where it does not."""
        service = child.service
        deadline = monotonic() + service.patience_s
        while child.running and not hurry.is_set() and monotonic() < deadline and not service.caught_up():
            if child.ended() is not None:
                return
            hurry.wait(POLL_S)
        child.signal(signal.SIGTERM)
        deadline = monotonic() + self.stop_s
        while child.running and not hurry.is_set() and monotonic() < deadline:
            child.ended()
            hurry.wait(POLL_S / 5)
        if child.running:
            why = "is" if hurry.is_set() else f"did not stop within {self.stop_s:.0f} s and is"
            self.tell(f"{service.name} {why} killed: nothing is lost by that")
            child.signal(signal.SIGKILL)


def _why(exit_code: int, last_line: str) -> str:
    if exit_code < 0:
        try:
            return f"was ended by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"was ended by signal {-exit_code}"
    ended = f"ended with exit code {exit_code}"
    return f"{ended} ({last_line})" if last_line and exit_code else ended
