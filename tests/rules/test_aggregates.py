"""Summaries of groups: as exact arithmetic has them, inside the values they are of, and the same bits whatever stands beside them."""

import math
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rules.aggregates import FEW, summarise
from rules.columns import Floats, Integers
from rules.window import AGGREGATES

UNIT = 2.0**-53  # half an ulp of one: what one rounding may be off, relatively
TINIEST = 5e-324
GREATEST = float(np.finfo(np.float64).max)
MOST_ROUNDINGS = 25  # of a pairwise sum of up to 2000: eight accumulators within 128, then halves

THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def warnings_fail() -> Iterator[None]:
    """Values come from devices: none of them may make numpy complain, let alone raise."""
    with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("error")
        yield


class Readings(NamedTuple):
    times_ms: Integers
    values: Floats


FLAVOURS = {
    "plausible": lambda rng, n: np.round(rng.normal(36.8, 0.4, n), 2),
    "whole": lambda rng, n: rng.integers(-3, 4, n).astype(np.float64),
    "constant": lambda rng, n: np.full(n, rng.choice([0.1, 36.6, -7.3, 1e300, 3e-310])),
    "far from zero": lambda rng, n: 1e15 + rng.normal(0, 1, n),
    "neighbours": lambda rng, n: rng.choice([0.1, np.nextafter(0.1, 1), np.nextafter(0.1, 0)], n),
    "of every magnitude": lambda rng, n: rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-300, 300, n),
    "nothing but zeros": lambda rng, n: rng.choice([0.0, -0.0], n),
    "next to nothing": lambda rng, n: rng.integers(-5, 6, n) * TINIEST,
    "huge": lambda rng, n: rng.uniform(-1, 1, n) * 1e300,
    "at the ends": lambda rng, n: rng.choice([GREATEST, -GREATEST, 0.0, -0.0], n),
    "an outlier first": lambda rng, n: np.where(np.arange(n) == 0, 1e15, rng.normal(0, 1, n)),
}


def made(flavour: str, count: int, seed: int) -> Readings:
    """Return readings of one device, in order; several may have one time."""
    rng = np.random.default_rng(seed)
    times_ms = 1_763_000_000_000 + np.cumsum(rng.choice([0, 1, 250, 1000, 60_000], count))
    return Readings(times_ms, FLAVOURS[flavour](rng, count))


def together(parts: list[Readings]) -> Readings:
    return Readings(np.concatenate([part.times_ms for part in parts]), np.concatenate([part.values for part in parts]))


def part(readings: Readings, start: int, count: int) -> Readings:
    return Readings(readings.times_ms[start : start + count], readings.values[start : start + count])


def alone(readings: Readings, wanted=AGGREGATES) -> dict[str, float]:
    """Return the summary of one group that is the whole of its arrays."""
    summary = summarise(np.array([0]), np.array([len(readings.values)]), readings.times_ms.copy(), readings.values.copy(), wanted)
    return {name: column[0] for name, column in summary.items()}


def bits(summary: dict[str, float]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in summary.items()}


def of_group(summaries: dict[str, np.ndarray], group: int) -> dict[str, float]:
    return {name: column[group] for name, column in summaries.items()}


def off_from_alone(readings: Readings, starts: Integers, counts: Integers) -> list[int]:
    """Return the groups whose bits are not those of the group alone."""
    summaries = summarise(starts, counts, readings.times_ms, readings.values)
    return [
        group
        for group, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True))
        if bits(of_group(summaries, group)) != bits(alone(part(readings, start, count)))
    ]


class Layout(NamedTuple):
    """Groups over a series of readings of mixed flavours."""

    readings: Readings
    starts: Integers
    counts: Integers


