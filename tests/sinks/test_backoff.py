"""When to try again."""

import pytest

from sinks.backoff import LONGEST_RETRY_AFTER_S, Backoff, retry_after_s


def test_waits_double_up_to_a_cap() -> None:
    backoff = Backoff(base_s=1.0, cap_s=10.0)
    assert [backoff.delay_s(attempt, None, lambda: 1.0) for attempt in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 10, 10]


def test_jitter_is_full() -> None:
    """From nothing to the ceiling: receivers that were down together are not asked again together."""
    backoff, drawn = Backoff(base_s=1.0, cap_s=10.0), [0.5, 0.25, 0.0]
    assert [backoff.delay_s(3, None, drawn.pop) for _ in range(3)] == [0, 1, 2]


def test_the_other_side_may_ask_for_more_patience_but_not_for_any() -> None:
    assert Backoff().delay_s(1, 30.0, lambda: 0.0) == 30.0
    assert Backoff(base_s=60.0).delay_s(1, 1.0, lambda: 0.9) == 54.0
    assert Backoff().delay_s(1, 1e9, lambda: 0.0) == LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 20 Nov 2025 21:27:10 GMT", 30.0),
        ("Thu, 20 Nov 2025 21:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_has_two_forms(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, 1_763_674_000_000) == expected
