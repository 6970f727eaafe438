"""Ingest on a real broker: one suite over both receivers and both protocol versions. Nothing acknowledged is lost, whatever dies."""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.load import Publisher, encode
from decoders import wire
from decoders.decode import FLAG_TOO_LARGE, KEPT_OF_TOO_LARGE
from ingest.settings import BrokerSettings, IngestSettings, RetentionSettings, TlsSettings
from journal.messages import FLAG_RETAIN, QOS_SHIFT
from journal.rows import RowKind
from journal.verify import verify
from telemetry.reasons import Reason
from tests.ingest.running import TOPIC, Process, Running, Wire, broker_settings, publisher, until
from tests.servers import Broker

pytestmark = pytest.mark.servers

VARIANTS = [(receiver, protocol) for receiver in ("tap", "callback") for protocol in ("3.1.1", "5")]


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(zip(("receiver", "protocol"), request.param, strict=True))


@pytest.fixture
def broker(start_mosquitto: Callable[..., Broker]) -> Broker:
    return start_mosquitto()


def settings(broker: Broker, variant: dict[str, Any], **more: Any) -> IngestSettings:
    return IngestSettings(broker=broker_settings(broker, **variant), **more)


def raw(broker: Broker) -> Publisher:
    return Publisher(broker.port, user=broker.user, password=broker.password, client_id=f"load-{random.randrange(2**32)}")


def numbered(count: int, *, first: int = 0, devices: int = 10) -> Any:
    return encode((TOPIC.format(f"d{n % devices}").encode(), b"%d" % n) for n in range(first, first + count))


def test_messages_are_journalled_as_they_were_sent(broker, variant, tmp_path: Path):
    payloads = [b'{"v":1}', b"", b"two\nlines", b"\x00\xff\xfe", b"x" * 200_000]
    with Running(tmp_path, settings(broker, variant | {"qos": 2})).connected() as running, publisher(broker) as client:
        for qos in (0, 1, 2):
            for payload in payloads:
                client.publish(TOPIC.format("d1"), payload, qos=qos)
        until(lambda: len(running.journal.messages()) >= 15, "all")
    messages = running.journal.messages()
    delivered = [(payload, flags >> QOS_SHIFT) for _, payload, flags in messages]
    at_most = 2 if variant["receiver"] == "tap" else 1  # paho says PUBREC before the message is durable: so not for us
    assert delivered == [(payload, min(qos, at_most)) for qos in (0, 1, 2) for payload in payloads]
    assert {topic for topic, _, _ in messages} == {TOPIC.format("d1")}
    assert verify(running.path).ok


def test_nothing_is_acknowledged_before_it_is_durable(broker, variant, tmp_path: Path):
    """Law 1. The journal is really full: what was acknowledged is exactly what it holds, until there is room again."""
    retention = RetentionSettings(max_bytes=1, consumers=("flow",), every_s=3600)
    with Wire(broker.port) as wired, raw(broker) as load:
        told = settings(broker, variant | {"port": wired.port}, retention=retention, tick_ms=60_000)
        with Running(tmp_path, told, max_bytes=600_000).connected() as running:
            packets = encode((TOPIC.format("d1").encode(), b"%04d" % n + bytes(8000)) for n in range(220))
            load.blast(packets, 0, 20)
            until(lambda: len(wired.acknowledged) == 20, "what there is room for")
            load.blast(packets, 20, 220)
            running.said("full")
            acknowledged = len(wired.acknowledged)
            assert acknowledged <= sum(running.journal.ends()) < 220
            running.commit_offsets()
            until(lambda: running.commit_offsets() or len(wired.acknowledged) >= 220, "the rest")
            until(lambda: not running.status.error, "no error")
            assert running.status.connected
    assert sum(running.journal.ends()) == 220  # nothing lost, nothing twice
    assert len(wired.acknowledged) == 220


def test_acknowledgements_go_out_in_the_order_of_arrival(broker, variant, tmp_path: Path):
    """MQTT demands it (4.6.0-2), and the broker counts packet ids up."""
    with Wire(broker.port) as wired, raw(broker) as load, Running(tmp_path, settings(broker, variant | {"port": wired.port})).connected():
        load.blast(numbered(3000))
        until(lambda: len(wired.acknowledged) >= 3000, "all acknowledged")
    assert wired.acknowledged == list(range(1, 3001))


