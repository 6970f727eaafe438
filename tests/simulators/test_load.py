"""A load keeps its schedule, counts everything, and does not let a slow broker look fast."""

import itertools
import json
import socket
import threading
from collections import defaultdict

import numpy as np
import pytest

from simulators import load, packets
from simulators.load import Latencies, Outcome, Plan, Tally
from telemetry.errors import Rejected, Transient
from telemetry.metrics import CATALOGUE
from tests.simulators.listening import address, until


def played(broker, plan, told=lambda tally: None, stop=None, **options):
    return load.run(address(broker, **options), plan, stop or threading.Event(), told, 0.02)


@pytest.mark.servers
@pytest.mark.parametrize(("readings", "clients", "devices"), [(1, 1, 7), (6, 3, 1100), (9, 4, 25)])
def test_every_message_arrives_once_in_the_order_of_its_device(broker, listen, readings, clients, devices):
    """What is measured must be what devices send: our form, known metrics, plausible values, times that ascend."""
    listener = listen(broker)
    outcome = played(broker, Plan(devices, 2000.0, 1.0, clients=clients, readings_per_message=readings))
    assert outcome.tally.sent == outcome.tally.acked == 2000
    messages = [(message.topic, json.loads(message.payload)) for message in listener.wait_for(2000)]
    assert len(messages) == 2000
    times = defaultdict(list)
    for topic, message in messages:
        times[topic].append(message["time"])
        assert len(message["values"]) == readings
        assert all(CATALOGUE[metric].low <= value <= CATALOGUE[metric].high for metric, value in message["values"].items())
    assert len(times) == min(devices, 2000)
    assert all(one < other for course in times.values() for one, other in itertools.pairwise(course))
    assert max(map(len, times.values())) - min(map(len, times.values())) <= 1


@pytest.mark.servers
def test_devices_that_report_rarely_still_keep_the_rate(broker):
    """A thousand devices at 5/s report every 200 s: their physics needs smaller steps than that, the schedule does not change."""
    outcome = played(broker, Plan(1000, 5.0, 1.0))
    assert outcome.tally.acked == outcome.tally.due == 5


@pytest.mark.servers
def test_what_was_due_while_the_broker_stood_still_waited_for_it(broker):
    """The omission of which coordinated loads are guilty: one slow answer, and nothing asked meanwhile."""
    resumed = threading.Event()

    def hold(tally):
        if tally.elapsed_s > 0.2 and not resumed.is_set():
            resumed.set()
            broker.pause()
            threading.Timer(1.0, broker.resume).start()

    outcome = played(broker, Plan(100, 1000.0, 2.0), hold)
    assert outcome.tally.acked == outcome.tally.sent
    assert outcome.latencies.longest_s > 0.9
    assert outcome.latencies.percentile_s(0.7) > 0.1  # of 2000 messages, 900 came due more than 0.1 s before the broker went on


@pytest.mark.servers
def test_what_is_in_flight_is_bounded(broker, listen):
    """While the broker stands still, and when it goes on nothing is lost or sent twice."""
    listener, most, held = listen(broker), [0], threading.Event()

    def watch(tally):
        most[0] = max(most[0], tally.sent - tally.acked)
        if not held.is_set():
            held.set()
            broker.pause()
            threading.Timer(0.5, broker.resume).start()

    outcome = played(broker, Plan(100, 2000.0, 1.5, clients=2, window=40), watch)
    assert most[0] == 2 * 40
    assert outcome.tally.acked == outcome.tally.sent
    until(lambda: len(listener.messages) >= outcome.tally.sent)
    assert len({(message.topic, message.payload) for message in listener.messages}) == len(listener.messages) == outcome.tally.sent


@pytest.mark.long
@pytest.mark.servers
def test_identifiers_come_round(broker):
    """Two messages in flight with one identifier would be one acknowledgement."""
    stop = threading.Event()
    plan = Plan(1000, 50_000.0, 60.0, clients=1, readings_per_message=1)
    outcome = played(broker, plan, lambda tally: stop.set() if tally.sent > packets.IDENTIFIERS + 5000 else None, stop)
    assert outcome.tally.acked == outcome.tally.sent > packets.IDENTIFIERS + 5000


@pytest.mark.servers
def test_a_rate_that_cannot_be_is_told_as_missed(broker):
    outcome = played(broker, Plan(1000, 200_000.0, 0.5, clients=1, window=1))
    assert outcome.tally.due == 100_000
    assert outcome.tally.acked == outcome.tally.sent < 98_000
    (fault,) = outcome.faults(200_000.0)
    assert "200000/s was missed by" in fault


