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
has reached the amount, whichever runs it was proved in; or that one of the rule's steps is proved.

A *step* is a more severe level of the same alert. It lives like an episode of its own inside the episode, from its first observation on,
and ends with it. The *level* is the number of the highest step that is firing or clearing, 0 where none is; once the alert was raised, a
change of the level is told:

    firing, clearing --level rises--> the same      escalated
    firing, clearing --level falls--> the same      deescalated

Where a rule is not `active`, its condition does not hold, and its alert clears.

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
    ESCALATED = 3
    DEESCALATED = 4


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
    steps: tuple["Episode | None", ...] = ()  # of each step, by level
    reached: int = 1  # bits: the levels that the alert has had once it was raised, 1 for level 0
    moved: Observation | None = None  # the observation at which its level changed last

    @property
    def level(self) -> int:
        """The number of the highest step that is proved, 0 where none is."""
        standing = [at for at, inner in enumerate(self.steps, 1) if inner is not None and inner.state is not State.PENDING]
        return standing[-1] if standing else 0

    @property
    def level_since(self) -> Observation | None:
        """The first observation of the run that put it at its level; None at level 0."""
        inner = self.steps[self.level - 1] if self.level else None
        return None if inner is None else inner.started


class Life(NamedTuple):
    """Where a rule stands with a subject. Durable; grows at its end only."""

    episode: Episode | None = None
    held_ms: int = NEVER  # accumulated time: when the condition held last, NEVER where the latest observation did not satisfy
    proved: tuple[tuple[int, int], ...] = ()  # accumulated time: what was proved, (from, to], in order, apart from each other


IDLE = Life()


def step(terms: Terms, life: Life, seen: Observation) -> tuple[Life, Change | None]:
    """Return where the rule stands after an observation, and what changed for people, if anything.

    A resolved episode is returned once more, for whoever tells of it; `rested` is where the rule stands then. Episodes are made anew whole:
    this is what a breach costs, and `_replace` takes three times as long.
    """
    active = terms.active is None or terms.active.at(seen.time_ms)
    satisfies = active and terms.when.holds(seen.value)
    if terms.within_ms:
        life = _accumulated(terms, life, seen.time_ms, satisfies)
    episode = life.episode
    if episode is None:
        return (
            _proved(terms, life, Episode(State.PENDING, seen, 0, seen.time_ms, seen.value, None, None), seen) if satisfies else (life, None)
        )
    time_ms, value = seen.time_ms, seen.value
    gap = time_ms - episode.last_ms
    gained = gap if 0 < gap <= terms.max_gap_ms else 0
    if episode.state is State.PENDING:
        if not satisfies:
            return Life(None, life.held_ms, life.proved), None
        pending = Episode(
            State.PENDING, episode.started, episode.proved_ms + gained, time_ms, _peak(terms, episode.peak, value), None, None,
            episode.steps, episode.reached, episode.moved,
        )  # fmt: skip
        return _proved(terms, life, pending, seen)
    moved = None
    if terms.steps:
        before, episode = episode.level, _with_steps(terms, episode, seen)
        if episode.level != before:
            moved = Change.ESCALATED if episode.level > before else Change.DEESCALATED
    if active and not terms.clear_when.holds(value):
        firing = Episode(
            State.FIRING, episode.started, 0, time_ms, _peak(terms, episode.peak, value), episode.decided, None,
            episode.steps, episode.reached, episode.moved,
        )  # fmt: skip
        return Life(firing, life.held_ms, life.proved), moved
    proved_ms = episode.proved_ms + (gained if episode.clearing else 0)
    clearing = Episode(
        State.CLEARING, episode.started, proved_ms, time_ms, episode.peak, episode.decided, episode.clearing or seen,
        episode.steps, episode.reached, episode.moved,
    )  # fmt: skip
    over = proved_ms >= terms.clear_for_ms or not active
    return Life(clearing, life.held_ms, life.proved), Change.RESOLVED if over else moved


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
    if terms.active is not None:
        satisfying = [at for at in satisfying if terms.active.at(int(seen.times_ms[at]))]
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


def _proved(terms: Terms, life: Life, pending: Episode, seen: Observation) -> tuple[Life, Change | None]:
    """Return the life with an episode that is firing if that is proved, and else pending."""
    episode = _with_steps(terms, pending, seen)
    proved_ms = sum(until - since for since, until in life.proved) if terms.within_ms else episode.proved_ms
    if proved_ms < terms.for_ms and not (terms.steps and episode.level):
        return Life(episode, life.held_ms, life.proved), None
    firing = episode._replace(state=State.FIRING, proved_ms=0, decided=seen, reached=1 << episode.level)
    return life._replace(episode=firing), Change.RAISED


def _with_steps(terms: Terms, episode: Episode, seen: Observation) -> Episode:
    """Return an episode with its steps after an observation."""
    if not terms.steps:
        return episode
    steps: list[Episode | None] = []
    for inner, known in zip(terms.steps, episode.steps or (None,) * len(terms.steps), strict=True):
        life, change = step(inner, Life(known), seen)
        steps.append(None if change is Change.RESOLVED else life.episode)
    before, episode = episode.level, episode._replace(steps=tuple(steps))
    if episode.state is State.PENDING or episode.level == before:
        return episode
    return episode._replace(reached=episode.reached | 1 << episode.level, moved=seen)


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
