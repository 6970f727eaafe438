"""The engine against stock Bytewax, on the same readings, each in a process of its own: a journal that is there already, recovery on.

Stock is what its documentation shows: `fold_window` over tumbling windows of 10 s in event time, and a `stateful_map` that compares the
mean with the thresholds. It has no journal to read and nothing to decode: its readings are Python tuples before the clock starts.
"""

import json
import pickle
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import flow
from flows.service import telemetry_path
from rules.control import registry_record, rules_record, settings_record
from rules.document import compile_rules
from rules.evaluator import Evaluator
from telemetry.readings import Decoded, no_packets

METRICS = 10
MESSAGES_A_ROW = 200
STOCK = """
import json, sys, time, random
from datetime import UTC, datetime, timedelta
from pathlib import Path
import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource
folder, devices, count, rules = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(1)
start = datetime.fromtimestamp(time.time() // 10 * 10, UTC)  # as if live: on times long past stock is ten times slower
step = timedelta(seconds=1) / devices
readings = [(f"{n // 10 % devices}/{n % 10}", (start + n // 10 * step, 20 + rng.random())) for n in range(count)]
thresholds = [30 + n / 10 for n in range(rules)]
flow = Dataflow("stock")
clock = win.EventClock(ts_getter=lambda reading: reading[0], wait_for_system_duration=timedelta(seconds=1))
windows = win.fold_window(
    "window", op.input("in", flow, TestingSource(readings, batch_size=1000)), clock,
    win.TumblingWindower(length=timedelta(seconds=10), align_to=start),
    lambda: (0, 0.0), lambda sums, reading: (sums[0] + 1, sums[1] + reading[1]), lambda a, b: (a[0] + b[0], a[1] + b[1]),
)
def judge(state, window):
    mean = window[1][1] / window[1][0]
    state = state or [False] * len(thresholds)
    changed = [n for n, threshold in enumerate(thresholds) if (mean > threshold) != state[n]]
    return [mean > threshold for threshold in thresholds], changed
from bytewax.connectors.stdio import StdOutSink
alerts = op.filter("some", op.stateful_map("judge", windows.down, judge), lambda item: bool(item[1]))
op.output("out", op.map("text", alerts, str), StdOutSink())
init_db_dir(Path(folder), 1)
began = time.process_time()
cli_main(flow, epoch_interval=timedelta(seconds=3), recovery_config=RecoveryConfig(Path(folder), timedelta(0)))
print("\\n" + json.dumps({"cpu_s": time.process_time() - began}))
"""
ENGINE = """
import json, resource, sys, threading, time
from pathlib import Path
from flows.service import FlowSettings, run
began = time.process_time()
run(FlowSettings(Path(sys.argv[1]), 1, 3000, to_end=True), threading.Event())
print(json.dumps({"cpu_s": time.process_time() - began, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def stock(devices: int, rules: int, count: int) -> float:
    """Return readings a second of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-c", STOCK, folder, str(devices), str(count), str(rules)]
        printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        return count / float(json.loads(printed.splitlines()[-1])["cpu_s"])


