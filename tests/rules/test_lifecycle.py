"""The life of an alert, against a second implementation that looks at the whole past at every reading."""

from itertools import pairwise, product

import numpy as np
import pytest

from rules.condition import Comparison, Signal
from rules.lifecycle import IDLE, Change, Observation, Observations, State, fold, rested, step
from rules.rule import Terms

STEP_MS, GAP_MS = 10_000, 15_000
WHEN = Comparison(Signal("temperature"), ">", 8.0, "Cel")
CLEAR = Comparison(Signal("temperature"), "<=", 7.5, "Cel")
VALUES = {"above": 9.0, "between": 7.8, "below": 5.0, "missing": None}


def terms(for_ms: int, clear_for_ms: int) -> Terms:
    return Terms(WHEN, CLEAR, for_ms, clear_for_ms, GAP_MS)


def changes(given: Terms, values: list[float | None]) -> list[tuple[Change, int, int]]:
    """Return (change, time of the reading, start of the run) as the lifecycle tells them."""
    life, told = IDLE, []
    for number, value in enumerate(values):
        if value is None:
            continue
        life, change = step(given, life, Observation(number * STEP_MS, value, "d", number))
        if change is not None:
            begun = life.episode.started.time_ms if change is Change.RAISED else life.episode.clearing.time_ms
            told.append((change, number * STEP_MS, begun))
        if change is Change.RESOLVED:
            life = rested(life)
    return told


def proved(times: list[int]) -> int:
    return sum(b - a for a, b in pairwise(times) if b - a <= GAP_MS)


def by_brute_force(given: Terms, values: list[float | None]) -> list[tuple[Change, int, int]]:
    """The same from the definitions of DESIGN section 5, looking back over the unbroken run at each reading."""
    seen = [(number * STEP_MS, value) for number, value in enumerate(values) if value is not None]
    told: list[tuple[Change, int, int]] = []
    firing, since = False, 0
    for at, (time_ms, _) in enumerate(seen):
        condition, needed = (CLEAR, given.clear_for_ms) if firing else (WHEN, given.for_ms)
        run: list[int] = []
        for back_ms, value in reversed(seen[since : at + 1]):
            if not condition.holds(value):
                break
            run.insert(0, back_ms)
        if run and proved(run) >= needed:
            told.append((Change.RESOLVED if firing else Change.RAISED, time_ms, run[0]))
            firing, since = not firing, at + 1
    return told


@pytest.mark.long
@pytest.mark.parametrize(("for_ms", "clear_for_ms"), [(0, 0), (10_000, 0), (20_000, 10_000), (30_000, 20_000)])
def test_all_sequences_up_to_length_eight_agree_with_brute_force(for_ms, clear_for_ms):
    """Exhaustive: 87,380 sequences of {below, between, above, missing}."""
    given = terms(for_ms, clear_for_ms)
    for length in range(1, 9):
        for values in product(VALUES.values(), repeat=length):
            expected = by_brute_force(given, list(values))
            assert changes(given, list(values)) == expected, values


def test_equality_follows_the_operator():
    assert changes(terms(0, 0), [8.0]) == []
    assert changes(terms(0, 0), [8.0000001]) == [(Change.RAISED, 0, 0)]


def test_a_gap_freezes_the_timer_and_breaks_nothing():
    """A stale high value must not fire; the time before and after the gap counts, the gap does not."""
    hot = 9.0
    told = changes(terms(20_000, 0), [hot, hot, None, None, None, hot, hot])

    assert told == [(Change.RAISED, 60_000, 0)]


def test_the_peak_is_the_most_extreme_value_of_the_episode():
    life, given = IDLE, terms(0, 60_000)
    for number, value in enumerate([8.5, 12.25, 9.0, 7.0]):
        life, _ = step(given, life, Observation(number * STEP_MS, value, "d", number))

    assert (life.episode.peak, life.episode.state) == (12.25, State.CLEARING)


def test_a_second_reading_of_the_same_instant_proves_no_time():
    given = terms(10_000, 0)
    life, _ = step(given, IDLE, Observation(0, 9.0, "d", 0))
    life, change = step(given, life, Observation(0, 9.5, "e", 1))

    assert change is None
    assert life.episode.proved_ms == 0


def test_accumulated_time_counts_what_was_proved_in_any_run_of_the_span():
    given = Terms(WHEN, CLEAR, for_ms=20_000, clear_for_ms=0, max_gap_ms=GAP_MS, within_ms=60_000)
    told = changes(given, [9.0, 9.0, 5.0, 9.0, 9.0, 5.0, 5.0, 5.0, 9.0, 9.0])

    assert told == [(Change.RAISED, 40_000, 30_000), (Change.RESOLVED, 50_000, 50_000), (Change.RAISED, 90_000, 80_000)]


def test_folding_the_past_is_stepping_through_it():
    """One function decides: what a late reading leads to cannot differ from what order would have led to."""
    values = [9.0, 9.0, 7.8, 5.0, 9.0, 9.0, 9.0, 7.0, 9.0]
    given = terms(10_000, 0)
    times = np.arange(len(values)) * STEP_MS
    life, alerts = fold(given, IDLE, Observations(times, np.array(values), ("d",), np.arange(len(values))))

    assert [(alert.episode.started.time_ms, alert.resolved and alert.resolved.time_ms) for alert in alerts] == [
        (0, 30_000),
        (40_000, 70_000),
    ]
    assert life.episode is not None
    assert life.episode.state is State.PENDING
