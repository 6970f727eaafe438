import json
from pathlib import Path

import pytest

from cli.configuration import Configuration, read_configuration
from cli.main import run
from cli.quarantine import message_at, refusals
from journal.messages import decode_messages
from journal.reader import JournalReader
from journal.rows import RowKind
from tests.cli.running import CONFIGURATION, Running, decided_world
from tests.flows.journals import run_to_end
from tests.flows.test_sparkplug import write_world as write_edge_nodes
from tests.servers import Broker


@pytest.fixture
def world(tmp_path: Path) -> Configuration:
    return decided_world(tmp_path)


def test_list_groups_by_reason_with_counts_and_examples(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quarantine", "list", "-c", str(world.path)]) == 0
    first, *examples = capsys.readouterr().out.splitlines()
    refused = list(refusals(world))
    assert first == f"malformed: {len(refused)}"
    assert len(examples) == 3
    assert all("not JSON" in line for line in examples)


def test_list_as_json_is_everything(world: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quarantine", "list", "-c", str(world.path), "--json", "--reason", "malformed"]) == 0
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {item["payload"] for item in items} == {"eyJ2Ijo="}
    assert run(["quarantine", "list", "-c", str(world.path), "--json", "--reason", "implausible"]) == 0
    assert capsys.readouterr().out == ""


def test_every_message_is_found_at_its_place(world: Configuration) -> None:
    """A replay publishes what was received, whole: rows hold many messages, and a place names one."""
    with JournalReader(world.data_dir / "telemetry.db") as reader:
        for partition in range(2):
            offset = 0
            while rows := reader.read(partition, offset):
                for row in rows:
                    messages = decode_messages(row.body) if row.kind == RowKind.MESSAGES else None
                    for index in range(row.count):
                        expected = None if messages is None else (messages.topics[index].decode(), messages.payloads[index])
                        assert message_at(reader, (partition, row.offset + index)) == expected
                offset = rows[-1].offset + rows[-1].count
            assert message_at(reader, (partition, reader.head(partition))) is None


def test_what_an_edge_node_said_is_not_said_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its sequence number would be a gap to whoever listens, and void what its present session has said."""
    (tmp_path / "vitalane.yaml").write_text("partitions: 2")
    (tmp_path / "data").mkdir()
    write_edge_nodes(tmp_path / "data", seed=3)
    run_to_end(tmp_path / "data", 2)
    assert any(item.reason == "no_session" for item in refusals(read_configuration(tmp_path / "vitalane.yaml")))
    assert run(["quarantine", "replay", "-c", str(tmp_path / "vitalane.yaml"), "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to replay\n"


@pytest.mark.servers
def test_replay_takes_the_whole_path_again_and_once(tmp_path: Path, mosquitto: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mended decoder or registry is of use only if what was refused can come again; asking twice must not double it."""
    monkeypatch.setenv("TRIAL_PASSWORD", mosquitto.password)
    world = decided_world(tmp_path)
    broker = f"broker: {{port: {mosquitto.port}, user: {mosquitto.user}, password: {{env: TRIAL_PASSWORD}}}}\n"
    world.path.write_text(f"{CONFIGURATION}{broker}ingest: {{retention: {{max_age: null}}}}\n")  # the world is old
    before = {(item.topic, item.payload) for item in refusals(world)}
    with Running("ingest", "-c", str(world.path)) as ingest:
        ingest.says("broker_connected")
        with Running("quarantine", "replay", "-c", str(world.path), "--yes") as replay:
            replay.says("messages published again")
            assert replay.process.wait(60) == 0, replay.lines
        with Running("quarantine", "replay", "-c", str(world.path), "--yes") as again:
            again.says("nothing to replay")
        assert ingest.stop() == 0
    received = set()
    with JournalReader(world.data_dir / "telemetry.db") as reader:
        for partition in range(2):
            newest = reader.last(partition, RowKind.MESSAGES)
            assert newest is not None
            messages = decode_messages(newest.body)
            received |= set(zip((topic.decode() for topic in messages.topics), messages.payloads, strict=True))
    assert received & before
    assert run(["quarantine", "list", "-c", str(world.path)]) == 0


@pytest.mark.servers
def test_without_a_broker_nothing_is_marked(world: Configuration, capsys: pytest.CaptureFixture[str], free_port: int) -> None:
    world.path.write_text(f"{CONFIGURATION}broker: {{port: {free_port}}}\n")
    assert run(["quarantine", "replay", "-c", str(world.path), "--yes"]) == 3
    assert "no MQTT broker at" in capsys.readouterr().err
    assert not (world.data_dir / "quarantine-replayed.json").exists()
