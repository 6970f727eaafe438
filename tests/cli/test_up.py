import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.lag import Lag
from cli.main import run
from cli.status import read_status
from tests.cli.running import Running
from tests.tools import free_port

SERVICES = ("ingest", "flow", "deliver")


def until(condition: Callable[[], bool], up: Running) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, up.lines
        time.sleep(0.05)


def pids(data_dir: Path) -> dict[str, int]:
    """Return the process of each service that runs."""
    states = {name: read_status(data_dir, name) for name in SERVICES}
    return {name: int(state["pid"]) for name, state in states.items() if state.get("state") == "running"}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # a zombie has none
    except OSError:
        return False


def started(folder: Path) -> Running:
    """Start everything without a broker: the services do not need one to run."""
    (folder / "vitalane.yaml").write_text(f"broker: {{port: {free_port()}}}\nrules: [demo]\nchannels: {{screen: {{type: terminal}}}}\n")
    up = Running("up", "-c", str(folder / "vitalane.yaml"))
    until(lambda: len(pids(folder / "data")) == len(SERVICES) and has_decided(folder / "data"), up)
    return up


def has_decided(data_dir: Path) -> bool:
    with Lag(data_dir, 1) as lag:
        return bool(lag.decided())


@pytest.mark.long
def test_all_run_a_killed_one_comes_back_and_all_stop_in_order(tmp_path: Path) -> None:
    """What an operator relies on: one command, kept alive, and a stop that leaves the books balanced."""
    with started(tmp_path) as up:
        first = pids(tmp_path / "data")
        os.kill(first["flow"], signal.SIGKILL)
        up.says("flow was ended by SIGKILL; it starts again in")
        until(lambda: pids(tmp_path / "data").get("flow") not in {None, first["flow"]}, up)
        assert up.stop(signal.SIGINT) == 0
    stops = [line.partition(":")[0] for line in up.lines if "stopped" in line]
    assert stops == ["ingest", "flow", "vitalane"], "\n".join(up.lines)
    assert not any(lives(pid) for pid in [*first.values(), *pids(tmp_path / "data").values()])
    assert {read_status(tmp_path / "data", name)["state"] for name in SERVICES} == {"stopped"}
    assert run(["verify", "-c", str(tmp_path / "vitalane.yaml")]) == 0


@pytest.mark.long
def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    """An orphan would hold the journal's lock against the next start."""
    with started(tmp_path) as up:
        children = list(pids(tmp_path / "data").values())
        assert up.stop(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not any(lives(pid) for pid in children), up)


@pytest.mark.long
def test_a_second_up_on_the_same_folder_says_who_has_it(tmp_path: Path) -> None:
    """Two of everything would fight over every lock; the first one goes on undisturbed."""
    with started(tmp_path) as up:
        running = pids(tmp_path / "data")
        with Running("up", "-c", str(tmp_path / "vitalane.yaml")) as second:
            assert f"another `vitalane up` (process {up.process.pid}) runs on" in second.says("another")
            assert second.process.wait(60) == 3
        assert pids(tmp_path / "data") == running
        assert up.stop() == 0


def test_what_is_written_is_for_the_owners_eyes_only(tmp_path: Path) -> None:
    """The data folder holds readings of patients."""
    with Running("init", str(tmp_path)) as init:
        assert init.process.wait(60) == 0, init.lines

    assert {oct(file.stat().st_mode & 0o077) for file in tmp_path.iterdir()} == {"0o0"}
