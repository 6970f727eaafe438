"""The journal through the evaluator once more, beside a running flow: nothing is written, nothing is remembered.

Rows are taken in the order of their journal time over all partitions, routed and evaluated as the flow does. With other rules than those
of the journal, they take the place of every rule set that was applied.
"""

import heapq
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from flows.part import Part
from flows.route import Routes
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from rules.backtest import Done, Progress
from rules.control import read_record, rules_record
from rules.evaluator import Evaluator
from rules.outcome import Outcome
from rules.rule import RuleSet
from telemetry.alert import AlertEvent
from telemetry.blocks import Block

READ_ROWS = 64


def replay(
    journal: Path,
    partitions: int,
    rules: RuleSet | None,
    *,
    since_ms: int = 0,
    until_ms: int | None = None,
    progress: Progress | None = None,
    taken: Callable[[Block], None] | None = None,
    homes: Collection[int] | None = None,
) -> Done:
    """Return what the rows of a journal in `[since_ms, until_ms)` come to, under its own rules or others. Control records before count.

    `progress` is called with the messages so far. `taken` is called with the readings of each row that count, where the journal's settings
    store readings. With `homes`, the subjects of these partitions are judged only: what the others come to, another process can say.
    """
    evaluators = [Evaluator(partition, partitions) for partition in range(partitions)]
    routes = Routes(partitions)
    routing = [routes.build(None) for _ in range(partitions)]
    events: list[AlertEvent] = []
    first_ms = last_ms = passed = 0
    override = None if rules is None else rules_record(rules, "backtest")
    for number, row in enumerate(_in_order(journal, partitions)):
        if until_ms is not None and row.time_ms >= until_ms:
            break
        passed += row.count
        if row.time_ms < since_ms and row.kind != RowKind.CONTROL:
            continue
        if override is not None and row.kind == RowKind.CONTROL and read_record(row.body)["type"] == "rules":
            row = row._replace(body=override)  # noqa: PLW2901 the same row, under other rules
        for _, part in routing[row.partition].on_batch([row])[0]:
            if homes is not None and part.home not in homes:
                continue
            outcome = _evaluated(evaluators[part.home], part)
            events += outcome.alerts
            if taken is not None and outcome.readings is not None:
                taken(outcome.readings)
            evaluators[part.home].take_history()
        first_ms, last_ms = first_ms or row.time_ms, row.time_ms
        if progress is not None and number % READ_ROWS == 0:
            progress(passed, sum(evaluator.counting.counts["accepted"] for evaluator in evaluators))
    quarantined: dict[str, int] = {}
    for evaluator in evaluators:
        for reason, count in evaluator.counting.quarantined.items():
            quarantined[reason] = quarantined.get(reason, 0) + count
    accepted, subjects = sum(one.counting.counts["accepted"] for one in evaluators), sum(one.subjects() for one in evaluators)
    peaks = {alert_id: peak for one in evaluators for alert_id, peak in one.watch.open_peaks().items()}
    return Done(events, accepted, quarantined, first_ms, last_ms, subjects, peaks)


def messages(journal: Path, partitions: int) -> int:
    """Return how many messages a journal holds."""
    with JournalReader(journal) as reader:
        return sum(reader.head(partition) - reader.first(partition) for partition in range(partitions))


def _evaluated(evaluator: Evaluator, part: Part) -> Outcome:
    if part.foreign:
        assert part.decoded is not None, "only messages are foreign"
        return evaluator.on_messages(part.offset, 0, part.time_ms, part.decoded, part.origin)
    if part.decoded is not None:
        return evaluator.on_messages(part.offset, part.end - part.offset, part.time_ms, part.decoded)
    if part.kind == RowKind.TICK:
        return evaluator.on_tick(part.offset, part.time_ms)
    return evaluator.on_control(part.offset, part.time_ms, part.body)


def _in_order(journal: Path, partitions: int) -> Iterator[Row]:
    """Return the rows of all partitions by time; within a partition in the order of their offsets."""
    lanes = [_rows(journal, partition) for partition in range(partitions)]
    return heapq.merge(*lanes, key=lambda row: (row.time_ms, row.partition, row.offset))


def _rows(journal: Path, partition: int) -> Iterator[Row]:
    with JournalReader(journal) as reader:
        offset, head = reader.first(partition), reader.head(partition)
        while offset < head and (rows := reader.read(partition, offset, max_rows=READ_ROWS)):
            yield from rows
            offset = rows[-1].offset + rows[-1].count
