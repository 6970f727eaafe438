"""Zones, routes, and time accumulated: against geometry and counting that are done another way."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from rules.condition import Comparison, Logic, Signal
from rules.document import compile_rules
from rules.geometry import distances_m
from rules.parsing import parse_condition
from rules.places import Place
from telemetry.alert import AlertEvent
from telemetry.errors import ConfigError
from telemetry.metrics import CATALOGUE
from tests.rules.stream import START_MS, Shard

SQUARE = Place(((50.0, 8.0), (50.0, 9.0), (51.0, 9.0), (51.0, 8.0)), ring=True)
CORRIDOR = Place(((50.0, 8.0), (50.0, 9.0)), 2000.0)


def away(place: Place, *positions: tuple[float, float]) -> list[float]:
    return distances_m(place, *np.array(positions).T).tolist()


def test_great_circles_are_as_long_as_they_are_known_to_be():
    """One degree of the equator, a quarter of the meridian, and London to Paris."""
    centre = Place(((0.0, 0.0),), 1.0)
    assert away(centre, (0, 1), (89.999999, 0)) == pytest.approx([111_195 - 1, 10_007_543], rel=1e-4)
    assert away(Place(((51.5074, -0.1278),), 1.0), (48.8566, 2.3522)) == pytest.approx([343_556], rel=1e-3)


def test_inside_is_zero_and_outside_is_to_the_nearest_side():
    assert away(SQUARE, (50.5, 8.5), (50.0001, 8.0001)) == [0.0, 0.0]
    assert away(SQUARE, (49.9, 8.5), (51.1, 8.5)) == pytest.approx([11_119.5, 11_119.5], rel=1e-3)
    assert away(SQUARE, (50.5, 7.9)) == pytest.approx([0.1 * 111_195 * math.cos(math.radians(50.5))], rel=1e-3)
    assert away(CORRIDOR, (50.01, 8.5), (50.1, 8.5)) == pytest.approx([0.0, 11_119.5 - 2000], rel=1e-3)


def test_a_route_may_cross_the_180th_meridian():
    pacific = Place(((10.0, 179.0), (10.0, -179.0)), 1000.0)
    assert away(pacific, (10.0, 179.9), (10.0, -179.5)) == [0.0, 0.0]
    assert away(pacific, (11.0, 180.0))[0] == pytest.approx(111_195 - 1000, rel=1e-3)


def test_a_zone_holds_what_a_count_of_turns_around_the_position_says():
    """An uneven ring, against its winding number."""
    rng = random.Random(5)
    ring = [(50 + (0.3 + rng.random()) * math.sin(turn), 8 + (0.3 + rng.random()) * math.cos(turn)) for turn in np.linspace(0, 6.1, 17)]
    place = Place(tuple(ring), ring=True)
    for _ in range(500):
        at = (50 + rng.uniform(-1.5, 1.5), 8 + rng.uniform(-1.5, 1.5))
        angles = [math.atan2(lat - at[0], lon - at[1]) for lat, lon in (*ring, ring[0])]
        turned = sum((b - a + math.pi) % (2 * math.pi) - math.pi for a, b in pairwise(angles))
        assert (away(place, at)[0] == 0.0) is (abs(turned) > 1), at


def test_what_is_no_position_is_nowhere():
    assert math.isnan(away(SQUARE, (math.nan, 8.5))[0])
    assert math.isnan(away(CORRIDOR, (50.0, math.nan))[0])


DOCUMENT = """places:
  depot: {center: [50.0, 8.0], radius: 500 m}
  north: {route: [[50.0, 8.0], [51.0, 8.0]], width: 2 km}
  south: {route: [[50.0, 8.0], [49.0, 8.0]], width: 2 km}
rules:
  - {id: dwell, when: inside(depot), for: 30 s, severity: info}
  - {id: strayed, when: distance_from(tag route) > 3 km, severity: warning, message: '{value:.0f} {unit}, at most {peak:.0f}'}
  - {id: open-outside, when: door >= 1 and not inside(depot), severity: critical}
