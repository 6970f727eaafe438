"""The burden of alerts on those who hear them, in the terms of ISA-18.2 and EEMUA 191: how many, from whom, how many were worth it.

A subject that alerts three times by one rule within a minute *chatters*; an alert that is open in the end *stands*, one that lasts longer
than a day is *stale*. Those that clear by themselves within seconds are what a longer `for` would have spared people.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rules.episodes import DAY_MS, MINUTE_MS, Episode

PERIOD_MS = 10 * MINUTE_MS
CHATTER = 3
CHATTER_MS = MINUTE_MS
STALE_MS = DAY_MS
SHORT_MS = (10_000, 60_000)


class Burden(NamedTuple):
    """What a set of alerts asks of people. Shares are 0 to 1; without alerts they are 0."""

    alerts: int
    subjects: int  # that alerted
    per_subject_and_day: float  # of all subjects that were watched
    per_10_minutes: float  # mean over the whole time
    most_in_10_minutes: int
    share_of_top_tenth: float  # of the alerts, from the tenth of the alerting subjects with most of them, at least one
    cleared_within_10_s: float  # share
    cleared_within_60_s: float  # share
    chattering: tuple[str, ...]  # `rule kind/subject`
    standing: tuple[str, ...]  # open in the end
    stale: tuple[str, ...]  # for longer than a day


def burden(episodes: Sequence[Episode], watched: int, first_ms: int, last_ms: int) -> Burden:
    """Return the burden of alerts on `watched` subjects between two times, milliseconds."""
    span_ms = max(last_ms - first_ms, 1)
    by_subject = Counter((item.kind, item.subject) for item in episodes)
    tenth = max(1, len(by_subject) // 10)
    top = sum(count for _, count in by_subject.most_common(tenth)) if episodes else 0
    count = len(episodes) or 1
    lasted = [(last_ms if item.end_ms is None else item.end_ms) - item.start_ms for item in episodes]
    cleared = [sum(item.end_ms is not None and span <= short for item, span in zip(episodes, lasted, strict=True)) for short in SHORT_MS]
    periods = Counter(item.start_ms // PERIOD_MS for item in episodes)
    return Burden(
        alerts=len(episodes),
        subjects=len(by_subject),
        per_subject_and_day=len(episodes) / max(watched, 1) / (span_ms / DAY_MS),
        per_10_minutes=len(episodes) / (span_ms / PERIOD_MS),
        most_in_10_minutes=max(periods.values(), default=0),
        share_of_top_tenth=top / count,
        cleared_within_10_s=cleared[0] / count,
        cleared_within_60_s=cleared[1] / count,
        chattering=_chattering(episodes),
        standing=tuple(sorted({_name(item) for item in episodes if item.end_ms is None})),
        stale=tuple(sorted({_name(item) for item, span in zip(episodes, lasted, strict=True) if span > STALE_MS})),
    )


def _chattering(episodes: Iterable[Episode]) -> tuple[str, ...]:
    starts: defaultdict[str, list[int]] = defaultdict(list)
    for item in episodes:
        starts[_name(item)].append(item.start_ms)
    return tuple(
        name
        for name, times_ms in sorted(starts.items())
        if any(later - first <= CHATTER_MS for first, later in zip(sorted(times_ms), sorted(times_ms)[CHATTER - 1 :], strict=False))
    )


def _name(item: Episode) -> str:
    return f"{item.rule} {item.kind}/{item.subject}"
