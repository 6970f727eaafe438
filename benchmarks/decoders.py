"""What decoding a message costs: of each form as devices usually send it, and of 64 KiB made to cost as much as they can.

One core, one message a row, as when it comes alone. `python -m benchmarks decoders`.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes
from decoders.library import adapted, gathered, read_document, shipped_names
from decoders.mappings import as_plain, from_plain
from decoders.shapes import Shapes
from journal.messages import Messages, decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from tests.decoders.samples import DECODERS, SAMPLES, topics_of

LARGEST = 65_536
NOW_MS = 1_763_674_000_123
TIMES = 9
USUAL = 2_000

CLIF = b"hospitalization_id,recorded_dttm,"
WORST: dict[str, tuple[bytes, bytes]] = {
    # topic, payload: what each reader works on longest
    "readings": (b"vitalane/v1/patient/d/readings", b'{"readings":[' + b",".join([b'{"metric":"spo2","value":1,"a":1}'] * 1900) + b"]}"),
    "series": (b"vitalane/v1/patient/d/readings", b'{"v":2,"time":1763674000000,"every_ms":1,"values":{"spo2":[' + b"1," * 9998 + b"1]}}"),
    "senml": (b"vitalane/v1/patient/d/senml", b'[{"bn":"spo2","v":1},' + b",".join([b'{"v":1}'] * 8000) + b"]"),
    "columns": (b"exports/clif/vitals", CLIF + b"vital_category,vital_value\n" + b"1,,,\n" * 9_999),
    "columns, JMESPath": (
        b"exports/clif/assessments",
        CLIF + b"assessment_category,numerical_value,categorical_value\n" + b"1,2020-01-01T00:00:00Z,gcs_total,15,\n" * 1_750,
    ),
    "columns, evenly spaced": (b"exports/empatica/e/hr", b"1560279835\n1\n" + b"9\n" * 9_999),
    "lines": (b"exports/qtag/x", b"Device: Q-tag CLm\n Serial: 12\n" + b"\t2022-11-08 04:49\t4.4\t\n" * 2_800),
    "samples": (b"v1/devices/d/telemetry", b"[" + b",".join([b'{"ts":1741356882759,"values":{"temperature":1}}'] * 1_300) + b"]"),
    "empty samples": (b"v1/devices/d/telemetry", b"[" + b",".join([b'{"a":0}'] * 8_190) + b"]"),
    "deep": (b"tele/x/SENSOR", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "wide": (b"tele/x/SENSOR", b"{" + b",".join(b'"k%d":{"a":1}' % number for number in range(3_900)) + b"}"),
}


def run() -> dict[str, tuple[float, str]]:
    documents = [(name, adapted(read_document(name), {"zone": "UTC"}, name)) for name in shipped_names()]
    library = gathered(documents, {})
    decoder = RowDecoder(CATALOGUE | {metric.name: metric for metric in library.metrics}, from_plain(as_plain(library.mappings)))
    shapes, sessions = Shapes(), EdgeNodes("shipment")
    results: dict[str, tuple[float, str]] = {}

    def decode(rows: Sequence[Messages]) -> None:
        for one in rows:
            decoder.decode(one, NOW_MS, shapes, sessions)

    for name in DECODERS:
        rows = [row(topic, payload) for payload in SAMPLES[name] for topic in topics_of(name)]
        results[f"decoders.usual_us[{name}]"] = timed(partial(decode, rows), USUAL // len(rows)) / len(rows) * 1e6, "us/message"
    for name, (topic, payload) in WORST.items():
        assert len(payload) <= LARGEST, f"{name}: {len(payload)} bytes"
        results[f"decoders.worst_ms[{name}]"] = timed(partial(decode, [row(topic, payload)]), 1) * 1e3, "ms for 64 KiB"
    return results


def row(topic: bytes, payload: bytes) -> Messages:
    return decode_messages(encode_messages([topic], [payload], b"\0"))


def timed(action: Callable[[], object], times: int) -> float:
    """Return the median of some runs, seconds of one action."""
    taken = []
    for _ in range(TIMES):
        began = time.thread_time()
        for _ in range(times):
            action()
        taken.append((time.thread_time() - began) / times)
    return median(taken)
