"""The connection: what a person is told when it fails, and that it comes back by itself."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.attempts import Attempts
from ingest.mqtt import Connection
from ingest.settings import BrokerSettings, IngestSettings, TlsSettings
from telemetry.errors import ConfigError
from tests.ingest.running import Running, broker_settings, until
from tests.servers import Broker

pytestmark = pytest.mark.servers

QUICK: dict[str, Any] = {"connect_timeout_s": 0.1, "backoff_first_s": 0.05}


@pytest.fixture(params=["tap", "callback"])
def receiver(request: pytest.FixtureRequest) -> Any:
    return str(request.param)


@pytest.fixture(params=["3.1.1", "5"])
def protocol(request: pytest.FixtureRequest) -> Any:
    return str(request.param)


def ingest(directory: Path, broker: BrokerSettings) -> Running:
    return Running(directory, IngestSettings(broker=broker))


@contextmanager
def server(*answers: bytes) -> Iterator[int]:
    """Something that takes connections and is no broker: it gives an answer each time it is sent something, then hangs up.

    Without answers it says nothing and stays.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            held = []
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                if not answers:
                    held.append(client)
                    continue
                with client:
                    for answer in answers:
                        client.recv(1000)
                        client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1000)
            for client in held:
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        thread.join()


def test_a_broker_that_is_down_is_waited_for(start_mosquitto: Callable[..., Broker], receiver: Any, tmp_path: Path):
    broker = start_mosquitto()
    broker.stop()
    with ingest(tmp_path, broker_settings(broker, receiver=receiver)) as running:
        assert running.said(f"nobody listens at 127.0.0.1:{broker.port}: is the broker up")
        broker.start()
        running.connected()
        assert running.status.error == ""


def test_a_name_that_is_not_known(tmp_path: Path):
    for host in ("broker.invalid", "a" * 70 + ".example"):
        with ingest(tmp_path, BrokerSettings(host=host)) as running:
            assert running.said("is not known: check broker.host")


def test_a_wrong_password(start_mosquitto: Callable[..., Broker], receiver: Any, protocol: Any, tmp_path: Path):
    broker = start_mosquitto()
    told = broker_settings(broker, receiver=receiver, protocol=protocol, password="wrong")
    with ingest(tmp_path, told) as running:
        assert running.said("check broker.user and broker.password").startswith(f"the broker at 127.0.0.1:{broker.port} refused")
    assert "wrong" not in repr(told)


def test_a_port_that_says_nothing(receiver: Any, tmp_path: Path):
    with server() as port, ingest(tmp_path, BrokerSettings(port=port, receiver=receiver, **QUICK)) as running:
        assert running.said("takes connections but does not answer")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x32\x00"])
def test_a_port_that_is_no_broker(receiver: Any, answer: bytes, tmp_path: Path):
    with server(answer) as port, ingest(tmp_path, BrokerSettings(port=port, receiver=receiver, **QUICK)) as running:
        sentence = until(lambda: running.status.error, "a sentence")
        assert f"127.0.0.1:{port}" in sentence
    assert not running.journal.rows()


def test_tls_where_there_is_none_and_none_where_there_is(start_mosquitto: Callable[..., Broker], receiver: Any, tmp_path: Path):
    broker = start_mosquitto(tls=True)
    tls = TlsSettings(broker.ca)
    with ingest(tmp_path, broker_settings(broker, receiver=receiver, tls=tls)) as running:
        assert running.said("does broker.port speak TLS?")
    with ingest(tmp_path, broker_settings(broker, receiver=receiver, port=broker.tls_port)) as running:
        assert running.said("we speak no TLS and MQTT 3.1.1, does this port?")


