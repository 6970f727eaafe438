"""Conditions combined, and scores, against brute force: every late, doubled and shuffled reading, several devices, restarts."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.combining import FIRST_STEP
from rules.condition import CLEARS, HOLDS
from rules.control import DEFAULT_SETTINGS
from telemetry.alert import AlertEvent, Phase, Severity
from tests.rules.reference import Point, StepOf, episodes_of
from tests.rules.stream import START_MS, Packet, Shard
from tests.rules.test_against_reference import EXAMPLES, check_history

SECOND, DAY_S = 1000, 86_400
PAUSE_S = 5 * DAY_S
THRESHOLDS = {"spo2": ("<", 90.0), "heart_rate": (">", 120.0), "sbp": ("<=", 100.0)}
VALUES = {"spo2": (85.0, 89.0, 90.0, 97.0), "heart_rate": (60.0, 120.0, 121.0), "sbp": (80.0, 100.0, 101.0)}
UNITS = {"spo2": "%", "heart_rate": "/min", "sbp": "mmHg"}

Expression = str | tuple["Expression", ...]
"""A metric, compared with its threshold; ("and" or "or", one, two); ("not", one)."""


class RuleOf(NamedTuple):
    """What the reference needs of a rule: a point's value says in bits whether it holds and whether it clears."""

    id: str
    when: "Bit"
    clear: "Bit"
    max_gap_ms: int
    for_ms: int
    clear_for_ms: int
    within_ms: int
    steps: tuple[StepOf, ...]


class Bit(NamedTuple):
    bit: int
    operator: str = "has"

    def holds(self, point: Point) -> bool:
        return bool(int(point.value) & self.bit)


class Case(NamedTuple):
    when: Expression
    clear: Expression | None
    for_s: int
    clear_for_s: int
    within_s: int
    max_gap_s: int
    rows: list[list[Packet]]
    later: int  # so many of the rows are of five days later, when what was before them is final
    step: Expression | None = None  # of a more severe level
    low: str | None = None  # the subject's own limit of SpO2, as its tag says it

    def document(self) -> str:
        clear = "" if self.clear is None else f", clear: {{when: '{written(self.clear)}', for: {self.clear_for_s} s}}"
        held = f"accumulated: {self.for_s} s within {self.within_s} s" if self.within_s else f"for: {self.for_s} s"
        step = "" if self.step is None else f", steps: [{{when: '{written(self.step)}', for: 3 s, severity: critical}}]"
        rule = f"id: rule, when: '{written(self.when)}', {held}, max_gap: {self.max_gap_s} s{clear}, severity: warning{step}"
        return f"rules: [{{{rule}}}]"


def written(expression: Expression) -> str:
    if isinstance(expression, str):
        operator, threshold = THRESHOLDS[expression]
        quantity = f"{threshold:g} {UNITS[expression]}"
        return f"{expression} {operator} {f'limit(low, {quantity})' if expression == 'spo2' else quantity}"
    operator, parts = str(expression[0]), expression[1:]
    return f"not ({written(parts[0])})" if operator == "not" else f"({written(parts[0])}) {operator} ({written(parts[1])})"


def truth(expression: Expression, known: dict[str, float], low: float = 90.0) -> bool | None:
    """Return whether an expression holds; None: not known (Kleene)."""
    if isinstance(expression, str):
        operator, threshold = THRESHOLDS[expression]
        if expression not in known:
            return None
        threshold = low if expression == "spo2" else threshold
        return {"<": known[expression] < threshold, ">": known[expression] > threshold, "<=": known[expression] <= threshold}[operator]
    operator, parts = str(expression[0]), expression[1:]
    found = [truth(part, known, low) for part in parts]
    if operator == "not":
        return None if found[0] is None else not found[0]
    decides = operator == "or"
    return decides if decides in found else None if None in found else not decides


def metrics_in(expression: Expression | None) -> set[str]:
    if expression is None:
        return set()
    return {expression} if isinstance(expression, str) else set().union(*map(metrics_in, expression[1:]))


Taken = set[tuple[str, int, str, float]]
"""(metric, time in milliseconds after START_MS, device, value)."""


def taken(rows: Iterable[list[Packet]]) -> Taken:
    return {(name, round(at * 1000), device, value) for row in rows for _, device, at, values in row for name, value in values.items()}


def known_at(readings: Taken, time_ms: int, valid_ms: Callable[[str], int]) -> dict[str, float]:
    """Return what is valid of each metric at a time: the last of what was measured, in the order of (time, device, value)."""
    seen = [(name, at, device, value) for name, at, device, value in readings if time_ms - valid_ms(name) <= at <= time_ms]
    return {name: value for name, _, _, value in sorted(seen)}


