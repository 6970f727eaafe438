"""Rehearsing a scenario: its messages through the decoder and the evaluator that run live, in its own time, without a broker.

What arrives within a moment is a row of the journal; ticks fill the time between. So a day passes in a second, and the same seed gives the
same alerts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

from decoders.decode import decode_row
from documents.tree import Steps
from journal.messages import decode_messages, encode_messages
from rules.condition import WHOLE_DEVICE, Silence
from rules.control import DEFAULT_SETTINGS, listening_record, registry_record, rules_record, settings_record
from rules.document import compile_rules, load_rules
from rules.evaluator import Evaluator
from rules.rule import Rule, RuleSet, gap_ms
from simulators.faults import Message
from simulators.feeds import Disturbed
from simulators.incidents import ABSENT, OPERATORS, Limit
from simulators.payloads import encoded
from simulators.scenario import Scenario
from simulators.staging import Played, stage
from simulators.truth import Run
from simulators.world import registry
from telemetry.alert import AlertEvent
from telemetry.books import Books
from telemetry.errors import ConfigError
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason

FROM_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

QOS_1 = 1 << 4
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class Rehearsed(NamedTuple):
    """What a rehearsal came to."""

    events: list[AlertEvent]
    books: Books
    rows: int


def rules_of(scenario: Scenario) -> RuleSet:
    """Return the rules of a scenario. Raises ConfigError with every problem, those of its own rules at their places."""
    model = scenario.model
    packs = load_rules(list(model.packs)).documents if model.packs else ()
    own = f"{scenario.tree.file} rules"
    documents = [*packs, (own, encoded({"places": model.places, "rules": list(model.rules)}).decode())]
    try:
        rules = compile_rules(documents)
    except ConfigError as error:
        raise ConfigError(
            [scenario.problem(_steps(item.where), item.message) if item.file == own else item for item in error.problems]
        ) from error
    known = {rule.id for rule in rules.rules}
    problems = [
        scenario.problem(("incidents", number, "rule"), f"there is no rule `{name}`: {', '.join(sorted(known))}")
        for number, item in enumerate(model.incidents)
        for name in (item.rule, *item.also)
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    return rules


def limits_of(rules: RuleSet) -> dict[str, Limit]:
    """Return the limit of each rule that judges the readings of one metric, or their absence."""
    found = {rule.id: _limit(rule) for rule in rules.rules}
    return {name: limit for name, limit in found.items() if limit is not None}


def staged(scenario: Scenario, rules: RuleSet, *, seed: int, faults: str) -> Played:
    """Return a scenario set up for a rehearsal, which is the same on any day."""
    grain_ms = scenario.model.grouped
    return stage(scenario, seed=seed, start_ms=FROM_MS, limits=limits_of(rules), faults=faults, played_ms=FROM_MS, grain_ms=grain_ms)


def rehearse(played: Played, rules: RuleSet) -> Rehearsed:
    """Play a scenario to its end."""
    run, grain_ms = played.truth.run, played.truth.run.grain_ms
    evaluator, events, offset, rows = Evaluator(0, 1), list[AlertEvent](), 0, 0
    settings = DEFAULT_SETTINGS._replace(store_readings=False)
    for body in (
        settings_record(settings),
        registry_record(registry(played.devices)),
        rules_record(rules, "rehearsal"),
        listening_record(),
    ):
        events += evaluator.on_control(offset, run.start_ms, body).alerts
        offset += 1
    now_ms = run.start_ms
    for received_ms, messages in _rows(merge(*map(_messages, played.sources), key=attrgetter("time_ms")), run):
        for tick_ms in range(now_ms + grain_ms, received_ms, grain_ms):
            events += evaluator.on_tick(offset, tick_ms).alerts
            offset += 1
        now_ms = received_ms
        body = encode_messages(
            [message.topic.encode() for message in messages], [message.payload for message in messages], bytes([QOS_1]) * len(messages)
        )
        decoded = decode_row(decode_messages(body), received_ms, CATALOGUE)
        events += evaluator.on_messages(offset, len(messages), received_ms, decoded).alerts
        evaluator.take_history()
        offset, rows = offset + len(messages), rows + 1
    for tick_ms in range(now_ms + grain_ms, run.end_ms + 1, grain_ms):
        events += evaluator.on_tick(offset, tick_ms).alerts
        offset, now_ms = offset + 1, tick_ms
    return Rehearsed(events, evaluator.books(offset, now_ms), rows)


def unbalanced(played: Played, books: Books) -> list[str]:
    """Return what does not add up: the books in themselves, and against what faults must have come to."""
    tally, wrong = played.tally(), []
    if not books.balances():
        wrong.append("the books do not balance in themselves")
    if books.messages != tally.messages:
        wrong.append(f"{tally.messages} messages were published, {books.messages} are in the books")
    expected = Counter({str(reason): tally.refused[reason] for reason in EXACT})
    counted = Counter({str(reason): books.quarantined.get(reason, 0) for reason in EXACT})
    wrong += [
        f"{expected[reason]} must be quarantined as {reason}, {counted[reason]} are"
        for reason in expected
        if expected[reason] != counted[reason]
    ]
    left_out = books.quarantined.get(Reason.TOO_LATE, 0) + books.quarantined.get(Reason.FLOOD, 0)  # it, or what it is a copy of
    if not books.duplicate <= tally.copied <= books.duplicate + left_out:
        wrong.append(f"{tally.copied} readings came twice, {books.duplicate} are counted as duplicates")
    return wrong


EXACT = (
    *(Reason.MALFORMED, Reason.WRONG_TYPE, Reason.UNSUPPORTED_VERSION, Reason.UNKNOWN_METRIC),
    *(Reason.UNKNOWN_FIELD, Reason.DEVICE_MISMATCH, Reason.IMPLAUSIBLE, Reason.FUTURE_TIME),
)
"""The reasons of quarantine of which faults say how many there must be. How much of a flood is left out, and what is too late, follows from
what else arrives."""


def _messages(source: Disturbed) -> Iterator[Message]:
    while source.next_ms is not None:
        yield from source.take()


def _rows(messages: Iterable[Message], run: Run) -> Iterator[tuple[int, list[Message]]]:
    """Yield what is received together, and when."""
    row: list[Message] = []
    received_ms = 0
    for message in messages:
        at_ms = run.on_the_clock(message.time_ms)
        if row and at_ms != received_ms:
            yield received_ms, row
            row = []
        received_ms = at_ms
        row.append(message)
    if row:
        yield received_ms, row


def _limit(rule: Rule) -> Limit | None:
    when = rule.when
    if isinstance(when, Silence):
        return None if when.metric == WHOLE_DEVICE else Limit(when.metric, ABSENT, for_ms=when.duration_ms)
    if when.signal.aggregate or when.signal.derived is not None or when.limit or when.operator not in OPERATORS:
        return None
    if rule.within_ms or rule.schedule is not None:
        return None
    gap = gap_ms(rule.kind) if rule.max_gap_ms is None else rule.max_gap_ms
    horizons = DEFAULT_SETTINGS.horizon_ms
    return Limit(when.signal.metric, when.operator, when.threshold, rule.for_ms, gap, horizons.get(rule.kind, min(horizons.values())))


def _steps(where: str) -> Steps:
    return tuple(int(index) if index else name for index, name in _STEP.findall(where))
