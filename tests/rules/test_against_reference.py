"""The engine against the reference: whatever the order of arrival, the batches and the restarts, what is told in the end is the set's.

`VITALANE_EXAMPLES=10000 pytest tests/rules/test_against_reference.py` is the long profile. Hypothesis prints what fails, made small.
"""

import itertools
import os
import random
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from documents import format_duration
from rules.condition import INVERSE
from rules.control import DEFAULT_SETTINGS, PlainWindow, Settings
from rules.registry import Registry
from telemetry.alert import AlertEvent, Phase, Severity, to_json
from telemetry.blocks import WINDOW_COLUMNS, pack
from telemetry.readings import SeriesKey
from tests.rules.reference import AGGREGATES, Bound, Episode, Point, Reading, RuleOf, Span, StepOf, aggregate, episodes, summaries, windows
from tests.rules.stream import START_MS, Packet, Shard

EXAMPLES = int(os.environ.get("VITALANE_EXAMPLES", "300"))
EXACTLY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
METRICS = {"shipment": ("temperature", "humidity"), "patient": ("spo2",)}
DEVICES = {"shipment": ("a", "b", "c"), "patient": ("p", "q")}
SUBJECTS = {"shipment": ("crate", "a"), "patient": ("bed",)}

VALUES = (6.0, 7.0, 7.5, 8.0, 8.5, 9.0)
THRESHOLDS = {
    "count": (1.0, 2.0, 3.0),
    "sum": (15.0, 16.0, 24.5),
    "range": (0.5, 1.0),
    "stddev": (0.1234, 0.4567),
    "slope": (0.00137, -0.0513),
}
"""Where rounding can differ, a threshold that no aggregate of VALUES comes near; else one that is met exactly."""
OTHER_THRESHOLDS = {"p95": (7.5137, 8.0137)}

STEPS = (10 * SECOND,) * 6 + (0, 0, 5 * SECOND, 20 * SECOND, 30 * SECOND, 30_001, MINUTE, 10 * MINUTE, -20 * SECOND, -55 * MINUTE)
"""From one reading of a device to its next: gaps, duplicate stamps, and a clock that jumps back."""
DELAYS = (0,) * 5 + (15 * SECOND, MINUTE, 5 * MINUTE, 2 * HOUR)


LEVELS = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)

SILENCES = """  - {id: silent, when: 'absent(temperature, 2 min)', severity: warning}
  - {id: silent-all, when: 'absent(device, 30 s)', severity: warning}
"""
"""Absences are of the journal's clock, which the reference does not know; they must change nothing in what other rules tell."""


class Row(NamedTuple):
    """One row of the journal; a tick where nothing came."""

    at_ms: int  # received, after START_MS
    packets: list[Packet]


class World(NamedTuple):
    rules: list[RuleOf]
    devices: list[dict]
    windows: dict[str, Span]
    grace_ms: int
    rows: list[Row]

    @property
    def readings(self) -> list[Reading]:
        """What arrived, duplicates included."""
        return [
            (kind, device, metric, START_MS + round(time_s * 1000), value)
            for row in self.rows
            for kind, device, time_s, values in row.packets
            for metric, value in values.items()
        ]

    def settings(self, horizon_ms: int) -> Settings:
        plain: dict[str, PlainWindow] = {kind: size if size == every else [size, every] for kind, (size, every) in self.windows.items()}
        return DEFAULT_SETTINGS._replace(
            windows_ms=plain, grace_ms=dict.fromkeys(METRICS, self.grace_ms), horizon_ms=dict.fromkeys(METRICS, horizon_ms)
        )

    def in_order(self) -> "World":
        """Return the same readings as they would have come without delay: a row for every packet."""
        packets = [packet for row in self.rows for packet in row.packets]
        packets.sort(key=lambda packet: (packet[2], packet[1], sorted(packet[3].items())))
        return self._replace(rows=[Row(max(0, round(packet[2] * 1000)), [packet]) for packet in packets])


