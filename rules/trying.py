"""Running trials: the readings of a trial through the evaluator that runs live, under the same control records, and what came of them.

A trial is run as written, and where its order is `any` once more with its readings shuffled and doubled: what is told in the end must be
the same. One row of the journal is everything that arrives at one instant; ticks fill the time between.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rules.condition import Silence
from rules.control import DEFAULT_SETTINGS, Settings, registry_record, rules_record, settings_record
from rules.episodes import NO_PEAKS, final_episodes
from rules.evaluator import Evaluator
from rules.rule import RuleSet
from rules.trial import Expected, Fault, Trial
from telemetry.alert import AlertEvent
from telemetry.readings import Decoded, no_packets

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: midnight, so that windows lie at round offsets."""

TICK_MS = 1000
MAX_TICKS = 2000  # of one trial: longer ones tick less often
AFTER_MS = 5 * 60_000
SEED = 1


class Reading(NamedTuple):
    """One reading, times as offsets from the trial's beginning, milliseconds."""

    arrives_ms: int
    measured_ms: int
    device: str
    metric: str
    value: float


class Episode(NamedTuple):
    """An alert as it was told in the end, times as offsets."""

    rule: str
    start_ms: int
    end_ms: int | None
    severity: str
    peak: float | None


class Result(NamedTuple):
    """What came of a trial. It passed where nothing is `missing` and nothing `unexpected`."""

    trial: Trial
    readings: list[Reading]
    events: list[AlertEvent]
    episodes: list[Episode]
    missing: list[Expected]
    unexpected: list[Episode]
    shuffled: list[Episode] | None  # what came of the readings in another order, where that is something else
    quarantined: dict[str, int]

    @property
    def passed(self) -> bool:
        return not self.missing and not self.unexpected and self.shuffled is None


class Evaluated(NamedTuple):
    events: list[AlertEvent]
    quarantined: dict[str, int]  # by reason
    open_peaks: dict[str, float]


def run_trial(trial: Trial, rules: RuleSet, settings: Settings = DEFAULT_SETTINGS) -> Result:
    """Run a trial under some rules."""
    readings = measured(trial)
    events, quarantined, peaks = _evaluated(trial, rules, settings, readings)
    episodes = told(events, peaks)
    missing, unexpected = list(trial.expect), []
    for episode in episodes:
        known = next((item for item in missing if _is(item, episode)), None)
        if known is None:
            unexpected.append(episode)
        else:
            missing.remove(known)
    again = None
    if trial.order == "any" and readings and not quarantined:  # what is refused depends on when it comes
        other = told(_evaluated(trial, rules, settings, _shuffled(readings))[0])
        again = other if _of_values(other, rules) != _of_values(episodes, rules) else None
    return Result(trial, readings, events, episodes, missing, unexpected, again, quarantined)


def measured(trial: Trial) -> list[Reading]:
    """Return the readings of a trial in the order in which they arrive, faults and all."""
    readings: list[Reading] = []
    for metric, series in trial.all_series():
        device, every = series.device or f"{trial.subject.name}-device", series.every or trial.every
        for number, value in enumerate(series.values):
            if value is not None:
                readings += _arrivals(trial.faults, series.offset + number * every, device, metric, value)
    return sorted(readings)


def told(events: Iterable[AlertEvent], open_peaks: Mapping[str, float] = NO_PEAKS) -> list[Episode]:
    """Return the alerts as they are in the end, those for the record left out; in order of start."""
    return [
        Episode(item.rule, item.start_ms - START_MS, None if item.end_ms is None else item.end_ms - START_MS, item.severity, item.peak)
        for item in final_episodes(events, open_peaks)
    ]


def _of_values(episodes: Iterable[Episode], rules: RuleSet) -> set[tuple[str, int, int | None]]:
    """Return rule, start and end of the alerts that follow from readings; silence is of the clock."""
    silences = {rule.id for rule in rules.rules if isinstance(rule.when, Silence)}
    return {(item.rule, item.start_ms, item.end_ms) for item in episodes if item.rule not in silences}


def _is(expected: Expected, episode: Episode) -> bool:
    return (
        (expected.rule, expected.from_, expected.until) == episode[:3]
        and expected.severity in {None, episode.severity}
        and expected.peak in {None, episode.peak}
    )


def _arrivals(faults: Iterable[Fault], at_ms: int, device: str, metric: str, value: float) -> list[Reading]:
    arrives_ms, measured_ms, copies = at_ms, at_ms, 1
    for fault in faults:
        if fault.metric in {None, metric} and fault.from_ <= at_ms < (at_ms + 1 if fault.until is None else fault.until):
            arrives_ms += fault.late or 0
            measured_ms += (fault.ahead or 0) - (fault.behind or 0)
            copies += fault.duplicate
    return [Reading(arrives_ms, measured_ms, device, metric, value)] * copies


def _shuffled(readings: list[Reading]) -> list[Reading]:
    """Return the readings doubled and in another order, all of them arriving when the last one does."""
    last_ms = max(reading.arrives_ms for reading in readings)
    other = [reading._replace(arrives_ms=last_ms) for reading in readings] * 2
    random.Random(SEED).shuffle(other)
    return other


def _evaluated(trial: Trial, rules: RuleSet, settings: Settings, readings: list[Reading]) -> Evaluated:
    """Return what comes of readings that arrive in this order."""
    evaluator, offset, events = Evaluator(0, 1), 0, []
    subject = trial.subject
    span_ms = max((reading.arrives_ms for reading in readings), default=0) + 2 * AFTER_MS
    horizon_ms = {kind: max(own, span_ms) for kind, own in settings.horizon_ms.items()} if trial.order == "any" else settings.horizon_ms
    devices = [
        {"device": name, "kind": subject.kind, "subject": subject.name, "tags": subject.tags}
        for name in sorted({reading.device for reading in readings})
    ]
    for body in (settings_record(settings._replace(horizon_ms=horizon_ms)), registry_record(devices), rules_record(rules, "trial")):
        events += evaluator.on_control(offset, START_MS, body).alerts
        offset += 1
    rows: defaultdict[int, list[Reading]] = defaultdict(list)
    for reading in readings:
        rows[reading.arrives_ms].append(reading)
    end_ms = max(rows, default=0) + (AFTER_MS if trial.lasts is None else trial.lasts)
    for at_ms in sorted({*rows, *range(0, end_ms, max(TICK_MS, end_ms // MAX_TICKS)), end_ms}):
        if at_ms in rows:
            for metric_row in _in_rows(rows[at_ms]):
                events += evaluator.on_messages(offset, len(metric_row), START_MS + at_ms, _decoded(subject.kind, metric_row)).alerts
                offset += len(metric_row)
        else:
            events += evaluator.on_tick(offset, START_MS + at_ms).alerts
            offset += 1
    return Evaluated(events, dict(evaluator.counting.quarantined), evaluator.watch.open_peaks())


ROW = 50


def _in_rows(readings: list[Reading]) -> Iterable[list[Reading]]:
    """Return what arrives at one instant in rows of a size: a backlog comes in many messages."""
    return (readings[at : at + ROW] for at in range(0, len(readings), ROW))


def _decoded(kind: str, readings: list[Reading]) -> Decoded:
    packets = no_packets()
    for number, reading in enumerate(readings):
        packets.message.append(number)
        packets.kinds.append(kind)
        packets.devices.append(reading.device)
        packets.metrics.append((reading.metric,))
        packets.times_ms.append(START_MS + reading.measured_ms)
        packets.values.append(reading.value)
    return Decoded(packets, [], [], 0)