def test_a_cut_connection_loses_nothing(broker, variant, tmp_path: Path):
    with Wire(broker.port) as wired, Running(tmp_path, settings(broker, variant | {"port": wired.port})).connected() as running:
        with raw(broker) as load:
            for first in range(0, 4000, 1000):
                load.blast(numbered(1000, first=first))
                wired.cut()
        until(lambda: len(set(running.journal.payloads())) >= 4000, "all journalled")
    assert sorted(map(int, set(running.journal.payloads()))) == list(range(4000))


def test_kill_9_loses_nothing(broker, variant, tmp_path: Path):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    ingest = Process(tmp_path, broker_settings(broker, **variant))
    ingest.start()
    total = 8000
    with raw(broker) as load:
        loading = threading.Thread(target=lambda: load.pace(numbered(total), 5000))
        loading.start()
        for _ in range(3):
            loading.join(rng.uniform(0.05, 0.3))
            ingest.kill()
            ingest.start()
        loading.join()
    until(lambda: len(set(ingest.journal.payloads())) >= total, "all journalled")
    assert ingest.stop() == 0
    assert sorted(map(int, set(ingest.journal.payloads()))) == list(range(total))
    assert verify(tmp_path / "telemetry.db").ok


def test_a_broker_that_restarts_under_load_loses_nothing(start_mosquitto, variant, tmp_path: Path):
    broker = start_mosquitto(persistence=True)
    with Running(tmp_path, settings(broker, variant)).connected() as running, publisher(broker, "steady") as client:
        acknowledged: list[int] = []
        client.on_publish = lambda _client, _userdata, mid, *_: acknowledged.append(mid)
        for number in range(3000):
            client.publish(TOPIC.format(f"d{number % 7}"), b"%d" % number, qos=1)
            if number in (700, 1900):
                broker.restart()
        until(lambda: len(acknowledged) >= 3000, "all taken by the broker")
        until(lambda: len(set(running.journal.payloads())) >= 3000, "all journalled")
        assert running.said("lost")
        until(lambda: running.status.connected, "connected again")
    assert sorted(map(int, set(running.journal.payloads()))) == list(range(3000))


def test_what_came_while_it_was_away_comes_when_it_is_back(broker, variant, tmp_path: Path):
    """And more than 20 messages at a time, where a client's usual limit would stop the broker."""
    with Running(tmp_path, settings(broker, variant)).connected():
        pass
    with raw(broker) as load:
        load.blast(numbered(5000))
    told = settings(broker, variant, commit_ms=50)
    with Running(tmp_path, told, partitions=2) as running:
        until(lambda: len(running.journal.payloads()) >= 5000, "all")
    assert [int(p) for p in running.journal.payloads() if int(p) % 10 == 0] == list(range(0, 5000, 10))  # of one device, in order
    assert max(row.count for row in running.journal.rows()) > 20


def test_a_stop_leaves_nothing_unacknowledged(broker, variant, tmp_path: Path):
    """An orderly restart then brings no message twice."""
    for first in (0, 1000, 2000):
        with Running(tmp_path, settings(broker, variant)).connected() as running, raw(broker) as load:
            load.blast(numbered(1000, first=first))
            until(lambda: running.status.received or len(running.journal.rows()), "some")
    with Running(tmp_path, settings(broker, variant)).connected() as running:
        until(lambda: len(running.journal.payloads()) >= 3000, "all")
    assert Counter(running.journal.payloads()).most_common(1)[0][1] == 1


def test_what_the_broker_kept_is_flagged(broker, variant, tmp_path: Path):
    topic = "vitalane/v1/patient/bed-1/status"
    with publisher(broker) as client:
        client.publish(topic, wire.ONLINE, qos=1, retain=True).wait_for_publish(10)
        with Running(tmp_path, settings(broker, variant)).connected() as running:
            until(running.journal.messages, "the retained message")
            client.publish(topic, wire.OFFLINE, qos=1, retain=True)
            until(lambda: len(running.journal.messages()) >= 2, "the live one")
    assert [(payload, flags & FLAG_RETAIN) for _, payload, flags in running.journal.messages()] == [(wire.ONLINE, 1), (wire.OFFLINE, 0)]
    assert sum(decoded.retained for decoded in running.journal.decoded()) == 1


