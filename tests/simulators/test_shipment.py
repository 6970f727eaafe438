"""The vehicles obey physics, so that what a rule finds in them is found in real ones."""

import numpy as np
import pytest

from rules.geometry import distances_m
from rules.places import Place as Zone
from simulators.route import ROUTES
from simulators.shipment import METRICS, Shipments

pytestmark = pytest.mark.long

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
@pytest.mark.parametrize("seed", range(10))
def test_the_compressor_keeps_two_to_eight_degrees_for_a_day(seed):
    """An alert on a vehicle that nobody tampered with would be our own invention."""
    _, _, columns = series(Shipments(20, seed=seed, start_ms=START, report_ms=300_000), START + 24 * HOUR)
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
        assert warming.max() < 36.0  # never warmer than outside


def test_door_light_and_compressor_go_together():
    world = Shipments(1, seed=5, start_ms=START, report_ms=30_000)
    world.open_door(0, START + 10 * MINUTE, START + 30 * MINUTE)
    times, _, columns = series(world, START + 40 * MINUTE)
    held = (times >= START + 10 * MINUTE) & (times < START + 30 * MINUTE)
    assert (columns["door"][held] == 1).all()
    assert columns["light"][held].min() > 50 > columns["light"][columns["door"] == 0].max()
    assert columns["humidity"][held][-1] > columns["humidity"][held][0]


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
    times, devices, columns = series(world, START + 24 * HOUR)
    hard = (columns["shock"] > 1.5).mean()
    assert 0.005 < hard < 0.1
    standing = np.zeros(times.size, dtype=bool)
    for index in range(100):
        for visit in world.visits(index, START, START + 24 * HOUR):
            standing |= (devices == index) & (times > visit.arrived_ms + 2 * MINUTE) & (times < visit.departed_ms)
    assert standing.mean() > 0.1
    assert (columns["shock"][standing] == 0).all()
    assert (columns["shock"][~standing] > 0).mean() > 0.8


@pytest.mark.parametrize("offset_ms", [0, 1, 29_999, 30_000, 61_234])
def test_a_blow_is_told_by_the_first_report_after_it(offset_ms):
    """Never before it came, whatever the ticks are."""
    for index in range(4):
        world = Shipments(4, seed=2, start_ms=START)
        world.shock(index, START + 10 * MINUTE + offset_ms, 55.0)
        times, devices, columns = series(world, START + 20 * MINUTE)
        told = times[(devices == index) & (columns["shock"] == 55.0)] - START - 10 * MINUTE
        assert told.size == 1
        assert offset_ms <= told[0] < offset_ms + MINUTE


def test_a_geofence_sees_the_legs_that_the_script_knows():
    """By the rules' own geometry: within 300 m of the place from the arrival to the departure."""
    world = Shipments(20, seed=6, start_ms=START)
    times, devices, columns = series(world, START + 30 * HOUR, ("latitude", "longitude", "speed"))
    seen = 0
    for index in range(20):
        mine = devices == index
        visits = world.visits(index, START, START + 30 * HOUR)
        for place in {visit.place for visit in visits}:
            zone = Zone(((place.latitude, place.longitude),), 300.0)
            inside = distances_m(zone, columns["latitude"][mine], columns["longitude"][mine]) <= 0
            there, near = np.zeros(mine.sum(), dtype=bool), np.zeros(mine.sum(), dtype=bool)
            for visit in visits:
                if visit.place == place:
                    there |= (times[mine] >= visit.arrived_ms + MINUTE) & (times[mine] < visit.departed_ms)
                    near |= (times[mine] >= visit.arrived_ms - 2 * MINUTE) & (times[mine] < visit.departed_ms + 2 * MINUTE)
            assert inside[there].all(), (index, place)
            assert (columns["speed"][mine][inside & ~near] > 10).all(), (index, place)  # on the way home one only passes
            seen += there.sum()
    assert seen > 500


