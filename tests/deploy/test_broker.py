"""The broker of docker-compose.yml, run as a plain process with the container's own start script: who gets in, and who may say what."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.deploy.broker import DEVICES, REFUSED, UNHEARD, USERS, ComposeBroker, Session
from tests.servers import started

pytestmark = pytest.mark.servers


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., ComposeBroker]]:
    running: list[ComposeBroker] = []

    def start(certificates: Path | None = None, client_certificates: str = "") -> ComposeBroker:
        running.append(started(lambda: ComposeBroker(tmp_path / "broker", certificates, client_certificates)))
        return running[-1]

    yield start
    for broker in running:
        broker.kill()


@pytest.fixture
def broker(start_broker: Callable[..., ComposeBroker]) -> ComposeBroker:
    return start_broker()


@pytest.fixture
def session(broker: ComposeBroker) -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def open_session(user: str | None, password: str | None = None, **options: Any) -> Session:
        opened.append(Session(options.pop("port", broker.port), user, password, **options))
        return opened[-1]

    yield open_session
    for one in opened:
        one.close()


def signed_in(session: Callable[..., Session], user: str) -> Session:
    opened = session(user, (USERS | DEVICES)[user])
    assert opened.answer() == "Success"
    return opened


@pytest.mark.parametrize(("user", "password"), [(None, None), ("ingest", "wrong"), ("ingest", None), ("nobody", "x"), ("health", "")])
def test_nobody_gets_in_without_an_account(session, user, password):
    assert session(user, password).answer() == "Not authorized"


@pytest.mark.parametrize("user", [*USERS, *DEVICES])
def test_an_account_of_the_environment_gets_in(session, user):
    assert session(user, (USERS | DEVICES)[user]).answer() == "Success"


def test_a_device_speaks_for_itself_only(session):
    """Law 8: whose reading it is stands in the topic, so the broker must not let one device publish on another's."""
    ingest = signed_in(session, "ingest")
    ingest.subscribe("vitalane/v1/shipment/+/+")
    truck = signed_in(session, "truck-01")
    assert truck.publish("vitalane/v1/shipment/truck-01/readings") == "Success"
    assert truck.publish("vitalane/v1/shipment/truck-02/readings") == REFUSED
    assert truck.publish("vitalane/v1/alerts/shipment/vaccine-too-warm") == REFUSED
    assert truck.publish("vitalane/v1/shipment/truck-01/status", "offline") == "Success"
    assert ingest.heard() == ["vitalane/v1/shipment/truck-01/readings", "vitalane/v1/shipment/truck-01/status"]


def test_an_edge_node_speaks_for_itself_and_hears_its_host(session):
    ingest, node = signed_in(session, "ingest"), signed_in(session, "truck-01")
    ingest.subscribe("spBv1.0/+/+/+")
    ingest.subscribe("spBv1.0/+/+/+/+")
    for topic in ("spBv1.0/+/NCMD/truck-01", "spBv1.0/+/NCMD/monitor.7", "spBv1.0/STATE/+"):
        node.subscribe(topic)
    told = ["spBv1.0/fleet/NBIRTH/truck-01", "spBv1.0/fleet/DDATA/truck-01/probe", "spBv1.0/fleet/NDEATH/truck-01"]
    assert [node.publish(topic) for topic in told] == ["Success"] * 3
    for topic in ("spBv1.0/fleet/NDATA/monitor.7", "spBv1.0/fleet/NCMD/truck-01", "spBv1.0/fleet/NCMD/monitor.7", "spBv1.0/STATE/vitalane"):
        assert node.publish(topic) == REFUSED
    asked = ["spBv1.0/STATE/vitalane", "spBv1.0/fleet/NCMD/truck-01"]
    assert [ingest.publish(topic) for topic in asked] == ["Success"] * 2
    ingest.publish("spBv1.0/fleet/NCMD/monitor.7")
    assert ingest.publish("spBv1.0/fleet/NDATA/truck-01") == REFUSED
    assert (ingest.heard(), node.heard()) == ([*told, asked[1], "spBv1.0/fleet/NCMD/monitor.7"], asked)


def test_a_device_hears_nothing(session):
    monitor = signed_in(session, "monitor.7")
    monitor.subscribe("vitalane/v1/#")
    simulator = signed_in(session, "simulator")
    simulator.publish("vitalane/v1/patient/monitor.7/readings")
    monitor.publish("vitalane/v1/patient/monitor.7/readings")
    assert monitor.heard() == []


def test_alerts_are_published_by_deliver_and_read_by_displays(session):
    display, ingest = signed_in(session, "display"), signed_in(session, "ingest")
    for listener in (display, ingest):
        listener.subscribe("vitalane/v1/alerts/#")
    deliver = signed_in(session, "deliver")
    assert deliver.publish("vitalane/v1/alerts/patient/desaturation") == "Success"
    assert display.publish("vitalane/v1/alerts/patient/desaturation") == REFUSED
    assert deliver.publish("vitalane/v1/patient/monitor.7/readings") == REFUSED
    assert display.heard() == ["vitalane/v1/alerts/patient/desaturation"]
    assert ingest.heard() == []


def test_ingest_only_listens(session):
    ingest = signed_in(session, "ingest")
    assert ingest.publish("vitalane/v1/shipment/truck-01/readings") == REFUSED
    assert signed_in(session, "simulator").publish("vitalane/v1/shipment/truck-01/readings") in {"Success", UNHEARD}


def test_the_health_check_has_an_account_of_its_own(broker, session):
    password = (broker.directory / "run/health").read_text()
    health = session("health", password)
    assert health.answer() == "Success"
    health.subscribe("$SYS/broker/uptime")
    assert health.publish("vitalane/v1/shipment/truck-01/readings") == REFUSED


def test_a_user_without_a_password_does_not_exist(start_broker, tmp_path):
    broker = start_broker()
    assert "ingest:" in (broker.directory / "run/passwords").read_text()
    broker.stop()
    broker.environment["VITALANE_INGEST_PASSWORD"] = ""
    broker.start()
    assert "ingest:" not in (broker.directory / "run/passwords").read_text()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "certs"
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    for name, identity in (("server", "127.0.0.1"), ("client", "ingest@vitalane.example")):
        issued = authority.issue_cert(identity)
        (folder / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return folder


def test_the_tls_listener_is_there_as_soon_as_its_certificates_are(start_broker, certificates):
    broker = start_broker(certificates)
    session = Session(broker.tls_port, "ingest", USERS["ingest"], {"ca_certs": str(certificates / "ca.crt")})
    assert session.answer() == "Success"
    session.close()
    anonymous = Session(broker.tls_port, None, None, {"ca_certs": str(certificates / "ca.crt")})
    assert anonymous.answer() == "Not authorized"
    anonymous.close()


def test_client_certificates_can_be_required(start_broker, certificates):
    broker = start_broker(certificates, "required")
    authority = {"ca_certs": str(certificates / "ca.crt")}
    own = {"certfile": str(certificates / "client.crt"), "keyfile": str(certificates / "client.key")}
    session = Session(broker.tls_port, "ingest", USERS["ingest"], authority | own)
    assert session.answer() == "Success"
    session.close()
    without = Session(broker.tls_port, "ingest", USERS["ingest"], authority)
    assert not without.answered.wait(2), "a client without a certificate got an answer"
    without.close()


def test_without_certificates_there_is_no_tls_listener(broker):
    assert [line for line in broker.configuration.splitlines() if line.startswith("listener ")] == [f"listener {broker.port} 127.0.0.1"]
