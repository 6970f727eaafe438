"""Backtests: rows of readings, as they once came or as a file has them, through the evaluator that runs live.

A backtest takes its time as data like everything else, and keeps nothing but the events. Readings of a file are one shard's; those of a
journal go to the shards of their subjects, as they do live (`flows/replay.py`).
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from rules.condition import Silence
from rules.control import DEFAULT_SETTINGS, Settings, registry_record, rules_record, settings_record
from rules.evaluator import Evaluator
from rules.rule import RuleSet
from telemetry.alert import AlertEvent
from telemetry.metrics import Metric
from telemetry.readings import Decoded, Packets

BATCH_MS, SHORTEST_BATCH_MS = 30_000, 1000
"""Readings of one such part of time make a row, received at its end, whoever else has readings then."""

SILENCE_SHARE = 20  # of the shortest silence that a rule watches a part of time is this much, at most
BATCH_READINGS = 5_000
TICK_MS = 60_000
MAX_TICKS = 1_000  # in one gap between readings
END_MS = 10 * 60_000  # windows close, grace is over


Progress = Callable[[int, int], None]
"""Told (how far, in readings or whatever is gone through; readings so far)."""


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
    subjects: int = 0  # of whom something was measured
    open_peaks: Mapping[str, float] = {}  # of the alerts that are open in the end, by id: the most extreme value


def run(
    readings: Iterable[Measured],
    rules: RuleSet,
    settings: Settings = DEFAULT_SETTINGS,
    devices: Sequence[Mapping[str, Any]] = (),
    *,
    metrics: Sequence[Metric] = (),
    span: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Done:
    """Run rules over readings in the order of their times. A reading is received when it is measured.

    `metrics` are those besides the catalogue's. `span` is the time, milliseconds, that the run covers where that is more than its readings
    do.
    """
    batch_ms = _batch_ms(rules)
    evaluator, events, offset, first_ms, last_ms = Evaluator(0, 1), list[AlertEvent](), 0, 0, 0
    settings = settings._replace(store_readings=False)
    for now_ms, decoded in batches(readings, batch_ms):
        if not offset:
            first_ms = last_ms = int(decoded.packets.times_ms[0]) if span is None else span[0]
            for body in (settings_record(settings), registry_record(devices, metrics), rules_record(rules, "backtest")):
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
        if progress is not None:
            seen = evaluator.counting.counts["received"]
            progress(seen, seen)
    for tick_ms in ticks(last_ms, _received_ms(span[1], batch_ms)) if span is not None and offset else ():
        events += evaluator.on_tick(offset, tick_ms).alerts
        offset, last_ms = offset + 1, tick_ms
    if offset:  # windows close; that the file is at its end is no silence
        silences = {rule.id for rule in rules.rules if isinstance(rule.when, Silence)}
        events += [event for event in evaluator.on_tick(offset, last_ms + END_MS).alerts if event.rule not in silences]
    return Done(
        events,
        evaluator.counting.counts["accepted"],
        dict(evaluator.counting.quarantined),
        first_ms,
        last_ms,
        evaluator.subjects(),
        evaluator.watch.open_peaks(),
    )


def batches(readings: Iterable[Measured], batch_ms: int = BATCH_MS) -> Iterator[tuple[int, Decoded]]:
    """Return readings in rows, each with when it is received. Raises ValueError where they are not in the order of their times."""
    left, newest_ms = iter(readings), 0
    while chunk := list(islice(left, BATCH_READINGS)):
        times_ms = [item[0] for item in chunk]
        if times_ms[0] < newest_ms or times_ms != sorted(times_ms):
            msg = "the readings are not in the order of their times"
            raise ValueError(msg)
        newest_ms, begin = times_ms[-1], 0
        while begin < len(chunk):
            now_ms = _received_ms(times_ms[begin], batch_ms)
            end = bisect_left(times_ms, now_ms + 1, begin)
            yield now_ms, _decoded(chunk[begin:end], times_ms[begin:end])
            begin = end


def _received_ms(time_ms: int, batch_ms: int) -> int:
    """Return when a reading of a time is received: with all others of its part of time."""
    return (time_ms // batch_ms + 1) * batch_ms - 1


def _batch_ms(rules: RuleSet) -> int:
    silences = [rule.when.duration_ms for rule in rules.rules if isinstance(rule.when, Silence)]
    return max(SHORTEST_BATCH_MS, min([BATCH_MS, *(length // SILENCE_SHARE for length in silences)]))


def _decoded(readings: Sequence[Measured], times_ms: Sequence[int]) -> Decoded:
    columns = list(zip(*readings, strict=True))
    metrics = {name: (name,) for name in set(columns[3])}
    return Decoded(
        Packets(
            message=array("q", range(len(readings))),
            kinds=list(columns[1]),
            devices=list(columns[2]),
            metrics=[metrics[name] for name in columns[3]],
            times_ms=array("q", times_ms),
            values=array("d", columns[4]),
        ),
        [],
        [],
        0,
    )


def ticks(from_ms: int, until_ms: int) -> Iterator[int]:
    """Return the times at which nothing came between two rows, so that silence is told."""
    step = max(TICK_MS, (until_ms - from_ms) // MAX_TICKS)
    yield from range(from_ms + step, until_ms, step)
