"""The whole house under a load: broker, `vitalane up`, a webhook receiver and, where asked, InfluxDB, on this machine's cores."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import load
from benchmarks.flow import METRICS, USUAL, rules_text
from cli.lag import Lag
from telemetry.books import Books, total
from telemetry.routing import partition_of
from tests.house import House, Receiver, influx_store, until, webhook_channel
from tests.servers import Influx, started

PARTITIONS = 1  # the product's default
SERVICES = ("ingest", "flow", "deliver")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
HARD = 60.0
HIT_RULE = "  - {id: hit, when: 'shock > 50 [g]', severity: critical}\n"


class Address(NamedTuple):
    port: int
    user: str = "bench"
    password: str = "bench"  # the benchmark's broker asks nobody


class Running:
    """A house that runs, the port of its broker, and what its processes have used."""

    def __init__(self, house: House, port: int, receiver: Receiver) -> None:
        self.house, self.port, self.receiver = house, port, receiver
        self.lag = Lag(house.data_dir, PARTITIONS)

    def cpu_s(self) -> float:
        """Return the CPU seconds of our processes so far."""
        used = 0
        for service in SERVICES:
            fields = Path(f"/proc/{self.house.status(service)['pid']}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / TICKS_A_SECOND

    def books(self) -> Books:
        return total(self.lag.books())

    def influx_has_all(self) -> bool:
        return self.lag.untaken("influxdb", store=True) == 0

    def settle(self, messages: int) -> Books:
        """Wait until everything is decided and booked; return the books, which must hold every message."""
        until(lambda: self.books().messages >= messages, lambda: f"{self.books()}\n{self.house.told()}", 120)
        books = self.books()
        assert books.messages == messages, books
        assert books.balances(), books
        return books


@contextmanager
def running(*, rules: int = 100, influx: bool = False, store_readings: bool = False, extra_rules: str = "") -> Iterator[Running]:
    """Run a house on the product's defaults with so many rules, until the end of the context."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path(__file__).parent / "out")))
        port = stack.enter_context(load.broker(folder))
        receiver = Receiver()
        stack.callback(receiver.close)
        settings: dict[str, Any] = {"stores": {}}
        if influx:
            (folder / "influx").mkdir()
            server = started(lambda: Influx(folder / "influx"))
            stack.callback(server.kill)
            settings["stores"] = influx_store(server)
            server.create_database()
        (folder / "rules.yaml").write_text(rules_text(rules - 1) + "\n" + HIT_RULE + extra_rules)
        house = House(
            folder, Address(port), partitions=PARTITIONS, rules=["rules.yaml"], windows={"shipment": "10 s"}, grace={"shipment": "1 s"},
            flow={"store_readings": store_readings}, channels=webhook_channel(receiver),
            subscriptions=[{"name": "all", "channels": ["hook"]}], **settings,
        )  # fmt: skip
        stack.enter_context(house)
        until(lambda: house.status("ingest").get("connected") and len(list(house.data_dir.glob("outbox-*.db"))) == PARTITIONS, house.told)
        yield Running(house, port, receiver)


def messages(count: int, devices: int, metrics: int, start_ms: int, per_second: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield usual readings, `metrics` a message, the devices in turn; event time passes at `per_second` messages."""
    values = [
        ",".join(f'"{name}":{usual + number / 200:.3f}' for name, usual in zip(METRICS[:metrics], USUAL, strict=False))
        for number in range(100)
    ]
    topics = [b"vitalane/v1/shipment/device-%05d/readings" % device for device in range(devices)]
    for number in range(count):
        time_ms = start_ms + number * 1000 // per_second
        yield topics[number % devices], b'{"v":1,"time":%d,"values":{%s}}' % (time_ms, values[number % 100].encode())


def hit(device: str, time_ms: int) -> tuple[bytes, bytes]:
    """Return a message that raises one alert at once: of a metric that the other rules do not watch."""
    return f"vitalane/v1/shipment/{device}/readings".encode(), json.dumps({"v": 1, "time": time_ms, "values": {"shock": HARD}}).encode()


def markers(time_ms: int) -> list[tuple[bytes, bytes]]:
    """Return one hit for each partition: when its alert is out, everything before it is decided."""
    names = {partition_of(name, PARTITIONS): name for name in (f"marker-{number}" for number in range(100))}
    return [hit(names[partition], time_ms) for partition in range(PARTITIONS)]


def in_background(work: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
