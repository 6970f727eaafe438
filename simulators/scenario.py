"""Scenario documents: devices, the rules that watch them, what happens to them and what goes wrong on the way, over some hours.

```yaml
about: a day of refrigerated trucks, two doors left open
lasts: 24 h
devices:
  truck: {world: shipments, count: 20, report: 5 min, tags: [{product: vaccine}]}
rules:
  - {id: too-warm, applies_to: {kind: shipment}, when: temperature > 8 Cel, for: 30 min, max_gap: 30 min, severity: critical}
incidents:
  - {kind: door_open, of: truck, count: 2, at: 3 h, within: 12 h, for: 90 min, rule: too-warm}
faults:
  - {kind: dropout, of: truck, share: 0.2, at: 4 h, within: 8 h, for: 2 h}
floors: {recall: 1.0, precision: 1.0, p95: 60 min}
```

All times are offsets from the beginning. `within` is how much later something may begin: each seed has its own time and its own devices.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from documents import Duration, Strict, Tree, read_tree, validate
from documents.tree import read_text
from simulators.faults import FaultKind
from simulators.faults_payload import Schema
from simulators.faults_way import Backlog, Distribution
from simulators.incidents import IncidentKind
from telemetry.errors import ConfigError, Problem

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

MOST_STEPS = 1_000_000
"""Of all groups together, and of the journal's rows: more would play for minutes without a word."""

WORLDS = {"shipments": "shipment", "patients": "patient"}
"""The worlds, and the kind of their devices."""


class DevicesModel(Strict):
    """A group of devices of one world; they are named after it, `truck-01` and on."""

    world: Literal["shipments", "patients"]
    count: int = Field(ge=1, le=10_000)
    report: Duration = Field(60_000, description="how often each says something")
    tick: Duration | None = Field(None, description="in which steps the world advances; by default the report interval")
    cuff: Duration = Field(900_000, description="of patients: how often blood pressure is measured")
    tags: tuple[dict[str, str], ...] = Field((), description="of the devices, taken in turn")

    @property
    def step(self) -> int:
        """Return in which steps the world advances, in milliseconds."""
        return self.report if self.tick is None else self.tick

    @model_validator(mode="after")
    def _is_even(self) -> "DevicesModel":
        if self.report < 1 or (self.tick is not None and (self.tick < 1 or self.report % self.tick)):
            msg = "`report` must be a multiple of `tick`, and longer than 0"
            raise ValueError(msg)
        return self


class IncidentModel(Strict):
    kind: IncidentKind
    of: str = Field(description="the group of devices")
    count: int = Field(1, ge=1, le=1_000, description="to how many of them it happens, each drawn by the seed")
    tags: dict[str, str] = Field({}, description="only to such with these tags")
    at: Duration
    within: Duration = 0
    for_: Duration = Field(alias="for")
    rule: str = Field(description="the rule that must find it")
    also: tuple[str, ...] = Field((), description="rules that may find it too")
    depth: float = Field(1.0, gt=0.0, le=2.0, description="how severe it is, where that can be chosen; 1 is what is usual")


class FaultModel(Strict):
    """A fault; what is left out is as is usual for the group of devices."""

    kind: FaultKind
    of: str = Field("", description="the group of devices; by default, all groups that can have it")
    share: Share | None = Field(None, description="of the group's devices, drawn by the seed")
    count: int | None = Field(None, ge=1, le=10_000, description="instead: how many of them")
    anybody: bool | None = Field(None, description="also devices to which something happens; by default where it keeps the evidence")
    at: Duration = 0
    within: Duration = 0
    for_: Duration | None = Field(None, alias="for", description="by default, until the end")
    most: int | None = Field(None, ge=1, description="messages that are touched, of each device")
    probability: Share | None = None
    spread: Duration | None = Field(None, description="of duplicates and reordering: how much later a message may come")
    mean: Duration | None = Field(None, description="of latency")
    distribution: Distribution | None = None
    every: Duration | None = Field(None, description="of disconnect: how often")
    lasts: Duration | None = Field(None, description="of disconnect: how long until the connection is back")
    ahead: Duration | None = Field(None, description="of a clock")
    behind: Duration | None = Field(None, description="of a clock")
    ppm: float | None = Field(None, ge=-100_000, le=100_000, description="of a clock that drifts")
    metric: str | None = None
    value: float | None = Field(None, description="of a spike")
    degrees: float | None = Field(None, gt=0, le=45, description="of teleport")
    per_minute: int | None = Field(None, ge=1, le=100_000, description="of flood")
    schema_: Schema | None = Field(None, alias="schema")
    backlog: Backlog | None = None
    named: bool | None = Field(None, description="of gateway_merge: whether the payload says whose it is")

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> "FaultModel":
        known = {*COMMON, *PARAMETERS.get(self.kind, ())}
        foreign = [name.rstrip("_") for name in self.model_fields_set if name not in known]
        if foreign:
            msg = f"`{foreign[0]}` means nothing to {self.kind}"
            raise ValueError(msg)
        if self.share is not None and self.count is not None:
            msg = "either `share` or `count`"
            raise ValueError(msg)
        if self.ahead is not None and self.behind is not None:
            msg = "a clock is `ahead` or `behind`"
            raise ValueError(msg)
        return self


