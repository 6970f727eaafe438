"""Our windows are Bytewax's: of readings in order, its stock operators make the same windows with the same summaries.

The stock clocks run with the wall clock, so what they close depends on when a flow runs. The clock here is a function of the readings.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import (
    UTC_MIN,
    Clock,
    ClockLogic,
    SessionWindower,
    SlidingWindower,
    TumblingWindower,
    Windower,
    collect_window,
    fold_window,
)
from bytewax.testing import TestingSink, TestingSource, run_main

from rules.aggregates import summarise
from rules.control import DEFAULT_SETTINGS
from rules.window import AGGREGATES
from telemetry.blocks import pack, unpack
from tests.rules.stream import START_MS, Packet, Shard

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_MS = START_MS + 3_600_000
"""A last reading of every device, which closes whatever is open; its own windows stay open."""
DEVICES = ("bed-1", "bed-2", "bed-3")

Reading = tuple[str, tuple[int, float]]
"""Device, time in milliseconds and value: a key and its value, as Bytewax has it."""
Window = tuple[str, int]
"""Device and when it opens, in milliseconds."""


@dataclass
class _ReadingsLogic(ClockLogic[Any, datetime]):
    latest: datetime

    def before_batch(self) -> None:
        """Nothing depends on when a batch comes."""

    def on_item(self, value: tuple[int, float]) -> tuple[datetime, datetime]:
        at = instant(value[0])
        self.latest = max(self.latest, at)
        return at, self.latest

    def on_notify(self) -> datetime:
        return self.latest

    def on_eof(self) -> datetime:
        """The end of the input is not the end of time: what is open stays open."""
        return self.latest

    def to_system_utc(self, timestamp: datetime) -> None:
        """Nothing is due at a time of the wall clock."""

    def snapshot(self) -> datetime:
        return self.latest


class ReadingsClock(Clock[Any, datetime]):
    """The watermark of a device is its latest reading."""

    def build(self, resume_state: datetime | None) -> _ReadingsLogic:
        return _ReadingsLogic(resume_state or UTC_MIN)


def instant(time_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=time_ms)


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


class Kind(NamedTuple):
    """A kind of window: as Bytewax says it, and what it is."""

    stock: Windower[Any]
    size_ms: int  # 0: a session
    every_ms: int  # of a session, the gap that ends it


KINDS = {
    "tumbling": Kind(TumblingWindower(timedelta(seconds=10), EPOCH), 10_000, 10_000),
    "sliding": Kind(SlidingWindower(timedelta(seconds=30), timedelta(seconds=10), EPOCH), 30_000, 10_000),
    # A reading exactly a gap after the one before it joins Bytewax's session and begins one of ours.
    "session": Kind(SessionWindower(timedelta(milliseconds=4_999)), 0, 5_000),
}


def readings_of(seed: int) -> list[Reading]:
    """Return the readings of several devices in order of time, with equal times, exact edges of windows, and gaps."""
    rng = np.random.default_rng(seed)
    readings = {
        (START_MS + int(time_ms), device, round(float(value), 1))
        for device in DEVICES
        for time_ms, value in zip(
            np.cumsum(rng.choice([0, 250, 1_000, 4_999, 5_000, 5_001, 31_000], 120, p=[0.1, 0.2, 0.5, 0.05, 0.05, 0.05, 0.05])),
            rng.normal(80, 2, 120),
            strict=True,
        )
    }
    assert max(readings)[0] < FAR_MS - 60_000
    return [(device, (time_ms, value)) for time_ms, device, value in [*sorted(readings), *((FAR_MS, device, 80.0) for device in DEVICES)]]


def run_stock(window: Callable[..., Any], kind: Kind, readings: list[Reading], batch: int, **how: Any) -> dict[Window, Any]:
    """Return what a stock operator makes of each window that closes."""
    down: list[Any] = []
    meta: list[Any] = []
    late: list[Any] = []
    flow = Dataflow("stock")
    stream = op.input("readings", flow, TestingSource(readings, batch))
    windows = window("window", stream, ReadingsClock(), kind.stock, **how)
    for name, into in (("down", down), ("meta", meta), ("late", late)):
        op.output(name, getattr(windows, name), TestingSink(into))
    run_main(flow)
    assert late == []
    opens = {(device, number): milliseconds(about.open_time) for device, (number, about) in meta}
    assert len(opens) == len(meta) == len(down)
    return {(device, opens[device, number]): made for device, (number, made) in down}


def cut(kind: Kind, readings: list[Reading]) -> dict[Window, list[tuple[int, float]]]:
    """Return the readings of every window but those of the far ones, by what a window is."""
    windows: dict[Window, list[tuple[int, float]]] = defaultdict(list)
    sessions: dict[str, Window] = {}
    for device, (time_ms, value) in readings:
        if time_ms == FAR_MS:
            continue
        if kind.size_ms:
            numbers = range((time_ms - kind.size_ms) // kind.every_ms + 1, time_ms // kind.every_ms + 1)
            inside = [(device, number * kind.every_ms) for number in numbers]
        else:
            session = sessions.get(device)
            if session is None or time_ms - windows[session][-1][0] >= kind.every_ms:
                session = sessions[device] = device, time_ms
            inside = [session]
        for window in inside:
            windows[window].append((time_ms, value))
    return windows


def summarised(windows: dict[Window, list[tuple[int, float]]], readings: list[Reading]) -> dict[Window, dict[str, float]]:
    """Return our summary of each window, all at once over the readings device by device."""
    ordered = sorted(readings)
    place = {reading: number for number, reading in enumerate(ordered)}
    summaries = summarise(
        np.array([place[device, inside[0]] for (device, _), inside in windows.items()]),
        np.array([len(inside) for inside in windows.values()]),
        np.array([time_ms for _, (time_ms, _) in ordered]),
        np.array([value for _, (_, value) in ordered]),
    )
    return {window: {name: float(column[n]) for name, column in summaries.items()} for n, window in enumerate(windows)}


def numpy_says(inside: list[tuple[int, float]]) -> dict[str, float]:
    times_s, values = np.array([time_ms - inside[0][0] for time_ms, _ in inside]) / 1000, np.array([value for _, value in inside])
    return {
        "count": len(values), "sum": np.sum(values), "mean": np.mean(values), "min": np.min(values), "max": np.max(values),
        "stddev": np.std(values), "first": values[0], "last": values[-1], "median": np.median(values), "p95": np.percentile(values, 95),
        "range": np.ptp(values), "slope": np.polynomial.polynomial.polyfit(times_s, values, 1)[1] if times_s[-1] else np.nan,
    }  # fmt: skip


def close_to(expected: dict[Window, dict[str, float]]) -> dict[Window, Any]:
    return {window: pytest.approx(summary, rel=1e-9, abs=1e-9, nan_ok=True) for window, summary in expected.items()}


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_window_has_the_summary_that_numpy_makes_of_what_the_stock_operator_collects(kind, batch):
    """Which readings a window has, and what is made of them, each checked against somebody else's work."""
    readings = readings_of(seed=batch)

    collected = run_stock(collect_window, kind, readings, batch)

    ours = summarised(cut(kind, readings), readings)
    assert len(ours) > 30
    assert ours == close_to({window: numpy_says(inside) for window, inside in collected.items()})


