"""A round is a function of time, and what it says of arrivals is where the vehicle is."""

import itertools

import numpy as np
import pytest

from simulators.climate import outside
from simulators.route import METRES_A_DEGREE, ROUTES, START_UP_S, Routes
from simulators.world import DAY_S

COUNT, START_S = 40, 1_763_700_000.0


def routes(seed=1):
    return Routes(COUNT, np.random.default_rng(seed))


def metres_between(one, other):
    east = (one[1] - other[1]) * np.cos(np.radians(one[0]))
    return METRES_A_DEGREE * np.hypot(one[0] - other[0], east)


def test_where_somebody_is_does_not_depend_on_who_asked_before():
    often, once = routes(), routes()
    for second in range(0, 7200, 90):
        often.at(START_S + second)
    often.at(START_S + 7200)
    once.at(START_S + 7200)
    for name in ("latitude", "longitude", "height_m", "speed", "load", "standing_s", "at_depot"):
        assert np.array_equal(getattr(often, name), getattr(once, name)), name


def test_speed_is_the_way_over_the_time():
    """Speed and position are told apart; a rule that compares them must find no contradiction."""
    vehicles = routes()
    vehicles.at(START_S)
    for second in range(10, 40_000, 10):
        place, speed = (vehicles.latitude.copy(), vehicles.longitude.copy()), vehicles.speed.copy()
        vehicles.at(START_S + second)
        metres = metres_between(place, (vehicles.latitude, vehicles.longitude))
        assert (metres <= 10 * np.maximum(speed, vehicles.speed) * 1.02 + 1).all()
        assert vehicles.speed.max() < 25.0
        assert (np.abs(vehicles.speed - speed) <= 10 * 24.0 / START_UP_S + 1e-6).all()


def test_a_visit_is_a_stay_at_its_place_and_between_visits_one_drives():
    """The truth of a geofence: inside from the arrival to the departure."""
    vehicles = routes()
    vehicles.hold(3, START_S + 5000, START_S + 12_000)
    vehicles.hold(3, START_S + 40_000, START_S + 41_000)
    for index in range(8):
        visits = vehicles.visits(index, START_S, START_S + 3 * DAY_S)
        names = [visit.place.place for visit in visits]
        points = next(points for points in ROUTES if names[0] in [point.place for point in points])
        round_trip = [point.place for point in points if point.place]
        first = round_trip.index(names[0])
        assert names == (round_trip * 12)[first : first + len(names)]
        assert len(names) > 8
        for visit in visits:
            for instant in (visit.arrived_ms + 1000, (visit.arrived_ms + visit.departed_ms) / 2, visit.departed_ms - 1000):
                vehicles.at(instant / 1000)
                away = metres_between((vehicles.latitude[index], vehicles.longitude[index]), visit.place)
                assert away < 50, (index, visit)
        for before, after in itertools.pairwise(visits):
            assert before.departed_ms < after.arrived_ms
            middles = np.linspace(before.departed_ms / 1000, after.arrived_ms / 1000, 9)[1:-1]
            speeds = []
            for instant in middles:
                vehicles.at(instant)
                speeds.append(vehicles.speed[index])
            assert max(speeds) > 10
            assert index == 3 or min(speeds) > 0


def test_who_is_held_stands_and_does_everything_later():
    held, free = routes(), routes()
    held.hold(5, START_S + 100, START_S + 4_000)
    held.at(START_S + 100)
    place = held.latitude[5], held.longitude[5]
    assert held.at(START_S + 3_999)[5]
    assert held.speed[5] == 0
    assert (held.latitude[5], held.longitude[5]) == place
    assert not held.at(START_S + 50_000)[5]
    free.at(START_S + 50_000 - 3_900)
    assert held.latitude[5] == pytest.approx(free.latitude[5], abs=1e-9)
    departures = [
        [visit.departed_ms for visit in vehicles.visits(5, START_S + begins, START_S + 90_000)]
        for vehicles, begins in ((held, 5_000), (free, 1_100))
    ]
    late = [later - planned for later, planned in zip(*departures, strict=False)]
    assert set(late) == {3_900_000}
    with pytest.raises(ValueError, match="is held at that time already"):
        held.hold(5, START_S, START_S + 101)


def test_the_load_is_delivered_stop_by_stop_and_taken_on_at_the_depot():
    vehicles = routes()
    loads = [[] for _ in range(COUNT)]
    for second in range(0, round(2 * DAY_S), 60):
        vehicles.at(START_S + second)
        for index in range(COUNT):
            loads[index].append((vehicles.at_depot[index], vehicles.load[index], vehicles.speed[index]))
    for course in loads:
        assert {round(load, 2) for _, load, _ in course} >= {0.0, 1.0}
        for (depot, load, _), (_, following, speed) in itertools.pairwise(course):
            assert following <= load or depot
            assert following == load or speed > 0


def test_it_is_colder_up_the_hill_and_warmer_in_the_south_and_by_day():
    def celsius(latitude, height_m, hour):
        place = np.array([latitude]), np.array([10.0]), np.array([height_m])
        return outside(*place, START_S // DAY_S * DAY_S + hour * 3600)

    assert celsius(48.0, 1000.0, 12).temperature == pytest.approx(celsius(48.0, 0.0, 12).temperature - 6.5)
    assert celsius(42.0, 0.0, 12).temperature > celsius(53.0, 0.0, 12).temperature + 4
    assert celsius(48.0, 0.0, 14).temperature > celsius(48.0, 0.0, 2).temperature + 6
    assert celsius(48.0, 0.0, 11).sun > 0.7
    assert celsius(48.0, 0.0, 23).sun == 0
