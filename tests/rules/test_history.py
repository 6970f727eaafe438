"""The history against a plain list: whatever comes in whatever order, each past is sorted, complete, and forgotten from its old end."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.history import History

SERIES = 5


def columns(readings: list[tuple[int, int, float, int]]) -> list[np.ndarray]:
    rows, times, values, positions = zip(*readings, strict=True)
    return [np.array(rows, np.int64), np.array(times, np.int64), np.array(values, float), np.array(positions, np.int64)]


def held(history: History, row: int) -> list[tuple[int, float, int]]:
    part = slice(history.first[row], history.end[row])
    return list(zip(history.times_ms[part].tolist(), history.values[part].tolist(), history.positions[part].tolist(), strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_it_holds_what_a_sorted_list_holds(seed):
    rng = random.Random(seed)
    history, plain = History(), [set() for _ in range(SERIES)]
    history.extend(SERIES)
    chunks, position = [], 0
    for _ in range(rng.randint(1, 25)):
        batch = set()
        for _ in range(rng.choice([1, 3, 40])):
            row, time_ms, value = rng.randrange(SERIES), rng.randrange(200), float(rng.randrange(4))
            known = {(time, value) for time, value, _ in plain[row]} | {(time, value) for at, time, value, _ in batch if at == row}
            if time_ms > history.floor_ms[row] and (time_ms, value) not in known:
                position += 1
                batch.add((row, time_ms, value, position))
        if batch:
            readings = columns(sorted(batch))
            latest = [max((time for time, *_ in plain[row]), default=-1) for row in range(SERIES)]
            late = np.array([time_ms <= latest[row] for row, time_ms, *_ in sorted(batch)])
            same, taken = history.holds(*readings[:3])
            assert not same.any()
            assert taken.tolist() == [time in {t for t, *_ in plain[row]} for row, time, *_ in sorted(batch)]
            rows, times, values, positions = readings
            history.take(rows, times, values, positions, late)
            for row, time_ms, value, at in batch:
                plain[row].add((time_ms, value, at))
        if rng.random() < 0.2:
            row, until = rng.randrange(SERIES), rng.randrange(150)
            history.drop(np.array([row]), np.array([until]))
            plain[row] = {reading for reading in plain[row] if reading[0] > until}
        if rng.random() < 0.3 and (chunk := history.take_new()) is not None:
            chunks.append(chunk)
        assert [held(history, row) for row in range(SERIES)] == [sorted(readings) for readings in plain]
    chunks += [chunk for chunk in [history.take_new()] if chunk is not None]
    again = History()
    again.extend(SERIES)
    again.floor_ms[:SERIES] = history.floor_ms[:SERIES]
    again.refill(chunks)
    assert [held(again, row) for row in range(SERIES)] == [sorted(readings) for readings in plain]


def test_slabs_that_were_left_are_used_again():
    """A series that grows moves; the room it leaves must not be lost, or memory grows for ever."""
    history = History()
    history.extend(100)
    for row in range(100):
        for start in range(0, 400, 8):
            times = np.arange(start, start + 8)
            history.append(np.full(8, row), times, times.astype(float), times)
    assert history.used < 100 * 400 * 4


def test_a_history_of_unknown_series_is_refused():
    history, other = History(), History()
    history.extend(3)
    history.append(*columns([(2, 1, 1.0, 1)]))
    other.extend(2)
    chunk = history.take_new()
    assert chunk is not None

    with pytest.raises(ValueError, match="do not belong together"):
        other.refill([chunk])