def run_engine(kind: str, readings: list[Reading], batch: int) -> dict[Window, dict[str, float]]:
    """Return the last summary that the engine told of each window that opened well before the far readings."""
    size_ms, every_ms = KINDS[kind].size_ms, KINDS[kind].every_ms
    chosen = DEFAULT_SETTINGS._replace(
        windows_ms={"patient": size_ms if kind == "tumbling" else [size_ms, every_ms]},
        grace_ms={"patient": 0},
        horizon_ms={"patient": 60_000},
    )
    shard = Shard("rules: []", chosen)
    for at in range(0, len(readings), batch):
        packets: list[Packet] = [
            ("patient", device, (time_ms - START_MS) / 1000, {"spo2": v}) for device, (time_ms, v) in readings[at : at + batch]
        ]
        shard.messages(packets[-1][2], *packets)
    told: dict[Window, dict[str, float]] = {}
    for block in (unpack(pack(block)) for outcome in shard.outcomes for block in outcome.windows):
        for n, opens_ms in enumerate(block.columns["opens_ms"]):
            if opens_ms < FAR_MS - 60_000:
                device = block.series[block.columns["series"][n]].device
                told[device, opens_ms] = {name: block.columns[name][n] for name in AGGREGATES}
    assert shard.books().accepted == len(readings)
    return told


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_tells_the_windows_of_the_stock_operator(kind, batch):
    """Readings in order, none late: what journal and history add changes nothing."""
    readings = readings_of(seed=100 + batch)

    collected = run_stock(collect_window, KINDS[kind], readings, batch)

    told = run_engine(kind, readings, batch)
    assert told == close_to({window: numpy_says(inside) for window, inside in collected.items()})


Folded = tuple[int, float, float, float, float]


def fold(folded: Folded, reading: tuple[int, float]) -> Folded:
    count, total, low, high, _ = folded
    value = reading[1]
    return count + 1, total + value, min(low, value), max(high, value), value


def merge(one: Folded, other: Folded) -> Folded:
    return one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3]), other[4]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_window_has_the_summary_that_the_stock_operator_folds(kind):
    readings = readings_of(seed=11)

    folded = run_stock(fold_window, kind, readings, batch=10, builder=lambda: (0, 0.0, np.inf, -np.inf, np.nan), folder=fold, merger=merge)

    names = ("count", "sum", "min", "max", "last")
    ours = {window: {name: summary[name] for name in names} for window, summary in summarised(cut(kind, readings), readings).items()}
    assert ours == close_to({window: dict(zip(names, made, strict=True)) for window, made in folded.items()})
