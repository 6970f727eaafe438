"""Publishing over a real broker: what the worlds say arrives exactly, in order for each device, whatever becomes of a connection."""

import json
import threading
from collections import defaultdict

import pytest

from simulators.faults import Message
from simulators.feeds import Feed, WorldSource
from simulators.pace import play
from simulators.patient import Patients
from simulators.publish import Broker, Publisher
from simulators.replay import ReplaySource, Row
from simulators.scenes import demo
from simulators.shipment import Shipments
from telemetry.clock import utc_now_ms
from telemetry.errors import Rejected, Transient, VitalaneError
from tests import tools
from tests.simulators.listening import address, until

WAIT_S = 20

pytestmark = pytest.mark.servers


def expected(world, until_ms):
    source = WorldSource(world)
    return [(message.topic, message.payload) for message in iter_until(source, until_ms)]


def iter_until(source, until_ms):
    while source.next_ms is not None and source.next_ms <= until_ms:
        yield from (message for message in source.take() if message.time_ms <= until_ms)


@pytest.mark.parametrize(("qos", "protocol"), [(0, "3.1.1"), (1, "3.1.1"), (1, "5"), (2, "3.1.1")])
def test_a_subscriber_gets_exactly_the_payloads_of_the_world(broker, listen, qos, protocol):
    listener = listen(broker, qos=qos)
    start = utc_now_ms() - 3_600_000
    with Publisher(address(broker, protocol=protocol), clients=3, qos=qos, max_inflight=50) as publisher:
        counts = play([Feed(WorldSource(Shipments(30, seed=1, start_ms=start)), 3600)], publisher, threading.Event(), duration_s=0.5)
        assert publisher.flush(WAIT_S)
        counts = publisher.counts()
    wanted = expected(Shipments(30, seed=1, start_ms=start), start + 1_800_000)
    got = [(message.topic, message.payload) for message in listener.wait_for(len(wanted))]
    assert sorted(got) == sorted(wanted)
    assert counts.sent == counts.acked == len(wanted)
    assert (counts.lost, counts.refused, counts.connected) == (0, 0, 3)
    by_device = defaultdict(list)
    for topic, payload in got:
        by_device[topic].append(json.loads(payload)["time"])
    assert all(times == sorted(times) for times in by_device.values())


def test_nothing_is_sent_before_its_time(broker, listen):
    """A message from the future would be quarantined; the arrival can only be later than the stamp."""
    listener = listen(broker)
    arrivals = []
    listener._client.on_message = lambda client, data, message: arrivals.append((utc_now_ms(), message))
    with Publisher(address(broker)) as publisher:
        start = utc_now_ms()
        play([Feed(WorldSource(Patients(20, seed=1, start_ms=start)), 50.0)], publisher, threading.Event(), duration_s=1.2)
        publisher.flush(WAIT_S)
    until(lambda: len([1 for _, message in arrivals if message.topic.endswith("/readings")]) >= 20)
    for received_ms, message in arrivals:
        if message.topic.endswith("/readings"):
            assert json.loads(message.payload)["time"] <= received_ms


def test_a_replay_keeps_its_times_whatever_the_clock_says(broker, listen):
    """De-identified stays are in the year 2113 and must be sent as they stand where that is asked for."""
    listener = listen(broker)
    some = [Row(4_500_000_000_000 + 60_000 * n, "stay", "heart_rate", 60.0 + n) for n in range(100)]
    with Publisher(address(broker), clients=1) as publisher:
        counts = play([Feed(ReplaySource(some, kind="patient"), 0, never_ahead=False)], publisher, threading.Event())
    assert counts.sent == 100
    bodies = [json.loads(message.payload) for message in listener.wait_for(100)]
    assert [(body["time"], body["values"]["heart_rate"]) for body in bodies] == [(row.time_ms, row.value) for row in some]


