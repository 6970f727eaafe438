"""A broker for the demo: Mosquitto where this machine has it, else amqtt in a thread. On the loopback, with a password, never anonymous."""

import asyncio
import logging
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import NamedTuple

from cli.exits import Unreachable
from cli.supervise import environment, tethered

HOST = "127.0.0.1"
USER = "vitalane"
START_S = 15.0
SURE_S = 2.0  # a Mosquitto that cannot listen has ended by then
ATTEMPTS = 5


class LocalBroker(NamedTuple):
    """A broker that runs until `close`."""

    name: str  # what it is, for people
    port: int
    user: str
    password: str
    close: Callable[[], None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


KINDS = ("auto", "mosquitto", "amqtt")


def start_broker(folder: Path, kind: str = "auto") -> LocalBroker:
    """Start a broker that keeps its files in a folder. Raises Unreachable with a sentence where none starts."""
    executable = None if kind == "amqtt" else find_tool("mosquitto")
    if executable is None and kind == "mosquitto":
        msg = "Mosquitto is not installed: `make tools` gets it, or leave --broker out"
        raise Unreachable(msg)
    return start_amqtt(folder) if executable is None else start_mosquitto(executable, folder)


def find_tool(name: str) -> Path | None:
    """Return a program from the PATH, the folders for servers, or the cache of `make tools`."""
    cache = Path(os.environ.get("VITALANE_TOOLS") or Path.home() / ".cache" / "vitalane" / "tools")
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", str(cache / "bin")])
    found = shutil.which(name, path=places)
    return None if found is None else Path(found)


def start_mosquitto(executable: Path, folder: Path, free_port: Callable[[], int] = _free_port) -> LocalBroker:
    """Start Mosquitto; where somebody takes the port in between, on another one."""
    folder.mkdir(parents=True, exist_ok=True)
    password = _hashed_passwords(folder)
    said = ""
    for _ in range(ATTEMPTS):
        port = free_port()
        process, said = _mosquitto(executable, folder, port)
        if process is not None:
            return LocalBroker(f"Mosquitto ({executable})", port, USER, password, partial(_end, process))
    msg = f"the broker {executable} does not start: {said or 'it did not say why'}"
    raise Unreachable(msg)


def _hashed_passwords(folder: Path) -> str:
    hasher = find_tool("mosquitto_passwd")
    if hasher is None:
        msg = "mosquitto_passwd, which comes with Mosquitto, is not on the PATH"
        raise Unreachable(msg)
    password, file = secrets.token_urlsafe(24), folder / "passwords"
    file.touch(mode=0o600)
    file.write_text(f"{USER}:{password}\n")
    hashed = subprocess.run([hasher, "-U", file], capture_output=True, text=True, check=False)  # hashes the file in place
    if hashed.returncode != 0:
        msg = f"mosquitto_passwd failed: {(hashed.stderr or hashed.stdout).strip()}"
        raise Unreachable(msg)
    return password


def _mosquitto(executable: Path, folder: Path, port: int) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Return the process when it answers on the port, or None and the last line that it said."""
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous false",
        f"password_file {folder / 'passwords'}",
        "max_queued_messages 0",  # the default silently drops what a slow subscriber does not take
        "max_inflight_messages 0",
        "set_tcp_nodelay true",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it becomes `mosquitto`, who cannot read the folder
    (folder / "mosquitto.conf").write_text("\n".join([*lines, ""]))
    log = folder / "mosquitto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*tethered(), executable, "-c", folder / "mosquitto.conf"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            process_group=0,
        )
    give_up_at = monotonic() + START_S
    sure_at = monotonic() + SURE_S
    while process.poll() is None and monotonic() < give_up_at:
        # Somebody else may listen there: ours says that it runs, or at least has not ended after a while.
        if _accepts(port) and (b" running" in log.read_bytes() or monotonic() > sure_at):
            return process, ""
        sleep(0.02)
    _end(process)
    said = log.read_text(errors="replace").strip().splitlines()
    return None, next((line for line in said if "Error" in line), said[-1] if said else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_amqtt(folder: Path) -> LocalBroker:
    """Start amqtt in a thread of this process: slower than Mosquitto, and enough for a demo."""
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError
    from pwdlib.hashers.argon2 import Argon2Hasher

    folder.mkdir(parents=True, exist_ok=True)
    password, file, port = secrets.token_urlsafe(24), folder / "passwords", _free_port()
    file.touch(mode=0o600)
    file.write_text(f"{USER}:{Argon2Hasher().hash(password)}\n")
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}},
    }
    loop = asyncio.new_event_loop()
    started: Future[Broker] = Future()

    async def start() -> Broker:
        broker = Broker(config)
        await broker.start()
        return broker

    def run() -> None:
        try:
            started.set_result(loop.run_until_complete(start()))
        except (BrokerError, OSError) as error:
            started.set_exception(error)
            return
        loop.run_forever()
        loop.close()

    thread = Thread(target=run, name="amqtt", daemon=True)
    thread.start()
    try:
        broker = started.result(START_S)
    except (BrokerError, OSError, TimeoutError) as error:
        msg = f"the in-process broker does not start: {error}"
        raise Unreachable(msg) from error

    def close() -> None:
        try:
            asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(5)
        except (BrokerError, TimeoutError):
            logging.getLogger(__name__).info("cli.broker_slow_to_stop")
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)

    return LocalBroker("amqtt, in this process", port, USER, password, close)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
