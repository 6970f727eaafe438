"""Episodes: alerts as they stand in the end, what they come to, and what differs between two sets of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from telemetry.alert import SHADOW, AlertEvent, Phase, Severity

DAY_MS = 86_400_000
MINUTE_MS = 60_000


class Episode(NamedTuple):
    """One alert as its last revision has it. Event times, milliseconds; `end_ms` None: it is open."""

    rule: str
    kind: str
    subject: str
    start_ms: int
    end_ms: int | None
    severity: str  # the highest that it has had
    peak: float | None
    alert_id: str


NO_PEAKS: Mapping[str, float] = {}


def final_episodes(events: Iterable[AlertEvent], open_peaks: Mapping[str, float] = NO_PEAKS) -> list[Episode]:
    """Return the alerts that stand in the end, in the order of their start: not what was retracted, nor what an absence inhibited.

    `open_peaks` are the most extreme values of those that are open, by id: events tell of it only when something else changes.
    """
    last: dict[str, AlertEvent] = {}
    for event in events:
        if event.alert_id not in last or event.revision > last[event.alert_id].revision:
            last[event.alert_id] = event
    stand = [event for event in last.values() if event.phase is not Phase.RETRACTED and event.inhibited_by in {None, SHADOW}]

    def peak(event: AlertEvent) -> float | None:
        known = event.ended_at_ms is not None or event.peak is None  # a rule on combined conditions has none
        return event.peak if known else open_peaks.get(event.alert_id, event.peak)

    found = [
        Episode(item.rule, item.kind, item.subject, item.started_at_ms, item.ended_at_ms, str(item.worst), peak(item), item.alert_id)
        for item in stand
    ]
    return sorted(found, key=lambda item: (item.start_ms, item.rule, item.kind, item.subject, item.end_ms is None, item.end_ms or 0))


class Total(NamedTuple):
    """What the episodes of one rule, subject or day come to. An episode that is open counts until the end of the data."""

    alerts: int
    minutes: float
    longest_minutes: float
    first_ms: int
    last_ms: int  # start of the last one


def totals(episodes: Iterable[Episode], until_ms: int, by: str) -> dict[str, Total]:
    """Return totals by `rule`, `subject` (kind/name) or `day` (of the start, UTC, as days since the epoch)."""
    groups: defaultdict[str, list[Episode]] = defaultdict(list)
    for item in episodes:
        names = {"rule": item.rule, "subject": f"{item.kind}/{item.subject}", "day": str(item.start_ms // DAY_MS)}
        groups[names[by]].append(item)
    found = {}
    for name, group in sorted(groups.items()):
        lasted = [max(0, (until_ms if item.end_ms is None else item.end_ms) - item.start_ms) / MINUTE_MS for item in group]
        starts = [item.start_ms for item in group]
        found[name] = Total(len(group), sum(lasted), max(lasted), min(starts), max(starts))
    return found


class Difference(NamedTuple):
    """One alert that two sets of rules tell differently: added, removed, or the same with another start or end."""

    what: tuple[str, ...]  # added | removed | earlier, later (it begins), longer, shorter (it lasts), more severe, less severe
    before: Episode | None
    after: Episode | None


def differences(before: Sequence[Episode], after: Sequence[Episode], until_ms: int) -> list[Difference]:
    """Return what changes from one set of episodes to another. Those of one rule and subject that overlap are one alert."""
    left: defaultdict[tuple[str, str, str], list[Episode]] = defaultdict(list)
    for item in before:
        left[item[:3]].append(item)
    found = []
    for item in after:
        same = next((other for other in left[item[:3]] if _overlap(other, item)), None)
        if same is None:
            found.append(Difference(("added",), None, item))
            continue
        left[item[:3]].remove(same)
        moved = _moved(same.start_ms, item.start_ms, "earlier", "later")
        lasted = [(until_ms if one.end_ms is None else one.end_ms) - one.start_ms for one in (same, item)]
        ranks = [Severity(one.severity).rank for one in (same, item)]
        changes = moved, _moved(lasted[0], lasted[1], "shorter", "longer"), _moved(ranks[0], ranks[1], "less severe", "more severe")
        what = tuple(word for word in changes if word)
        if what:
            found.append(Difference(what, same, item))
    found += [Difference(("removed",), item, None) for group in left.values() for item in group]
    return sorted(found, key=lambda one: (one.after or one.before or before[0])[3])


def _moved(before: int, after: int, less: str, more: str) -> str:
    return "" if before == after else less if after < before else more


def _overlap(one: Episode, two: Episode) -> bool:
    return (two.end_ms is None or one.start_ms <= two.end_ms) and (one.end_ms is None or two.start_ms <= one.end_ms)
