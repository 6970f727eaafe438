"""Rules into a running ingest: a request in a file, taken up within a second, and its answer in another.

One process owns the journal, so whoever applies rules asks it: `data/control/rules.json` holds the documents, who asks and why. Ingest
reads it, journals the rules behind everything that came before, and answers in `data/control/applied.json`. All files are replaced whole,
and only their owner can write them. A request that was answered is gone; one that ingest finds when it starts is answered like any other.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rules.control import rules_record
from rules.document import compile_rules
from rules.rule import NO_RULES, RuleSet
from telemetry.clock import utc_now_ms
from telemetry.errors import ConfigError
from telemetry.metrics import CATALOGUE, Metric

MAX_BYTES = 64 << 20


class Answer(NamedTuple):
    """What became of a request. `problem` is empty where the rules are in force."""

    request: str
    version: str
    problem: str
    offsets: dict[str, int]  # partition -> journal offset from which on they judge


def ask(data_dir: Path, rules: RuleSet, who: str, why: str) -> str:
    """Write a request, in the place of one that was not taken up yet; returns its name."""
    name = f"{rules.version}-{utc_now_ms()}-{os.getpid()}"
    _write(_request_file(data_dir), {"request": name, "documents": rules.documents, "who": who, "why": why})
    return name


def answered(data_dir: Path, request: str) -> Answer | None:
    """Return the answer to a request, None where there is none yet."""
    try:
        answer = Answer(**json.loads(_answer_file(data_dir).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return answer if answer.request == request else None


def in_force(data_dir: Path) -> RuleSet:
    """Return the rules that ingest journalled last, none where it has not run yet."""
    known = _read(data_dir / "control" / "in-force.json")
    try:
        return compile_rules([(str(name), str(text)) for name, text in known.get("documents", [])], {**CATALOGUE, **_metrics(known)})
    except ConfigError:  # written by a program with another language
        return NO_RULES


def note_in_force(data_dir: Path, rules: RuleSet, metrics: Sequence[Metric], who: str, why: str) -> None:
    """Write down, for people and for the next comparison, which rules hold, since when, by whom and why."""
    known = {"version": rules.version, "documents": rules.documents, "who": who, "why": why, "since_ms": utc_now_ms()}
    _write(data_dir / "control" / "in-force.json", known | {"metrics": [metric._asdict() for metric in metrics]})


def _metrics(known: dict[str, Any]) -> dict[str, Metric]:
    return {item["name"]: Metric(**item) for item in known.get("metrics", [])}


class Requests:
    """What ingest is asked for. `controls` are the records that hold beside the rules; `now` says which offsets are next, by partition."""

    def __init__(self, data_dir: Path, controls: Sequence[bytes], metrics: Sequence[Metric], now: Callable[[], dict[int, int]]) -> None:
        self.data_dir, self.controls, self.metrics, self.now = data_dir, controls, metrics, now

    def take(self) -> list[bytes]:
        """Return the control records that are to be journalled now, [] where nobody asks for any; `done` must follow."""
        file = _request_file(self.data_dir)
        if not file.exists():
            return []
        asked = _read(file)
        try:
            documents = [(str(name), str(text)) for name, text in asked["documents"]]
            rules = compile_rules(documents, CATALOGUE | {metric.name: metric for metric in self.metrics})
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            self._answer(str(asked.get("request", "")), "", str(error))
            return []
        self._asked, self._rules = str(asked["request"]), rules
        self._who, self._why = str(asked.get("who", ""))[:200], str(asked.get("why", ""))[:1000]
        return [*self.controls, rules_record(rules, applied_by=self._who, why=self._why)]

    def done(self) -> None:
        """Answer: the records that were taken are durable."""
        note_in_force(self.data_dir, self._rules, self.metrics, self._who, self._why)
        self._answer(self._asked, self._rules.version, "")

    def _answer(self, request: str, version: str, problem: str) -> None:
        offsets = {str(partition): offset - 1 for partition, offset in self.now().items()}
        _write(_answer_file(self.data_dir), Answer(request, version, problem, offsets)._asdict())
        _request_file(self.data_dir).unlink(missing_ok=True)


def _request_file(data_dir: Path) -> Path:
    return data_dir / "control" / "rules.json"


def _answer_file(data_dir: Path) -> Path:
    return data_dir / "control" / "applied.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            plain = json.loads(opened.read(MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _write(file: Path, plain: dict[str, Any]) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(plain, ensure_ascii=False))
    temporary.replace(file)
