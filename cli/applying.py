"""Rules and registry into a running ingest: a request in a file, taken up within a second, and its answer in another.

One process owns the journal, so whoever applies something asks it: `data/control/rules.json` holds the documents, `registry.json` the
control record of a registry, each with who asks and why. Ingest journals it behind everything that came before, together with what else is
in force, and answers in `data/control/applied.json`. All files are replaced whole, and only their owner can write them. A request that was
answered is gone; one that ingest finds when it starts is answered like any other.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decoders.mappings import from_plain
from rules.control import read_catalogue, read_metrics, read_record, registry_record, rules_record
from rules.document import compile_rules
from rules.registry import Registry
from rules.rule import NO_RULES, RuleSet
from telemetry.clock import utc_now_ms
from telemetry.errors import ConfigError
from telemetry.metrics import CATALOGUE, Metric

MAX_BYTES = 64 << 20
RULES, REGISTRY = "rules", "registry"
REGISTRY_KEYS = ("applied_by", "why", "mappings", "unknown", "max_messages_per_minute")


class Answer(NamedTuple):
    """What became of a request. `problem` is empty where it is in force."""

    request: str
    version: str
    problem: str
    offsets: dict[str, int]  # partition -> journal offset from which on it holds


def ask(data_dir: Path, rules: RuleSet, who: str, why: str) -> str:
    """Write a request, in the place of one that was not taken up yet; returns its name."""
    name = f"{rules.version}-{utc_now_ms()}-{os.getpid()}"
    _write(_file(data_dir, RULES), {"request": name, "documents": rules.documents, "who": who, "why": why})
    return name


def ask_registry(data_dir: Path, record: bytes) -> str:
    """Write a request for a registry, its control record, in the place of one that was not taken up yet; returns its name."""
    name = f"registry-{utc_now_ms()}-{os.getpid()}"
    _write(_file(data_dir, REGISTRY), {"request": name, "record": json.loads(record)})
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


class InForce(NamedTuple):
    """The control records that hold, each type once, in the order in which they are journalled."""

    settings: bytes
    registry: bytes
    rules: bytes


class Requests:
    """What ingest is asked for. `in_force` is what holds beside it; `now` says which offsets are next, by partition."""

    def __init__(self, data_dir: Path, in_force: InForce, now: Callable[[], dict[int, int]]) -> None:
        self.data_dir, self.in_force, self.now = data_dir, in_force, now
        self._asked, self._kind, self._wanted = "", "", in_force

    def take(self) -> list[bytes]:
        """Return the control records that are to be journalled now, [] where nobody asks for any; `done` must follow."""
        for kind in (REGISTRY, RULES):
            if not _file(self.data_dir, kind).exists():
                continue
            asked = _read(_file(self.data_dir, kind))
            self._asked, self._kind = str(asked.get("request", "")), kind
            try:
                self._wanted = self._with_registry(asked) if kind == REGISTRY else self._with_rules(asked)
            except (KeyError, TypeError, ValueError, ConfigError) as error:
                self._answer("", str(error))
                continue
            return list(self._wanted)
        return []

    def done(self) -> None:
        """Answer: the records that were taken are durable."""
        self.in_force = self._wanted
        registry, rules = read_record(self.in_force.registry), read_record(self.in_force.rules)
        compiled = _compiled(rules["documents"], self.in_force.registry)
        note_in_force(self.data_dir, compiled, read_metrics(registry), rules["applied_by"], rules.get("why", ""))
        self._answer((rules if self._kind == RULES else registry)["version"], "")

    def _with_rules(self, asked: dict[str, Any]) -> InForce:
        rules = _compiled(asked["documents"], self.in_force.registry)
        who, why = str(asked.get("who", ""))[:200], str(asked.get("why", ""))[:1000]
        return self.in_force._replace(rules=rules_record(rules, applied_by=who, why=why))

    def _with_registry(self, asked: dict[str, Any]) -> InForce:
        record = asked["record"]
        body = registry_record(record["devices"], read_metrics(record), **{name: record.get(name) for name in REGISTRY_KEYS})
        Registry(record["devices"])
        from_plain(record.get("mappings", []))
        _compiled(read_record(self.in_force.rules)["documents"], body)  # the rules that hold must still mean something
        return self.in_force._replace(registry=body)

    def _answer(self, version: str, problem: str) -> None:
        offsets = {str(partition): offset - 1 for partition, offset in self.now().items()}
        _write(_answer_file(self.data_dir), Answer(self._asked, version, problem, offsets)._asdict())
        _file(self.data_dir, self._kind).unlink(missing_ok=True)


def _compiled(documents: Sequence[tuple[str, str]], registry: bytes) -> RuleSet:
    return compile_rules([(str(name), str(text)) for name, text in documents], read_catalogue(read_record(registry)))


def _file(data_dir: Path, kind: str) -> Path:
    return data_dir / "control" / f"{kind}.json"


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