def test_a_last_will_says_that_a_device_is_offline(broker, variant, tmp_path: Path):
    topic = "vitalane/v1/patient/bed-1/status"
    with Running(tmp_path, settings(broker, variant)).connected() as running:
        with publisher(broker, topic=topic, payload=wire.OFFLINE, qos=1, retain=True) as client:
            client.publish(topic, wire.ONLINE, qos=1, retain=True).wait_for_publish(10)
            sock = client.socket()
            assert sock is not None
            client.reconnect_delay_set(60, 60)
            cast("socket.socket", sock).shutdown(socket.SHUT_RDWR)  # it dies
        until(lambda: len(running.journal.messages()) >= 2, "the will")
    said = [(status.device, status.online) for decoded in running.journal.decoded() for status in decoded.statuses]
    assert said == [("bed-1", True), ("bed-1", False)]


def test_a_payload_over_the_limit_is_kept_in_part_and_harms_nobody(broker, variant, tmp_path: Path):
    film = random.randbytes(2_000_000)
    payloads = [b"before", film, b"between", bytes(50_001), b"after"]
    with Running(tmp_path, settings(broker, variant, max_payload_bytes=50_000)).connected() as running, publisher(broker) as client:
        for payload in payloads:
            client.publish(TOPIC.format("d1"), payload, qos=1)
        until(lambda: len(running.journal.messages()) >= 5, "all")
    messages = [(payload, bool(flags & FLAG_TOO_LARGE)) for _, payload, flags in running.journal.messages()]
    cut = KEPT_OF_TOO_LARGE
    assert messages == [(b"before", False), (film[:cut], True), (b"between", False), (bytes(cut), True), (b"after", False)]
    reasons = [refusal.reason for decoded in running.journal.decoded() for refusal in decoded.refusals]
    assert reasons.count(Reason.TOO_LARGE) == 2


@pytest.mark.parametrize("certificate", [False, True])
def test_over_tls(start_mosquitto, variant, tmp_path: Path, certificate: bool):
    broker = start_mosquitto(tls=True, require_certificate=certificate)
    pair = broker.client_certificate() if certificate else (None, None)
    told = settings(broker, variant | {"port": broker.tls_port, "tls": TlsSettings(broker.ca, *pair)})
    with Running(tmp_path, told).connected() as running, raw(broker) as load:
        load.blast(numbered(5000))
        until(lambda: len(running.journal.payloads()) >= 5000, "all")
    assert sorted(map(int, running.journal.payloads())) == list(range(5000))


def test_a_broker_with_few_messages_in_flight_is_not_waited_for(start_mosquitto, variant, tmp_path: Path):
    """Mosquitto stops at 20 unacknowledged messages by default."""
    broker = start_mosquitto(options=["max_inflight_messages 20"])
    with Running(tmp_path, settings(broker, variant)).connected() as running, raw(broker) as load:
        load.window = 10
        load.blast(numbered(2000))
        until(lambda: len(running.journal.payloads()) >= 2000, "all")
    assert sorted(map(int, running.journal.payloads())) == list(range(2000))


def test_time_passes_in_every_partition_with_and_without_messages(broker, tmp_path: Path):
    """The journal is the flow's clock: without ticks, silence would never be noticed."""
    told = settings(broker, {}, tick_ms=50)
    with Running(tmp_path, told, partitions=3).connected() as running, publisher(broker) as client:
        ticked = lambda: Counter(row.partition for row in running.journal.rows(RowKind.TICK))  # noqa: E731
        until(lambda: len(ticked()) == 3 and min(ticked().values()) >= 2, "ticks")
        client.publish(TOPIC.format("d1"), b"1", qos=1)
        until(lambda: len(running.journal.messages()) == 1, "the message")
    times = [row.time_ms for row in running.journal.rows(None) if row.partition == 0]
    assert times == sorted(times)


