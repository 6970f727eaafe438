import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.broker import LocalBroker, start_amqtt, start_mosquitto
from cli.exits import Unreachable
from simulators.faults import Message
from simulators.publish import Broker, Publisher
from telemetry.errors import Rejected
from tests.tools import find_mosquitto, free_port

pytestmark = pytest.mark.servers
MESSAGE = Message(0, "vitalane/v1/shipment/truck-1/readings", b"{}")


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBroker]:
    started = start_mosquitto(find_mosquitto(), tmp_path) if request.param == "mosquitto" else start_amqtt(tmp_path)
    yield started
    started.close()


def test_the_password_opens_it(broker: LocalBroker) -> None:
    with Publisher(Broker(port=broker.port, user=broker.user, password=broker.password), clients=1) as publisher:
        publisher.send(MESSAGE)
        assert publisher.flush()


@pytest.mark.parametrize(("user", "password"), [("vitalane", "wrong"), (None, None)])
def test_nobody_else_gets_in(broker: LocalBroker, user: str | None, password: str | None) -> None:
    """A demo on a shared machine must not be an open broker."""
    with pytest.raises(Rejected, match="refuses"):
        Publisher(Broker(port=broker.port, user=user, password=password), clients=1).open()


def test_the_password_file_is_the_owners_alone(broker: LocalBroker, tmp_path: Path) -> None:
    assert (tmp_path / "passwords").stat().st_mode & 0o077 == 0
    assert broker.password not in (tmp_path / "passwords").read_text()


def taken_then(*free: int) -> tuple[Callable[[], int], socket.socket]:
    taken = socket.create_server(("127.0.0.1", 0))
    ports = iter([taken.getsockname()[1], *free])
    return lambda: next(ports, taken.getsockname()[1]), taken


def test_a_port_that_somebody_took_is_left_to_them(tmp_path: Path) -> None:
    free = free_port()
    ports, taken = taken_then(free)
    with taken:
        broker = start_mosquitto(find_mosquitto(), tmp_path, ports)
        assert broker.port == free
        broker.close()


def test_where_no_port_is_free_it_says_what_the_broker_said(tmp_path: Path) -> None:
    ports, taken = taken_then()
    with taken, pytest.raises(Unreachable, match=r"does not start: .*[Aa]ddress already in use"):
        start_mosquitto(find_mosquitto(), tmp_path, ports)
