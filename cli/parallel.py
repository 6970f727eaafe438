"""A backtest over several processes, each with some of the subjects: they have nothing in common, so the sum is the whole."""

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

from rules.backtest import Done, Measured, Progress, run
from rules.control import Settings
from rules.registry import Registry
from rules.rule import RuleSet
from telemetry.metrics import Metric

ALONE_BELOW = 100_000  # readings or messages: less is not worth a process
POLL_S = 0.2

Devices = Sequence[Mapping[str, Any]]
Work = Callable[[int, Progress], Done]
"""The part of a number, and whom to tell how far it is."""

_work: list[tuple[Work, Any]] = []
"""What the processes share by having been forked from one that has it: the work, and (how far, readings) of each part."""


def run_parts(
    readings: list[Measured],
    rules: RuleSet,
    settings: Settings,
    devices: Devices,
    progress: Progress,
    processes: int | None = None,
    *,
    metrics: Sequence[Metric] = (),
) -> Done:
    """Run rules over readings in the order of their times, as `rules.backtest.run` does, on as many processors as there are."""
    count = _processes(len(readings), processes)
    registry = Registry(devices)
    if count < 2 or registry.timed:  # a device of several subjects ties them
        return run(readings, rules, settings, devices, metrics=metrics, progress=progress)
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
    span = readings[0].time_ms, readings[-1].time_ms
    return _spread(
        lambda number, told: run(parts[number], rules, settings, theirs[number], metrics=metrics, span=span, progress=told),
        count,
        lambda done: progress(sum(one for one, _ in done), sum(one for _, one in done)),
    )


def replay_parts(
    journal: Path, partitions: int, rules: RuleSet | None, span: tuple[int, int | None], progress: Progress, processes: int | None = None
) -> Done:
    """Run rules over a journal, as `flows.replay.replay` does, on as many processors as there are: each reads all of it."""
    from flows.replay import messages, replay

    count = min(_processes(messages(journal, partitions), processes), partitions)
    if count < 2:
        return replay(journal, partitions, rules, since_ms=span[0], until_ms=span[1], progress=progress)

    def work(number: int, told: Progress) -> Done:
        homes = range(number, partitions, count)
        return replay(journal, partitions, rules, since_ms=span[0], until_ms=span[1], progress=told, homes=homes)

    return _spread(work, count, lambda done: progress(min(one for one, _ in done), sum(one for _, one in done)))


def _processes(size: int, processes: int | None) -> int:
    if processes is not None:
        return processes
    return (os.cpu_count() or 1) if size >= ALONE_BELOW else 1


def _home(registry: Registry, kind: str, device: str, count: int) -> int:
    """Return the part of a device: that of its subject."""
    return crc32(registry.assignment(kind, device).subject.encode()) % count


def _spread(work: Work, count: int, progress: Callable[[list[tuple[int, int]]], None]) -> Done:
    """Return the sum of the parts, each worked out by a process of its own."""
    context = get_context("fork")
    far = context.Array("q", 2 * count, lock=False)
    _work.append((work, far))
    gc.freeze()  # else the processes' own collectors touch all that they share, and so copy it
    try:
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            waiting = [pool.submit(_run_part, number) for number in range(count)]
            while wait(waiting, POLL_S).not_done:
                progress(list(zip(far[::2], far[1::2], strict=True)))
            return _joined([future.result() for future in waiting])
    finally:
        gc.unfreeze()
        _work.clear()


def _run_part(number: int) -> Done:
    work, far = _work[0]

    def told(done: int, readings: int) -> None:
        far[2 * number], far[2 * number + 1] = done, readings

    return work(number, told)


def _joined(parts: list[Done]) -> Done:
    quarantined: dict[str, int] = {}
    for part in parts:
        for reason, refused in part.quarantined.items():
            quarantined[reason] = quarantined.get(reason, 0) + refused
    events = sorted((event for part in parts for event in part.events), key=lambda event: (event.detected_at_ms, event.event_id))
    accepted, subjects = sum(part.accepted for part in parts), sum(part.subjects for part in parts)
    first_ms = min((part.first_ms for part in parts if part.first_ms), default=0)
    peaks = {alert_id: peak for part in parts for alert_id, peak in part.open_peaks.items()}
    return Done(events, accepted, quarantined, first_ms, max(part.last_ms for part in parts), subjects, peaks)
