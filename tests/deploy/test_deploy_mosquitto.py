"""`vitalane deploy mosquitto`, held against the broker itself: who is registered may say what is theirs, and nobody else gets in."""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.accounts import accounts, hashed, matches
from cli.main import run
from cli.registry import DeviceEntry, RegistryModel
from decoders.mapping_model import MappingsModel
from decoders.mappings import Mappings
from documents import parse
from tests import tools
from tests.deploy.broker import REFUSED, UNHEARD, Session
from tests.servers import START_TIMEOUT_S, Server, accepts, started

TRUCK, PROBE, BED = "vitalane/v1/shipment/truck-01", "vitalane/v1/shipment/probe:1", "vitalane/v1/patient/monitor.7"
REGISTRY = """\
devices:
  - {device: truck-01, subject: shipment-7, kind: shipment}
  - {device: monitor.7, kind: patient}
  - {device: "probe:1", kind: shipment, via: gateway-1}
  - {device: probe-2, kind: shipment, via: gateway-1}
"""


class Deployment:
    """A configuration, its registry, and what was written from them."""

    def __init__(self, folder: Path, port: int = 1883) -> None:
        self.folder, self.written = folder, folder / "mosquitto"
        folder.mkdir(exist_ok=True)
        (folder / "vitalane.yaml").write_text(f"broker: {{port: {port}}}\nregistry: registry.yaml\n")
        self.register(REGISTRY)

    def register(self, text: str) -> None:
        (self.folder / "registry.yaml").write_text(text)

    def write(self, *options: str) -> int:
        return run(["deploy", "mosquitto", "-c", str(self.folder / "vitalane.yaml"), *options])

    @property
    def passwords(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.written / "credentials.json").read_text())
        return found


class DeployedBroker(Server):
    """Mosquitto with what was written, as it stands."""

    name = "mosquitto"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "broker")
        self.port = tools.free_port()
        self.deployment = Deployment(folder, self.port)
        (self.deployment.written / "mosquitto.conf").unlink(missing_ok=True)
        assert self.deployment.write() == 0
        if os.geteuid() == 0:  # else it becomes `mosquitto`, whose files these are not
            with (self.deployment.written / "mosquitto.conf").open("a") as file:
                file.write("user root\n")

    def command(self) -> list[str]:
        return [str(tools.find_mosquitto()), "-c", str(self.deployment.written / "mosquitto.conf")]

    def answers(self) -> bool:
        return accepts(self.port)

    def reload(self) -> None:
        """Have it read its files again, and return when it has."""
        assert self.process is not None
        before = self.log().count("Reloading config")
        self.process.send_signal(signal.SIGHUP)
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while self.log().count("Reloading config") == before:
            assert time.monotonic() < give_up_at, f"it did not read its files again: {self.log()[-2000:]}"
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DeployedBroker]:
    running = started(lambda: DeployedBroker(tmp_path))
    yield running
    running.kill()


@pytest.fixture
def session(broker: DeployedBroker) -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def open_session(user: str | None, password: str | None = None) -> Session:
        known = broker.deployment.passwords.get(user or "", "")
        opened.append(Session(broker.port, user, password if password is not None or user is None else known))
        return opened[-1]

    yield open_session
    for one in opened:
        one.close()


def signed_in(session: Callable[..., Session], user: str) -> Session:
    opened = session(user)
    assert opened.answer() == "Success"
    return opened


@pytest.mark.servers
def test_who_is_registered_speaks_for_itself_and_the_services_hear_it(session: Callable[..., Session]) -> None:
    """Law 8: whose reading it is stands in the topic, so the broker must not let one device publish on another's."""
    service = signed_in(session, "vitalane")
    service.subscribe("vitalane/v1/shipment/+/+")
    service.subscribe("vitalane/v1/patient/+/+")
    truck, bed, gateway = (signed_in(session, user) for user in ("truck-01", "monitor.7", "gateway-1"))
    assert [truck.publish(f"{TRUCK}/{form}") for form in ("readings", "senml", "status")] == ["Success"] * 3
    assert bed.publish(f"{BED}/readings") == "Success"
    assert gateway.publish(f"{PROBE}/readings") == "Success"
    assert gateway.publish("vitalane/v1/shipment/probe-2/readings") == "Success"
    for who, topic in (
        (truck, f"{BED}/readings"),
        (truck, "vitalane/v1/patient/truck-01/readings"),
        (truck, f"{PROBE}/readings"),
        (truck, f"{TRUCK}/other"),
        (truck, "vitalane/v1/alerts/shipment/warm"),
        (gateway, f"{TRUCK}/readings"),
        (gateway, "vitalane/v1/shipment/gateway-1/readings"),
        (service, f"{TRUCK}/readings"),
    ):
        assert who.publish(topic) == REFUSED, topic
    assert service.heard() == [
        *(f"{TRUCK}/{form}" for form in ("readings", "senml", "status")),
        f"{BED}/readings",
        f"{PROBE}/readings",
        "vitalane/v1/shipment/probe-2/readings",
    ]
    assert service.publish("vitalane/v1/alerts/shipment/warm") in {"Success", UNHEARD}
    truck.subscribe("vitalane/v1/#")
    bed.publish(f"{BED}/readings")
    assert truck.heard() == [], "a device hears nothing"


