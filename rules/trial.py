"""Trial documents: what a device would measure, what goes wrong with it, and which alerts there must be in the end.

```yaml
trials:
  - name: an hour above eight degrees
    subject: {kind: shipment, tags: {product: vaccine}}
    every: 5 min
    series:
      temperature: 4.0 x10, 9.2 x13, _ x3, 5 x4     # `_` is missing, `4..9 x6` rises evenly
    faults: [{late: 2 h, from: 60 min, until: 80 min}]
    expect: [{rule: vaccine-too-warm, from: 50 min, until: 130 min}]
```

Values are in the catalogue's unit of their metric. All times are offsets from the trial's beginning. A series that has an interval or a
device of its own is a mapping: `spo2: {values: 97 x60, every: 1 s, device: monitor-1}`, or a list of such.
"""

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from documents import Duration, Strict, Tree, validate
from telemetry.alert import Severity
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE

MAX_VALUES = 200_000
MAX_TRIALS = 1000

_ITEM = re.compile(r"(?P<from>_|[-+]?[0-9]+(?:\.[0-9]+)?)(?:\.\.(?P<to>[-+]?[0-9]+(?:\.[0-9]+)?))?(?:\s*x\s*(?P<times>[0-9]{1,6}))?")


def read_series(text: Any) -> tuple[float | None, ...]:
    """Return the values of a series in compact notation, None where one is missing. Raises ValueError with a sentence."""
    values: list[float | None] = []
    for item in str(text).split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            msg = f"{item.strip()!r} is not understood: write values like `4.0 x10, 9.2 x7, _ x3, 4..9 x6`"
            raise ValueError(msg)
        times = int(match["times"] or 1)
        if times < 1 or len(values) + times > MAX_VALUES:
            msg = f"{item.strip()!r}: a series has 1 to {MAX_VALUES} values"
            raise ValueError(msg)
        if match["from"] == "_":
            if match["to"] is not None:
                msg = f"{item.strip()!r}: what is missing does not rise"
                raise ValueError(msg)
            values += [None] * times
            continue
        first, last = float(match["from"]), float(match["to"] or match["from"])
        if match["to"] is not None and times < 2:
            msg = f"{item.strip()!r}: a rise needs two values at least, like `4..9 x6`"
            raise ValueError(msg)
        values += [round(first + (last - first) * at / (times - 1), 6) if match["to"] is not None else first for at in range(times)]
    return tuple(values)


Values = Annotated[
    tuple[float | None, ...],
    BeforeValidator(read_series),
    WithJsonSchema({"type": ["string", "number"], "examples": ["4.0 x10, 9.2 x7, _ x3"]}),
]


class Subject(Strict):
    kind: str = "shipment"
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "subject"
    tags: dict[str, str] = {}


class Series(Strict):
    """One metric of one device, where it has an interval or a device of its own."""

    values: Values
    every: Duration | None = None
    offset: Duration = Field(0, description="when it begins, after the trial's beginning")
    device: str | None = None


def _series(plain: Any) -> Any:
    return plain if isinstance(plain, dict) else {"values": plain}


def _several(plain: Any) -> Any:
    if plain is None:
        msg = "has no values: between `{` and `}` a series stands in quotes, for it has commas"
        raise ValueError(msg)
    return tuple(map(_series, plain if isinstance(plain, list) else [plain]))


class Fault(Strict):
    """What happens to readings measured in `[from, until)`; all of them where neither is given."""

    late: Duration | None = Field(None, description="they arrive so much later")
    ahead: Duration | None = Field(None, description="the device's clock is so much ahead")
    behind: Duration | None = Field(None, description="the device's clock is so much behind")
    duplicate: bool = Field(False, description="they come twice")
    metric: str | None = None
    from_: Duration = Field(0, alias="from")
    until: Duration | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Fault":
        given = [name for name in ("late", "ahead", "behind", "duplicate") if getattr(self, name)]
        if len(given) != 1:
            msg = "a fault is one of `late`, `ahead`, `behind` and `duplicate`"
            raise ValueError(msg)
        return self


class Expected(Strict):
    """An alert that stands in the end, or did."""

    rule: str
    from_: Duration = Field(alias="from", description="when its condition began to hold")
    until: Duration | None = Field(None, description="when it began to clear; left out: it is open in the end")
    severity: Severity | None = None
    peak: float | None = None


class Trial(Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    subject: Subject = Subject()
    every: Duration = 60_000
    series: dict[str, Annotated[tuple[Series, ...], BeforeValidator(_several)]] = Field(min_length=1)
    faults: tuple[Fault, ...] = ()
    lasts: Duration | None = Field(None, description="how long after the last reading the trial ends; by default, five minutes")
    order: Annotated[str, StringConstraints(pattern="^(any|given)$")] = Field(
        "any", description="`any`: the trial is run a second time shuffled and doubled, and must come to the same; `given`: it is not"
    )
    expect: tuple[Expected, ...] = ()

    @model_validator(mode="after")
    def _is_of_metrics(self) -> "Trial":
        for name in self.series:
            if name not in CATALOGUE:
                msg = f"unknown metric `{name}`"
                raise ValueError(msg)
        if self.every < 1:
            msg = "`every` must be longer than 0"
            raise ValueError(msg)
        return self

    def all_series(self) -> list[tuple[str, Series]]:
        """Return (metric, series) of everything that is measured."""
        return [(name, one) for name, given in self.series.items() for one in given]


class TrialsModel(Strict):
    rules: tuple[str, ...] = Field((), description="rule files and packs, beside this file; by default the one of the same name")
    trials: Annotated[tuple[Trial, ...], Field(max_length=MAX_TRIALS, min_length=1)]


class Placed(NamedTuple):
    """A trial and where it stands."""

    trial: Trial
    file: str
    line: int


def read_trials(tree: Tree) -> tuple[tuple[str, ...], list[Placed]]:
    """Return the rule files that a document names, and its trials. Raises ConfigError with every problem."""
    model = validate(tree, TrialsModel)
    names = [trial.name for trial in model.trials]
    twice = [index for index, name in enumerate(names) if name in names[:index]]
    if twice:
        problems = []
        for index in twice:
            line, column = tree.place(("trials", index, "name"))
            problems.append(Problem(tree.file, line, column, f"trials[{index}].name", f"{names[index]!r} is a trial already"))
        raise ConfigError(problems)
    return model.rules, [Placed(trial, tree.file, tree.place(("trials", index))[0]) for index, trial in enumerate(model.trials)]
