"""Backtests: rows of readings, as they once came or as a file has them, through the evaluator that runs live.

A backtest takes its time as data like everything else, and keeps nothing but the events. Readings of a file are one shard's; those of a
journal go to the shards of their subjects, as they do live (`flows/replay.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rules.control import DEFAULT_SETTINGS, Settings, registry_record, rules_record, settings_record
from rules.evaluator import Evaluator
from rules.rule import RuleSet
from telemetry.alert import AlertEvent
from telemetry.readings import Decoded, no_packets

BATCH_MS = 30_000
BATCH_READINGS = 5_000
TICK_MS = 60_000
MAX_TICKS = 1_000  # in one gap between readings
END_MS = 10 * 60_000  # windows close, grace is over


class Measured(NamedTuple):
    """One reading of a file."""

    time_ms: int
    kind: str
    device: str
    metric: str
    value: float


class Done(NamedTuple):
    """What a backtest came to. Times are of the journal, milliseconds."""

    events: list[AlertEvent]
    accepted: int
    quarantined: dict[str, int]
    first_ms: int
    last_ms: int


def run(
    readings: Iterable[Measured],
    rules: RuleSet,
    settings: Settings = DEFAULT_SETTINGS,
    devices: Sequence[Mapping[str, Any]] = (),
) -> Done:
    """Run rules over readings in the order of their times. A reading is received when it is measured."""
    evaluator, events, offset, first_ms, last_ms = Evaluator(0, 1), list[AlertEvent](), 0, 0, 0
    settings = settings._replace(store_readings=False)
    for now_ms, decoded in batches(readings):
        if not offset:
            first_ms = last_ms = int(decoded.packets.times_ms[0])
            for body in (settings_record(settings), registry_record(devices), rules_record(rules, "backtest")):
                events += evaluator.on_control(offset, first_ms, body).alerts
                offset += 1
        for tick_ms in ticks(last_ms, now_ms):
            events += evaluator.on_tick(offset, tick_ms).alerts
            offset += 1
        count = len(decoded.packets.times_ms)
        events += evaluator.on_messages(offset, count, now_ms, decoded).alerts
        evaluator.take_history()
        offset += count
        last_ms = now_ms
    if offset:
        events += evaluator.on_tick(offset, last_ms + END_MS).alerts
    return Done(events, evaluator.counts["accepted"], dict(evaluator.quarantined), first_ms, last_ms)


def batches(readings: Iterable[Measured]) -> Iterator[tuple[int, Decoded]]:
    """Return readings in rows, each with the time of its newest one. Raises ValueError where they are not in the order of their times."""
    packets, begun_ms, newest_ms = no_packets(), 0, 0
    for time_ms, kind, device, metric, value in readings:
        if packets.kinds and (time_ms - begun_ms >= BATCH_MS or len(packets.kinds) >= BATCH_READINGS):
            yield newest_ms, Decoded(packets, [], [], 0)
            packets = no_packets()
        if not packets.kinds:
            begun_ms = time_ms
        if time_ms < newest_ms:
            msg = "the readings are not in the order of their times"
            raise ValueError(msg)
        newest_ms = time_ms
        packets.message.append(len(packets.kinds))
        packets.kinds.append(kind)
        packets.devices.append(device)
        packets.metrics.append((metric,))
        packets.times_ms.append(time_ms)
        packets.values.append(value)
    if packets.kinds:
        yield newest_ms, Decoded(packets, [], [], 0)


def ticks(from_ms: int, until_ms: int) -> Iterator[int]:
    """Return the times at which nothing came between two rows, so that silence is told."""
    step = max(TICK_MS, (until_ms - from_ms) // MAX_TICKS)
    yield from range(from_ms + step, until_ms, step)
