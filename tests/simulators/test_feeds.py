"""What is published is what was measured, in the order of time, in the form of the wire."""

import json

import numpy as np

from simulators.feeds import CATCHES_UP_S, WorldSource, encoded, start_for
from simulators.shipment import Shipments
from simulators.world import Reports

START = 1_763_700_000_000


def test_messages_are_the_reports():
    world, twin = (Shipments(20, seed=3, start_ms=START) for _ in range(2))
    source = WorldSource(world)
    sent = [message for _ in range(40) for message in source.take()]
    measured = {}
    for report in twin.step(START + 39 * 30_000):
        for device, time_ms, row in zip(report.devices, report.times_ms.tolist(), report.values.tolist(), strict=True):
            topic = f"vitalane/v1/shipment/{twin.devices[device].device}/readings"
            measured[topic, time_ms, report.metrics] = {"v": 1, "time": time_ms, "values": dict(zip(report.metrics, row, strict=True))}
    got = {(m.topic, m.time_ms, tuple(json.loads(m.payload)["values"])): json.loads(m.payload) for m in sent}
    assert got == measured
    assert [m.time_ms for m in sent] == sorted(m.time_ms for m in sent)


def test_what_was_not_measured_is_not_sent():
    """A gap is not a value: no null, no NaN, and no message about nothing."""
    values = np.array([[1.0, 97.0], [np.nan, 98.0], [np.nan, np.nan]])
    report = Reports(("heart_rate", "spo2"), np.arange(3), np.array([5, 6, 7]), values)
    messages = list(encoded(report, ["a", "b", "c"]))
    assert [json.loads(message.payload)["values"] for message in messages] == [{"heart_rate": 1.0, "spo2": 97.0}, {"spo2": 98.0}]
    assert [message.topic for message in messages] == ["a", "b"]


def test_event_time_meets_the_clock_at_the_end_and_never_before():
    assert start_for(60, 60, START) + 60 * 60_000 == START + 60_000
    assert start_for(1, 60, START) == START
    assert start_for(1, None, START) == START
    assert start_for(10, None, START) == START - round(9 * CATCHES_UP_S * 1000)
    assert start_for(0.5, 60, START) == START