def test_no_time_passes_without_a_broker(free_port: int, tmp_path: Path):
    """A clock that ran while nobody listened would prove the silence of every device."""
    told = IngestSettings(broker=BrokerSettings(port=free_port), tick_ms=20)
    with Running(tmp_path, told) as running:
        running.said("nobody listens")
        threading.Event().wait(0.3)
    assert not running.journal.rows(None)


def test_listening_is_announced_before_all_that_a_connection_brings(broker, variant, tmp_path: Path):
    """What waited at the broker comes before the subscription is confirmed, and it moves the clock over the time of absence."""
    listening = control("listening", "1")
    with Running(tmp_path, settings(broker, variant)).connected():
        pass
    with raw(broker) as load:
        load.blast(numbered(500))
        with Wire(broker.port) as wired:
            told = settings(broker, variant | {"port": wired.port})
            with Running(tmp_path, told, listening=listening).connected() as running:
                until(lambda: len(running.journal.payloads()) >= 500, "what waited")
                wired.cut()
                running.said("lost")
                load.blast(numbered(500, first=500))
                until(lambda: len(running.journal.payloads()) >= 1000, "the rest")
    for partition in range(2):
        kinds = [row.kind for row in running.journal.rows(None) if row.partition == partition and row.kind != RowKind.TICK]
        assert kinds[0] == RowKind.CONTROL
        assert [kind for at, kind in enumerate(kinds) if kind != kinds[at - 1] or at == 0] == [RowKind.CONTROL, RowKind.MESSAGES] * 2


def control(kind: str, version: str, **more: Any) -> bytes:
    return json.dumps({"type": kind, "version": version} | more).encode()


def test_what_holds_is_written_once_into_every_partition(free_port: int, tmp_path: Path):
    told = IngestSettings(broker=BrokerSettings(port=free_port))
    first = [control("rules", "1"), control("registry", "7", devices=[])]
    second = [control("rules", "2"), first[1]]
    for controls in (first, first, second, second, first):
        with Running(tmp_path, told, controls=controls) as running:
            until(lambda: running.statuses, "started")
    for partition in (0, 1):
        bodies = [row.body for row in running.journal.rows(RowKind.CONTROL) if row.partition == partition]
        assert bodies == [*first, *second, *first]


def test_devices_of_one_subject_are_in_one_partition(broker, tmp_path: Path):
    devices = [{"device": f"d{n}", "subject": "bed-1", "kind": "patient", "tags": {}} for n in range(10)]
    registry = control("registry", "1", devices=devices)
    with Running(tmp_path, settings(broker, {}), partitions=8, controls=[registry]).connected() as running, raw(broker) as load:
        load.blast(numbered(100))
        until(lambda: len(running.journal.payloads()) >= 100, "all")
    assert len({row.partition for row in running.journal.rows()}) == 1
    assert [int(payload) for payload in running.journal.payloads()] == list(range(100))


def test_our_own_alerts_are_acknowledged_and_not_journalled(broker, variant, tmp_path: Path):
    told = settings(broker, variant | {"topics": ("vitalane/v1/+/+/+",)})
    with Running(tmp_path, told).connected() as running, publisher(broker) as client:
        client.publish("vitalane/v1/alerts/shipment/too-warm", b"{}", qos=1)
        client.publish(TOPIC.format("d1"), b"1", qos=1)
        until(running.journal.payloads, "the reading, which came behind the alert")
    assert running.journal.payloads() == [b"1"]
    assert (running.status.own_alerts, running.status.received) == (1, 1)


def test_two_ingests_with_shared_subscriptions_share(broker, variant, tmp_path: Path):
    told = settings(broker, variant | {"topics": ("$share/ingest/vitalane/v1/shipment/+/+",)})
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    other = replace(told, broker=replace(told.broker, client_id="other"))
    with Running(folders[0], told).connected() as one, Running(folders[1], other).connected() as two, raw(broker) as load:
        load.blast(numbered(1000))
        until(lambda: len(one.journal.payloads()) + len(two.journal.payloads()) >= 1000, "all")
    assert one.journal.payloads()
    assert two.journal.payloads()
    assert sorted(map(int, one.journal.payloads() + two.journal.payloads())) == list(range(1000))
