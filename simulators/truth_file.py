"""Reading back what `simulators.truth` writes: JSON lines, each a run, an incident or a fault. Its law: a line that is none is named,
and a file tells of one run that can be held against a clock."""

import json
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from simulators.faults import FaultKind
from simulators.truth import Run
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError, Problem

MOST_LINES = 1_000_000


class IncidentTold(NamedTuple):
    kind: str
    subject: str
    start_ms: int
    end_ms: int
    rule: str
    also: tuple[str, ...]
    breach: tuple[int, int | None] | None
    stamps: tuple[int, int] | None  # the earliest and the latest stamp of what was measured meanwhile, and arrived
    due: bool  # long enough for its rule
    hidden_by: tuple[str, ...]  # kinds of faults because of which too little arrived


class FaultTold(NamedTuple):
    kind: str
    subjects: tuple[str, ...]
    start_ms: int
    end_ms: int
    until_ms: int  # when the last message was published that it touched
    stamps: tuple[int, int]  # the earliest and the latest stamp of those
    messages: int
    metrics: tuple[str, ...]


class Told(NamedTuple):
    run: Run
    incidents: list[IncidentTold]
    faults: list[FaultTold]


def read_truth(path: Path) -> Told:
    """Return the truth in a file. Raises ConfigError where it cannot be read, at its first line that is none."""
    try:
        with path.open(encoding="utf-8") as file:
            return parse_truth(file, str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem(str(path), 0, 0, "", f"it cannot be read as a truth: {why.lower()}")]) from error


def parse_truth(lines: Iterable[str], file: str = "truth") -> Told:
    """Return the truth in JSON lines. Raises ConfigError at the first line that is none, and where they are not of one run."""
    runs, incidents, faults = list[Run](), list[IncidentTold](), list[FaultTold]()
    for number, text in enumerate(lines, 1):
        if number > MOST_LINES:
            raise ConfigError([Problem(file, number, 0, "", f"a truth has {MOST_LINES} lines at most")])
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            if "run" in line:
                runs.append(_run(line))
            elif "incident" in line:
                incidents.append(_incident(line))
            else:
                faults.append(_fault(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError([Problem(file, number, 0, "", f"it is no line of a truth (`run`, `incident` or `fault`): {why}")]) from error
        if len(runs) > 1:
            raise ConfigError([Problem(file, number, 0, "", "this is a second `run` line: a truth is of one run, score each by itself")])
    if not runs:
        raise ConfigError([Problem(file, 0, 0, "", "it is no truth of a run: it has no `run` line, which a simulator writes first")])
    return Told(runs[0], incidents, faults)


def _run(line: dict[str, Any]) -> Run:
    speed = float(line["speed"])
    if not 0 < speed < inf:
        msg = f"`speed` is {speed:g}, so nobody knows when on the clock something was: play it at a speed above 0"
        raise ValueError(msg)
    return Run(
        name=str(line["run"]),
        seed=int(line["seed"]),
        start_ms=parse_ms(line["start"]),
        end_ms=parse_ms(line["end"]),
        devices=int(line["devices"]),
        speed=speed,
        played_ms=parse_ms(line["played"]),
    )


def _incident(line: dict[str, Any]) -> IncidentTold:
    breach = line["breach"]
    return IncidentTold(
        kind=str(line["incident"]),
        subject=str(line["subject"]),
        start_ms=parse_ms(line["start"]),
        end_ms=parse_ms(line["end"]),
        rule=str(line["rule"]),
        also=_texts(line["also"]),
        breach=None if breach is None else (parse_ms(breach["start"]), None if breach["end"] is None else parse_ms(breach["end"])),
        stamps=_stamps(line["stamps"]),
        due=bool(line["due"]),
        hidden_by=_texts(line["hidden_by"]),
    )


def _fault(line: dict[str, Any]) -> FaultTold:
    return FaultTold(
        kind=FaultKind(line["fault"]),
        subjects=_texts(line["subjects"]),
        start_ms=parse_ms(line["start"]),
        end_ms=parse_ms(line["end"]),
        until_ms=parse_ms(line["until"]),
        stamps=(parse_ms(line["stamps"]["first"]), parse_ms(line["stamps"]["last"])),
        messages=int(line["messages"]),
        metrics=_texts(line["metrics"]),
    )


def _stamps(line: dict[str, Any] | None) -> tuple[int, int] | None:
    return None if line is None else (parse_ms(line["first"]), parse_ms(line["last"]))


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))
