"""The life of an alert: one rule, one subject, one observation at a time. Everything that affects it is in this file.

Theory of operation. An episode exists from the first observation that satisfies a rule until the alert has cleared; no episode is
*inactive*. It is *pending* while the condition is being proved, *firing* once it was, *clearing* while the clear condition is being
proved. An observation proves the time since the one before it when both satisfy and they are at most `max_gap` apart; a longer gap adds
nothing and breaks nothing: a gap is not a value. So:

    inactive --satisfies, proved--> firing        raised
    inactive --satisfies----------> pending
    pending  --proved-------------> firing        raised
    pending  --does not satisfy---> inactive
    firing   --clears, for = 0----> inactive      resolved
    firing   --clears-------------> clearing
    clearing --proved >= for------> inactive      resolved
    clearing --does not clear-----> firing

*Proved* means the run's proved time has reached `for`; or, for a rule on accumulated time, that the time proved within the trailing span
has reached the amount, whichever runs it was proved in.

Observations come in their order (time, device, value); what is not later than the one before it proves no time, but its value counts. The
same functions step live observations and fold the past anew (`fold`), so the two cannot differ.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from rules.columns import NEVER, Flags, Floats, Integers
from rules.condition import HAS, Comparison
from rules.rule import Terms


class State(IntEnum):
    """Durable: episodes are in the recovery snapshot."""

    PENDING = 1
    FIRING = 2
    CLEARING = 3


class Change(IntEnum):
    RAISED = 1
    RESOLVED = 2


class Observation(NamedTuple):
    """A value that a rule sees: a reading, or an aggregate of readings at its time."""

    time_ms: int
    value: float
    device: str  # empty for an aggregate
    position: int  # in the journal, of the message that brought it: partition << 48 | offset


class Episode(NamedTuple):
    """One run of one rule for one subject. Durable; grows at its end only."""

    state: State
    started: Observation  # the first observation of the run
    proved_ms: int  # of the run while pending, of the clearing run while clearing
    last_ms: int  # the latest observation's time
    peak: float  # the most extreme value so far
    decided: Observation | None  # what raised; None while pending
    clearing: Observation | None  # the first observation of the clearing run


class Life(NamedTuple):
    """Where a rule stands with a subject. Durable; grows at its end only."""

    episode: Episode | None = None
    held_ms: int = NEVER  # accumulated time: when the condition held last, NEVER where the latest observation did not satisfy
    proved: tuple[tuple[int, int], ...] = ()  # accumulated time: what was proved, (from, to], in order, apart from each other


IDLE = Life()


def step(terms: Terms, life: Life, seen: Observation) -> tuple[Life, Change | None]:
    """Return where the rule stands after an observation, and what changed for people, if anything.

    A resolved episode is returned once more, for whoever tells of it; `rested` is where the rule stands then.
    """
    satisfies = terms.when.holds(seen.value)
    if terms.within_ms:
        life = _accumulated(terms, life, seen.time_ms, satisfies)
    episode = life.episode
    if episode is None:
        return (_begun(terms, life, seen) if satisfies else life), _raised(terms, life, satisfies)
    gap = seen.time_ms - episode.last_ms
    gained = gap if 0 < gap <= terms.max_gap_ms else 0
    if episode.state is State.PENDING:
        if not satisfies:
            return life._replace(episode=None), None
        proved = episode.proved_ms + gained
        peak = _peak(terms, episode.peak, seen.value)
        pending = episode._replace(proved_ms=proved, last_ms=seen.time_ms, peak=peak)
        if not _enough(terms, life, proved):
            return life._replace(episode=pending), None
        return life._replace(episode=pending._replace(state=State.FIRING, proved_ms=0, decided=seen)), Change.RAISED
    if not terms.clear_when.holds(seen.value):
        peak = _peak(terms, episode.peak, seen.value)
        firing = episode._replace(state=State.FIRING, proved_ms=0, last_ms=seen.time_ms, peak=peak, clearing=None)
        return life._replace(episode=firing), None
    proved = episode.proved_ms + (gained if episode.clearing else 0)
    clearing = episode._replace(state=State.CLEARING, proved_ms=proved, last_ms=seen.time_ms, clearing=episode.clearing or seen)
    return life._replace(episode=clearing), None if proved < terms.clear_for_ms else Change.RESOLVED


def rested(life: Life) -> Life:
    """Return where a rule stands when its episode is over."""
    return life._replace(episode=None)


class Alert(NamedTuple):
    """An episode that was raised, as the past has it."""

    episode: Episode  # as it was resolved, or as it is now
    resolved: Observation | None  # the observation that resolved it; None while it is open


class Observations(NamedTuple):
    """Observations as columns, in their order."""

    times_ms: Integers
    values: Floats
    devices: Sequence[str]  # by index; one for all where there is one only
    positions: Integers

    def at(self, index: int) -> Observation:
        device = self.devices[index if len(self.devices) > 1 else 0]
        return Observation(int(self.times_ms[index]), float(self.values[index]), device, int(self.positions[index]))


COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal}
"""The operators on numbers; HAS is on bits."""


def holds_all(comparison: Comparison, values: Floats) -> Flags:
    """Return for each of many values what `comparison.holds` says of it."""
    if comparison.operator == HAS:
        has: Flags = (values.astype(np.int64) & int(comparison.threshold)) != 0
        return has
    satisfied: Flags = COMPARE[comparison.operator](values, comparison.threshold)
    return satisfied


def fold(terms: Terms, life: Life, seen: Observations, start: int = 0) -> tuple[Life, list[Alert]]:
    """Return where the rule stands after observations from `start` on, and the alerts that were or are open in them.

    An alert that is open in `life` is the first one.
    """
    satisfying = np.flatnonzero(holds_all(terms.when, seen.values)).tolist()
    alerts: list[Alert] = []
    at, end = start, len(seen.times_ms)
    while at < end:
        if life.episode is None:
            index = bisect_left(satisfying, at)
            following = satisfying[index] if index < len(satisfying) else end
            if following > at and life.held_ms != NEVER:
                life = life._replace(held_ms=NEVER)
            if following == end:
                break
            at = following
        observation = seen.at(at)
        life, change = step(terms, life, observation)
        if change is Change.RESOLVED:
            assert life.episode is not None
            alerts.append(Alert(life.episode, observation))
            life = rested(life)
        at += 1
    if life.episode is not None and life.episode.state is not State.PENDING:
        alerts.append(Alert(life.episode, None))
    return life, alerts


def _begun(terms: Terms, life: Life, seen: Observation) -> Life:
    episode = Episode(State.PENDING, seen, 0, seen.time_ms, seen.value, None, None)
    return life._replace(episode=episode._replace(state=State.FIRING, decided=seen) if _enough(terms, life, 0) else episode)


def _raised(terms: Terms, life: Life, satisfies: bool) -> Change | None:
    return Change.RAISED if satisfies and _enough(terms, life, 0) else None


def _enough(terms: Terms, life: Life, proved_ms: int) -> bool:
    if terms.within_ms:
        proved_ms = sum(until - since for since, until in life.proved)
    return proved_ms >= terms.for_ms


def _accumulated(terms: Terms, life: Life, time_ms: int, satisfies: bool) -> Life:
    """Return the life with the time that an observation proves, and without what is out of the trailing span."""
    if not satisfies:
        return life._replace(held_ms=NEVER) if life.held_ms != NEVER else life
    proved = list(life.proved)
    if life.held_ms < time_ms <= life.held_ms + terms.max_gap_ms:
        since = life.held_ms
        if proved and proved[-1][1] == since:
            since = proved.pop()[0]
        proved.append((since, time_ms))
    horizon = time_ms - terms.within_ms
    inside = tuple((max(since, horizon), until) for since, until in proved if until > horizon)
    return life._replace(held_ms=time_ms, proved=inside)


def _peak(terms: Terms, peak: float, value: float) -> float:
    """Return the more extreme of two values: the greater above a threshold, the lesser below one, the later otherwise."""
    match terms.when.operator[0]:
        case ">":
            return max(peak, value)
        case "<":
            return min(peak, value)
        case _:
            return value
