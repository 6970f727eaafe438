"""A backtest over several processes, each with the subjects of its part: subjects have nothing in common, so the sum is the whole."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, NamedTuple
from zlib import crc32

from rules.backtest import Done, Measured, run
from rules.control import Settings
from rules.registry import Registry
from rules.rule import RuleSet

ALONE_BELOW = 100_000  # readings: less is not worth a process
POLL_S = 0.2

Devices = Sequence[Mapping[str, Any]]


class _Work(NamedTuple):
    """What the processes share by having been forked from one that has it."""

    parts: list[list[Measured]]
    rules: RuleSet
    settings: Settings
    devices: list[list[Mapping[str, Any]]]  # by part
    span: tuple[int, int]
    counts: Any  # readings so far, by part


_work: list[_Work] = []


def run_parts(
    readings: list[Measured],
    rules: RuleSet,
    settings: Settings,
    devices: Devices,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> Done:
    """Run rules over readings in the order of their times, as `rules.backtest.run` does, on as many processors as there are."""
    count = (os.cpu_count() or 1) if processes is None else processes
    registry = Registry(devices)
    if count < 2 or (processes is None and len(readings) < ALONE_BELOW) or registry.timed:  # a device of several subjects ties them
        return run(readings, rules, settings, devices, progress=progress)
    parts: list[list[Measured]] = [[] for _ in range(count)]
    homes: dict[tuple[str, str], list[Measured]] = {}
    for item in readings:
        key = item.kind, item.device
        if key not in homes:
            homes[key] = parts[_home(registry, *key, count)]
        homes[key].append(item)
    theirs: list[list[Mapping[str, Any]]] = [[] for _ in range(count)]
    for entry in devices:
        theirs[_home(registry, str(entry["kind"]), str(entry["device"]), count)].append(entry)
    context = get_context("fork")
    counts = context.Array("q", count, lock=False)
    _work.append(_Work(parts, rules, settings, theirs, (readings[0].time_ms, readings[-1].time_ms), counts))
    try:
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            waiting = [pool.submit(_run_part, number) for number in range(count)]
            while wait(waiting, POLL_S).not_done:
                progress(0, sum(counts))
            done = [future.result() for future in waiting]
    finally:
        _work.clear()
    return _joined([one for one in done if one.accepted or one.quarantined])


def _home(registry: Registry, kind: str, device: str, count: int) -> int:
    """Return the part of a device: that of its subject."""
    return crc32(registry.assignment(kind, device).subject.encode()) % count


def _run_part(number: int) -> Done:
    work = _work[0]

    def count(_: int, readings: int) -> None:
        work.counts[number] = readings

    return run(work.parts[number], work.rules, work.settings, work.devices[number], span=work.span, progress=count)


def _joined(parts: list[Done]) -> Done:
    quarantined: dict[str, int] = {}
    for part in parts:
        for reason, refused in part.quarantined.items():
            quarantined[reason] = quarantined.get(reason, 0) + refused
    events = sorted((event for part in parts for event in part.events), key=lambda event: (event.detected_at_ms, event.event_id))
    accepted, subjects = sum(part.accepted for part in parts), sum(part.subjects for part in parts)
    first_ms, last_ms = min((part.first_ms for part in parts), default=0), max((part.last_ms for part in parts), default=0)
    return Done(events, accepted, quarantined, first_ms, last_ms, subjects)
