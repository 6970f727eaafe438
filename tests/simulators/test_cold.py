"""The cargo space keeps the books of its heat, and moves as the differential equation says."""

import numpy as np
import pytest

from simulators.climate import Outside, saturated
from simulators.cold import FROST_G, ColdRooms

COUNT, TICK_S = 50, 30.0
NEVER, ALWAYS = np.zeros(COUNT, dtype=np.bool_), np.ones(COUNT, dtype=np.bool_)
FULL, OFF = np.ones(COUNT), np.zeros(COUNT)


def sky(celsius=28.0, *, sun=0.0):
    return Outside(np.full(COUNT, celsius), saturated(np.full(COUNT, 14.0)), np.full(COUNT, sun))


def rooms(seed=1):
    return ColdRooms(COUNT, np.random.default_rng(seed))


def pass_time(spaces, hours, outside=None, door=NEVER, power=FULL, standing=NEVER):
    """Return the air after each tick."""
    courses = []
    for _ in range(round(hours * 3600 / TICK_S)):
        spaces.advance(TICK_S, outside or sky(), door, power, standing)
        courses.append(spaces.air.copy())
    return np.array(courses)


def test_what_comes_in_less_what_is_pumped_out_is_what_is_stored():
    """Through a day with doors, thawing, sun, a dying unit and an idling engine: no joule comes from nowhere."""
    random, spaces = np.random.default_rng(7), rooms()
    spaces.carry(random.random(COUNT))
    before, gained, pumped = spaces.stored(), np.zeros(COUNT), np.zeros(COUNT)
    thawed = False
    for _ in range(2880):
        heat = spaces.advance(
            TICK_S, sky(20 + 10 * random.random(), sun=random.random()), random.random(COUNT) < 0.03, random.choice([0.0, 0.1, 1.0], COUNT),
            random.random(COUNT) < 0.3,
        )  # fmt: skip
        gained += heat.gained
        pumped += heat.pumped
        thawed |= bool(spaces.thawing.any())
    assert thawed
    assert pumped.min() > 1e7
    assert np.allclose(spaces.stored() - before, gained - pumped, rtol=0, atol=1e-6 * gained.max())


def test_the_steps_follow_the_equation_solved_in_small_ones():
    """An independent solution by Euler's method, half a second at a time, of a door that opens and a unit that has failed."""
    spaces = rooms(seed=3)
    air, product = spaces.air.copy(), spaces.product.copy()
    for door in (NEVER, ALWAYS, NEVER):
        pass_time(spaces, 0.25, door=door, power=OFF)
        for _ in range(1800):
            inward, between = (spaces.wall + door * spaces.doorway) * (28.0 - air), spaces.exchange * (product - air)
            air, product = air + 0.5 * (inward + between) / spaces.air_heat, product - 0.5 * between / spaces.full_heat
        assert np.abs(spaces.air - air).max() < 0.02
        assert np.abs(spaces.product - product).max() < 0.01


def test_the_air_relaxes_with_the_time_constant_of_its_heat_balance():
    """tau = heat capacity over the conductances to what holds it: read from the course, not from the formula."""
    spaces = rooms(seed=2)
    spaces.full_heat[:] = 1e12  # a cargo whose temperature does not move
    course = pass_time(spaces, 6, power=OFF)
    towards = (spaces.wall * 28.0 + spaces.exchange * spaces.product) / (spaces.wall + spaces.exchange)
    assert np.abs(course[-1] - towards).max() < 0.01
    left = np.log(np.abs(course[40] - towards)) - np.log(np.abs(course[0] - towards))
    tau_s = -40 * TICK_S / left
    assert np.allclose(tau_s, spaces.air_heat / (spaces.wall + spaces.exchange), rtol=1e-3)


def test_the_thermostat_cycles_within_its_band():
    spaces = rooms()
    pass_time(spaces, 2)
    course = pass_time(spaces, 4)
    calm = ~(np.abs(np.diff(course, axis=0)) > 3).any(axis=0)
    swings = (np.diff(np.sign(np.diff(course, axis=0)), axis=0) != 0).sum(axis=0)
    assert swings[calm].min() > 10
    assert (course.max(axis=0) - spaces.setpoint < 2.5).all()
    assert (spaces.setpoint - course.min(axis=0) < 2.0).all()


def test_a_unit_works_more_where_it_is_warmer():
    shares = []
    for celsius in (15.0, 25.0, 35.0):
        spaces, ran = rooms(), 0.0
        for _ in range(960):
            spaces.advance(TICK_S, sky(celsius), NEVER, FULL, NEVER)
            ran += spaces.running.mean()
        shares.append(ran / 960)
    assert shares == sorted(shares)
    assert shares[2] > 2 * shares[0] > 0


def test_an_empty_space_warms_faster_than_a_full_one():
    full, empty = rooms(), rooms()
    empty.carry(np.zeros(COUNT))
    assert (pass_time(empty, 1, power=OFF)[-1] > pass_time(full, 1, power=OFF)[-1] + 1).all()


def test_goods_that_leave_take_their_heat_and_what_is_loaded_is_cold():
    spaces = rooms()
    spaces.product += 3.0
    spaces.carry(np.full(COUNT, 0.5))
    assert np.allclose(spaces.product, rooms().product + 3.0)
    spaces.carry(np.ones(COUNT))
    assert (spaces.product < rooms().product + 3.0).all()
    assert (spaces.product > spaces.setpoint).all()


def test_a_coil_that_is_iced_up_is_thawed_while_the_air_warms_a_little():
    spaces = rooms()
    spaces.frost[:] = FROST_G
    warmest, thawing = spaces.air.copy(), np.zeros(COUNT, dtype=np.bool_)
    for _ in range(120):
        spaces.advance(TICK_S, sky(), NEVER, FULL, NEVER)
        thawing |= spaces.thawing
        warmest = np.maximum(warmest, spaces.air)
        assert not (spaces.thawing & spaces.running).any()
    assert thawing.all()
    assert spaces.frost.max() < 0.2 * FROST_G
    assert warmest.max() < 8.0


@pytest.mark.parametrize(("condition", "rises"), [("door", True), ("coil", False)])
def test_air_from_outside_brings_moisture_and_the_coil_takes_it(condition, rises):
    spaces = rooms()
    spaces.frost[:] = 0.0
    before = spaces.vapour.copy()
    if condition == "coil":
        spaces.setpoint[:] = -20.0  # the unit runs all the time
    pass_time(spaces, 0.1, door=ALWAYS if condition == "door" else NEVER)
    assert ((spaces.vapour > before) if rises else (spaces.vapour < before)).all()
    assert spaces.humidity.max() <= 100.0 + 1e-9
    assert bool(spaces.frost.max() > 0) == (condition == "coil")