def written(rule: RuleOf) -> str:
    """Return a rule as a line of a document."""
    lengths = {"size": format_duration(rule.span[0]), "every": format_duration(rule.span[1])}
    span = "{size}, {every}" if all(rule.span) else "{size}" if rule.span[0] else "session {every}"
    signal = f"{rule.aggregate}({rule.metric}, {span.format(**lengths)})" if rule.aggregate else rule.metric
    needed = format_duration(rule.for_ms)
    proof = f"accumulated: {needed} within {format_duration(rule.within_ms)}" if rule.within_ms else f"for: {needed}"
    clear = f"clear: {{when: '{signal} {rule.clear.operator} {rule.clear.threshold}', for: {format_duration(rule.clear_for_ms)}}}"
    steps = [
        f"{{when: '{signal} {step.when.operator} {step.when.threshold}', for: {format_duration(step.for_ms)}, severity: {severity},"
        f" clear: {{when: '{signal} {step.clear.operator} {step.clear.threshold}', for: {format_duration(step.clear_for_ms)}}}}}"
        for step, severity in zip(rule.steps, LEVELS[1:], strict=False)
    ]
    return (
        f"  - {{id: {rule.id}, applies_to: {{kind: {rule.kind}}}, when: '{signal} {rule.when.operator} {rule.when.threshold}', {proof},"
        f" {clear}, max_gap: {format_duration(rule.max_gap_ms)}, severity: {LEVELS[0]}, steps: [{', '.join(steps)}]}}\n"
    )


def document(rules: Sequence[RuleOf]) -> str:
    return "rules:\n" + "".join(map(written, rules))


def fed(world: World, restart_after: AbstractSet[int] = frozenset(), *, horizon_ms: int = 30 * DAY, silences: str = "") -> Shard:
    """Return a shard after all rows of a world and enough time for everything to close."""
    shard = Shard(document(world.rules) + silences, world.settings(horizon_ms), world.devices)
    last = max((row.at_ms for row in world.rows), default=0)
    for number, row in enumerate([*world.rows, *(Row(last + later, []) for later in (HOUR, DAY, 9 * DAY))]):
        shard.messages(row.at_ms / 1000, *row.packets) if row.packets else shard.tick(row.at_ms / 1000)
        if number in restart_after:
            shard.restart()
    return shard


def events_of(shard: Shard) -> list[AlertEvent]:
    return [event for outcome in shard.outcomes for event in outcome.alerts]


def final_events(shard: Shard) -> list[AlertEvent]:
    """Return what people are left with: the highest revision of every alert, without those that were retracted."""
    final = {event.alert_id: event for event in sorted(events_of(shard), key=lambda event: event.revision)}
    return [event for event in final.values() if event.phase is not Phase.RETRACTED]


def final_episodes(shard: Shard) -> set[Episode]:
    """Return the final alerts of rules on values."""
    return {
        settled((event.rule, event.subject, event.started_at_ms, event.ended_at_ms, event.peak, None, *levels_of(event)))
        for event in final_events(shard)
        if event.peak is not None
    }


def levels_of(event: AlertEvent) -> tuple[int, int | None, int]:
    """Return the level of an alert, since when it is at it, and the highest that it had."""
    return LEVELS.index(event.severity), event.escalated_at_ms, LEVELS.index(event.worst)


def settled(episode: Episode) -> Episode:
    """Return an episode with its duration, and its peak without what rounding may change; one that is open has not told its last peak."""
    rule, subject, start, end, peak, _, *level = episode
    lasted = (0.0, None) if end is None else (round(peak, 6), end - start)
    return rule, subject, start, end, *lasted, *level


def expected_episodes(world: World) -> set[Episode]:
    return {settled(episode) for episode in episodes(world.rules, world.readings, Registry(world.devices))}


