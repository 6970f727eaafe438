"""The law of worlds: a seed and a start decide everything, the size of the steps nothing."""

import numpy as np
import pytest

from simulators.patient import Patients
from simulators.shipment import Shipments
from simulators.world import registry
from telemetry.metrics import CATALOGUE

START = 1_763_700_000_000
WORLDS = {"shipments": Shipments, "patients": Patients}
HORIZON = {"shipments": 6 * 3_600_000, "patients": 20 * 60_000}


@pytest.fixture(params=WORLDS)
def name(request):
    return request.param


def rows(reports):
    return [
        (metrics, device, time_ms, tuple(values))
        for metrics, devices, times, matrix in reports
        for device, time_ms, values in zip(devices.tolist(), times.tolist(), matrix.tolist(), strict=True)
    ]


def test_a_seed_gives_the_same_reports_whatever_the_steps(name):
    """A replay at another speed asks in other steps; it must be the same world."""
    one = rows(WORLDS[name](7, seed=4, start_ms=START).step(START + HORIZON[name]))
    other_world = WORLDS[name](7, seed=4, start_ms=START)
    steps = np.random.default_rng(9).integers(0, 200_000, 5000).cumsum()
    other = [row for step in steps if step <= HORIZON[name] for row in rows(other_world.step(START + int(step)))]
    other += rows(other_world.step(START + HORIZON[name]))
    assert len(one) > 500
    assert one == other


def test_another_seed_gives_another_world(name):
    one, other = (rows(WORLDS[name](7, seed=seed, start_ms=START).step(START + 600_000)) for seed in (1, 2))
    assert one != other


def test_every_device_reports_once_an_interval_and_reports_are_spread_evenly():
    """A thousand loggers that report in one millisecond are a load that no fleet has."""
    world = Shipments(1000, seed=3, start_ms=START)
    reports = [report for report in world.step(START + 10 * 60_000 - 1) if "temperature" in report.metrics]
    times = np.concatenate([report.times_ms for report in reports])
    devices = np.concatenate([report.devices for report in reports])
    assert np.array_equal(np.bincount(devices), np.full(1000, 10))
    assert np.bincount((times - START) // 1000).max() < 50
    for device in (0, 500):
        assert set(np.diff(np.sort(times[devices == device]))) == {60_000}


def test_reports_of_a_tick_are_stamped_within_it(name):
    """What has been returned is complete up to the next tick, so that a reader may send it in order."""
    world = WORLDS[name](20, seed=3, start_ms=START)
    for _ in range(100):
        begin = world.next_ms
        for report in world.step(begin):
            assert begin <= report.times_ms.min()
            assert report.times_ms.max() < world.next_ms == begin + world.tick_ms


def test_everything_measured_is_in_the_catalogue_and_plausible(name):
    """Else ingest would quarantine a healthy world."""
    seen = {}
    for report in WORLDS[name](50, seed=8, start_ms=START, **({"product_probes": True} if name == "shipments" else {})).step(
        START + HORIZON[name]
    ):
        for metric, column in zip(report.metrics, report.values.T, strict=True):
            seen.setdefault(metric, []).append(column)
    for metric, columns in seen.items():
        values = np.concatenate(columns)
        assert np.isfinite(values).all()
        assert CATALOGUE[metric].low <= values.min() <= values.max() <= CATALOGUE[metric].high, metric


def test_tags_and_registry():
    world = Shipments(3, seed=1, start_ms=0, tags=[{"product": "vaccine"}, {"product": "dairy"}], product_probes=True)
    entries = registry(world.devices)
    assert entries[0] == {"device": "truck-01", "subject": "truck-01", "kind": "shipment", "tags": {"product": "vaccine"}}
    assert [entry["tags"]["product"] for entry in entries[:3]] == ["vaccine", "dairy", "vaccine"]
    assert entries[4] == {"device": "truck-02.product", "subject": "truck-02", "kind": "shipment", "tags": {"product": "dairy"}}
    ward = registry(Patients(2, seed=1, start_ms=0).devices)
    assert [(entry["device"], entry["subject"], entry["kind"]) for entry in ward] == [
        ("monitor-01", "patient-01", "patient"),
        ("monitor-02", "patient-02", "patient"),
    ]


def test_a_report_interval_that_is_no_multiple_of_the_tick_is_refused():
    with pytest.raises(ValueError, match="no multiple"):
        Shipments(1, seed=1, start_ms=0, tick_ms=30_000, report_ms=45_000)
    with pytest.raises(ValueError, match="at least one device"):
        Patients(0, seed=1, start_ms=0)