@st.composite
def layouts(draw) -> Layout:
    pieces = draw(st.lists(st.tuples(st.sampled_from(list(FLAVOURS)), st.integers(1, 2000)), min_size=1, max_size=6))
    seed = draw(st.integers(0, 2**32))
    readings = together([made(flavour, count, seed + number) for number, (flavour, count) in enumerate(pieces)])
    lengths = np.array([count for _, count in pieces])
    ends = np.cumsum(lengths)
    how = draw(st.sampled_from(["side by side", "with gaps", "sliding", "anywhere"]))
    if how == "side by side":
        return Layout(readings, ends - lengths, lengths)
    if how == "with gaps":
        return Layout(readings, ends - lengths + lengths // 3, lengths - lengths // 3)
    if how == "sliding":
        size = draw(st.integers(1, int(ends[-1])))
        starts = np.arange(0, int(ends[-1]), max(1, size // draw(st.integers(1, 4)), int(ends[-1]) // 40))
        return Layout(readings, starts, np.minimum(size, ends[-1] - starts))
    spans = draw(st.lists(st.tuples(st.integers(0, int(ends[-1]) - 1), st.integers(1, 2000)), min_size=1, max_size=20))
    starts = np.array([start for start, _ in spans])
    return Layout(readings, starts, np.minimum(np.array([count for _, count in spans]), ends[-1] - starts))


@THOROUGH
@given(layouts())
def test_a_group_has_the_same_bits_whatever_stands_beside_it(layout):
    """Law 3: a window that is computed again after a late reading is computed in other company."""
    assert off_from_alone(layout.readings, layout.starts, layout.counts) == []


@pytest.mark.parametrize("groups", [3, FEW, FEW + 1, 700])
@pytest.mark.parametrize("longest", [1, 9, 60])
def test_many_groups_have_the_bits_that_each_has_alone(groups, longest):
    """More readings than numpy takes at a time; groups of one length and of several, few and many: each has its own way to be sorted."""
    rng = np.random.default_rng(groups * longest)
    readings = together([made(flavour, groups * longest // len(FLAVOURS) + 1, seed=5) for flavour in FLAVOURS])
    even = np.arange(groups) * (len(readings.values) - longest) // groups
    uneven = rng.integers(1, longest + 1, groups)

    assert off_from_alone(readings, np.arange(groups) * longest, np.full(groups, longest)) == []
    assert off_from_alone(readings, even, np.full(groups, longest)) == []
    assert off_from_alone(readings, np.cumsum(uneven) - uneven, uneven) == []
    assert off_from_alone(readings, even, uneven) == []


@THOROUGH
@given(st.sampled_from(list(FLAVOURS)), st.integers(1, 2000), st.integers(0, 2**32), st.integers(0, 9), st.booleans())
def test_a_group_has_the_same_bits_wherever_it_lies(flavour, count, seed, shift, every_other):
    """Memory may be aligned in any way, and a column may be one of several in a block."""
    readings = made(flavour, count, seed)
    room = np.full(2 * (shift + count) + 1, 1e9)
    values = room[:: 2 if every_other else 1]
    values[shift : shift + count] = readings.values
    times_ms = np.concatenate([np.zeros(shift, np.int64), readings.times_ms, np.full(len(values) - shift - count, 2**40)])
    there = summarise(np.array([shift]), np.array([count]), times_ms, values)

    assert bits(of_group(there, 0)) == bits(alone(readings))


@THOROUGH
@given(layouts(), st.sets(st.sampled_from(AGGREGATES)))
def test_only_what_is_wanted_comes_and_has_the_bits_that_it_has_with_all(layout, wanted):
    some = summarise(layout.starts, layout.counts, layout.readings.times_ms, layout.readings.values, wanted)
    everything = summarise(layout.starts, layout.counts, layout.readings.times_ms, layout.readings.values)

    assert set(some) == wanted
    assert all(some[name].tobytes() == everything[name].tobytes() for name in wanted)


class Exact(NamedTuple):
    """What rational arithmetic makes of a group."""

    total: Fraction
    mean: Fraction
    variance: Fraction
    slope: Fraction | None
    scale: Fraction  # sum of |x|
    spread: Fraction  # mean of |x - mean|
    slope_scale: Fraction  # sum |t||x| / sum t t about the means, a second


def exactly(readings: Readings) -> Exact:
    values, count = [Fraction(value) for value in readings.values.tolist()], len(readings.values)
    times = [Fraction(time, 1000) for time in readings.times_ms.tolist()]
    total = sum(values, Fraction(0))
    mean, when = total / count, sum(times, Fraction(0)) / count
    apart, since = [value - mean for value in values], [time - when for time in times]
    alone = sum((time * time for time in since), Fraction(0))
    return Exact(
        total,
        mean,
        sum((value * value for value in apart), Fraction(0)) / count,
        sum((a * b for a, b in zip(since, apart, strict=True)), Fraction(0)) / alone if alone else None,
        sum(map(abs, values), Fraction(0)),
        sum(map(abs, apart), Fraction(0)) / count,
        sum((abs(a * b) for a, b in zip(since, apart, strict=True)), Fraction(0)) / alone if alone else Fraction(0),
    )


def check_against_exact_arithmetic(readings: Readings) -> None:
    """The bounds are those of the algorithms, not of taste: a pairwise sum within its roundings, and what is made of it a few more."""
    summary, exact, count = alone(readings), exactly(readings), len(readings.values)
    roundings = min(count, MOST_ROUNDINGS) * Fraction(UNIT)
    few = 4 * Fraction(UNIT)
    least = 2 * Fraction(TINIEST)

    if math.isinf(summary["sum"]):
        assert abs(exact.total) > Fraction(GREATEST) * (1 - roundings)
    else:
        assert abs(Fraction(summary["sum"]) - exact.total) <= roundings * exact.scale + least

    assert abs(Fraction(summary["mean"]) - exact.mean) <= Fraction(UNIT) * abs(exact.mean) + (roundings + few) * exact.spread + least

    widest = Fraction(readings.values.max()) - Fraction(readings.values.min())
    off = min(widest, roundings * exact.scale / count)  # of the mean that the deviations are from
    variance = Fraction(summary["stddev"]) ** 2
    allowed = (2 * roundings + 2 * few) * (exact.variance + off * off)
    assert abs(variance - exact.variance) <= allowed + 4 * Fraction(summary["stddev"]) * least + least * least

    if exact.slope is None:
        assert math.isnan(summary["slope"])
    elif math.isinf(summary["slope"]):
        assert abs(exact.slope) > Fraction(GREATEST) * (1 - roundings)
    else:
        span = Fraction(int(readings.times_ms[-1] - readings.times_ms[0]), 1000)
        spread = sum(
            (Fraction(time, 1000) - Fraction(int(readings.times_ms.sum()), 1000 * count)) ** 2 for time in readings.times_ms.tolist()
        )
        allowed = (3 * roundings + 2 * few) * (exact.slope_scale + count * span * off * roundings / spread) + few * abs(exact.slope)
        assert abs(Fraction(summary["slope"]) - exact.slope) <= allowed + 1000 * least


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 10, 100, 127, 128, 129, 130, 300])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_sums_means_spreads_and_slopes_are_those_of_exact_arithmetic(flavour, count):
    check_against_exact_arithmetic(made(flavour, count, seed=count))


any_value = st.floats(allow_nan=False, allow_infinity=False)
any_readings = st.lists(st.tuples(st.integers(0, 10**8), any_value), min_size=1, max_size=20).map(
    lambda pairs: Readings(np.array(sorted(time for time, _ in pairs)), np.array([value for _, value in pairs]))
)


@settings(max_examples=500, deadline=None)
@given(any_readings)
@example(Readings(np.array([0, 1]), np.array([GREATEST, -GREATEST])))
@example(Readings(np.array([0, 1, 2]), np.array([GREATEST, GREATEST, -GREATEST])))
@example(Readings(np.array([0, 0]), np.array([TINIEST, -TINIEST])))
@example(Readings(np.array([0, 1, 2]), np.array([1e200, 1e-300, -1e200])))
@example(Readings(np.array([0, 1]), np.array([1e-200, 3e-200])))
def test_whatever_doubles_a_device_sends_its_summary_is_right(readings):
    check_against_exact_arithmetic(readings)


@settings(max_examples=500, deadline=None)
@given(any_readings)
def test_what_lies_between_the_values_of_a_group_lies_between_its_least_and_greatest(readings):
    """The evaluator skips a rule on a mean or a percentile while every reading is in band."""
    check_in_band(readings)


def check_in_band(readings: Readings) -> None:
    summary = alone(readings)
    low, high = readings.values.min(), readings.values.max()
    assert all(low <= summary[name] <= high for name in ("mean", "min", "max", "first", "last", "median", "p95"))
    assert summary["median"] <= summary["p95"]


@THOROUGH
@given(any_value, st.lists(st.integers(0, 3), min_size=1, max_size=300), st.integers(0, 2**32))
def test_nearly_equal_values_do_not_push_a_mean_out_of_their_band(value, steps, seed):
    """A mean of numbers that are an ulp apart is where rounding is felt: summed plainly, ten times 0.1 has a mean below 0.1."""
    value = min(max(value, -1e308), 1e308)
    values = np.full(len(steps), value)
    for step in range(3):
        values = np.where(np.array(steps) > step, np.nextafter(values, np.inf), values)
    check_in_band(Readings(np.arange(len(steps)), values))


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 999])
def test_the_values_of_a_group_decide_its_order_statistics(flavour, count):
    readings = made(flavour, count, seed=3)
    values, summary = readings.values, alone(readings)

    assert summary["count"] == count
    assert (summary["first"], summary["last"]) == (values[0], values[-1])
    assert (summary["min"], summary["max"]) == (values.min(), values.max())
    with np.errstate(over="ignore"):
        assert summary["range"] == values.max() - values.min()


@pytest.mark.parametrize("flavour", [flavour for flavour in FLAVOURS if flavour != "at the ends"])  # numpy's own overflows there
def test_percentiles_are_numpys_to_the_bit(flavour):
    for count in [*range(1, 45), 101, 1000]:
        readings = made(flavour, count, seed=count)
        summary = alone(readings, wanted=("median", "p95"))

        assert (summary["median"], summary["p95"]) == tuple(np.percentile(readings.values, [50, 95])), count


def test_percentiles_between_the_ends_of_the_doubles_are_between_them():
    readings = Readings(np.arange(2), np.array([-GREATEST, GREATEST]))

    summary = alone(readings)

    assert summary["median"] == 0.0
    assert summary["p95"] == pytest.approx(0.9 * GREATEST)
    assert summary["range"] == math.inf


@pytest.mark.parametrize("value", [0.1, 36.6, 1e15 + 0.125, -3.7e-320, 1e308])
@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_equal_values_have_no_spread_at_all_and_are_their_mean(value, count):
    summary = alone(Readings(np.arange(count), np.full(count, value)))

    assert (summary["mean"], summary["stddev"], summary["range"]) == (value, 0.0, 0.0)
    assert summary["slope"] == 0.0 or count == 1


def test_a_slope_is_per_second_and_wants_two_times():
    climbing = Readings(np.array([10_000, 10_500, 12_000, 20_000]), np.array([1.0, 1.25, 2.0, 6.0]))
    at_once = Readings(np.array([10_000, 10_000, 10_000]), np.array([1.0, 2.0, 3.0]))

    assert alone(climbing)["slope"] == pytest.approx(0.5, rel=1e-15)
    assert math.isnan(alone(at_once)["slope"])


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16, 17, 64, 100])
def test_which_of_two_zeros_came_does_not_show(count):
    """The order of values of one time does not tell zeros apart, and not every processor finds the same one least."""
    rng = np.random.default_rng(count)
    times_ms, plain = np.zeros(count, np.int64), bits(alone(Readings(np.zeros(count, np.int64), np.zeros(count))))

    for _ in range(20):
        assert bits(alone(Readings(times_ms, rng.choice([0.0, -0.0], count)))) == plain