def final_windows(shard: Shard) -> dict[tuple[SeriesKey, int], dict[str, float]]:
    """Return the summaries that stand in the end, by series and opening."""
    final: dict[tuple[SeriesKey, int], dict[str, float]] = {}
    for outcome in shard.outcomes:
        for block in outcome.windows:
            for row in zip(*(block.columns[name] for name in WINDOW_COLUMNS), strict=True):
                told: dict = dict(zip(WINDOW_COLUMNS, row, strict=True))
                place = (SeriesKey(*block.series[told.pop("series")]), told.pop("opens_ms"))
                assert told["revision"] > final.get(place, {"revision": 0})["revision"], f"{place} again at revision {told['revision']}"
                final[place] = told
    for told in final.values():
        del told["revision"]
    return {place: told for place, told in final.items() if told["count"]}


def bits(found: dict[tuple[SeriesKey, int], dict[str, float]]) -> dict[tuple[SeriesKey, int], list[bytes]]:
    """Return summaries so that they are equal where every bit is: NaN as well, and -0.0 is not 0.0."""
    return {place: [name.encode() + struct.pack("<d", value) for name, value in told.items()] for place, told in found.items()}


def everything(shard: Shard) -> list[tuple[object, ...]]:
    """Return all that came out, row by row, as it would be written."""
    return [
        (
            [to_json(event) for event in outcome.alerts],
            [pack(block) for block in outcome.windows],
            outcome.readings and pack(outcome.readings),
            outcome.quarantined,
            outcome.books,
        )
        for outcome in shard.outcomes
    ]


def check_history(events: Iterable[AlertEvent]) -> None:
    """Assert that every alert's revisions are 1, 2, 3 and so on, the first one raises it, and what it became part of is one of its kind."""
    revisions: Counter[str] = Counter()
    owners: dict[str, tuple[str, str]] = {}
    for event in events:
        revisions[event.alert_id] += 1
        assert event.revision == revisions[event.alert_id], f"{event.event_id} is event number {revisions[event.alert_id]} of its alert"
        assert (event.revision > 1) or event.phase is Phase.RAISED, f"{event.event_id} begins as {event.phase}"
        assert owners.setdefault(event.alert_id, (event.rule, event.subject)) == (event.rule, event.subject)
        assert {event.severity, event.worst} <= set(event.severities), "who was told of a level hears how it goes on"
        if event.superseded_by is not None:
            assert event.phase is Phase.RETRACTED
            assert owners.get(event.superseded_by) == (event.rule, event.subject), f"{event.event_id} became part of something unknown"


def check_books(shard: Shard, world: World) -> None:
    books = shard.books()
    taken = set(world.readings)
    assert books.balances()
    assert (books.received, books.accepted, books.quarantined) == (len(world.readings), len(taken), {})
    assert books.conflicts == len(taken) - len({reading[:4] for reading in taken})
    assert books.open_alerts == sum(1 for event in final_events(shard) if event.ended_at_ms is None)


def durations(*lengths: int) -> st.SearchStrategy[int]:
    return st.sampled_from(lengths)


