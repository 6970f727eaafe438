"""The life of an alert: one rule, one subject, one reading at a time. Everything that affects it is in this file.

Theory of operation. An episode exists from the first reading that satisfies a rule until the alert has cleared; no episode is
*inactive*. It is *pending* while the condition is being proved, *firing* once it was, *clearing* while the clear condition is being
proved. A reading proves the time since the one before it when both satisfy and they are at most `max_gap` apart; a longer gap adds nothing
and breaks nothing: a gap is not a value. So:

    inactive --satisfies, for = 0--> firing        raised
    inactive --satisfies-----------> pending
    pending  --proved >= for-------> firing        raised
    pending  --does not satisfy----> inactive
    firing   --clears, for = 0-----> inactive      resolved
    firing   --clears--------------> clearing
    clearing --proved >= for-------> inactive      resolved
    clearing --does not clear------> firing

Readings come in the order of their time; a reading that is not later than the last one proves no time, but its value counts.
"""

from enum import IntEnum
from typing import NamedTuple

from rules.condition import Comparison


class State(IntEnum):
    """Durable: episodes are in the recovery snapshot."""

    PENDING = 1
    FIRING = 2
    CLEARING = 3


class Change(IntEnum):
    RAISED = 1
    RESOLVED = 2


class Observation(NamedTuple):
    """A value that a rule sees: a reading, or a closed window's aggregate at the window's end."""

    time_ms: int
    value: float
    device: str
    offset: int  # journal offset of the message that brought it


class Episode(NamedTuple):
    """One run of one rule for one subject. Durable; grows at its end only."""

    state: State
    started: Observation  # the first reading of the run
    proved_ms: int  # of the run while pending, of the clearing run while clearing
    last_ms: int  # the latest reading's time
    peak: float  # the most extreme value so far
    decided: Observation | None  # the reading that raised; None while pending
    clearing: Observation | None  # the first reading of the clearing run


class Terms(NamedTuple):
    """What of a rule the lifecycle needs, for one kind of subject."""

    when: Comparison
    clear_when: Comparison
    for_ms: int
    clear_for_ms: int
    max_gap_ms: int


def step(terms: Terms, episode: Episode | None, seen: Observation) -> tuple[Episode | None, Change | None]:
    """Return the episode after an observation (None: inactive), and what changed for people, if anything."""
    if episode is None:
        return _begin(terms, seen)
    gap = seen.time_ms - episode.last_ms
    gained = gap if 0 < gap <= terms.max_gap_ms else 0
    last_ms = max(episode.last_ms, seen.time_ms)
    if episode.state is State.PENDING:
        if not terms.when.holds(seen.value):
            return None, None
        proved = episode.proved_ms + gained
        pending = episode._replace(proved_ms=proved, last_ms=last_ms, peak=_peak(terms, episode.peak, seen.value))
        if proved < terms.for_ms:
            return pending, None
        return pending._replace(state=State.FIRING, proved_ms=0, decided=seen), Change.RAISED
    if not terms.clear_when.holds(seen.value):
        peak = _peak(terms, episode.peak, seen.value)
        return episode._replace(state=State.FIRING, proved_ms=0, last_ms=last_ms, peak=peak, clearing=None), None
    clearing = episode.clearing or seen
    proved = episode.proved_ms + (gained if episode.clearing else 0)
    after = episode._replace(state=State.CLEARING, proved_ms=proved, last_ms=last_ms, clearing=clearing)
    if proved < terms.clear_for_ms:
        return after, None
    return after, Change.RESOLVED


def _begin(terms: Terms, seen: Observation) -> tuple[Episode | None, Change | None]:
    if not terms.when.holds(seen.value):
        return None, None
    episode = Episode(State.PENDING, seen, 0, seen.time_ms, seen.value, None, None)
    if terms.for_ms > 0:
        return episode, None
    return episode._replace(state=State.FIRING, decided=seen), Change.RAISED


def _peak(terms: Terms, peak: float, value: float) -> float:
    """Return the more extreme of two values: the greater above a threshold, the lesser below one, the later otherwise."""
    match terms.when.operator[0]:
        case ">":
            return max(peak, value)
        case "<":
            return min(peak, value)
        case _:
            return value
