"""What was told of one rule on one signal, and how it changes: step by step in order, and by comparison when the past changed.

Theory of operation. A track holds where the rule stands (`life`), the alerts that were told and may still change, and where the rule stood
at the end of what is settled, which is where a fold of the past begins. `show` steps it. `revise` folds the past anew and tells the
difference between the alerts that were told and those that are there now: an alert keeps its id while its episode overlaps what it was.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rules.columns import FOREVER, NEVER
from rules.lifecycle import IDLE, Alert, Change, Life, Observation, Observations, State, fold, rested, step
from rules.rule import Terms
from telemetry.alert import Phase, alert_id


class Told(NamedTuple):
    """An alert as it was told last. Durable; grows at its end only."""

    alert_id: str
    revision: int
    started: Observation
    decided: Observation  # the observation that raised it
    ended: Observation | None  # the first of the clearing run
    resolved: Observation | None  # the observation that ended it; None while it is open
    peak: float  # while it is open: as it was told, the episode in `life` knows the latest
    withdrawn: bool = False  # retracted: kept so that its id and revision are not used again
    inhibited_by: str = ""  # the absence of the signal because of which nobody was told yet
    level: int = 0  # of its severity; 0 is the rule's own
    level_since: Observation | None = None  # the first observation of the run that put it there; None at level 0
    reached: int = 1  # bits: the levels that it has had, as the past has it
    moved: Observation | None = None  # the observation at which its level changed last
    heard: int = 0  # bits: the levels at which it was told before

    @property
    def until_ms(self) -> int:
        """The time of the last observation that made it what it is; FOREVER while it is open."""
        if self.resolved is not None:
            return self.resolved.time_ms
        return self.decided.time_ms if self.withdrawn else FOREVER

    def is_open(self) -> bool:
        return self.resolved is None and not self.withdrawn


class Verdict(NamedTuple):
    """A change in the life of an alert."""

    phase: Phase
    told: Told
    seen: Observation  # the observation that it follows from
    superseded_by: str | None = None


PHASES = {Change.RESOLVED: Phase.RESOLVED, Change.ESCALATED: Phase.ESCALATED, Change.DEESCALATED: Phase.DEESCALATED}


class Track:
    """One rule on one signal."""

    __slots__ = ("life", "settled", "told")

    def __init__(self, life: Life = IDLE, settled: Life = IDLE, told: tuple[Told, ...] = ()) -> None:
        self.life = life
        self.settled = settled
        self.told = list(told)

    def idle(self) -> bool:
        """Return whether the next observation that does not satisfy the rule changes nothing."""
        return self.life.episode is None and self.life.held_ms == NEVER

    def empty(self) -> bool:
        """Return whether nothing needs to be kept."""
        return not self.told and self.life == IDLE and self.settled == IDLE

    def touched_by(self, terms: Terms, earliest_ms: int, latest_ms: int) -> bool:
        """Return whether observations that do not satisfy the rule could change what is there, if they were between two times.

        What was accumulated before an episode began can have raised it, and lies between observations that are a gap apart.
        """
        episode = self.life.episode
        before_ms = terms.within_ms + terms.max_gap_ms if terms.within_ms else 0
        if (episode is not None and episode.started.time_ms <= latest_ms) or self.life.proved or self.settled != IDLE:
            return True
        standing = (told for told in self.told if not told.withdrawn)
        return any(told.started.time_ms - before_ms <= latest_ms and earliest_ms <= told.until_ms for told in standing)

    def show(self, terms: Terms, name: tuple[str, str], seen: Observation) -> Verdict | None:
        """Step the rule; `name` is rule and subject. Returns what changed for people, if anything."""
        self.life, change = step(terms, self.life, seen)
        episode = self.life.episode
        if change is None or episode is None:
            return None
        if change is Change.RAISED:
            assert episode.decided is not None
            alert = Alert(episode, None)
            told = self._raise(name, alert)
            return Verdict(Phase.RAISED, told, seen)
        resolved = change is Change.RESOLVED
        if resolved:
            self.life = rested(self.life)
        at = next(index for index in range(len(self.told) - 1, -1, -1) if self.told[index].is_open())
        told = self.told[at] = _as_now(self.told[at], Alert(episode, seen if resolved else None))
        return Verdict(PHASES[change], told, seen)

    def revise(self, terms: Terms, name: tuple[str, str], past: Observations, cause: Observation) -> list[Verdict]:
        """Fold the past anew and return what changed; `past` is everything after what is settled, `cause` what came late."""
        start, life = self._resume(terms, past, cause.time_ms)
        known = {told.alert_id: self._known(told) for told in self.told}
        old = [told for told in self.told if not told.withdrawn and not self._before(told, start, past)]
        self.life, now = fold(terms, life, past, start)
        return list(self._difference(name, old, known, now, cause))

    def settle(self, terms: Terms, past: Observations, count: int, settled_ms: int) -> None:
        """Move what is settled past the first `count` observations of the past, the last of which is at `settled_ms` at the latest."""
        head = Observations(past.times_ms[:count], past.values[:count], past.devices, past.positions[:count])
        self.settled, _ = fold(terms, self.settled, head)
        running = self.settled.episode  # may yet be raised under an id that was taken back
        self.told = [
            told
            for told in self.told
            if told.until_ms > settled_ms or (told.withdrawn and running is not None and told.started.time_ms == running.started.time_ms)
        ]

    def open_alert(self) -> Told | None:
        """Return the alert that is open."""
        return next((told for told in reversed(self.told) if told.is_open()), None)

    def replace(self, told: Told) -> None:
        """Put what is told of an alert in the place of what was."""
        self.told[next(index for index, other in enumerate(self.told) if other.alert_id == told.alert_id)] = told

    def find(self, identity: str) -> Told:
        """Return what was told of an alert."""
        return next(told for told in self.told if told.alert_id == identity)

    # -- what changed -------------------------------------------------------------------------------------------------------------

    def _resume(self, terms: Terms, past: Observations, from_ms: int) -> tuple[int, Life]:
        """Return where to begin the fold so that nothing before a time is folded in vain: after an alert that was over by then."""
        if terms.within_ms:
            return 0, self.settled
        over = [told.resolved for told in self.told if told.resolved is not None and not told.withdrawn and told.resolved.time_ms < from_ms]
        if not over:
            return 0, self.settled
        last = max(over, key=lambda seen: seen.time_ms)
        return _index_of(past, last) + 1, IDLE

    def _before(self, told: Told, start: int, past: Observations) -> bool:
        """Return whether an alert was over before the fold begins."""
        return start > 0 and told.resolved is not None and _index_of(past, told.resolved) < start

    def _known(self, told: Told) -> tuple[object, ...]:
        """Return what people would see of an alert that was told, as it stands."""
        episode = self.life.episode
        return _seen(told._replace(peak=episode.peak) if told.is_open() and episode is not None else told)

    def _difference(
        self, name: tuple[str, str], old: list[Told], known: dict[str, tuple[object, ...]], now: list[Alert], cause: Observation
    ) -> Iterator[Verdict]:
        left = list(old)
        became: dict[str, str] = {}
        for number, alert in enumerate(now):
            same = [told for told in left if _overlap(told, alert)]
            if not same:
                told = self._raise(name, alert)
                yield Verdict(Phase.RAISED, told, told.decided)
            else:
                told = same[0]
                left.remove(told)
                for other in same[1:]:
                    if not any(_overlap(other, later) for later in now[number + 1 :]):
                        became[other.alert_id] = told.alert_id
            changed = _as_now(told, alert)
            if _seen(changed) == (known[told.alert_id] if same else _seen(told)):
                self.replace(changed._replace(revision=told.revision))
                continue
            self.replace(changed)
            if changed.resolved is not None and told.resolved is None:
                yield Verdict(Phase.RESOLVED, changed, changed.resolved)
            elif changed.level == told.level or changed.resolved is not None:
                yield Verdict(Phase.AMENDED, changed, cause)
            else:
                yield Verdict(Phase.ESCALATED if changed.level > told.level else Phase.DEESCALATED, changed, cause)
        for told in left:
            gone = told._replace(revision=told.revision + 1, withdrawn=True)
            self.replace(gone)
            yield Verdict(Phase.RETRACTED, gone, cause, became.get(told.alert_id))

    def _raise(self, name: tuple[str, str], alert: Alert) -> Told:
        """Return a new alert as told open; an id that was withdrawn is taken up again where the alert has the same start."""
        episode = alert.episode
        assert episode.decided is not None
        told = Told("", 1, episode.started, episode.decided, None, None, episode.peak)
        told = told._replace(level=episode.level, level_since=episode.level_since, reached=episode.reached)
        for number in range(len(self.told) + 1):
            identity = alert_id(*name, episode.started.time_ms, number)
            at = next((index for index, other in enumerate(self.told) if other.alert_id == identity), None)
            if at is None:
                told = told._replace(alert_id=identity)
                self.told.append(told)
                return told
            if self.told[at].withdrawn:
                before = self.told[at]
                told = told._replace(alert_id=identity, revision=before.revision + 1, heard=before.heard | before.reached)
                self.told[at] = told
                return told
        raise AssertionError(name)


def _as_now(told: Told, alert: Alert) -> Told:
    """Return what was told of an alert, as it is now, one revision on."""
    episode = alert.episode
    assert episode.decided is not None
    ended = episode.clearing if alert.resolved is not None else None
    return told._replace(
        revision=told.revision + 1,
        started=episode.started,
        decided=episode.decided,
        ended=ended,
        resolved=alert.resolved,
        peak=episode.peak,
        level=episode.level,
        level_since=episode.level_since,
        reached=episode.reached,
        moved=episode.moved,
        heard=told.heard | told.reached,
    )


def _seen(told: Told) -> tuple[object, ...]:
    """Return what people see of an alert."""
    ended_ms = None if told.ended is None else told.ended.time_ms
    since_ms = None if told.level_since is None else told.level_since.time_ms
    return told.started.time_ms, ended_ms, told.resolved is None, told.peak, told.level, since_ms, told.reached


def _overlap(told: Told, alert: Alert) -> bool:
    """Return whether two episodes share an instant, from the first observation to the last before the clearing run."""
    episode = alert.episode
    end_ms = FOREVER if alert.resolved is None or episode.clearing is None else episode.clearing.time_ms
    told_end_ms = FOREVER if told.ended is None else told.ended.time_ms
    return episode.started.time_ms <= told_end_ms and told.started.time_ms <= end_ms


def _index_of(past: Observations, seen: Observation) -> int:
    """Return where an observation stands in the past."""
    at = int(past.times_ms.searchsorted(seen.time_ms))
    while at + 1 < len(past.times_ms) and past.times_ms[at + 1] == seen.time_ms and past.at(at)[:3] != seen[:3]:
        at += 1
    return at


__all__ = ["IDLE", "State", "Told", "Track", "Verdict"]