@st.composite
def rules(draw: st.DrawFn, number: int) -> RuleOf:
    kind = draw(st.sampled_from(("shipment", "shipment", "patient")))
    metric = draw(st.sampled_from(METRICS[kind]))
    name = draw(st.sampled_from(("",) * 6 + tuple(AGGREGATES) + ("slope",) * 2))
    thresholds = st.sampled_from((THRESHOLDS | OTHER_THRESHOLDS).get(name, (7.5, 8.0)))
    when = Bound(draw(st.sampled_from(tuple(INVERSE))), draw(thresholds))
    clear = draw(st.none() | st.builds(Bound, st.sampled_from((INVERSE[when.operator], *INVERSE)), thresholds))
    sizes = durations(10 * SECOND, 20 * SECOND, 30 * SECOND, MINUTE, 10 * MINUTE)
    shape = draw(st.sampled_from(("trailing", "closed", "session"))) if name else ""
    size, every = draw(sizes), draw(durations(10 * SECOND, 20 * SECOND, 30 * SECOND))
    spans = {"": (0, 0), "trailing": (size, 0), "closed": (max(size, every), every), "session": (0, size)}
    bounds = st.builds(Bound, st.sampled_from((when.operator, when.operator, *INVERSE)), thresholds)
    step = st.builds(StepOf, bounds, bounds, durations(0, 0, 10 * SECOND, 30 * SECOND), durations(0, 0, 10 * SECOND))
    within = draw(durations(0, 0, 0, 40 * SECOND, 5 * MINUTE, 3 * HOUR))
    amounts = (10 * SECOND, 20 * SECOND, 40 * SECOND) if within else (0, 0, 10 * SECOND, 20 * SECOND, 30 * SECOND, MINUTE, 10 * MINUTE)
    return RuleOf(
        id=f"rule-{number}",
        kind=kind,
        metric=metric,
        aggregate=name,
        span=spans[shape],
        when=when,
        clear=when._replace(operator=INVERSE[when.operator]) if clear is None else clear,
        max_gap_ms=draw(durations(10 * SECOND, 20 * SECOND, 30 * SECOND, MINUTE, HOUR)),
        for_ms=draw(durations(*amounts)),
        clear_for_ms=draw(durations(0, 0, 0, 10 * SECOND, 30 * SECOND)),
        within_ms=within,
        steps=tuple(draw(st.just([]) | st.lists(step, max_size=2))),
    )


@st.composite
def assignments(draw: st.DrawFn) -> list[dict]:
    """Devices that share a subject, always or for some of the time, are exchanged for each other, or have none."""
    every = [(kind, name) for kind, names in DEVICES.items() for name in names]
    found = []
    for kind, device in draw(st.sampled_from((every, every, [])) | st.lists(st.sampled_from(every), max_size=5)):
        item: dict = {"device": device, "kind": kind, "subject": draw(st.sampled_from(SUBJECTS[kind])), "tags": {}}
        begin, end = draw(
            st.sampled_from(((None, None), (None, None), (None, MINUTE), (MINUTE, None), (0, 2 * MINUTE), (MINUTE, 10 * MINUTE)))
        )
        item |= {name: START_MS + at for name, at in (("from_ms", begin), ("until_ms", end)) if at is not None}
        found.append(item)
    return found


@st.composite
def arrivals(draw: st.DrawFn) -> list[Packet]:
    """Readings of some devices in the order in which they come: delayed one by one or by device, repeated, or shuffled altogether."""
    coming: list[tuple[float, int, Packet]] = []
    steps = st.tuples(
        st.sampled_from(STEPS), st.sampled_from((1, 1, 1, 2, 3)), st.sampled_from(VALUES), st.sampled_from(DELAYS), st.integers(0, 7)
    )
    for kind, names in DEVICES.items():
        for device in names:
            least = draw(st.sampled_from((0, 0, 5, 10, 20)))
            measured = draw(st.lists(steps, min_size=least, max_size=24))
            drift, behind = draw(st.sampled_from((1.0, 1.0, 1.0007))), draw(st.sampled_from((0, 0, 5 * MINUTE, 2 * HOUR)))
            time = 0
            for step, which, value, delay, again in measured:
                time += step
                metrics = METRICS[kind] if which == 3 else METRICS[kind][which - 1 :][:1] or METRICS[kind][:1]
                packet = (kind, device, round(time * drift) / 1000, dict.fromkeys(metrics, value))
                coming.append((time + delay + behind, len(coming), packet))
                if again >= 6:
                    coming.append((time + (0 if again == 6 else 3 * HOUR), len(coming), packet))
    packets = [packet for *_, packet in sorted(coming)]
    seed = draw(st.integers(0, 2**16))
    if seed % 3 == 1:
        random.Random(seed).shuffle(packets)
    return packets


