"""The vehicles obey physics, so that what a rule finds in them is found in real ones."""

import numpy as np
import pytest

from simulators.shipment import METRICS, Shipments

START = 1_763_700_000_000
HOUR, MINUTE = 3_600_000, 60_000


def series(world, until_ms, metrics=METRICS):
    """Return times and columns by metric, in order of time."""
    reports = [report for report in world.step(until_ms) if report.metrics == metrics]
    times = np.concatenate([report.times_ms for report in reports])
    devices = np.concatenate([report.devices for report in reports])
    values = np.concatenate([report.values for report in reports])
    return times, devices, dict(zip(metrics, values.T, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("decade", range(5))
def test_the_compressor_keeps_two_to_eight_degrees_for_a_day(decade):
    """Fifty seeds: an alert on a vehicle that nobody tampered with would be our own invention."""
    for seed in range(10 * decade, 10 * decade + 10):
        print("seed", seed)
        _, _, columns = series(Shipments(2, seed=seed, start_ms=START, report_ms=300_000), START + 24 * HOUR)
        assert columns["temperature"].min() > 2.0
        assert columns["temperature"].max() < 8.0


@pytest.mark.long
def test_a_thousand_vehicles_stay_cold_through_their_deliveries():
    world = Shipments(1000, seed=11, start_ms=START)
    _, _, columns = series(world, START + 24 * HOUR)
    assert (columns["door"] == 1).any()
    assert columns["temperature"].min() > 2.0
    assert columns["temperature"].max() < 8.0


@pytest.mark.parametrize("hour", [0, 6, 12, 18])
def test_a_door_left_open_warms_the_air_past_eight_degrees_and_closing_it_cools_it_again(hour):
    """At any time of day: the demo runs when somebody types it."""
    for seed in range(5):
        start = START + hour * HOUR
        world = Shipments(4, seed=seed, start_ms=start, report_ms=30_000)
        world.open_door(2, start + 10 * MINUTE, start + 30 * MINUTE)
        times, devices, columns = series(world, start + 90 * MINUTE)
        temperature, since = columns["temperature"], times - start
        mine = devices == 2
        at_closing = mine & (since > 29 * MINUTE) & (since < 30 * MINUTE)
        assert temperature[at_closing].min() > 9.0
        assert temperature[mine & (since < 10 * MINUTE)].max() < 8.0
        assert temperature[mine & (since > 60 * MINUTE)].max() < 8.0
        assert temperature[~mine].max() < 8.0
        warming = temperature[mine & (since >= 13 * MINUTE) & (since < 30 * MINUTE)]
        assert (np.diff(warming) > -0.2).all()  # climbs, but for the sensor's noise
        assert warming.max() < 31.0  # never warmer than outside


def test_door_light_and_compressor_go_together():
    world = Shipments(1, seed=5, start_ms=START, report_ms=30_000)
    world.open_door(0, START + 10 * MINUTE, START + 30 * MINUTE)
    times, _, columns = series(world, START + 40 * MINUTE)
    held = (times >= START + 10 * MINUTE) & (times < START + 30 * MINUTE)
    assert (columns["door"][held] == 1).all()
    assert columns["light"][held].min() > 50 > columns["light"][columns["door"] == 0].max()
    assert columns["humidity"][held][-1] > columns["humidity"][held][0]
    assert (np.diff(columns["battery"]) <= 0).all()


def test_the_product_follows_the_air_slowly():
    """The mass of the cargo is why guidelines look at the product and not at the air."""
    world = Shipments(1, seed=5, start_ms=START, report_ms=30_000, product_probes=True)
    world.open_door(0, START + 10 * MINUTE, START + 30 * MINUTE)
    reports = world.step(START + 35 * MINUTE)
    air = max(report.values[:, 0].max() for report in reports if report.metrics == METRICS)
    product = max(report.values[:, 0].max() for report in reports if report.metrics == ("temperature",))
    assert air > 9.0
    assert product < 6.5


def test_vehicles_drive_their_route_and_stand_at_their_stops():
    world = Shipments(30, seed=2, start_ms=START)
    times, devices, columns = series(world, START + 24 * HOUR, ("latitude", "longitude", "speed"))
    assert 40 < columns["latitude"].min() < columns["latitude"].max() < 54
    assert columns["speed"].min() == 0.0
    assert 15 < columns["speed"].max() < 35
    for device in range(30):
        order = np.argsort(times[devices == device])
        latitude, longitude = (columns[name][devices == device][order] for name in ("latitude", "longitude"))
        seconds = np.diff(times[devices == device][order]) / 1000
        metres = 111_320 * np.hypot(np.diff(latitude), np.diff(longitude) * np.cos(np.radians(latitude[1:])))
        assert (metres / seconds).max() < 40  # nobody is beamed
        assert metres.sum() > 500_000


def test_shocks_are_rare_and_only_on_the_road():
    world = Shipments(100, seed=2, start_ms=START)
    _, _, columns = series(world, START + 24 * HOUR)
    hard = (columns["shock"] > 1.5).mean()
    assert 0.005 < hard < 0.1
    assert (columns["shock"] == 0).any()