def test_a_mean_that_is_rounded_to_zero_is_the_zero_that_the_others_are():
    mean = alone(Readings(np.arange(4), np.array([-TINIEST, 0.0, 0.0, 0.0])))["mean"]

    assert math.copysign(1, mean) == 1


def test_no_groups_have_no_summaries():
    none = summarise(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    assert {name: len(column) for name, column in none.items()} == dict.fromkeys(AGGREGATES, 0)
    assert {name: column.dtype for name, column in none.items()} == {
        name: np.dtype(np.int64 if name == "count" else np.float64) for name in AGGREGATES
    }


@pytest.mark.parametrize(
    ("values", "kinetic"),
    [
        ([25.0] * 5, 25.0),
        ([20.0, 25.0, 30.0], 25.8582),
        ([2.0, 8.0], 5.5364),
        ([15.0, 30.0], 25.2242),
        ([4.0] * 4 + [16.0], 8.1089),
        ([5.0] * 23 + [15.0], 5.7635),
        ([5.0] * 18 + [14.0] * 6, 8.2852),
        ([22.0] * 29 + [35.0], 22.8792),
        ([-20.0] * 3, -20.0),
        ([7.0], 7.0),
    ],
)
def test_mean_kinetic_temperature_at_even_intervals(values, kinetic):
    """Computed by hand from the formula of USP <1079.2> with 83.144 kJ/mol."""
    times_ms = np.arange(len(values)) * 60_000
    found = summarise(np.array([0]), np.array([len(values)]), times_ms, np.array(values), ("mkt",))["mkt"]

    assert found[0] == pytest.approx(kinetic, abs=1e-4)


def test_a_reading_counts_for_the_time_around_it():
    """An hour at 5 degrees, written down every minute, then an hour at 25, every ten: the mean is that of two hours, not of 67 readings."""
    times_ms = np.array([*range(60), *range(60, 121, 10)]) * 60_000
    values = np.array([5.0] * 60 + [25.0] * 7)
    dense = np.array([5.0] * 60 + [25.0] * 61)
    of = {"mkt": summarise(np.array([0]), np.array([67]), times_ms, values, ("mkt",))["mkt"][0]}
    even = summarise(np.array([0]), np.array([121]), np.arange(121) * 60_000, dense, ("mkt",))["mkt"][0]

    assert of["mkt"] == pytest.approx(even, abs=0.4)


def test_delta_and_rate_are_of_the_first_and_the_last():
    times_ms, values = np.array([0, 60_000, 120_000, 0, 0]), np.array([4.0, 9.0, 10.0, 1.0, 2.0])
    found = summarise(np.array([0, 3]), np.array([3, 2]), times_ms, values, ("delta", "rate"))

    assert found["delta"].tolist() == [6.0, 1.0]
    assert found["rate"][0] == pytest.approx(0.05)
    assert np.isnan(found["rate"][1])  # no time between