@st.composite
def worlds(draw: st.DrawFn) -> World:
    packets, rows, at, now = draw(arrivals()), [], 0, 0
    for size in itertools.cycle(draw(st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))):
        if at >= len(packets):
            break
        part = packets[at : at + size]
        at += size
        now = max(now + (0 if part else 10 * SECOND), *(round(time_s * 1000) for _, _, time_s, _ in part), 0)
        rows.append(Row(now, part))
    cut = st.sampled_from(((10 * SECOND,) * 2, (MINUTE,) * 2, (30 * SECOND, 10 * SECOND), (25 * SECOND, 10 * SECOND), (0, 30 * SECOND)))
    return World(
        rules=[draw(rules(number)) for number in range(draw(st.integers(1, 5)))],
        devices=draw(assignments()),
        windows={kind: draw(cut) for kind in METRICS},
        grace_ms=draw(durations(0, 2 * SECOND, MINUTE)),
        rows=rows,
    )


@pytest.mark.long
@pytest.mark.timeout(120 + EXAMPLES)
@EXACTLY
@given(worlds())
def test_what_is_told_in_the_end_is_what_the_set_of_readings_says(world):
    """Law 3: alerts and summaries are a function of the set of readings, not of when each of them came."""
    shard = fed(world, silences=SILENCES)
    assert final_episodes(shard) == expected_episodes(world)
    expected = summaries(world.windows, world.readings, Registry(world.devices))
    found = final_windows(shard)
    assert {place: pytest.approx(told, rel=1e-9, abs=1e-9, nan_ok=True) for place, told in expected.items()} == found
    check_history(events_of(shard))
    check_books(shard, world)
    in_order = fed(world.in_order())
    assert bits(final_windows(in_order)) == bits(found)
    assert final_episodes(in_order) == final_episodes(shard)


@pytest.mark.long
@pytest.mark.timeout(120 + EXAMPLES)
@EXACTLY
@given(worlds(), st.sets(st.integers(0, 40), max_size=6))
def test_restarts_at_any_rows_change_no_byte_of_what_comes_out(world, restart_after):
    """A process that dies and resumes must not tell anything twice, otherwise or in another order."""
    assert everything(fed(world, restart_after, silences=SILENCES)) == everything(fed(world, silences=SILENCES))


def accepted(shard: Shard) -> list[Reading]:
    found = []
    for outcome in shard.outcomes:
        if outcome.readings:
            keys, columns = outcome.readings.series, outcome.readings.columns
            for series, time_ms, value in zip(columns["series"], columns["time_ms"], columns["value"], strict=True):
                found.append((keys[series][0], keys[series][2], keys[series][3], time_ms, value))
    return found


@pytest.mark.long
@pytest.mark.timeout(120 + EXAMPLES)
@EXACTLY
@given(worlds(), st.sampled_from((30 * SECOND, 2 * MINUTE, 30 * MINUTE)))
def test_what_comes_beyond_the_horizon_is_refused_and_the_rest_is_told_as_if_it_had_not_come(world, horizon_ms):
    """Late is judged by the device's own clock; what is refused is counted, and leaves no trace in alerts and summaries."""
    shard = fed(world, horizon_ms=horizon_ms)
    registry, newest, refused, taken = Registry(world.devices), dict[SeriesKey, int](), set(), set(accepted(shard))
    for reading in world.readings:
        kind, device, metric, time_ms, _ = reading
        assigned = registry.assignment(kind, device, time_ms)
        of = SeriesKey(assigned.kind, assigned.subject, "", metric)  # what other devices of the subject brought may be final already
        newest[of] = max(newest.get(of, time_ms), time_ms)
        if reading not in taken:
            refused.add((reading, of))
    for reading, of in refused:
        assert reading[3] < newest[of] - horizon_ms, f"{reading} is within the horizon and was refused"
    books = shard.books()
    assert books.balances()
    assert set(books.quarantined) == ({"too_late"} if refused else set(books.quarantined) & {"too_late"})
    assert final_episodes(shard) == {settled(episode) for episode in episodes(world.rules, taken, registry)}
    assert {
        place: pytest.approx(told, rel=1e-9, abs=1e-9, nan_ok=True) for place, told in summaries(world.windows, taken, registry).items()
    } == final_windows(shard)
    check_history(events_of(shard))


WORD = 8 if EXAMPLES >= 10_000 else 5


