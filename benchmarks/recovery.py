"""kill -9 of all three services under 5,000 messages a second: how long until the next breach is told again."""

import os
import signal
import time

from benchmarks import load
from benchmarks.running import SERVICES, hit, in_background, messages, now_ms, running
from tests.house import until

PER_SECOND = 5000


def run() -> dict[str, tuple[float, str]]:
    with running() as house:
        packets = load.encode(messages(PER_SECOND * 12, 1000, 1, now_ms(), PER_SECOND))
        with load.Publisher(house.port) as usual, load.Publisher(house.port, client_id="breach") as breach:
            thread = in_background(usual.pace, packets, PER_SECOND)
            time.sleep(4)
            killed_at = time.time()
            for service in SERVICES:
                os.kill(house.house.status(service)["pid"], signal.SIGKILL)
            breach.blast(load.encode([hit("after-the-crash", now_ms())]))
            until(lambda: any(body["data"]["subject"] == "after-the-crash" for _, body, _ in house.receiver.received), house.house.told)
            first = next(at_s for _, body, at_s in house.receiver.received if body["data"]["subject"] == "after-the-crash")
            thread.join()
        until(lambda: house.books().accepted >= len(packets) + 1, lambda: f"{house.books()}\n{house.house.told()}", 60)
        books = house.books()
        assert books.balances(), books
        assert books.accepted == len(packets) + 1, books  # what the broker handed over twice is counted as duplicate
    return {"recovery.first_alert_s": (first - killed_at, "s")}