def engine(devices: int, rules: int, count: int, late: float = 0.0) -> tuple[float, float]:
    """Return readings a second of CPU beyond the first tenth, in which the series are made, and the peak of memory in MB."""
    took = []
    for part in (count // 10, count):
        with tempfile.TemporaryDirectory() as folder:
            flow.write(telemetry_path(Path(folder)), devices, part, METRICS, rules, late=late, paced=True)
            printed = subprocess.run([sys.executable, "-c", ENGINE, folder], capture_output=True, text=True, check=True).stdout
            took.append(json.loads(printed))
    return (count - count // 10) / (took[1]["cpu_s"] - took[0]["cpu_s"]), took[1]["rss_mb"]


def rows(devices: int, count: int, late: float) -> list[tuple[int, Decoded]]:
    """Return `count` rows as they are decoded, (received, packets): a reading a second and device; a thousandth out of band."""
    rng, now_ms, device, made = random.Random(1), flow.START_MS, 0, []
    for _ in range(count):
        now_ms += max(1, 1000 * MESSAGES_A_ROW // devices)
        packets = no_packets()
        for message in range(MESSAGES_A_ROW):
            device = (device + 1) % devices
            packets.message.append(message)
            packets.kinds.append("shipment")
            packets.devices.append(f"device-{device:05d}")
            packets.metrics.append(flow.METRICS)
            packets.times_ms.append(now_ms - (rng.randrange(2000, 120_000) if rng.random() < late else 0))
            packets.values.extend([usual + rng.random() * (1 if rng.random() < 0.999 else 60) for usual in flow.USUAL])
        made.append((now_ms + 5, Decoded(packets, [], [], 0)))
    return made


def evaluator(devices: int, rules: int, count: int, late: float = 0.0) -> tuple[float, Evaluator]:
    """Return readings a second of CPU of the evaluator alone, over the last two thirds of some rows, and the evaluator."""
    made, offset = rows(devices, count, late), 0
    one = Evaluator(0, 1)
    documents = compile_rules([("bench", flow.rules_text(rules))])
    for body in (settings_record(flow.settings()), registry_record([]), rules_record(documents, "bench")):
        one.on_control(offset, flow.START_MS, body)
        offset += 1
    began = 0.0
    for number, (now_ms, decoded) in enumerate(made):
        if number == count // 3:
            one.take_history()
            began = time.process_time()
        one.on_messages(offset, MESSAGES_A_ROW, now_ms, decoded)
        offset += MESSAGES_A_ROW
    return (count - count // 3) * MESSAGES_A_ROW * METRICS / (time.process_time() - began), one


def snapshot() -> tuple[float, float, float]:
    """Return the milliseconds of a snapshot of 100,000 series and its pickling, its megabytes, and the seconds to resume from it."""
    _, one = evaluator(10_000, 100, 160)
    chunks = [chunk for chunk in [one.take_history()] if chunk is not None]
    took = []
    for _ in range(3):
        began = time.perf_counter()
        packed = pickle.dumps(one.snapshot(), protocol=5)
        took.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    Evaluator.restore(0, 1, pickle.loads(packed), chunks)
    return sorted(took)[1], len(packed) / 1e6, time.perf_counter() - began


def run() -> dict[str, tuple[float, str]]:
    results: dict[str, tuple[float, str]] = {}
    ratios = []
    for devices, count in ((1_000, 200_000), (10_000, 200_000)):
        for rules in (1, 100):
            name = f"{devices // 1000}k_devices.{rules}_rules"
            ours, memory = engine(devices, rules, 3_000_000)
            theirs = stock(devices, rules, count)
            ratios.append(ours / theirs)
            results[f"engine.flow.{name}"] = ours, "1/s"
            results[f"engine.stock.{name}"] = theirs, "1/s"
            results[f"engine.flow.{name}.peak_memory"] = memory, "MB"
    results["engine.readings_per_s"] = results["engine.flow.10k_devices.100_rules"]
    results["engine.ratio_to_stock"] = ratios[-1], ""
    results["engine.ratio_to_stock.least"] = min(ratios), ""
    in_order, _ = evaluator(1_000, 100, 600)
    late, _ = evaluator(1_000, 100, 600, 0.01)
    results["engine.evaluator.1k_devices.100_rules"] = in_order, "1/s"
    results["engine.evaluator.1k_devices.100_rules.late_1_percent"] = late, "1/s"
    results["engine.late_cost_ratio"] = in_order / late, ""
    one_rule, _ = evaluator(1_000, 1, 600)
    results["engine.rules_100_to_1_cost_ratio"] = one_rule / in_order, ""
    rates = {series: evaluator(series // METRICS, 100, 700)[0] for series in (1_000, 10_000, 100_000)}
    results["engine.series_100k_to_1k_cost_ratio"] = rates[1_000] / rates[100_000], ""
    _, many = evaluator(10_000, 100, 60)
    held = many.history.size_bytes()
    results["engine.bytes_per_series"] = (many.state_bytes() - held) / many.series.length, "bytes, without the history"
    milliseconds, megabytes, resumed = snapshot()
    results["engine.snapshot_ms_100k_series"] = milliseconds, "ms"
    results["engine.snapshot_mb_100k_series"] = megabytes, "MB"
    results["engine.resume_s_100k_series"] = resumed, "s"
    return results