@pytest.mark.long
@pytest.mark.parametrize("max_gap_s", [10, 20])
@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_every_sequence_of_below_between_above_and_missing_is_told_right(max_gap_s, order):
    """All paths through the states of a rule, for every subject of a ward at once, and however they come."""
    words = ["".join(word) for word in itertools.product("<=>-", repeat=WORD) if set(word) != {"-"}]
    values = {"<": 7.0, "=": 8.0, ">": 9.0}
    plain = RuleOf("plain", "shipment", "temperature", "", (0, 0), Bound(">", 8.5), Bound("<", 7.5), max_gap_s * SECOND)
    chosen = [
        plain,
        plain._replace(id="held", for_ms=20 * SECOND, clear_for_ms=10 * SECOND),
        plain._replace(id="added", for_ms=20 * SECOND, within_ms=40 * SECOND, clear=Bound("<=", 8.5)),
    ]
    slots = list(range(WORD))
    if order == "backwards":
        slots.reverse()
    elif order == "shuffled":
        random.Random(max_gap_s).shuffle(slots)
    names = {word: word.translate(str.maketrans("<=>-", "lbam")) for word in words}
    rows = [
        Row(
            WORD * 10 * SECOND,
            [("shipment", names[word], slot * 10, {"temperature": values[word[slot]]}) for word in words if word[slot] != "-"],
        )
        for slot in slots
    ]
    world = World(chosen, [], {"shipment": (MINUTE, MINUTE), "patient": (MINUTE, MINUTE)}, 0, rows)
    assert final_episodes(fed(world)) == expected_episodes(world)


PLAIN = RuleOf("r", "shipment", "temperature", "", (0, 0), Bound(">", 8.0), Bound("<=", 8.0), MINUTE)


def told(rule: RuleOf, *seen: tuple[float, float]) -> list[tuple[float, float | None, float]]:
    """Return (start, end, peak) of the reference's episodes, in seconds."""
    readings = [("shipment", "a", "temperature", round(second * 1000), value) for second, value in seen]
    found = sorted(episodes([rule], readings, Registry()), key=lambda episode: episode[2])
    return [(start / 1000, None if end is None else end / 1000, peak) for _, _, start, end, peak, *_ in found]


def over(threshold: float) -> dict[str, Bound]:
    return {"when": Bound(">", threshold), "clear": Bound("<=", threshold)}


