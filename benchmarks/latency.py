"""From publish to webhook: how long after a breach is published its alert is received over HTTP, while usual messages flow steadily.

Each hit is of a device of its own, so each raises one alert. Sending and receiving are stamped by the same clock on one machine.
"""

from benchmarks import load
from benchmarks.running import hit, messages, now_ms, percentile, running
from tests.house import until

SECONDS = 20
ALERTS_A_SECOND = 20


def measure(per_second: int) -> list[float]:
    """Return the latency of every alert, ms."""
    count = per_second * SECONDS
    every = per_second // ALERTS_A_SECOND
    start_ms = now_ms() + 500
    mixed, hit_at = [], {}
    for number, message in enumerate(messages(count, 1000, 1, start_ms, per_second)):
        if number % every == every - 1:
            device = f"hit-{number}"
            hit_at[device] = number
            mixed.append(hit(device, start_ms + number * 1000 // per_second))
        else:
            mixed.append(message)
    packets = load.encode(mixed)
    with running() as house:
        with load.Publisher(house.port) as publisher:
            sent_ns = publisher.pace(packets, per_second)
        until(lambda: len(house.receiver.received) >= len(hit_at), lambda: f"{len(house.receiver.received)} of {len(hit_at)}", 60)
        received = {body["data"]["subject"]: at_s for _, body, at_s in house.receiver.received}
    warm = [device for device, number in hit_at.items() if number > count // 10]
    return [received[device] * 1000 - sent_ns[hit_at[device]] / 1e6 for device in warm]


def run() -> dict[str, tuple[float, str]]:
    results = {}
    for per_second, name in ((1000, "1k"), (5000, "5k")):
        latencies = measure(per_second)
        for share in (50, 99):
            results[f"latency.publish_to_webhook.{name}.p{share}_ms"] = (percentile(latencies, share / 100), "ms")
    return results
