"""Asking a running ingest to put something in force, and waiting for its answer."""

import fcntl
import getpass
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.applying import answered
from cli.configuration import Configuration
from cli.exits import FAILED
from cli.status import read_status
from telemetry.clock import utc_now_ms

ANSWER_S = 15.0
STALE_MS = 5_000
LOOK_S = 0.05


def who() -> str:
    """Return who asks: the user's name, or the number where the system has no name for it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Let nobody else change what is in force meanwhile: who asks at the same time waits for his turn."""
    folder = data_dir / "control"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def put_in_force(configuration: Configuration, ask: Callable[[], str], what: str, version: str, as_json: bool) -> int:
    """Ask, wait for the answer and tell it, or that nobody is there to answer; return the exit code. `ask` returns the request's name."""
    if not _ingest_runs(configuration):
        said = f"{what} version {version}: in force when ingest starts, which does not run"
        click.echo(json.dumps({"version": version, "applied": False, "offsets": {}}) if as_json else said)
        return 0
    return _answered(configuration, ask(), what, as_json)


def _ingest_runs(configuration: Configuration) -> bool:
    status = read_status(configuration.data_dir, "ingest")
    return status.get("state") == "running" and utc_now_ms() - int(status.get("time_ms", 0)) <= STALE_MS


def _answered(configuration: Configuration, request: str, what: str, as_json: bool) -> int:
    give_up_at = time.monotonic() + ANSWER_S
    while (answer := answered(configuration.data_dir, request)) is None and time.monotonic() < give_up_at:
        time.sleep(LOOK_S)
    if answer is None:
        click.echo(f"vitalane: ingest has not answered in {ANSWER_S:.0f} s: its log says why; the request stands", err=True)
        return FAILED
    if answer.problem:
        click.echo(f"vitalane: ingest refused: {answer.problem}", err=True)
        return FAILED
    at = ", ".join(f"{partition}:{offset}" for partition, offset in answer.offsets.items())
    told = {"version": answer.version, "applied": True, "offsets": answer.offsets}
    click.echo(json.dumps(told) if as_json else f"{what} version {answer.version}: in force from journal offsets {at} on")
    return 0