@pytest.mark.servers
def test_a_broker_that_dies_is_one_sentence_and_what_it_owes_is_counted(broker):
    outcome = played(broker, Plan(100, 1000.0, 30.0), lambda tally: broker.kill() if tally.elapsed_s > 0.3 else None)
    assert outcome.tally.elapsed_s < 30
    assert any("broke" in fault for fault in outcome.faults(1000.0))
    assert outcome.broken is not None


@pytest.mark.servers
def test_a_stop_ends_it_in_order(broker):
    stop = threading.Event()
    outcome = played(broker, Plan(100, 1000.0, 60.0), lambda tally: stop.set() if tally.sent > 200 else None, stop)
    assert outcome.tally.elapsed_s < 60
    assert 200 < outcome.tally.sent == outcome.tally.acked
    assert not outcome.faults(1000.0)


@pytest.mark.servers
def test_without_acknowledgements_what_was_handed_over_counts(broker, listen):
    listener = listen(broker, qos=0)
    outcome = played(broker, Plan(100, 1000.0, 0.5, qos=0))
    assert outcome.tally.sent == outcome.tally.acked == outcome.tally.due == 500
    assert outcome.latencies.longest_s > 0
    listener.wait_for(500)


@pytest.mark.servers
def test_tls(mosquitto):
    outcome = load.run(
        address(mosquitto, ca=mosquitto.ca)._replace(port=mosquitto.tls_port), Plan(50, 1000.0, 0.5, clients=2), threading.Event()
    )
    assert outcome.tally.acked == outcome.tally.due == 500


@pytest.mark.servers
def test_a_refusal_and_a_silence_are_told_apart(broker, free_port):
    with pytest.raises(Rejected, match="refuses user 'vitalane': not authorised"):
        load.run(address(broker)._replace(password="wrong-horse"), Plan(1, 1.0, 1.0), threading.Event())
    with pytest.raises(Transient, match="no MQTT broker"):
        load.run(address(broker)._replace(port=free_port), Plan(1, 1.0, 1.0), threading.Event())


def test_acknowledgements_are_read_however_their_bytes_arrive():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sent = b"".join(b"\x40\x02" + identifier.to_bytes(2, "big") for identifier in (1, 65_535, 258))

        def answer():
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(b"\x20\x02\x00\x00")
                for place in range(len(sent)):
                    client.recv(1)
                    client.sendall(sent[place : place + 1])
                client.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        connection = packets.Connection("127.0.0.1", server.getsockname()[1], packets.Account("one"))
        found = []
        for _ in sent:
            assert connection.send(b"x") == 1
            connection.wait(5.0)
            found += connection.acknowledged().tolist()
        connection.close()
        thread.join()
    assert found == [1, 65_535, 258]


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_times_within_one_percent(seed):
    seconds = np.random.default_rng(seed).lognormal(-6, 2, 10_000)
    latencies = Latencies()
    for part in np.split(seconds, 10):
        latencies.add(part)
    for share in load.SHARES:
        true = np.sort(seconds)[int(np.ceil(share * seconds.size)) - 1]
        assert true <= latencies.percentile_s(share) * (1 + 1e-9), (seed, share)
        assert latencies.percentile_s(share) <= true * 1.0101, (seed, share)
    assert latencies.longest_s == seconds.max()
    assert Latencies().percentile_s(0.5) == 0.0


def test_what_is_missed_or_owed_is_a_fault_and_two_percent_are_not():
    def faults(due, sent, acked, broken=None):
        return Outcome(Tally(1.0, due, sent, acked), Latencies(), 0.0, broken).faults(100.0)

    assert faults(1000, 980, 980) == []
    assert len(faults(1000, 979, 979)) == 1
    assert len(faults(1000, 1000, 999)) == 1
    assert len(faults(1000, 900, 899, "it broke")) == 3


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(0, 1.0, 1.0), "at least 1"),
        (Plan(1, 1.0, 1.0, clients=0), "at least 1"),
        (Plan(1, 1.0, 1.0, readings_per_message=10), "1 to 9"),
        (Plan(1, 1.0, 1.0, qos=2), "not 2"),
        (Plan(1, 1.0, 1.0, window=65_535), "1 to 65534"),
        (Plan(2, 2001.0, 1.0), "2001/s does not fit"),
        (Plan(1, 1.0, 0.0), "more than 0 s"),
    ],
)
def test_a_plan_that_is_none_is_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        plan.check()