def expected(case: Case) -> set[tuple[int, int | None, int, int]]:
    """Return (start, end, level in the end, highest level) of the episodes that there must be, milliseconds."""
    metrics = metrics_in(case.when) | metrics_in(case.clear) | metrics_in(case.step)
    low = float(case.low) if case.low and case.low.isdigit() else 90.0
    readings = {reading for reading in taken(case.rows) if reading[0] in metrics}
    points = []
    for time_ms in sorted({at for _, at, _, _ in readings}):
        known = known_at(readings, time_ms, lambda _: case.max_gap_s * SECOND)
        holds = truth(case.when, known, low)
        clears = truth(("not", case.when) if case.clear is None else case.clear, known, low)
        level = None if case.step is None else truth(case.step, known, low)
        if holds is not None or clears:
            value = HOLDS * bool(holds) + CLEARS * bool(clears) + FIRST_STEP * (level is True) + 2 * FIRST_STEP * (level is False)
            points.append(Point(time_ms, "", float(value)))
    clear_for = 0 if case.clear is None else case.clear_for_s
    steps = () if case.step is None else (StepOf(Bit(FIRST_STEP), Bit(2 * FIRST_STEP), 3 * SECOND),)  # type: ignore[arg-type]
    held = case.max_gap_s * SECOND, case.for_s * SECOND, clear_for * SECOND, case.within_s * SECOND
    rule = RuleOf("rule", Bit(HOLDS), Bit(CLEARS), *held, steps)
    return {(start, end, level, most) for _, _, start, end, _, _, level, _, most in episodes_of(rule, "bed", points)}  # type: ignore[arg-type]  # all that it needs


def told(events: Iterable[AlertEvent]) -> set[tuple[int, int | None, int, int]]:
    final = {event.alert_id: event for event in sorted(events, key=lambda event: event.revision)}
    return {
        (
            event.started_at_ms - START_MS,
            None if event.ended_at_ms is None else event.ended_at_ms - START_MS,
            int(event.severity is Severity.CRITICAL),
            int(event.worst is Severity.CRITICAL),
        )
        for event in final.values()
        if event.phase is not Phase.RETRACTED
    }


REGISTRY = [{"device": device, "kind": "patient", "subject": "bed", "tags": {}} for device in "pq"]


def fed(case: Case, restart_after: frozenset[int] = frozenset()) -> Shard:
    registry = [device | {"tags": {} if case.low is None else {"low": case.low}} for device in REGISTRY]
    shard = Shard(case.document(), DEFAULT_SETTINGS._replace(horizon_ms={"patient": 2 * DAY_S * SECOND}), registry)
    for number, row in enumerate(case.rows):
        if number == len(case.rows) - case.later:
            shard.tick(PAUSE_S)
        shard.messages(1000 + number + (PAUSE_S if number >= len(case.rows) - case.later else 0), *row)
        if number in restart_after:
            shard.restart()
    shard.tick(2 * PAUSE_S)
    return shard


def expressions() -> st.SearchStrategy[Expression]:
    leaves: st.SearchStrategy[Expression] = st.sampled_from(sorted(THRESHOLDS))
    return st.recursive(
        leaves, lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner), max_leaves=4
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    when = draw(expressions().filter(lambda found: not isinstance(found, str)))
    readings = draw(st.lists(st.builds(
        lambda device, at, values: ("patient", device, float(at), values),
        st.sampled_from("pq"), st.integers(0, 60),
        st.fixed_dictionaries({}, optional={name: st.sampled_from(known) for name, known in VALUES.items()}).filter(bool),
    ), min_size=1, max_size=25))  # fmt: skip
    if draw(st.booleans()):
        readings.sort(key=lambda packet: packet[2])
    rows: list[list[Packet]] = []
    while readings:
        size = draw(st.integers(1, 4))
        rows.append(readings[:size])
        readings = readings[size:]
    within = draw(st.sampled_from((0, 0, 20)))
    later = draw(st.sampled_from((0, 0, 1, 2)))
    rows = [[(kind, device, at + PAUSE_S * (number >= len(rows) - later), values) for kind, device, at, values in row]
            for number, row in enumerate(rows)]  # fmt: skip
    return Case(
        when, draw(st.none() | expressions()), draw(st.sampled_from((5, 10) if within else (0, 3, 10))), draw(st.sampled_from((0, 5))),
        within, draw(st.sampled_from((2, 8, 30))), rows, later, draw(st.none() | expressions()),
        draw(st.sampled_from((None, "86", "95", "unknown"))),
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(120 + EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(cases(), st.frozensets(st.integers(0, 20), max_size=3))
def test_conditions_combined_are_told_as_their_definitions_say(case, restart_after):
    shard = fed(case, restart_after)
    events = [event for outcome in shard.outcomes for event in outcome.alerts if event.rule == "rule"]

    assert told(events) == expected(case)
    check_history(events)


@pytest.mark.parametrize(
    ("activation", "expected"), [("", 30.1479), (", 83.144 kJ/mol", 30.1478), (", 40 kJ/mol", 28.7787), (", 150 kJ/mol", 31.6454)]
)
def test_the_heat_of_activation_of_a_mean_kinetic_temperature_can_be_set(activation, expected):
    """Half the time at 20 and half at 35 degC; by the formula of USP <1079.2>, worked out on its own."""
    ratio = float(activation.split()[1]) * 1000 / 8.31446261815324 if activation else 10_000.0
    speeds = [math.exp(-ratio / (temperature + 273.15)) for temperature in (20.0, 35.0)]
    assert -ratio / math.log(sum(speeds) / 2) - 273.15 == pytest.approx(expected, abs=1e-4)
    shard = Shard(f"rules: [{{id: r, when: 'mkt(temperature, 100 s{activation}) > {expected - 0.01:.4f} Cel', severity: info}}]")
    for number in range(10):
        shard.messages(number * 10, ("shipment", "d", number * 10, {"temperature": 20.0 if number < 5 else 35.0}))

    [event] = [event for outcome in shard.outcomes for event in outcome.alerts]
    assert (event.signal, event.time_ms) == (f"mkt(temperature, 100 s{activation})", START_MS + 90_000)
    assert event.value == pytest.approx(expected, abs=1e-4)
