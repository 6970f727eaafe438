"""What is in force: control records put rules, registry and settings in the place of those before, and what was told goes on or is ended.

A rule that means what it meant keeps its state; who is waited for follows the registry.
"""

from typing import TYPE_CHECKING, Any

from rules.control import read_catalogue, read_record, read_settings
from rules.document import compile_rules
from rules.events import offence_event, orphan_event, silence_event, withdrawn_event
from rules.judging import OFFSET_BITS
from rules.metrics import Subject
from rules.outcome import window_blocks
from rules.registry import Registry
from rules.watch import Watch
from telemetry.alert import AlertEvent
from telemetry.blocks import Block
from telemetry.routing import partition_of

if TYPE_CHECKING:
    from rules.evaluator import Evaluator


def put_in_force(
    evaluator: "Evaluator", record: dict[str, Any], position: tuple[int, int], now_ms: int
) -> tuple[list[AlertEvent], list[Block]]:
    """Put a record in force that stands at `position`, partition and offset; returns what ends with what was in force before."""
    before, series, metrics = evaluator.watch, evaluator.series, evaluator.metrics
    read(evaluator, record)
    if record["type"] == "settings":
        return [], window_blocks(evaluator.define(), series)
    if record["type"] == "registry":
        series.take_over(evaluator.registry, evaluator.catalogue)
    watch = evaluator.watch = Watch(evaluator.rules)
    for row in range(series.length):
        key, tags = series.keys[row], series.tags[row]
        metrics.subjects[series.signal[row]] = Subject(key.kind, key.subject, tags)
    link_metrics(evaluator)
    for row in range(series.length):
        await_series(evaluator, row, now_ms)
    absences = expect(evaluator, before.rules.version, position, now_ms)
    withdrawn, orphans = watch.take_over(before, metrics, (position[0] << OFFSET_BITS) + position[1])
    evaluator.define()
    version = before.rules.version
    alerts = [withdrawn_event(item, version, position, now_ms) for item in withdrawn]
    alerts += [orphan_event(item, before.rule(item.rule_id), version, position, now_ms) for item in orphans]
    alerts += evaluator.telling.after_all(watch, evaluator.settings, now_ms)  # a rule came out of the shadow
    return alerts + absences, []


def read_controls(evaluator: "Evaluator", controls: dict[str, str]) -> None:
    """Take over control records by their type, without linking anything to them."""
    evaluator.controls = dict(controls)
    for kind in ("settings", "registry", "rules"):  # the rules need the registry's metrics
        if kind in controls:
            read(evaluator, read_record(controls[kind].encode()))


def read(evaluator: "Evaluator", record: dict[str, Any]) -> None:
    """Take over a record's settings, registry or rules, without linking anything to them."""
    match record["type"]:
        case "settings":
            evaluator.settings = read_settings(record)
        case "registry":
            evaluator.registry = Registry(record["devices"])
            evaluator.catalogue = read_catalogue(record)
        case "rules":
            evaluator.rules = compile_rules([(name, text) for name, text in record["documents"]], evaluator.catalogue)


def link_metrics(evaluator: "Evaluator") -> None:
    """Put the rules in force on every metric."""
    metrics = evaluator.metrics
    for metric in range(metrics.length):
        evaluator.watch.link(metric, metrics.subjects[metric], metrics.names[metric])


def await_series(evaluator: "Evaluator", row: int, now_ms: int) -> None:
    """Wait for a series, unless its device has another subject by now."""
    series = evaluator.series
    if evaluator.registry.watches(series.keys[row], now_ms):
        series.silence[row], series.device_silence[row] = evaluator.watch.add_series(series.keys[row], series.tags[row], now_ms)


def expect(evaluator: "Evaluator", version: str, position: tuple[int, int], now_ms: int) -> list[AlertEvent]:
    """Wait for the devices that are assigned now, and no longer for those that were; returns what ends with it."""
    registry, partition, partitions = evaluator.registry, evaluator.partition, evaluator.partitions
    evaluator.registry_due_ms = registry.next_change_ms(now_ms)
    fallen = evaluator.watch.expect(registry, now_ms, lambda subject: partition_of(subject, partitions) == partition)
    released = evaluator.overdue.release(evaluator.series, registry, now_ms)
    return [
        *(silence_event(item, version, *position, now_ms) for item in fallen),
        *(offence_event(item, version, now_ms) for item in released),
    ]
