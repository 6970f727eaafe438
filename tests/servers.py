"""Real servers under a test's control: started on the loopback in the test's own directory, killed, restarted, and always cleaned up."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import trustme

from tests import tools

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 20
PORT_ATTEMPTS = 5
TETHER = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # a test run that is killed leaves no server behind

S = TypeVar("S", bound="Server")


class Server:
    """One server process. Subclasses give the command, what it listens on, and how to see that it answers."""

    name = "server"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.host = "127.0.0.1"
        self.directory = directory
        self.log_file = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise AssertionError(self.name)

    def answers(self) -> bool:
        raise AssertionError(self.name)

    def start(self) -> None:
        """Start the process and return when it answers."""
        assert not self.running, f"{self.name} runs already"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*TETHER, *self.command()], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                msg = f"{self.name} did not start: {self.log()[-2000:]}"
                raise AssertionError(msg)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at this instant (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """End it, with SIGKILL where told, and start it again on the same ports and the same files."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it from running without ending it (SIGSTOP): connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on (SIGCONT)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what the server has said so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
        self.process = None


class Broker(Server):
    """Mosquitto with a password file, no anonymous access, and where asked TLS with a certificate authority of the test's own."""

    name = "mosquitto"
    user = "vitalane"
    password = "correct-horse"

    def __init__(
        self,
        directory: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        tls: bool = False,
        require_certificate: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self.executable = tools.find_mosquitto()
        self.port = tools.free_port()
        self.tls_port = tools.free_port() if tls or require_certificate else None
        self.authority = trustme.CA() if self.tls_port else None
        self._configure({self.user: self.password} if users is None else users, acl, persistence, require_certificate, options)

    @property
    def ca(self) -> Path:
        """The authority's certificate, for a client's `ca`."""
        return self.directory / "ca.pem"

    def client_certificate(self, identity: str = "ingest@vitalane.example") -> tuple[Path, Path]:
        """Return a client certificate and its key that the broker's authority signed."""
        assert self.authority is not None, "start the broker with tls=True"
        return self._write_certificate(identity, f"client-{identity}")

    def command(self) -> list[str]:
        return [str(self.executable), "-c", str(self.directory / "mosquitto.conf")]

    def answers(self) -> bool:
        ports = [self.port] if self.tls_port is None else [self.port, self.tls_port]
        return all(accepts(port) for port in ports)

    def _configure(
        self, users: Mapping[str, str], acl: str | None, persistence: bool, require_certificate: bool, options: Sequence[str]
    ) -> None:
        passwords = self.directory / "passwords"
        passwords.touch(mode=0o600)
        for user, password in users.items():
            subprocess.run([tools.find_mosquitto_passwd(), "-b", passwords, user, password], check=True, capture_output=True)
        lines = [
            "allow_anonymous false",
            f"password_file {passwords}",
            "max_inflight_messages 0",  # no limit but the client's own
            "max_queued_messages 0",  # the default silently drops what a slow subscriber does not take
            "set_tcp_nodelay true",
            f"listener {self.port} 127.0.0.1",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # otherwise it becomes `mosquitto`, which cannot read the test's directory
        if acl is not None:
            (self.directory / "acl").write_text(acl)
            lines.append(f"acl_file {self.directory / 'acl'}")
        if persistence:
            lines += ["persistence true", f"persistence_location {self.directory}/", "autosave_interval 1", "autosave_on_changes true"]
        if self.authority is not None:
            self.authority.cert_pem.write_to_path(self.ca)
            certificate, key = self._write_certificate("127.0.0.1", "server", "localhost")
            lines += [f"listener {self.tls_port} 127.0.0.1", f"cafile {self.ca}", f"certfile {certificate}", f"keyfile {key}"]
            if require_certificate:
                lines.append("require_certificate true")
        (self.directory / "mosquitto.conf").write_text("\n".join([*lines, *options, ""]))

    def _write_certificate(self, identity: str, stem: str, *more: str) -> tuple[Path, Path]:
        assert self.authority is not None
        issued = self.authority.issue_cert(identity, *more)
        certificate, key = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key


class Influx(Server):
    """InfluxDB 1.8 with one database: `/api/v2/write` and InfluxQL; Flux where asked, for it takes three seconds to start.

    With `auth` the token is `user:password`.
    """

    name = "influxd"
    database = "vitalane"
    org = "vitalane"
    user = "vitalane"
    password = "battery-staple"  # 1.8 splits the token at spaces

    def __init__(self, directory: Path, *, auth: bool = False, flux: bool = False) -> None:
        super().__init__(directory)
        self.executable = tools.find_influxd()
        self.auth = auth
        self.port = tools.free_port()
        self.url = f"http://{self.host}:{self.port}"
        self.token = f"{self.user}:{self.password}" if auth else "any:token"
        (directory / "influxd.conf").write_text(
            f"""reporting-disabled = true
bind-address = "{self.host}:{tools.free_port()}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  index-version = "inmem"
  query-log-enabled = false
[http]
  bind-address = "{self.host}:{self.port}"
  flux-enabled = {str(flux).lower()}
  auth-enabled = {str(auth).lower()}
  log-enabled = false
[monitor]
  store-enabled = false
"""
        )

    def command(self) -> list[str]:
        return [str(self.executable), "-config", str(self.directory / "influxd.conf")]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as response:
                return int(response.status) == 204
        except OSError:
            return False

    def create_database(self) -> None:
        """Create the user where there is authentication, and the database."""
        if self.auth:
            self.request("/query", {"q": f"CREATE USER {self.user} WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES"}, b"")
        self.query(f'CREATE DATABASE "{self.database}"', database=None)

    def query(self, influxql: str, *, database: str | None = "") -> list[dict[str, Any]]:
        """Return the rows of one InfluxQL statement as dictionaries, tags included; times are nanoseconds since the epoch."""
        parameters = {"q": influxql, "epoch": "ns"}
        if database is not None:
            parameters["db"] = database or self.database
        if self.auth:
            parameters |= {"u": self.user, "p": self.password}
        result = json.loads(self.request("/query", parameters, b""))["results"][0]
        assert "error" not in result, result["error"]
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], values, strict=True))}
            for series in result.get("series", [])
            for values in series.get("values", [])
        ]

    def write(self, lines: str) -> None:
        """Write points in line protocol, nanoseconds."""
        parameters = {"bucket": self.database, "org": self.org, "precision": "ns"}
        self.request("/api/v2/write", parameters, lines.encode())

    def request(self, path: str, parameters: Mapping[str, str], body: bytes) -> bytes:
        """Return the answer's body; an answer that is no success fails with the server's own words."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        request = urllib.request.Request(url, data=body, headers={"Authorization": f"Token {self.token}"} if self.auth else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            msg = f"{path} answered {error.code}: {error.read().decode(errors='replace')}"
            raise AssertionError(msg) from error


def started(build: Callable[[], S]) -> S:
    """Return what `build` makes, started; where somebody took its port in between, made again with another one."""
    for _ in range(PORT_ATTEMPTS - 1):
        server = build()
        try:
            server.start()
        except AssertionError as error:
            if "address already in use" not in str(error).lower():
                raise
        else:
            return server
    server = build()
    server.start()
    return server


def accepts(port: int) -> bool:
    """Return whether somebody listens on a port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
