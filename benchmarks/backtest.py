"""A backtest of a fleet: a thousand loggers, a reading a minute, the rules of the cold-chain pack; readings are made meanwhile."""

import random
import time
from collections.abc import Callable, Iterator

from rules.backtest import Measured
from rules.backtest import run as backtest
from rules.document import compile_rules, load_rules
from rules.sweep import sweep
from telemetry.metrics import CATALOGUE

LOGGERS, MINUTES = 1_000, 2_000
SWEPT = compile_rules([("swept", "rules: [{id: low, when: spo2 < 90 %, for: 10 s, severity: warning}]")])
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
    making = _cpu_s(lambda: [None for _ in readings()])
    took = _cpu_s(lambda: backtest(readings(), load_rules(["cold-chain"]), devices=devices)) - making
    ward = list(patients())
    one = _swept_s(ward, [90.0], [10_000])
    many = _swept_s(ward, [85.0 + at for at in range(8)], [5_000 * at for at in range(6)])
    return {"backtest.readings_per_s": (LOGGERS * MINUTES / took, "1/s"), "sweep.cost_ratio_48": (many / one, "")}


def patients() -> Iterator[Measured]:
    """Yield an hour of SpO2 of sixty patients, a reading a second, with an episode of half a minute every ten."""
    rng = random.Random(1)
    for second in range(3_600):
        for patient in range(60):
            low = (second + 10 * patient) % 600 < 30
            yield Measured(START_MS + second * 1000, "patient", f"bed-{patient}", "spo2", (86.0 if low else 95.0) + rng.randrange(3))


def _swept_s(ward: list[Measured], thresholds: list[float], spans_ms: list[int]) -> float:
    return _cpu_s(lambda: sweep(SWEPT, "low", thresholds, spans_ms, lambda rules: backtest(ward, rules), CATALOGUE))


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
