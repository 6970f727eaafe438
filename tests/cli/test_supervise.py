import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from cli import supervise
from cli.supervise import Service, Supervisor, die_with_supervisor, environment

OBEDIENT = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("ready", flush=True)
stop.wait()
print("stopped", flush=True)
"""


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-c", code)


class Run:
    """A supervisor in a thread, what it told, and what its children said."""

    def __init__(self, services: list[Service], **options: float) -> None:
        self.told: list[str] = []
        self.lines: list[tuple[str, str, str]] = []
        self.stop, self.hurry = Event(), Event()
        self.code: int | None = None
        self.supervisor = Supervisor(services, self.told.append, lambda *line: self.lines.append(line), **options)
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run(self.stop, self.hurry)

    def until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up_at, (self.told, self.lines)
            time.sleep(0.01)

    def said(self, line: str) -> list[str]:
        return [service for service, _, text in self.lines if text == line]

    def end(self) -> int | None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.code


def test_a_killed_child_is_started_again() -> None:
    """Any service may be killed at any instant: the supervisor is what brings it back."""
    run = Run([Service("ingest", python(OBEDIENT))])
    run.until(lambda: len(run.said("ready")) == 1)
    first = run.supervisor.pid("ingest")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    run.until(lambda: len(run.said("ready")) == 2)
    assert run.supervisor.pid("ingest") != first
    assert run.end() == 0
    assert run.told[0].startswith("ingest was ended by SIGKILL; it starts again in 0.")


def test_services_stop_in_order_and_only_when_they_have_caught_up() -> None:
    """What ingest acknowledged last is decided by the flow and delivered before these are asked to stop."""
    caught_up, asked = Event(), Event()

    def ask() -> bool:
        asked.set()
        return caught_up.is_set()

    run = Run([Service("ingest", python(OBEDIENT)), Service("flow", python(OBEDIENT), ask, 30.0), Service("deliver", python(OBEDIENT))])
    run.until(lambda: len(run.said("ready")) == 3)
    run.stop.set()
    assert asked.wait(30)
    run.until(lambda: run.said("stopped") == ["ingest"])
    assert run.supervisor.pid("flow") is not None
    caught_up.set()
    assert run.end() == 0
    assert run.said("stopped") == ["ingest", "flow", "deliver"]
    assert run.told == []


def test_patience_ends() -> None:
    """A flow that cannot catch up must not keep the machine from shutting down."""
    run = Run([Service("flow", python(OBEDIENT), lambda: False, 0.2)])
    run.until(lambda: run.said("ready") == ["flow"])
    assert run.end() == 0
    assert run.said("stopped") == ["flow"]


def test_a_crash_loop_is_one_sentence_with_the_last_line_the_child_said() -> None:
    """A person reads why, once, and no wall of equal lines."""
    run = Run([Service("deliver", python("import sys; print('noise', file=sys.stderr); sys.exit('the port is taken')"))])
    run.until(lambda: any("keeps failing" in sentence for sentence in run.told))
    assert run.end() == 0
    assert run.told[0].startswith("deliver ended with exit code 1 (the port is taken); it starts again in ")
    assert run.told[3].startswith(
        "deliver keeps failing, 4 times in a row, and ended with exit code 1 (the port is taken); it is tried again"
    )
    assert len(run.told) == 4


def test_a_refused_configuration_ends_everything_with_2() -> None:
    """No restart mends a document."""
    run = Run(
        [Service("ingest", python(OBEDIENT)), Service("flow", python("import sys; print('a.yaml:1:1: no', file=sys.stderr); sys.exit(2)"))]
    )
    run.thread.join(30)
    assert run.code == 2
    assert run.told == ["flow refuses its configuration: a.yaml:1:1: no"]


def test_hurry_kills_a_child_that_does_not_stop() -> None:
    """The second Ctrl-C means it."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    run = Run([Service("flow", python(stubborn))])
    run.until(lambda: run.said("ready") == ["flow"])
    run.stop.set()
    run.hurry.set()
    assert run.end() == 0
    assert run.told == ["flow is killed: nothing is lost by that"]


def test_a_child_that_does_not_stop_is_killed() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    run = Run([Service("flow", python(stubborn))], stop_s=0.2)
    run.until(lambda: run.said("ready") == ["flow"])
    assert run.end() == 0
    assert "is killed" in run.told[0]


def test_children_die_with_their_supervisor() -> None:
    """A supervisor that is killed leaves no orphan that would hold the journal's lock."""
    child = "from cli.supervise import die_with_supervisor; die_with_supervisor()\n"
    child += "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    parent = (
        "import subprocess, sys, time\nfrom cli.supervise import environment\n"
        f"child = subprocess.Popen([sys.executable, '-P', '-c', {child!r}], env=environment())\ntime.sleep(600)"
    )
    process = subprocess.Popen(python(parent), stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert process.stdout.read() == b""  # the pipe closes when the last of both has ended
    process.stdout.close()
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_without_a_supervisor_a_service_lives_on() -> None:
    """`vitalane ingest` in a container of its own has no supervisor, and must not ask the kernel to die with its shell."""
    die_with_supervisor({})
    die_with_supervisor({supervise.SUPERVISOR_PID: "not a pid"})
    assert os.getppid() > 0