@pytest.mark.servers
def test_rules_of_ones_own_are_kept(broker: DeployedBroker, session: Callable[..., Session]) -> None:
    """A gateway whose messages alone say whose they are has no topics that could be made from the registry."""
    (broker.deployment.written / "acl.own").write_text("user gateway-1\ntopic write exports/all\n")
    assert signed_in(session, "gateway-1").publish("exports/all") == REFUSED
    for _ in range(2):
        broker.deployment.write()
        broker.reload()
        gateway = signed_in(session, "gateway-1")
        assert gateway.publish("exports/all") in {"Success", UNHEARD}
        assert gateway.publish(f"{PROBE}/readings") in {"Success", UNHEARD}
        assert gateway.publish(f"{TRUCK}/readings") == REFUSED


@pytest.mark.servers
def test_nobody_gets_in_without_an_account(session: Callable[..., Session]) -> None:
    for user, password in ((None, None), ("truck-01", "wrong"), ("truck-01", ""), ("nobody", "x"), ("probe:1", "x"), ("probe-2", "x")):
        assert session(user, password).answer() == "Not authorized", user


@pytest.mark.servers
def test_a_device_that_is_no_longer_registered_has_no_way_in(broker: DeployedBroker, session: Callable[..., Session]) -> None:
    """And one that comes gets in, without a restart and with everybody else's password as it was."""
    passwords = broker.deployment.passwords
    truck = signed_in(session, "truck-01")
    broker.deployment.register(REGISTRY.replace("device: truck-01, subject: shipment-7", "device: truck-02"))
    assert broker.deployment.write("--rotate", "monitor.7") == 0
    broker.reload()
    assert session("truck-01", passwords["truck-01"]).answer() == "Not authorized"
    assert session("monitor.7", passwords["monitor.7"]).answer() == "Not authorized"
    assert broker.deployment.passwords["gateway-1"] == passwords["gateway-1"]
    service = signed_in(session, "vitalane")
    service.subscribe("vitalane/v1/shipment/+/+")
    assert signed_in(session, "truck-02").publish("vitalane/v1/shipment/truck-02/readings") == "Success"
    signed_in(session, "monitor.7")
    assert truck.publish(f"{TRUCK}/readings") == REFUSED, "its connection from before is of no use"
    assert service.heard() == ["vitalane/v1/shipment/truck-02/readings"]


