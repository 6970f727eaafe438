import json
import signal
from pathlib import Path

import pytest
import yaml

from cli.registry import RegistryModel
from documents import load
from simulators.truth_file import read_truth
from tests.cli.running import Running, vitalane
from tests.servers import Broker

pytestmark = pytest.mark.servers


@pytest.fixture
def configuration(tmp_path: Path, mosquitto: Broker, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TRIAL_PASSWORD", mosquitto.password)
    file = tmp_path / "vitalane.yaml"
    file.write_text(f"broker: {{port: {mosquitto.port}, user: {mosquitto.user}, password: {{env: TRIAL_PASSWORD}}}}\n")
    return str(file)


@pytest.mark.parametrize("world", ["shipments", "patients"])
def test_devices_publish_and_are_written_as_a_registry(world: str, configuration: str, tmp_path: Path) -> None:
    registry = tmp_path / "registry.yaml"
    ended = vitalane(
        *("simulate", "-c", configuration, world, "--count", "5", "--speed", "120", "--for", "2s", "--registry", str(registry))
    )
    assert ended.returncode == 0, ended.stderr
    sent, acknowledged = (int(ended.stderr.splitlines()[-1].split()[index]) for index in (0, 3))
    assert sent == acknowledged > 5
    assert len(load(registry, RegistryModel).devices) == 5
    assert yaml.safe_load(registry.read_text())["devices"][0]["kind"] == world.removesuffix("s")


def test_a_file_is_replayed_to_its_last_row(configuration: str, tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    file.write_text("time,device,metric,value\n" + "".join(f"2026-01-31T08:{m:02d}:00Z,probe-1,temperature,{m}\n" for m in range(60)))
    ended = vitalane("simulate", "-c", configuration, "replay", str(file), "--speed", "0")
    assert ended.returncode == 0, ended.stderr
    assert "60 messages sent, 60 acknowledged" in ended.stderr


def test_a_registry_that_cannot_be_written_is_a_sentence(configuration: str, tmp_path: Path) -> None:
    file = tmp_path / "no-such-folder" / "registry.yaml"
    ended = vitalane("simulate", "-c", configuration, "shipments", "--for", "1s", "--registry", str(file))
    assert ended.returncode == 3
    assert ended.stderr == f"vitalane: {file} cannot be written: no such file or directory\n"


def test_a_file_with_mistakes_is_refused_before_anything_is_sent(configuration: str, tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    file.write_text("time,device,metric,value\n2026-01-31T08:00:00Z,probe-1,temperature,5\nyesterday,probe-1,temperature,5\n")
    ended = vitalane("simulate", "-c", configuration, "replay", str(file))
    assert ended.returncode == 2
    assert "readings.csv:3" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_stops_a_simulator_in_order(configuration: str, number: signal.Signals) -> None:
    with Running("simulate", "-c", configuration, "patients", "--count", "3") as simulator:
        simulator.says("broker_connected")
        assert simulator.stop(number) == 0
    assert "acknowledged" in simulator.lines[-1]


def test_a_load_tells_its_rate_and_its_latencies(configuration: str) -> None:
    command = ("simulate", "-c", configuration, "load", "--devices", "200", "--rate", "1000", "--for", "1s", "--clients", "2")
    ended = vitalane(*command)
    assert ended.returncode == 0, ended.stderr
    assert "1000 messages due, 1000 sent, 1000 acknowledged" in ended.stdout
    assert all(name in ended.stdout for name in ("p50", "p90", "p99 ", "p99.9", "max"))
    figures = json.loads(vitalane(*command, "--readings-per-message", "2", "--json").stdout)
    assert (figures["due"], figures["acknowledged"], figures["clients"], figures["readings_per_message"]) == (1000, 1000, 2, 2)
    assert figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99.9"] <= figures["latency_ms"]["max"]
    assert figures["faults"] == []


def test_a_load_that_misses_its_rate_fails(configuration: str) -> None:
    ended = vitalane("simulate", "-c", configuration, "load", "--rate", "900000", "--for", "300ms")
    assert ended.returncode == 1
    assert "900000/s was missed by" in ended.stderr
    assert "messages due" in ended.stdout


def test_ctrl_c_ends_a_load_with_its_summary(configuration: str) -> None:
    with Running("simulate", "-c", configuration, "load", "--rate", "500", "--for", "10min") as running:
        running.says("broker_connected")
        assert running.stop(signal.SIGINT) == 0
    assert any("messages due" in line for line in running.lines)
    assert any("latency" in line for line in running.lines)


@pytest.mark.parametrize(("options", "sentence"), [(("--devices", "1", "--rate", "1001"), "does not fit"), (("--qos", "2"), "qos")])
def test_a_load_that_is_none_is_refused(configuration: str, options: tuple[str, ...], sentence: str) -> None:
    ended = vitalane("simulate", "-c", configuration, "load", *options)
    assert ended.returncode == 2
    assert sentence in ended.stderr


def test_a_wrong_password_is_one_sentence(configuration: str) -> None:
    ended = vitalane("simulate", "-c", configuration, "patients", "--for", "1s", TRIAL_PASSWORD="wrong-horse")
    assert ended.returncode == 3
    assert "refuses user 'vitalane'" in ended.stderr
    assert "wrong-horse" not in ended.stderr
    assert json.dumps("Traceback") not in ended.stderr


def test_ctrl_c_stops_a_scenario_in_order_and_its_truth_ends_there(configuration: str, tmp_path: Path) -> None:
    """Whoever stops a run early still knows what happened until then."""
    truth = tmp_path / "truth.jsonl"
    with Running("simulate", "-c", configuration, "scenario", "ward-night", "--speed", "600", "--truth", str(truth)) as simulator:
        simulator.says("in flight")
        assert simulator.stop(signal.SIGINT) == 0
    assert "acknowledged" in simulator.lines[-1]
    told = read_truth(truth)
    assert told.run.name == "ward-night"
    assert told.run.speed == 600.0
    assert 0 < told.run.end_ms - told.run.start_ms < 8 * 3_600_000
    assert not any(incident.due for incident in told.incidents if incident.end_ms > told.run.end_ms and incident.breach is None)


def test_a_file_is_replayed_with_faults_and_their_truth(configuration: str, tmp_path: Path) -> None:
    file, truth = tmp_path / "readings.csv", tmp_path / "truth.jsonl"
    file.write_text("time,device,metric,value\n" + "".join(f"2026-01-31T08:{m:02d}:00Z,probe-1,temperature,{m}\n" for m in range(60)))
    faults = ("--faults", "duplicates", "--seed", "3", "--truth", str(truth))
    refused = vitalane("simulate", "-c", configuration, "replay", str(file), "--speed", "0", *faults)
    assert (refused.returncode, truth.exists()) == (2, False)
    assert "--truth needs a --speed above 0" in refused.stderr
    ended = vitalane("simulate", "-c", configuration, "replay", str(file), "--speed", "36000", *faults)
    assert ended.returncode == 0, ended.stderr
    [fault] = read_truth(truth).faults
    assert (fault.kind, fault.subjects) == ("duplicates", ("probe-1",))
    assert f"{60 + fault.messages} messages sent, {60 + fault.messages} acknowledged" in ended.stderr
