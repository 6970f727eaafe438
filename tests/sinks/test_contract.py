"""What every channel and every store owes, whatever it speaks: one, many, twice is once, a passing failure, a final one, closed twice."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from alerts.message import compose_with
from journal.rows import Row, RowKind
from sinks.history import History, HistoryReader
from sinks.influxdb import InfluxDb
from sinks.sink import Channel, Store
from sinks.terminal import Terminal
from sinks.webhook import Webhook
from telemetry.alert import AlertEvent, from_json
from telemetry.errors import Rejected, Transient
from tests.servers import Broker, Influx
from tests.sinks.parts import Answer, Receiver, alert_row, event, readings, row, some_books, windows
from tests.tools import free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
COMPOSE = compose_with(None)


class Bench(ABC):
    """One channel, its other side, and what can be done to that."""

    channel: Channel

    @abstractmethod
    def received(self) -> list[str]:
        """Return what tells the events apart that the other side took."""

    def key(self, an_event: AlertEvent) -> str:
        """Return what `received` shows for an event."""
        return an_event.event_id

    def fail(self) -> None:
        """Let the next attempt meet a passing failure."""
        raise AssertionError(self)

    def refuse(self) -> None:
        """Let the next attempt be refused for good."""
        return

    def bad(self) -> AlertEvent:
        """Return an event that is refused after `refuse`."""
        return event(9)

    def close(self) -> None:
        """End the other side."""
        return


class WebhookBench(Bench):
    def __init__(self) -> None:
        self.receiver = Receiver()
        self.channel = Webhook("webhook", self.receiver.url, [SECRET], COMPOSE, allow_private=True)

    def received(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.receiver.accepted]

    def fail(self) -> None:
        self.receiver.answers = [Answer(503)]

    def refuse(self) -> None:
        self.receiver.answers = [Answer(422)]

    def close(self) -> None:
        self.receiver.close()


class MailBench(Bench):
    def __init__(self) -> None:
        from sinks.mail import Mail

        self.bodies: list[bytes] = []
        self.answers: list[str] = []
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.controller.start()
        self.channel = Mail("mail", "127.0.0.1", self.controller.port, "a@b.example", ["c@d.example"], COMPOSE, security="plain")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.answers:
            return self.answers.pop(0)
        self.bodies.append(envelope.content)
        return "250 taken"

    def received(self) -> list[str]:
        return [body.split(b"Message-ID: <")[1].split(b"@")[0].decode() for body in self.bodies]

    def fail(self) -> None:
        self.answers = ["451 later"]

    def refuse(self) -> None:
        self.answers = ["554 never"]

    def close(self) -> None:
        self.controller.stop()


class MqttBench(Bench):
    def __init__(self, broker: Broker) -> None:
        from sinks.mqtt import Mqtt
        from tests.sinks.test_mqtt import Subscriber

        self.broker = broker
        self.subscriber = Subscriber(broker)
        self.ids: list[str] = []
        self.channel = Mqtt("mqtt", "127.0.0.1", broker.port, COMPOSE, user=broker.user, password=broker.password, timeout_s=1.0)

    def received(self) -> list[str]:
        import queue

        try:
            while True:
                self.ids.append(from_json(bytes(self.subscriber.messages.get(timeout=0.3)[1])).event_id)
        except queue.Empty:
            return list(dict.fromkeys(self.ids))  # after an unanswered attempt the client sends again by itself: the same id, once

    def fail(self) -> None:
        self.broker.pause()
        threading.Timer(1.2, self.broker.resume).start()

    def bad(self) -> AlertEvent:
        return event(9, rule="no/topic")

    def close(self) -> None:
        self.subscriber.close()


class ChatBench(Bench):
    def __init__(self) -> None:
        from sinks.chat import Chat

        self.receiver = Receiver()
        self.channel = Chat("chat", [f"json://127.0.0.1:{self.receiver.port}/"], COMPOSE)

    def received(self) -> list[str]:
        import json

        return [json.loads(request.body)["message"].split("Id:       ")[1].split(",")[0] for request in self.receiver.accepted]

    def key(self, an_event: AlertEvent) -> str:
        return an_event.alert_id

    def fail(self) -> None:
        self.receiver.answers = [Answer(500)]

    def close(self) -> None:
        self.receiver.close()


class TerminalBench(Bench):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.channel = Terminal("terminal", self.lines.append, COMPOSE)

    def received(self) -> list[str]:
        return [line.split("raised: ")[1].split(":")[0] for line in self.lines]

    def key(self, an_event: AlertEvent) -> str:
        return an_event.subject


BENCHES: Mapping[str, Callable[..., Bench]] = {
    "webhook": WebhookBench,
    "mail": MailBench,
    "mqtt": MqttBench,
    "chat": ChatBench,
    "terminal": TerminalBench,
}


def named(*names: str) -> list[Any]:
    return [pytest.param(name, marks=() if name == "terminal" else pytest.mark.servers) for name in names]


@pytest.fixture(params=named(*BENCHES))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = BENCHES[request.param](*([request.getfixturevalue("mosquitto")] if request.param == "mqtt" else []))
    yield made
    made.channel.close()
    made.close()


class TestChannels:
    def test_one(self, bench: Bench) -> None:
        bench.channel.send(event(1))
        assert bench.received() == [bench.key(event(1))]

    def test_many_from_several_threads(self, bench: Bench) -> None:
        """A channel has several senders."""
        threads = [threading.Thread(target=bench.channel.send, args=(event(number),)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(bench.received()) == sorted(bench.key(event(number)) for number in range(10))

    def test_twice_can_be_told_from_two(self, bench: Bench) -> None:
        """After a crash an event is sent again; the other side knows it by what it carries."""
        bench.channel.send(event(1))
        bench.channel.send(event(1))
        assert set(bench.received()) == {bench.key(event(1))}

    @pytest.mark.parametrize("bench", named("webhook", "mail", "mqtt", "chat"), indirect=True)
    def test_a_passing_failure_then_success(self, bench: Bench) -> None:
        bench.channel.send(event(1))
        bench.fail()
        with pytest.raises(Transient):
            bench.channel.send(event(2))
        for _ in range(20):
            try:
                bench.channel.send(event(2))
            except Transient:
                continue
            break
        assert bench.received() == [bench.key(event(1)), bench.key(event(2))]

    @pytest.mark.parametrize("bench", named("webhook", "mail", "mqtt"), indirect=True)  # apprise does not say why
    def test_a_refusal_is_final_and_the_next_one_goes(self, bench: Bench) -> None:
        bench.refuse()
        with pytest.raises(Rejected):
            bench.channel.send(bench.bad())
        bench.channel.send(event(1))
        assert bench.received() == [bench.key(event(1))]

    def test_closed_twice(self, bench: Bench) -> None:
        bench.channel.send(event(1))
        bench.channel.close()
        bench.channel.close()
        assert bench.received() == [bench.key(event(1))]

    def test_closed_without_use(self, bench: Bench) -> None:
        bench.channel.close()
        assert bench.received() == []


ROWS = [
    row(RowKind.READINGS, readings([1.0, 2.0, 3.0]), 0),
    row(RowKind.WINDOWS, windows(2), 1),
    alert_row(event(1), 2),
    alert_row(event(1, 2), 3),
    row(RowKind.BOOKS, some_books(), 4),
    row(RowKind.QUARANTINE, b"[]", 5),
]
EVERYTHING = {"readings": 3, "windows": 2, "alerts": 2}


class Shelf(ABC):
    """One store and how to look into it."""

    store: Store

    @abstractmethod
    def counts(self) -> dict[str, int]: ...

    @abstractmethod
    def fail(self) -> Callable[[], None]:
        """Take it away; returns how to bring it back."""


class HistoryShelf(Shelf):
    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "history.db"
        self.store = self.history = History(self.path)

    def counts(self) -> dict[str, int]:
        reader = HistoryReader(self.path)
        counts = reader.counts()
        reader.close()
        return {name: counts[name] for name in EVERYTHING}

    def fail(self) -> Callable[[], None]:
        connection = self.history._database._connection
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")  # a full disk

        def mend() -> None:
            connection.execute("PRAGMA max_page_count = 100000")

        return mend


class InfluxShelf(Shelf):
    def __init__(self, server: Influx) -> None:
        self.server = server
        self.store = InfluxDb(server.url, server.org, server.database, server.token)

    def counts(self) -> dict[str, int]:
        fields = {"readings": "value", "windows": "mean", "alerts": "alert_id"}
        return {
            name: sum(found["count"] for found in self.server.query(f'SELECT count("{field}") FROM "{name}"'))
            for name, field in fields.items()
        }

    def fail(self) -> Callable[[], None]:
        self.server.kill()
        return self.server.start


@pytest.fixture(params=["history", pytest.param("influxdb", marks=pytest.mark.servers)])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    made: Shelf = HistoryShelf(tmp_path) if request.param == "history" else InfluxShelf(request.getfixturevalue("influxd"))
    yield made
    made.store.close()


class TestStores:
    def test_nothing(self, shelf: Shelf) -> None:
        shelf.store.write([])
        assert sum(shelf.counts().values()) == 0

    def test_one(self, shelf: Shelf) -> None:
        shelf.store.write(ROWS[:1])
        assert shelf.counts() == {"readings": 3, "windows": 0, "alerts": 0}

    def test_many(self, shelf: Shelf) -> None:
        shelf.store.write(ROWS)
        assert shelf.counts() == EVERYTHING

    def test_twice_is_once(self, shelf: Shelf) -> None:
        shelf.store.write(ROWS)
        shelf.store.write(ROWS[2:])
        for some_row in ROWS:
            shelf.store.write([some_row])
        assert shelf.counts() == EVERYTHING

    def test_a_passing_failure_then_success(self, shelf: Shelf) -> None:
        shelf.store.write(ROWS[2:3])
        bring_back = shelf.fail()
        large: list[Row] = [row(RowKind.READINGS, readings([1.0] * 20_000, first_ms=1_700_000_000_000), 7)]
        with pytest.raises(Transient):
            shelf.store.write([*ROWS, *large])
        bring_back()
        shelf.store.write([*ROWS, *large])
        assert shelf.counts() == EVERYTHING | {"readings": 20_003}

    def test_a_refused_row_is_named_and_the_rest_can_be_written(self, shelf: Shelf) -> None:
        bad = row(RowKind.WINDOWS, b"not a block", 8)
        with pytest.raises(Rejected) as raised:
            shelf.store.write([*ROWS[:3], bad, *ROWS[3:]])
        assert set(raised.value.reasons) == {3}
        shelf.store.write(ROWS)
        assert shelf.counts() == EVERYTHING

    def test_closed_twice(self, shelf: Shelf) -> None:
        shelf.store.write(ROWS)
        shelf.store.close()
        shelf.store.close()
        assert shelf.counts() == EVERYTHING