def test_a_certificate_that_is_not_trusted(start_mosquitto: Callable[..., Broker], receiver: Any, tmp_path: Path):
    broker, other = start_mosquitto(tls=True), start_mosquitto(tls=True)
    for tls in (TlsSettings(other.ca), TlsSettings()):
        with ingest(tmp_path, broker_settings(broker, receiver=receiver, port=broker.tls_port, tls=tls)) as running:
            assert running.said("is not trusted")
    with ingest(tmp_path, broker_settings(broker, receiver=receiver, port=broker.tls_port, tls=TlsSettings(broker.ca))) as running:
        running.connected()


def test_a_client_certificate_that_is_missing(start_mosquitto: Callable[..., Broker], tmp_path: Path):
    broker = start_mosquitto(require_certificate=True)
    with ingest(tmp_path, broker_settings(broker, port=broker.tls_port, tls=TlsSettings(broker.ca))) as running:
        assert running.said("check broker.tls.certificate and broker.tls.key")


@pytest.mark.parametrize(
    ("tls", "where"),
    [
        (TlsSettings(ca=Path("absent.pem")), "broker.tls.ca"),
        (TlsSettings(ca=Path(__file__)), "broker.tls.ca"),
        (TlsSettings(certificate=Path("absent.pem")), "broker.tls.certificate"),
        (TlsSettings(certificate=Path(__file__), key=Path(__file__)), "broker.tls.certificate"),
    ],
)
def test_a_file_of_certificates_that_cannot_be_used_is_an_error_of_the_configuration(tls: TlsSettings, where: str):
    """Nothing will make it better but a person, so it is not waited out."""
    with pytest.raises(ConfigError, match=where):
        Connection(BrokerSettings(tls=tls), 1000)


def test_a_second_ingest_with_the_same_name_is_told_so(start_mosquitto: Callable[..., Broker], protocol: Any, tmp_path: Path):
    """Two that take the session from each other would both look connected most of the time."""
    broker = start_mosquitto()
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    told = broker_settings(broker, protocol=protocol, backoff_first_s=0.02, backoff_longest_s=0.1)
    with ingest(folders[0], told) as first, ingest(folders[1], told):
        assert first.said("does another client use the id 'vitalane-ingest'?")


def test_the_same_fault_is_said_once(free_port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A broker that is away for a night must not fill the log."""
    told = BrokerSettings(port=free_port, backoff_first_s=0.01, backoff_longest_s=0.02)
    with caplog.at_level(logging.WARNING), ingest(tmp_path, told) as running:
        assert running.said("nobody listens")
        connection_attempts = 10
        threading.Event().wait(0.02 * connection_attempts)
    assert sum("broker_failed" in record.message for record in caplog.records) == 1


def test_attempts_become_rarer_and_are_spread():
    """A thousand clients must not come back in the same instant."""
    delays = []
    for _ in range(20):
        attempts = Attempts(BrokerSettings(backoff_first_s=1, backoff_longest_s=8))
        steps = []
        for _ in range(6):
            attempts.failed("x")
            steps.append(attempts.due)
        delays.append(steps)
    first = [steps[0] for steps in delays]
    assert max(first) - min(first) > 0.05
    spans = [steps[5] - steps[0] for steps in delays]
    assert all(2 < span <= 8 for span in spans)


def test_a_subscription_that_is_refused(receiver: Any, tmp_path: Path):
    """Connected and deaf would look well. (Mosquitto's own access lists grant every subscription and filter later.)"""
    told: dict[str, Any] = {"receiver": receiver, "topics": ("a", "b/#"), **QUICK}
    with server(b"\x20\x02\x00\x00", b"\x90\x04\x00\x01\x01\x80") as port, ingest(tmp_path, BrokerSettings(port=port, **told)) as running:
        assert running.said("refused the subscription to b/# (Unspecified error): check its access control list")
        assert not any(status.connected for status in running.statuses)


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+/b", "a/b#", "\x00"])
def test_a_topic_filter_that_is_none_is_an_error_of_the_configuration(topic_filter: str):
    with pytest.raises(ConfigError, match=r"broker\.topics"):
        Connection(BrokerSettings(topics=("a/+/#", topic_filter)), 1000)
