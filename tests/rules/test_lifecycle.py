"""The life of an alert, against a second implementation that looks at the whole past at every reading."""

from itertools import pairwise, product

import pytest

from rules.condition import Comparison, Signal
from rules.lifecycle import Change, Observation, State, Terms, step

STEP_MS, GAP_MS = 10_000, 15_000
WHEN = Comparison(Signal("temperature"), ">", 8.0, "Cel")
CLEAR = Comparison(Signal("temperature"), "<=", 7.5, "Cel")
VALUES = {"above": 9.0, "between": 7.8, "below": 5.0, "missing": None}


def terms(for_ms: int, clear_for_ms: int) -> Terms:
    return Terms(WHEN, CLEAR, for_ms, clear_for_ms, GAP_MS)


def changes(given: Terms, values: list[float | None]) -> list[tuple[Change, int, int]]:
    """Return (change, time of the reading, start of the run) as the lifecycle tells them."""
    episode, told = None, []
    for number, value in enumerate(values):
        if value is None:
            continue
        episode, change = step(given, episode, Observation(number * STEP_MS, value, "d", number))
        if change is not None:
            assert episode is not None
            begun = episode.started.time_ms if change is Change.RAISED else episode.clearing.time_ms
            told.append((change, number * STEP_MS, begun))
        if change is Change.RESOLVED:
            episode = None
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
    episode, given = None, terms(0, 60_000)
    for number, value in enumerate([8.5, 12.25, 9.0, 7.0]):
        episode, _ = step(given, episode, Observation(number * STEP_MS, value, "d", number))

    assert episode is not None
    assert (episode.peak, episode.state) == (12.25, State.CLEARING)


def test_a_reading_that_is_not_newer_proves_no_time():
    given = terms(10_000, 0)
    episode, _ = step(given, None, Observation(0, 9.0, "d", 0))
    episode, change = step(given, episode, Observation(-20_000, 9.0, "d", 1))

    assert change is None
    assert episode is not None
    assert episode.proved_ms == 0
