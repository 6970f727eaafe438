"""kill -9 of any one service, ten times, in the middle of 100,000 messages: nothing acknowledged is lost, no alert missing, none twice."""

import json
import os
import random
import signal
import threading
import time

import pytest

from flows.outbox import outbox_path
from flows.service import telemetry_path
from journal.messages import decode_messages
from journal.reader import JournalReader
from journal.rows import RowKind
from simulators.faults import Message
from simulators.publish import Broker as Address
from simulators.publish import Publisher
from telemetry import alert
from tests.house import House, Receiver, until, webhook_channel

MESSAGES, DEVICES, PARTITIONS, KILLS = 100_000, 200, 2, 10
ROUNDS = MESSAGES // DEVICES
HOT = range(ROUNDS // 4, ROUNDS // 2)
RULES = """rules:
  - {id: hot, when: temperature > 8 Cel, for: 30 s, clear: {when: temperature < 8}, severity: critical}
"""


def is_hot(device: int, number: int) -> bool:
    """Every fifth device is hot for a quarter of the time."""
    return device % 5 == 0 and number in HOT


def all_messages(start_ms: int):
    for number in range(ROUNDS):
        for device in range(DEVICES):
            time_ms = start_ms + number * 1000
            value = 9.0 if is_hot(device, number) else 5.0
            payload = json.dumps({"v": 1, "time": time_ms, "values": {"temperature": value}}).encode()
            yield Message(time_ms, f"vitalane/v1/shipment/truck-{device:04d}/readings", payload, retain=False)


def journalled(house: House) -> set[tuple[bytes, bytes]]:
    reader, found = JournalReader(telemetry_path(house.data_dir)), set()
    for partition in range(PARTITIONS):
        offset = reader.first(partition)
        while rows := reader.read(partition, offset):
            for row in rows:
                if row.kind == RowKind.MESSAGES:
                    messages = decode_messages(row.body)
                    found |= set(zip(messages.topics, messages.payloads, strict=True))
            offset = rows[-1].offset + rows[-1].count
    reader.close()
    return found


def alerts(house: House) -> list[alert.AlertEvent]:
    events = []
    for partition in range(PARTITIONS):
        reader, offset = JournalReader(outbox_path(house.data_dir, partition)), 0
        while rows := reader.read(0, offset):
            events += [alert.from_json(row.body) for row in rows if row.kind == RowKind.ALERT]
            offset = rows[-1].offset + rows[-1].count
        reader.close()
    return events


def kill_now_and_then(house: House, rng: random.Random, done: threading.Event, killed: list[str]) -> None:
    while len(killed) < KILLS and not done.wait(rng.uniform(0.4, 1.4)):
        service = rng.choice(["ingest", "flow", "deliver"])
        pid = house.status(service).get("pid")
        if pid:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append(service)


@pytest.mark.servers
@pytest.mark.long
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_told_twice(tmp_path, start_mosquitto):
    seed = int(os.environ.get("VITALANE_SEED", random.randrange(2**32)))
    print(f"VITALANE_SEED={seed}")
    rng = random.Random(seed)
    broker, receiver = start_mosquitto(), Receiver()
    (tmp_path / "rules.yaml").write_text(RULES)
    house = House(
        tmp_path, broker, rules=["rules.yaml"], partitions=PARTITIONS, channels=webhook_channel(receiver),
        subscriptions=[{"name": "all", "channels": ["hook"]}],
    )  # fmt: skip
    start_ms = int(time.time() * 1000) - ROUNDS * 1000
    with house:
        until(lambda: house.status("ingest").get("connected"), house.told)
        done, killed = threading.Event(), []
        killer = threading.Thread(target=kill_now_and_then, args=(house, rng, done, killed))
        killer.start()
        with Publisher(Address("127.0.0.1", broker.port, broker.user, broker.password), clients=2) as publisher:
            for message in all_messages(start_ms):
                publisher.send(message)
            assert publisher.flush(PATIENCE)
            while len(killed) < KILLS:
                time.sleep(0.1)
        done.set()
        killer.join()
        expected = {f"truck-{device:04d}" for device in range(DEVICES) if is_hot(device, HOT[0])}
        until(lambda: len(set(receiver.ids())) >= 2 * len(expected), lambda: f"{len(set(receiver.ids()))} events\n{house.told()}")
        published = {(message.topic.encode(), message.payload) for message in all_messages(start_ms)}
        until(lambda: journalled(house) >= published, lambda: f"{len(published - journalled(house))} messages not in the journal")
        assert house.stop() == 0, house.told()

    told = alerts(house)
    assert sorted((event.subject, str(event.phase)) for event in told) == sorted(
        (subject, phase) for subject in expected for phase in ("raised", "resolved")
    )
    begun_ms, ended_ms = start_ms + HOT[0] * 1000, start_ms + (HOT[-1] + 1) * 1000
    assert {(event.started_at_ms, event.ended_at_ms) for event in told if event.phase == "resolved"} == {(begun_ms, ended_ms)}
    assert set(receiver.ids()) == {event.event_id for event in told}
    assert len(killed) == KILLS
    verified = house.command("verify", "--json")
    assert json.loads(verified.stdout)


PATIENCE = 120.0