@pytest.mark.parametrize(
    ("changes", "seen", "expected"),
    [
        ({}, [(0, 8.0), (10, 8.1), (20, 9), (30, 8)], [(10, 30, 9)]),
        ({}, [(0, 9), (10, 10)], [(0, None, 10)]),
        ({"when": Bound(">=", 8.0), "clear": Bound("<", 8.0)}, [(0, 8.0), (10, 7.9)], [(0, 10, 8.0)]),
        ({"when": Bound("!=", 8.0), "clear": Bound("==", 8.0)}, [(0, 9.0), (10, 3.0), (20, 8.0)], [(0, 20, 3.0)]),
        # `for` fires where it is reached exactly, a gap neither counts nor breaks, and one reading below breaks.
        ({"for_ms": 20 * SECOND}, [(0, 9), (10, 9), (20, 9), (30, 8)], [(0, 30, 9)]),
        ({"for_ms": 20 * SECOND}, [(0, 9), (10, 9), (19.999, 9), (30, 8)], []),
        ({"for_ms": 20 * SECOND}, [(0, 9), (10, 9), (71, 9), (81, 9)], [(0, None, 9)]),
        ({"for_ms": 20 * SECOND}, [(0, 9), (3600, 9)], []),
        ({"for_ms": 20 * SECOND}, [(0, 9), (10, 8), (20, 9), (30, 9), (40, 9)], [(20, None, 9)]),
        # Hysteresis: between the two bounds nothing ends; the end is the first reading of the clearing run that was held.
        ({"clear": Bound("<=", 7.0)}, [(0, 9), (10, 7.5), (20, 8.5), (30, 7.0)], [(0, 30, 9)]),
        ({"clear_for_ms": 20 * SECOND}, [(0, 9), (10, 7), (20, 7), (25, 9), (30, 7), (40, 7), (50, 7)], [(0, 30, 9)]),
        ({"clear_for_ms": 20 * SECOND}, [(0, 9), (10, 7), (3600, 7)], [(0, None, 9)]),
        # The reading that resolves belongs to no new run, even where it satisfies `when`.
        ({"clear": Bound("<", 10.0)}, [(0, 11), (10, 9), (20, 9), (30, 9)], [(0, 10, 11), (20, 30, 9)]),
        # Accumulated: pairs of any run count, clipped to the trailing time.
        ({"for_ms": 20 * SECOND, "within_ms": HOUR}, [(0, 9), (10, 9), (20, 8), (30, 9), (40, 9), (50, 8)], [(30, 50, 9)]),
        ({"for_ms": 20 * SECOND, "within_ms": 35 * SECOND}, [(0, 9), (10, 9), (20, 8), (30, 9), (40, 9), (50, 9)], [(30, None, 9)]),
        ({"for_ms": 15 * SECOND, "within_ms": 35 * SECOND}, [(0, 9), (10, 9), (20, 8), (30, 9), (40, 9)], [(30, None, 9)]),
        # After it ended, what was added up before still counts: the next reading above raises again.
        ({"for_ms": 20 * SECOND, "within_ms": HOUR}, [(0, 9), (10, 9), (20, 9), (30, 8), (40, 9), (50, 8)], [(0, 30, 9), (40, 50, 9)]),
        # Trailing (t - size, t]; closed windows are judged at their end; a session at its last reading and the gap.
        ({"aggregate": "min", "span": (20 * SECOND, 0)}, [(0, 7), (10, 9), (20, 9), (25, 9), (30, 7)], [(20, 30, 9)]),
        ({"aggregate": "mean", "span": (10 * SECOND, 10 * SECOND)}, [(1, 9), (9, 8), (10, 7)], [(10, 20, 8.5)]),
        ({"aggregate": "count", "span": (20 * SECOND, 10 * SECOND), **over(1)}, [(5, 1), (15, 1)], [(20, 30, 2)]),
        ({"aggregate": "last", "span": (0, 30 * SECOND)}, [(0, 1), (29.999, 9), (59.999, 1)], [(59.999, 89.999, 9)]),
        ({"aggregate": "slope", "span": (20 * SECOND, 0), **over(0)}, [(0, 1), (9, 2), (10, 2)], [(10, None, 1)]),
    ],
)  # fmt: skip
def test_the_reference_says_what_the_definitions_say(changes, seen, expected):
    """An oracle is worth what it was itself checked against: these were worked out by hand."""
    found = told(PLAIN._replace(**changes), *seen)
    if changes.get("aggregate") == "slope":
        found = [(*episode[:2], round(episode[2] * 10, 1)) for episode in found]
    assert found == expected


def test_the_aggregates_of_the_reference_are_those_of_the_textbook():
    points = [Point(0, "a", 2.0), Point(1000, "a", 4.0), Point(1000, "b", 4.0), Point(2000, "a", 10.0)]
    found = {name: aggregate(name, points) for name in AGGREGATES}
    assert found == pytest.approx(
        {
            "count": 4, "sum": 20, "mean": 5, "min": 2, "max": 10, "stddev": 9**0.5, "first": 2, "last": 10, "median": 4,
            "p95": 9.1, "range": 8, "slope": 4,
        }
    )  # fmt: skip
    assert [(opens, closes, len(inside)) for opens, closes, inside in windows((2000, 1000), points)] == [
        (-1000, 1000, 1), (0, 2000, 3), (1000, 3000, 3), (2000, 4000, 1),
    ]  # fmt: skip
    assert [(opens, closes) for opens, closes, _ in windows((0, 1000), points)] == [(0, 1000), (1000, 2000), (2000, 3000)]
