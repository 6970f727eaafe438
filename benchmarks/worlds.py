"""How fast the simulators are: worlds of 10,000 devices as messages, physics and encoding on one core; and a load at a rate, QoS 1, against
a Mosquitto that has nobody else to serve.
"""

import tempfile
import threading
import time
from pathlib import Path

from benchmarks.load import broker
from simulators import load
from simulators.feeds import WorldSource
from simulators.patient import Patients
from simulators.publish import Broker
from simulators.shipment import Shipments

DEVICES = 10_000
START_MS = 1_763_700_000_000
MESSAGES = 300_000
RATE, SECONDS = 20_000.0, 15.0
MORE_THAN_CAN_BE, BRIEFLY = 500_000.0, 5.0


def run() -> dict[str, tuple[float, str]]:
    results: dict[str, tuple[float, str]] = {}
    for name, world in (("shipments", Shipments), ("patients", Patients)):
        source = WorldSource(world(DEVICES, seed=1, start_ms=START_MS))
        made, began = 0, time.perf_counter()
        while made < MESSAGES:
            made += len(source.take())
        results[f"worlds.{name}.messages_per_s"] = (made / (time.perf_counter() - began), "messages/s")
    steady, most = _loaded(RATE, SECONDS), _loaded(MORE_THAN_CAN_BE, BRIEFLY)
    results["worlds.load.sent_per_s"] = (steady.tally.rate, "messages/s")
    results["worlds.load.unacknowledged"] = (steady.tally.sent - steady.tally.acked, "messages")
    for share in load.SHARES:
        results[f"worlds.load.p{100 * share:g}_ms"] = (1000 * steady.latencies.percentile_s(share), "ms")
    results["worlds.load.processor_share"] = (steady.cpu_s / steady.tally.elapsed_s, "")
    results["worlds.load.most_per_s"] = (most.tally.rate, "messages/s")
    return results


def _loaded(rate: float, seconds: float) -> load.Outcome:
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as port:
        return load.run(Broker(port=port), load.Plan(DEVICES, rate, seconds), threading.Event())