@pytest.mark.servers
def test_a_password_is_hashed_as_mosquitto_does_it(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    subprocess.run([tools.find_mosquitto_passwd(), "-b", file, "truck-01", "a secret"], check=True, capture_output=True)
    theirs = file.read_text().strip().removeprefix("truck-01:")
    assert matches("a secret", theirs)
    assert not matches("another", theirs)
    assert not matches("a secret", hashed("a secret", iterations=1))


def test_running_it_again_changes_nothing(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert deployment.write() == 0
    files = {file: file.read_bytes() for file in deployment.written.iterdir() if file.is_file()}
    capsys.readouterr()
    assert deployment.write("--json") == 0
    assert {file: file.read_bytes() for file in deployment.written.iterdir() if file.is_file()} == files
    told = json.loads(capsys.readouterr().out)
    assert told == {"folder": str(deployment.written), "service": "vitalane", "added": [], "removed": [], "rotated": [], "kept": 4}


def test_what_it_says_and_writes_is_for_the_right_eyes(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    deployment.write("--rotate", "truck-01")
    deployment.register(REGISTRY.replace("truck-01", "truck-02"))
    deployment.write()
    deployment.write("--json")
    said = "".join(capsys.readouterr())
    assert "added: truck-02\nremoved: truck-01\nkept: 3\n" in said
    passwords = deployment.passwords
    assert set(passwords) == {"vitalane", "truck-02", "monitor.7", "gateway-1"}
    assert len(set(passwords.values())) == 4
    assert not [name for name, password in passwords.items() if password in said]
    assert not [name for name, password in passwords.items() if password in (deployment.written / "passwords").read_text()]
    assert (deployment.written / "vitalane.password").read_text() == passwords["vitalane"] + "\n"
    for file in deployment.written.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_the_broker_is_not_open_and_is_written_once(deployment: Deployment) -> None:
    deployment.write()
    file = deployment.written / "mosquitto.conf"
    lines = file.read_text().splitlines()
    assert "allow_anonymous false" in lines
    assert [line for line in lines if line.startswith("listener")] == ["listener 1883 127.0.0.1"]
    file.write_text("# ours\n")
    deployment.write()
    assert file.read_text() == "# ours\n"


def test_the_services_account_is_the_configurations(deployment: Deployment) -> None:
    """Mappings are subscribed to as well, so the account must be allowed to hear them."""
    deployment.write()
    (deployment.folder / "vitalane.yaml").write_text(
        "broker: {user: hub, password: {file: mosquitto/hub.password}, topics: ['$share/a/vitalane/v1/+/+/+']}\n"
        "registry: registry.yaml\nmappings: [zigbee2mqtt]\n"
    )
    assert deployment.write() == 0
    own = (deployment.written / "acl").read_text().split("\n\n")[1].splitlines()
    assert own[:2] == ["user hub", "topic read vitalane/v1/+/+/+"]
    assert "topic read zigbee2mqtt/+" in own
    assert own[-1] == "topic write vitalane/v1/alerts/#"
    assert not (deployment.written / "vitalane.password").exists()
    assert (deployment.written / "hub.password").exists()


def test_the_services_account_may_host_edge_nodes_where_it_is_to(deployment: Deployment) -> None:
    deployment.write()
    (deployment.folder / "vitalane.yaml").write_text("registry: registry.yaml\nsparkplug: {groups: [plant], host_id: here}\n")
    assert deployment.write() == 0
    own = (deployment.written / "acl").read_text().split("\n\n")[1].splitlines()
    assert {"topic read spBv1.0/plant/NBIRTH/+", "topic read spBv1.0/plant/DDATA/+/+", "topic read spBv1.0/STATE/here"} < set(own)
    assert [line for line in own if " write " in line] == [
        "topic write vitalane/v1/alerts/#", "topic write spBv1.0/STATE/here", "topic write spBv1.0/plant/NCMD/+"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("registry", "options", "sentence"),
    [
        ("devices: [{device: 'a:b', kind: shipment}]", (), "the device `a:b` cannot have an account, its name has a colon"),
        ("devices: [{device: a, kind: shipment, via: vitalane}]", (), "`vitalane` is the account of our services"),
        ("devices: [{device: vitalane, kind: shipment}]", (), "`vitalane` is the account of our services"),
        ("devices: [{device: a, kind: shipment, via: 'a b'}]", (), "String should match pattern"),
        (REGISTRY, ("--rotate", "probe-2"), "there is no account `probe-2`"),
    ],
)
def test_what_cannot_be_is_told(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], registry: str, options: tuple[str, ...], sentence: str
) -> None:
    deployment.register(registry)
    assert deployment.write(*options) == 2
    assert sentence in capsys.readouterr().err
    assert not (deployment.written / "acl").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"truck-01": 1}', '{"truck-01": ""}'])
def test_credentials_that_somebody_broke_are_not_thrown_away(deployment: Deployment, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Two hundred loggers on the road cannot be told a new password."""
    deployment.write()
    (deployment.written / "credentials.json").write_text(text)
    assert deployment.write() != 0
    assert "mend it, or move it away" in capsys.readouterr().err
    assert (deployment.written / "credentials.json").read_text() == text


def test_an_account_may_only_write_topics_of_its_own_devices() -> None:
    entries = parse(REGISTRY, "registry.yaml", RegistryModel).devices
    made = accounts(entries, "vitalane", ["vitalane/v1/shipment/+/+"])
    of = {entry.device: entry.via or entry.device for entry in entries}
    for name, account in made.items():
        if name != "vitalane":
            assert not account.reads
            assert {of[topic.split("/")[3]] for topic in account.writes} == {name}


MAKES = """\
mappings:
  - {name: plain, topic: "tele/{device}/SENSOR", readings: {temperature: t}, names: {sonoff-9: truck-01, truck-01: other}}
  - {name: affixed, topic: "app/{application}/{logger}/#", device: "log-{logger}", readings: {temperature: t}}
  - {name: of-two, topic: "a/{gateway}/{device}", device: "{gateway}-{device}", readings: {temperature: t}}
  - {name: in-the-message, topic: "exports/all", device: {path: id}, readings: {temperature: t}}
"""


def test_a_device_of_another_make_publishes_where_its_mapping_reads_it() -> None:
    """By the name that it has there; where only the message says whose it is, no device may speak."""
    models = parse(MAKES, "makes.yaml", MappingsModel).mappings
    entries = parse(
        "devices: [{device: truck-01, kind: shipment}, {device: log-7, kind: shipment}, {device: other, kind: shipment}]",
        "r",
        RegistryModel,
    ).devices
    made = accounts(entries, "vitalane", [], models)
    foreign = {name: [topic for topic in account.writes if not topic.startswith("vitalane/")] for name, account in made.items()}
    assert foreign == {
        "vitalane": [],
        "truck-01": ["tele/sonoff-9/SENSOR"],
        "log-7": ["tele/log-7/SENSOR", "app/+/7/#"],
        "other": ["tele/truck-01/SENSOR", "tele/other/SENSOR"],
    }
    mappings = Mappings(models)
    for name, topics in foreign.items():
        for topic in topics:
            assert mappings.home(topic.replace("+", "x").replace("#", "x").encode()) == name


def test_an_assignment_by_command_gives_a_gateways_device_no_account_of_its_own() -> None:
    """It says of whom the device measures, not how it publishes: an account more is a door more."""
    registered = DeviceEntry(device="probe-2", kind="shipment", via="gateway-1")
    assigned = DeviceEntry(device="probe-2", kind="shipment", subject="crate-9")
    assert set(accounts([registered, assigned], "vitalane", [])) == {"vitalane", "gateway-1"}
