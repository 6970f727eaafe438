"""End to end: QoS 1 in, journalled with fsync, windows and 100 rules, alerts out by webhook, windows and alerts into InfluxDB.

The clock runs from the first publish until the alert of the last message of every partition was received over HTTP. Broker, load, receiver
and InfluxDB share the machine's cores. Nothing may be missing afterwards: the books hold every message, and `vitalane verify` balances.
"""

import time

from benchmarks import load
from benchmarks.running import PARTITIONS, Running, markers, messages, now_ms, running
from tests.house import until

DEVICES = 1000


def measure(running_house: Running, count: int, metrics: int) -> tuple[float, float]:
    """Return (messages per second, CPU seconds of our processes per 100,000 messages)."""
    spread_s = 60
    start_ms = now_ms() - spread_s * 1000
    packets = load.encode([*messages(count, DEVICES, metrics, start_ms, count // spread_s), *markers(now_ms())])
    with load.Publisher(running_house.port) as publisher:
        cpu_s = running_house.cpu_s()
        began = time.perf_counter()
        publisher.blast(packets)
        until(lambda: len(running_house.receiver.received) >= PARTITIONS, running_house.house.told, 120)
        took_s = time.perf_counter() - began
        used_s = running_house.cpu_s() - cpu_s
    books = running_house.settle(count + PARTITIONS)
    assert books.accepted == count * metrics + PARTITIONS, books
    return (count + PARTITIONS) / took_s, used_s / count * 100_000


def run() -> dict[str, tuple[float, str]]:
    results: dict[str, tuple[float, str]] = {}
    for metrics, count, name in ((1, 300_000, "e2e.messages_per_s"), (10, 200_000, "e2e.readings_per_s")):
        with running(influx=True) as house:
            rate, cpu_s = measure(house, count, metrics)
            until(house.influx_has_all, house.house.told, 120)
        results[name] = (rate * metrics, "1/s")
        results["e2e.cpu_s_per_100k_messages" + ("" if metrics == 1 else ".10_a_message")] = (cpu_s, "s")
    with running(influx=True, store_readings=True) as house:
        count = 60_000
        began = time.perf_counter()
        measure(house, count, 10)
        until(house.influx_has_all, house.house.told, 300)
        results["e2e.influx_raw_readings_per_s"] = (count * 10 / (time.perf_counter() - began), "1/s")
        house.house.stop()
        house.house.command("verify")
    return results