def test_the_broker_restarting_loses_no_acknowledged_message(start_mosquitto, listen):
    broker = start_mosquitto(persistence=True)
    listener = listen(broker)
    total = 4000
    messages = [Message(0, f"vitalane/v1/shipment/t{n % 40}/readings", b'{"n":%d}' % n) for n in range(total)]
    with Publisher(address(broker), clients=2, max_inflight=20) as publisher:
        for n, message in enumerate(messages):
            if n == total // 2:
                until(lambda: publisher.counts().acked > total // 4)
                broker.restart()
            assert publisher.send(message)
        assert publisher.flush(WAIT_S)
        counts = publisher.counts()
        assert counts.acked == counts.sent == total
        assert counts.reconnects >= 1
    until(lambda: len({message.payload for message in listener.of("readings")}) == total)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_connection_that_breaks_in_the_middle_of_a_message_loses_none(broker, listen, protocol):
    """Half a packet is nobody's message; what was in flight is sent again, and may come twice."""
    listener = listen(broker)
    topic = "vitalane/v1/shipment/truck-1/readings"
    with Publisher(address(broker, protocol=protocol), clients=1) as publisher:
        for number in range(60):
            publisher.send(Message(0, topic, b"%d" % number, cut=number in {20, 40}))
            if number == 30:
                assert publisher.flush(WAIT_S)
        assert publisher.flush(WAIT_S)
        assert publisher.counts().reconnects == 2
    listener.wait_for(60)
    assert list(dict.fromkeys(message.payload for message in listener.of("readings"))) == [b"%d" % number for number in range(60)]


def test_a_stop_ends_sending_also_while_the_broker_does_not_answer(broker):
    stop = threading.Event()
    publisher = Publisher(address(broker), clients=1, max_inflight=10, stop=stop)
    publisher.open()
    broker.pause()
    threading.Timer(0.3, stop.set).start()
    world = Patients(50, seed=1, start_ms=utc_now_ms() - 600_000)
    counts = play([Feed(WorldSource(world), 0)], publisher, stop)
    assert counts.sent - counts.acked <= 10
    assert not publisher.flush(0.1)
    publisher.close()
    broker.resume()


def test_status_says_online_offline_and_the_will_speaks_for_who_cannot(broker, listen):
    listener = listen(broker, pattern="vitalane/v1/+/+/status")
    publisher = Publisher(address(broker), clients=2, name="gateway")
    publisher.open()
    listener.wait_for(2, "status")
    publisher._connections[0]._client._sock.close()  # the will is for a connection that ends without goodbye
    until(lambda: b"offline" in [json.loads(message.payload)["status"].encode() for message in listener.of("status")])
    until(lambda: publisher.counts().connected == 2)
    publisher.close()
    last = {}
    until(
        lambda: last.update({m.topic: json.loads(m.payload)["status"] for m in listener.of("status")}) or set(last.values()) == {"offline"}
    )
    assert set(last) == {"vitalane/v1/shipment/gateway-1/status", "vitalane/v1/shipment/gateway-2/status"}
    late = listen(broker, pattern="vitalane/v1/+/+/status")
    assert all(message.retain for message in late.wait_for(2, "status"))


def test_tls_with_a_certificate_authority_of_ones_own(mosquitto, listen):
    listener = listen(mosquitto)
    with Publisher(Broker("127.0.0.1", mosquitto.tls_port, mosquitto.user, mosquitto.password, ca=mosquitto.ca), clients=1) as publisher:
        publisher.send(Message(0, "vitalane/v1/shipment/t/readings", b"{}"))
    assert listener.wait_for(1)[0].payload == b"{}"
    other = Publisher(Broker("127.0.0.1", mosquitto.port, mosquitto.user, mosquitto.password, ca=mosquitto.ca), clients=1)
    with pytest.raises(Transient, match="no MQTT broker at"):
        other.open(timeout_s=0.5)
    with pytest.raises(VitalaneError, match="TLS for the broker cannot be set up"):
        Publisher(Broker(ca=mosquitto.directory / "absent.pem"))


def test_who_is_refused_is_told_why(broker):
    for protocol in ("3.1.1", "5"):
        wrong = Broker(port=broker.port, user="vitalane", password="wrong", protocol=protocol)
        with pytest.raises(Rejected, match=r"refuses user 'vitalane': .*(?i:not authori[sz]ed)"):
            Publisher(wrong, clients=2).open(timeout_s=WAIT_S)
        assert "wrong" not in repr(wrong)


def test_a_broker_that_is_not_there_is_a_sentence():
    with pytest.raises(Transient, match=r"no MQTT broker at 127.0.0.1:\d+"):
        Publisher(Broker(port=tools.free_port())).open(timeout_s=0.3)


def test_a_broker_that_comes_late_is_waited_for(start_mosquitto):
    broker = start_mosquitto()
    broker.stop()
    done = threading.Event()

    def late() -> None:
        done.wait(0.5)
        broker.start()
        done.wait()  # the broker ends with the thread that started it

    threading.Thread(target=late).start()
    try:
        with Publisher(address(broker), clients=1) as publisher:
            assert publisher.counts().connected == 1
    finally:
        done.set()


def test_progress_is_told_and_retained_messages_are_kept(broker, listen):
    told = []
    scene = demo(seed=1, duration_s=15, now_ms=utc_now_ms(), trucks=4, patients=3)
    with Publisher(address(broker), clients=2) as publisher:
        assert all(publisher.send(message) for message in scene.retained)
        publisher.flush(WAIT_S)
        late = listen(broker)
        assert [message.retain for message in late.wait_for(1)] == [True]
        counts = play(scene.feeds, publisher, threading.Event(), duration_s=1.0, progress=told.append, progress_s=0.2)
        assert publisher.flush(WAIT_S)
    assert len(told) >= 3
    assert told[-1].counts.sent == counts.sent > len(scene.devices)
    assert told[-1].event_ms[0] > told[0].event_ms[0]
    assert len(late.wait_for(counts.sent)) == counts.sent


@pytest.mark.parametrize("options", [{"clients": 0}, {"qos": 3}, {"max_inflight": 0}, {"max_inflight": 70_000}, {"name": "a/b"}])
def test_numbers_and_names_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"clients is at least 1|is not vitalane"):
        Publisher(Broker(), **options)
    with pytest.raises(ValueError, match="'4' is not spoken here"):
        Publisher(Broker(protocol="4"))


def test_without_acknowledgements_what_a_broken_connection_swallowed_is_counted(broker):
    """QoS 0 may lose; it may not leave a sender waiting for ever, nor count what never left as delivered."""
    with Publisher(address(broker), clients=1, qos=0, max_inflight=100) as publisher:
        for n in range(6000):
            if n == 3000:
                broker.restart(kill=True)
            assert publisher.send(Message(0, "vitalane/v1/shipment/t/readings", b"{}"))
        assert publisher.flush(WAIT_S)
        counts = publisher.counts()
    assert counts.sent == counts.acked + counts.lost == 6000
    assert 0 <= counts.lost <= 200
    assert counts.reconnects >= 1