"""


def drive(*positions: tuple[float, float, float], route: str = "north", door: float = 0.0) -> list[AlertEvent]:
    shard = Shard(DOCUMENT, devices=[{"device": "d", "kind": "shipment", "subject": "s", "tags": {"route": route}}])
    for second, latitude, longitude in positions:
        shard.messages(second, ("shipment", "d", second, {"latitude": latitude, "longitude": longitude, "door": door}))
    return [event for outcome in shard.outcomes for event in outcome.alerts]


def shown(events: list[AlertEvent]) -> list[tuple[str, str, int]]:
    return [(event.rule, str(event.phase), (event.time_ms - START_MS) // 1000) for event in events]


def test_a_shipment_that_stands_in_a_zone_dwells():
    assert shown(drive((0, 50.0, 8.0), (20, 50.001, 8.0), (40, 50.0, 8.001), (60, 50.1, 8.0))) == [
        ("dwell", "raised", 40), ("dwell", "resolved", 60),
    ]  # fmt: skip


def test_a_shipment_strays_from_its_own_route():
    north = drive((0, 50.5, 8.0), (10, 50.5, 8.1), (20, 50.5, 8.2), (30, 50.5, 8.0))
    assert shown(north) == [("strayed", "raised", 10), ("strayed", "resolved", 30)]
    assert (north[0].unit, north[0].threshold, round(north[0].value or 0)) == ("m", 3000.0, 5073)
    assert round(north[1].peak or 0) == 12146
    assert shown(drive((0, 50.5, 8.0), route="south")) == [("strayed", "raised", 0)]
    assert shown(drive((0, 40.0, 8.0), route="elsewhere")) == [], "of a route that nobody knows, nothing is known"


def test_zones_combine_with_what_is_measured():
    assert shown(drive((0, 50.0, 8.0), (10, 50.2, 8.0), (20, 50.0, 8.0), door=1.0)) == [
        ("open-outside", "raised", 10), ("open-outside", "resolved", 20),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("inside(dpot)", r"unknown place `dpot`, did you mean `depot`\?"),
        ("distance_from(depot)", "alone is no condition"),
        ("inside(depot) > 3 km", "has no value to compare"),
        ("near(depot)", "alone is no condition"),
        ("distance_from(depot) > 3 kPa", "does not measure"),
        ("accumulated_time(temperature > 8 Cel and humidity > 3 %, 7 d) > 10 h", "conditions on the readings of one metric"),
        ("accumulated_time(mean(temperature, 1 h) > 8 Cel, 7 d) > 10 h", "conditions on the readings of one metric"),
        ("accumulated_time(temperature > limit(high, 8 Cel), 7 d) > 10 h", "`limit` does not go into"),
        ("accumulated_time(temperature > 8 Cel, 0 s) > 1 h", "a span of 0 is too short"),
        ("mean(temperature > 8 Cel, 7 d) > 10 h", "`mean` is not of a condition"),
    ],
)
def test_what_makes_no_sense_is_refused(rule, said):
    with pytest.raises(ConfigError, match=said):
        compile_rules(
            [("f", f"places: {{depot: {{center: [50.0, 8.0], radius: 500 m}}}}\nrules: [{{id: r, when: '{rule}', severity: info}}]")]
        )


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("{center: [50.0, 8.0]}", "a `center` has a `radius`"),
        ("{center: [50.0, 8.0], radius: 500}", "like `300 m` or `2 km`"),
        ("{polygon: [[50.0, 8.0], [51.0, 8.0]]}", "polygon"),
        ("{center: [95.0, 8.0], radius: 1 km}", "center"),
        ("{route: [[50.0, 8.0], [51.0, 8.0]], polygon: [[50.0, 8.0], [51.0, 8.0], [52.0, 9.0]]}", "is one of"),
        ("{}", "is one of"),
    ],
)
def test_a_place_is_one_shape_of_plausible_positions(place, said):
    with pytest.raises(ConfigError, match=said):
        compile_rules([("f", f"places: {{depot: {place}}}\nrules: []")])


def test_places_are_known_to_all_files():
    rules = compile_rules(
        [("a", "rules: [{id: r, when: inside(depot), severity: info}]"), ("b", "places: {depot: {center: [5, 8], radius: 1 km}}")]
    )
    assert [rule.id for rule in rules.rules] == ["r"]


def test_a_place_stands_once():
    """Else which one holds would depend on the order of the files, and a rule could fall silent."""
    place = "places: {depot: {center: [5, 8], radius: 1 km}}"
    with pytest.raises(ConfigError, match=r"b:1:17: places.depot: `depot` is a place already, in a:1"):
        compile_rules([("a", f"{place}\nrules: [{{id: r, when: inside(depot), severity: info}}]"), ("b", place)])


def test_a_place_that_is_wrong_leaves_the_others_known():
    places = "places: {bad: {center: [5, 8], radius: 300}, good: {center: [5, 8], radius: 1 km}}"
    text = f"{places}\nrules: [{{id: r, when: inside(good), severity: info}}]"
    with pytest.raises(ConfigError) as found:
        compile_rules([("f", text)])
    assert [str(problem).split(": ")[1] for problem in found.value.problems] == ["places.bad.radius"]


# -- time accumulated ------------------------------------------------------------------------------------------------------------------


def test_accumulated_time_is_read_as_a_value_in_hours():
    condition = parse_condition("accumulated_time(temperature < 2 Cel or temperature > 8 Cel, 7 d) > 90 min", CATALOGUE)
    assert isinstance(condition, Comparison)
    assert (condition.threshold, condition.unit, condition.signal.trailing_ms) == (1.5, "h", 7 * 86_400_000)
    held = condition.signal.held
    assert held is not None
    assert isinstance(held.condition, Logic)
    assert [leaf.signal for leaf in held.condition.leaves()] == [Signal("temperature")] * 2


def by_counting(seen: list[tuple[int, float]], at: int, span: int, gap: int) -> int:
    """Return seconds above 8 in (at - span, at]: second by second, each proved by the two readings around it."""
    total = 0
    for (one, low), (two, high) in pairwise(seen):
        if two <= at and two - one <= gap and low > 8 and high > 8:
            total += sum(1 for second in range(one, two) if second >= at - span)
    return total


@pytest.mark.parametrize("seed", range(30))
def test_accumulated_time_is_what_counting_seconds_says(seed):
    rng = random.Random(seed)
    span, gap, budget = rng.choice([60, 200]), rng.choice([10, 30]), rng.choice([20, 45])
    times = sorted(rng.sample(range(400), 60))
    seen = [(at, rng.choice([7.0, 9.0, 9.0])) for at in times]
    rule = f"rules: [{{id: r, when: 'accumulated_time(temperature > 8 Cel, {span} s) >= {budget} s', max_gap: {gap} s, severity: info}}]"
    shard = Shard(rule)
    arriving = list(seen)
    rng.shuffle(arriving)
    for number, (at, value) in enumerate(arriving):
        shard.messages(1000 + number, ("shipment", "d", at, {"temperature": value}))
        if number % 17 == 5:
            shard.restart()
    final = {event.alert_id: event for outcome in shard.outcomes for event in outcome.alerts}
    found = {
        ((event.started_at_ms - START_MS) // 1000, None if event.ended_at_ms is None else (event.ended_at_ms - START_MS) // 1000)
        for event in final.values()
        if str(event.phase) != "retracted"
    }
    over = [by_counting(seen, at, span, gap) >= budget for at, _ in seen]
    expected, start = set(), None
    for (at, _), holds in zip(seen, over, strict=True):
        if holds and start is None:
            start = at
        elif not holds and start is not None:
            expected.add((start, at))
            start = None
    assert found == expected | ({(start, None)} if start is not None else set()), f"seed {seed}"


def test_a_shipment_has_its_own_budget():
    rule = "rules: [{id: r, when: 'accumulated_time(temperature > 8 Cel, 30 d) > limit(budget_h, 72 h)', max_gap: 2 h, severity: info}]"
    for tags, expected in (({"budget_h": "2"}, ["raised"]), ({}, [])):
        shard = Shard(rule, devices=[{"device": "d", "kind": "shipment", "subject": "s", "tags": tags}])
        for hour in range(5):
            shard.messages(hour * 3600, ("shipment", "d", hour * 3600, {"temperature": 9.0}))
        assert [phase for phase, *_ in shard.alerts()] == expected