COMMON = ("kind", "of", "share", "count", "anybody", "at", "within", "for_", "most")
PARAMETERS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.DROPOUT: ("backlog",),
    FaultKind.DISCONNECT: ("every", "lasts"),
    FaultKind.DUPLICATES: ("probability", "spread"),
    FaultKind.REORDERING: ("spread",),
    FaultKind.LATENCY: ("mean", "distribution"),
    FaultKind.CLOCK_SKEW: ("ahead", "behind"),
    FaultKind.CLOCK_JUMP: ("ahead", "behind"),
    FaultKind.CLOCK_DRIFT: ("ppm",),
    FaultKind.FROZEN: ("metric",),
    FaultKind.SPIKE: ("metric", "value", "probability"),
    FaultKind.UNIT_MIX_UP: ("metric",),
    FaultKind.TELEPORT: ("degrees", "probability"),
    FaultKind.FLOOD: ("per_minute",),
    FaultKind.MALFORMED: ("probability",),
    FaultKind.SCHEMA_CHANGE: ("schema_",),
    FaultKind.GATEWAY_MERGE: ("named",),
}
"""What can be said of each kind besides what can be said of all."""


class FloorsModel(Strict):
    """What a rehearsal must reach at least, with any seed."""

    recall: Share = Field(default=1.0, description="not reached where nothing was due; 0: none")
    precision: Share = 1.0
    p95: Duration = Field(default=0, description="of the time to detection without faults; 0: none")


class ScenarioModel(Strict):
    about: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    lasts: Duration
    grouped: Duration = Field(10_000, description="rehearsed: what arrives within so long makes a row of the journal")
    devices: dict[Name, DevicesModel] = Field(min_length=1, max_length=20)
    packs: tuple[str, ...] = Field((), description="rule packs and files")
    places: dict[str, Any] = Field({}, description="as in a rule file")
    rules: tuple[dict[str, Any], ...] = Field((), description="as in a rule file")
    incidents: tuple[IncidentModel, ...] = Field((), max_length=200)
    faults: tuple[FaultModel, ...] = Field((), max_length=200)
    floors: FloorsModel = FloorsModel()


class Scenario:
    """A scenario document that is right in itself; what its rules are is for somebody who knows rules."""

    def __init__(self, name: str, tree: Tree) -> None:
        """Raises ConfigError with every problem."""
        self.name, self.tree = name, tree
        self.model = validate(tree, ScenarioModel)
        problems = [*self._incidents(), *self._faults()]
        if self.model.lasts < 1 or self.model.grouped < 1:
            problems.append(self.problem(("lasts",), "`lasts` and `grouped` must be longer than 0"))
        else:
            problems += self._steps()
        if problems:
            raise ConfigError(problems)

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """Return a problem at a place of the document."""
        line, column = self.tree.place(path)
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
        return Problem(self.tree.file, line, column, text, message)

    def _steps(self) -> list[Problem]:
        """Return what would be played in too many steps."""
        model, groups = self.model, self.model.devices
        steps = [(("devices", name, "report" if group.tick is None else "tick"), group.step, len(groups)) for name, group in groups.items()]
        return [
            self.problem(path, f"{model.lasts // step * times} steps in all, {MOST_STEPS} at most: make each longer, or `lasts` shorter")
            for path, step, times in [*steps, (("grouped",), model.grouped, 1)]
            if model.lasts // step * times > MOST_STEPS
        ]

    def _incidents(self) -> list[Problem]:
        problems = []
        for number, item in enumerate(self.model.incidents):
            path, group = ("incidents", number), self.model.devices.get(item.of)
            if group is None:
                problems.append(self.problem((*path, "of"), f"there is no group `{item.of}`: {', '.join(self.model.devices)}"))
            elif item.kind.is_of_shipments != (group.world == "shipments"):
                problems.append(self.problem((*path, "kind"), f"{item.kind} does not happen to {group.world}"))
            if item.at + item.within + item.for_ > self.model.lasts:
                problems.append(self.problem(path, "it may end after the scenario does"))
        return problems

    def _faults(self) -> list[Problem]:
        return [
            self.problem(("faults", number, "of"), f"there is no group `{item.of}`: {', '.join(self.model.devices)}")
            for number, item in enumerate(self.model.faults)
            if item.of and item.of not in self.model.devices
        ]


def read_scenario(name: str) -> Scenario:
    """Return the scenario of a file, or of the library by its name. Raises ConfigError with every problem."""
    known = {path.stem: path for path in library()}
    path = known.get(name, Path(name))
    if name not in known and not path.exists():
        raise ConfigError([Problem(name, 0, 0, "", f"there is no such file, and no scenario of this name: {', '.join(known)}")])
    return Scenario(path.stem, read_tree(read_text(path), name if name not in known else f"scenario {name}"))


def library() -> list[Path]:
    """Return the files of the scenarios that are shipped."""
    return sorted((Path(str(files("simulators"))) / "scenarios").glob("*.yaml"))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario document, for editors."""
    return ScenarioModel.model_json_schema(by_alias=True)
