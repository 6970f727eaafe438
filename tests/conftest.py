"""Fixtures that every package's tests may use: real servers on the loopback, each test with its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tools
from tests.servers import Broker, Influx, Server, started


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody listens on; `tests.tools.free_port()` gives more of them."""
    return tools.free_port()


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """A factory of brokers: `start_mosquitto(users={"name": "password"}, acl=..., persistence=True, tls=True, options=[...])`."""
    running: list[Server] = []

    def start(**options: Any) -> Broker:
        broker = started(lambda: Broker(tmp_path / f"mosquitto-{len(running)}", **options))
        running.append(broker)
        return broker

    yield start
    for server in running:
        server.kill()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Broker]) -> Broker:
    """A broker that runs: password file, no anonymous access, TLS on a second port; `.user`, `.password`, `.port`, `.tls_port`, `.ca`."""
    return start_mosquitto(tls=True)


@pytest.fixture
def start_influxd(tmp_path: Path) -> Iterator[Callable[..., Influx]]:
    """A factory of InfluxDB servers with the database created: `start_influxd(auth=True, flux=True)`."""
    running: list[Server] = []

    def start(**options: Any) -> Influx:
        server = started(lambda: Influx(tmp_path / f"influxd-{len(running)}", **options))
        running.append(server)
        server.create_database()
        return server

    yield start
    for server in running:
        server.kill()


@pytest.fixture
def influxd(start_influxd: Callable[..., Influx]) -> Influx:
    """An InfluxDB that runs, without authentication: `.url`, `.database`, `.query(influxql)`, `.write(lines)`, `.restart(kill=True)`."""
    return start_influxd()
