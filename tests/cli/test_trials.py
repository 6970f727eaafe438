"""What goes wrong for a new user: each time one clear sentence, then either it recovers by itself or it ends with a code other than 0."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.configuration import read_configuration
from cli.deadletters import dead_of
from cli.main import run
from journal.writer import JournalWriter
from tests.cli.running import Running, decided_world
from tests.servers import Broker, Influx
from tests.tools import free_port


def configured(folder: Path, text: str) -> str:
    file = folder / "vitalane.yaml"
    file.write_text(text)
    return str(file)


def untraced(service: Running) -> None:
    """No Python traceback is shown to a person."""
    assert not [line for line in service.lines if "Traceback" in line or line.startswith("  File ")]


def connected(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "data" / "status" / "ingest.json").read_text())["connected"])
    except (OSError, ValueError, KeyError):
        return False


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_nobody_listens_at_the_brokers_address(tmp_path: Path) -> None:
    """It says where it looked and what to check, and goes on trying."""
    port = free_port()
    with Running("ingest", "-c", configured(tmp_path, f"broker: {{port: {port}}}\n")) as service:
        assert f"nobody listens at 127.0.0.1:{port}" in service.says("broker_failed")
        assert service.stop() == 0
    untraced(service)


@pytest.mark.servers
def test_the_password_is_wrong(tmp_path: Path, mosquitto: Broker) -> None:
    """The broker's refusal is told, without the password, and with the keys of the configuration to look at."""
    text = f"broker: {{port: {mosquitto.port}, user: {mosquitto.user}, password: {{env: TRIAL_PASSWORD}}}}\n"
    with Running("ingest", "-c", configured(tmp_path, text), TRIAL_PASSWORD="wrong-horse") as service:
        sentence = service.says("broker_failed")
        assert "refused the user name or password" in sentence
        assert "wrong-horse" not in sentence
        assert service.stop() == 0
    untraced(service)


@pytest.mark.servers
@pytest.mark.parametrize("command", ["ingest", "up"])
def test_the_broker_comes_later(command: str, tmp_path: Path, start_mosquitto: Callable[..., Broker]) -> None:
    """Machines start in any order."""
    broker = start_mosquitto()
    broker.stop()
    text = f"broker: {{port: {broker.port}, user: {broker.user}, password: {{env: TRIAL_PASSWORD}}}}\n"
    with Running(command, "-c", configured(tmp_path, text), TRIAL_PASSWORD=broker.password) as service:
        service.says("nobody listens at")
        assert not connected(tmp_path)
        broker.start()
        service.says("broker_connected")
        until(lambda: connected(tmp_path))
        assert service.stop() == 0
    untraced(service)


def test_a_key_is_misspelt(tmp_path: Path) -> None:
    with Running("up", "-c", configured(tmp_path, "brokr: {host: localhost}\n")) as service:
        assert service.says("brokr").endswith("vitalane.yaml:1:1: brokr: unknown key, did you mean `broker`?")
        assert service.process.wait(60) == 2
    untraced(service)


def test_a_rule_pack_does_not_exist(tmp_path: Path) -> None:
    with Running("up", "-c", configured(tmp_path, "rules: [dmeo]\n")) as service:
        assert service.says("dmeo").endswith("there is no file and no rule pack `dmeo`, did you mean `demo`?")
        assert service.process.wait(60) == 2
    untraced(service)


@pytest.mark.parametrize("command", ["up", "ingest", "flow", "deliver"])
def test_the_data_folder_cannot_be_made(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may write nearly everywhere, but not below a file."""
    (tmp_path / "data").write_text("a file stands where the folder should")
    assert run([command, "-c", configured(tmp_path, "")]) == 3
    assert capsys.readouterr().err == f"vitalane: the data folder {tmp_path / 'data'} cannot be written: file exists\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where others may not")
def test_the_data_folder_is_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir(mode=0o555)
    assert run(["up", "-c", configured(tmp_path, "")]) == 3
    assert "cannot be written: permission denied" in capsys.readouterr().err


def test_another_ingest_has_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two writers of one journal would each believe in their own offsets."""
    (tmp_path / "data").mkdir()
    with JournalWriter(tmp_path / "data" / "telemetry.db", "telemetry", 1):
        assert run(["ingest", "-c", configured(tmp_path, "")]) == 3
    assert f"already has a writer (process {os.getpid()})" in capsys.readouterr().err


@pytest.mark.long
def test_a_simulator_without_a_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vitalane.yaml").write_text(f"broker: {{port: {free_port()}}}\n")
    assert run(["simulate", "-c", str(tmp_path / "vitalane.yaml"), "shipments", "--for", "1s"]) == 3
    assert "vitalane: no MQTT broker at 127.0.0.1:" in capsys.readouterr().err


def test_a_journal_that_is_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "telemetry.db").write_text("not a database, however it is called, and long enough to be read as one" * 100)
    assert run(["journal", "tail", "-c", configured(tmp_path, "")]) == 1
    assert "telemetry.db is not a journal" in capsys.readouterr().err


@pytest.mark.servers
def test_the_token_for_influxdb_is_wrong(tmp_path: Path, start_influxd: Callable[..., Influx]) -> None:
    """It says so and waits: a wrong token is a mistake to mend, and nothing is given up for it."""
    influxd = start_influxd(auth=True)
    world = decided_world(tmp_path)
    store = f"{{url: '{influxd.url}', bucket: {influxd.database}, token: {{env: TRIAL_TOKEN}}}}"
    world.path.write_text(f"partitions: 2\nstores: {{influxdb: {store}}}\n")
    with Running("deliver", "-c", str(world.path), TRIAL_TOKEN="vitalane:wrong-staple") as service:
        sentence = service.says("sinks.store_failed")
        assert "token" in sentence
        assert "wrong-staple" not in sentence
        assert service.stop() == 0
    untraced(service)
    assert dead_of(read_configuration(world.path), "influxdb") == []
    with Running("deliver", "-c", str(world.path), TRIAL_TOKEN=influxd.token) as mended:
        until(lambda: len(influxd.query("SELECT * FROM readings")) > 100)
        assert mended.stop() == 0
