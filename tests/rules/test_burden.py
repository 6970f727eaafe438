import pytest

from rules.burden import burden
from rules.episodes import DAY_MS, MINUTE_MS, Episode

SECOND = 1000


def episode(start_ms: int, lasts_ms: int | None, subject: str = "a", rule: str = "low") -> Episode:
    return Episode(rule, "patient", subject, start_ms, None if lasts_ms is None else start_ms + lasts_ms, "warning", None, f"{start_ms}")


def test_no_alerts_are_no_burden():
    found = burden([], 5, 0, DAY_MS)

    assert (found.alerts, found.per_subject_and_day, found.share_of_top_tenth, found.most_in_10_minutes) == (0, 0, 0, 0)


def test_the_numbers_of_a_day():
    """Two days, four subjects: `a` six times in a row, `b` once for 26 hours, `c` once and open."""
    many = [episode(at * 20 * SECOND, 5 * SECOND if at < 3 else 45 * SECOND) for at in range(6)]
    found = burden([*many, episode(DAY_MS // 2, 26 * 60 * MINUTE_MS, "b"), episode(DAY_MS, None, "c")], 4, 0, 2 * DAY_MS)

    assert (found.alerts, found.subjects, found.per_subject_and_day) == (8, 3, 1.0)
    assert found.per_10_minutes == pytest.approx(8 / 288)
    assert (found.most_in_10_minutes, found.share_of_top_tenth) == (6, 0.75)
    assert (found.cleared_within_10_s, found.cleared_within_60_s) == (3 / 8, 6 / 8)
    assert found.chattering == ("low patient/a",)
    assert found.standing == ("low patient/c",)
    assert found.stale == ("low patient/b",)


@pytest.mark.parametrize(("apart_s", "chatters"), [(30, True), (31, False)])
def test_three_within_a_minute_chatter(apart_s, chatters):
    found = burden([episode(at * apart_s * SECOND, SECOND) for at in range(3)], 1, 0, DAY_MS)

    assert bool(found.chattering) is chatters


def test_two_rules_do_not_chatter_together():
    assert burden([episode(at * SECOND, SECOND, rule=f"r{at % 2}") for at in range(4)], 1, 0, DAY_MS).chattering == ()