def test_what_happens_to_one_vehicle_changes_no_reading_of_another():
    worlds = [Shipments(4, seed=12, start_ms=START, product_probes=True) for _ in range(2)]
    worlds[0].open_door(1, START + HOUR, START + 2 * HOUR)
    worlds[0].fail_compressor(1, START + HOUR, START + 5 * HOUR)
    worlds[0].dwell(1, START + 3 * HOUR, START + 6 * HOUR)
    worlds[0].shock(1, START + HOUR, 40.0)
    changed = set()
    for one, other in zip(*(world.step(START + 10 * HOUR) for world in worlds), strict=True):
        assert np.array_equal(one.devices, other.devices)
        changed |= set(one.devices[(one.values != other.values).any(axis=1)].tolist())
    assert changed == {1, 5}


def course(world, index, hours, metrics=METRICS):
    """Return times and columns of one vehicle."""
    times, devices, columns = series(world, START + round(hours * HOUR), metrics)
    return times[devices == index], {metric: column[devices == index] for metric, column in columns.items()}


def test_a_failed_compressor_lets_the_air_follow_the_weather_and_a_repaired_one_fetches_it_back():
    for seed in range(5):
        world = Shipments(3, seed=seed, start_ms=START)
        world.fail_compressor(1, START + HOUR, START + 7 * HOUR)
        times, columns = course(world, 1, 10)
        failed = (times > START + 2 * HOUR) & (times < START + 7 * HOUR)
        assert columns["temperature"][times < START + HOUR].max() < 8.0, seed
        assert columns["temperature"][failed].max() > 8.0, seed
        assert columns["temperature"][times > START + 9 * HOUR].max() < 8.0, seed
        assert (columns["door"][failed] == 1).mean() < 0.1, seed


def test_a_vehicle_that_dwells_stands_warms_and_is_late():
    """A port in the sun with an idling engine: the position does not move, nothing shakes, and the cargo warms."""
    for seed in range(3):
        dwelling, driving = (Shipments(3, seed=seed, start_ms=START, product_probes=True) for _ in range(2))
        begins, ends = START + 5 * HOUR, START + 11 * HOUR  # noon to afternoon, where the routes are
        dwelling.dwell(1, begins, ends)
        times, columns = course(dwelling, 1, 11)
        dwells = (times > begins + HOUR) & (times < ends)
        other_times, other = course(driving, 1, 11)
        assert np.array_equal(columns["temperature"][times < begins], other["temperature"][other_times < begins])
        assert columns["temperature"][dwells].mean() > other["temperature"][other_times > begins + HOUR].mean() + 1, seed
        assert columns["shock"][dwells].max() == 0
        assert not columns["door"][dwells].any()
        arrivals = [
            [visit.arrived_ms for visit in world.visits(1, START, START + 40 * HOUR) if visit.arrived_ms > begins]
            for world in (dwelling, driving)
        ]
        assert {late - planned for late, planned in zip(*arrivals, strict=False)} == {ends - begins}
        again = Shipments(3, seed=seed, start_ms=START)
        again.dwell(1, begins, ends)
        _, way = course(again, 1, 10.9, ("latitude", "longitude", "speed"))
        assert way["speed"][-10:].max() == 0.0
        assert np.ptp(way["latitude"][-10:]) < 0.001


def test_the_battery_drains_on_the_way_and_is_charged_at_the_depot():
    world = Shipments(20, seed=4, start_ms=START)
    times, devices, columns = series(world, START + 30 * HOUR)
    drained = charged = 0
    for index in range(20):
        battery, mine = columns["battery"][devices == index], times[devices == index]
        depots = [visit for visit in world.visits(index, START, START + 30 * HOUR) if visit.place in [points[0] for points in ROUTES]]
        at_depot = np.zeros(mine.size, dtype=bool)
        for visit in depots:
            at_depot |= (mine >= visit.arrived_ms) & (mine <= visit.departed_ms + 2 * MINUTE)
        change = np.diff(battery)
        assert (change[~at_depot[1:]] <= 0).all()
        drained, charged = drained + (change < 0).sum(), charged + (change > 0).sum()
    assert drained > 100
    assert charged > 100
