"""A backtest of a fleet: a thousand loggers, a reading a minute, the rules of the cold-chain pack; readings are made meanwhile."""

import time
from collections.abc import Iterator

from rules.backtest import Measured
from rules.backtest import run as backtest
from rules.document import load_rules

LOGGERS, MINUTES = 1_000, 2_000
START_MS = 1_767_225_600_000


def readings() -> Iterator[Measured]:
    for minute in range(MINUTES):
        for logger in range(LOGGERS):
            yield Measured(START_MS + minute * 60_000, "shipment", f"logger-{logger}", "temperature", 5.0 + minute % 7 / 10)


def run() -> dict[str, tuple[float, str]]:
    devices = [
        {"device": f"logger-{logger}", "kind": "shipment", "subject": f"shipment-{logger}", "tags": {"storage": "refrigerated"}}
        for logger in range(LOGGERS)
    ]
    began = time.process_time()
    for _ in readings():
        pass
    making = time.process_time() - began
    began = time.process_time()
    done = backtest(readings(), load_rules(["cold-chain"]), devices=devices)
    took = time.process_time() - began - making
    assert done.accepted == LOGGERS * MINUTES
    return {"backtest.readings_per_s": (done.accepted / took, "1/s")}
