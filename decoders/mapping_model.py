"""The form of mapping documents: how a device's messages are written, as people write it down. What it does is in `decoders/mapping.py`."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from decoders.paths import compile_path
from decoders.patterns import compile_pattern
from decoders.payloads import MAX_COLUMNS
from decoders.times import TimeForm
from decoders.topics import KINDS, Pattern
from documents import Strict
from telemetry.metrics import UNITS, Metric, unit_code

MAX_MAPPINGS = 500
_PLACES = re.compile(r"\{([^{}]*)\}")

Scalar = float | bool | str


def _path(text: str) -> str:
    compile_path(text)
    return text


def _one_group(text: str) -> str:
    if compile_pattern(text).groups < 1:
        msg = "has no group: put what is to be found into ( )"
        raise ValueError(msg)
    return text


def _named_groups(text: str) -> str:
    if not compile_pattern(text).groupindex:
        msg = "names no group: write what is to be read as (?P<name>...)"
        raise ValueError(msg)
    return text


def _layout(text: str) -> str:
    try:
        datetime.strptime("", text)  # noqa: DTZ007 - only its form is looked at
    except ValueError as error:
        if "bad directive" in str(error) or "stray" in str(error):
            msg = "is no layout of date and time: write it like %d.%m.%Y %H:%M"
            raise ValueError(msg) from error
    return text


def _size_of(kind: str) -> int:
    return int("".join(character for character in kind if character.isdigit())) // 8


def _factor(scale: float) -> float:
    if not 1e-12 <= abs(scale) <= 1e12:
        msg = "is no factor: it is 0, or too small or too large for a unit"
        raise ValueError(msg)
    return scale


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = "is no time zone: write it like Europe/Amsterdam"
        raise ValueError(msg) from error
    return name


def _unit(spelling: str) -> str:
    if unit_code(spelling) is None:
        msg = f"unknown unit: it is one of {', '.join(UNITS)}"
        raise ValueError(msg)
    return spelling


def _topic(text: str) -> str:
    Pattern(text)
    return text


def _as_path(value: Any) -> Any:
    """Return `{path: ...}` for a path alone."""
    return {"path": value} if isinstance(value, str) else value


PathText = Annotated[str, StringConstraints(min_length=1), AfterValidator(_path)]
Finding = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_one_group)]
Rows = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_named_groups)]
Zone = Annotated[str, AfterValidator(_zone)]
Layout = Annotated[str, StringConstraints(max_length=64), AfterValidator(_layout)]
Unit = Annotated[str, AfterValidator(_unit)]
TopicPattern = Annotated[str, AfterValidator(_topic)]
MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DeviceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
MappingName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class StepModel(Strict):
    """A span of time, in the message or fixed."""

    path: PathText | None = None
    fixed: float | None = Field(default=None, gt=0)
    form: Literal["ms", "s", "min", "Hz"] = "s"

    @model_validator(mode="after")
    def _one(self) -> "StepModel":
        if (self.path is None) == (self.fixed is None):
            msg = "write one of `path` and `fixed`"
            raise ValueError(msg)
        return self


class TimeModel(Strict):
    path: PathText
    form: TimeForm = TimeForm.RFC3339
    zone: Zone | None = Field(default=None, description="of a local time: Europe/Amsterdam")
    layout: Annotated[str, StringConstraints(max_length=64), AfterValidator(_layout)] | None = Field(
        default=None, description="of a local time: %d.%m.%Y %H:%M"
    )
    step: StepModel | None = Field(default=None, description="samples are evenly spaced, and this is the time of the first")
    after: StepModel | None = Field(default=None, description="each sample says how long after this it was")


class UnitFrom(Strict):
    """A unit that the message says itself."""

    path: PathText
    otherwise: Unit | None = None


class ReadingModel(Strict):
    path: PathText
    unit: Unit | UnitFrom | None = Field(
        default=None, description="of the device's value, after scale and shift; without it, the catalogue's"
    )
    scale: Annotated[float, AfterValidator(_factor)] = 1.0
    shift: Annotated[float, Field(ge=-1e12, le=1e12)] = 0.0
    not_measured: Annotated[list[Scalar], Field(max_length=100)] = Field(
        default=[], description="values, as the device writes them, that mean: not measured"
    )
    values: dict[Label, float] = Field(default={}, max_length=100, description="what a word or a code means: {open: 1, closed: 0}")


class LongModel(Strict):
    """One value a sample, with a field that says of what."""

    name: PathText
    names: Annotated[dict[Label, MetricName], Field(min_length=1, max_length=500)]
    value: Annotated[ReadingModel, BeforeValidator(_as_path)]
    units: dict[MetricName, Unit] = Field(default={}, max_length=500)


Reading = Annotated[ReadingModel, BeforeValidator(_as_path)]
Time = Annotated[TimeModel, BeforeValidator(_as_path)]


class PartModel(Strict):
    """Readings that are found in the same way."""

    each: PathText | None = Field(
        default=None, description="a list of samples; other paths lead from one sample, `$.` from the whole message"
    )
    time: Time | Annotated[list[Time], Field(min_length=1, max_length=8)] | None = Field(
        default=None, description="the first that is there; without one, when the message was received"
    )
    readings: dict[MetricName, Reading] = Field(default={}, max_length=500)
    long: LongModel | None = None


class BitsModel(Strict):
    at: Annotated[int, Field(ge=0, le=65_535)]
    as_: Annotated[str, StringConstraints(pattern=r"^u?int(8|16|24|32)(le)?$")] = Field(
        alias="as", description="int16, uint8, uint16le ..."
    )
    bits: tuple[int, int] | None = Field(default=None, description="first and last bit, counted from the lowest: [0, 13]")
    optional: bool = Field(default=False, description="the bytes may end before it")

    @model_validator(mode="after")
    def _in_order(self) -> "BitsModel":
        last = 8 * _size_of(self.as_) - 1
        if self.bits is not None and not 0 <= self.bits[0] <= self.bits[1] <= last:
            msg = f"`bits` are first and last bit, from 0 to {last}"
            raise ValueError(msg)
        return self


class EntryModel(Strict):
    size: Annotated[int, Field(ge=1, le=255)]
    fields: dict[Label, BitsModel] = Field(default={}, max_length=100)

    @model_validator(mode="after")
    def _fields_fit(self) -> "EntryModel":
        beyond = [name for name, item in self.fields.items() if item.at + _size_of(item.as_) > self.size]
        if beyond:
            msg = f"`{beyond[0]}` lies beyond the {self.size} bytes of its entry"
            raise ValueError(msg)
        return self


HexText = Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{2})+$", max_length=32)]


class BytesModel(Strict):
    path: PathText | None = Field(default=None, description="where in the message they are; without it, they are the message")
    encoding: Literal["raw", "hex", "base64"] = "raw"
    starts_with: HexText | None = None
    fields: dict[Label, BitsModel] = Field(default={}, max_length=200)
    tag_bytes: Annotated[int, Field(ge=1, le=4)] = 2
    tagged: dict[HexText, EntryModel] = Field(default={}, max_length=500)

    @model_validator(mode="after")
    def _tags_fit(self) -> "BytesModel":
        wrong = [tag for tag in self.tagged if len(tag) != 2 * self.tag_bytes]
        if wrong:
            msg = f"the tag {wrong[0]} has not {self.tag_bytes} bytes (`tag_bytes`)"
            raise ValueError(msg)
        return self


class LinesModel(Strict):
    """Lines of a text, by patterns."""

    find: dict[Label, Finding] = Field(default={}, max_length=50, description="the first match of each, its group 1, by its name")
    rows: Rows | None = Field(default=None, description="each match is a sample of `rows`, its named groups are its fields")


class ColumnsModel(Strict):
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    columns: Annotated[list[Label], Field(min_length=1, max_length=MAX_COLUMNS)] | None = Field(
        default=None, description="without them, the first line names them"
    )
    skip: Annotated[int, Field(ge=0, le=1000)] = 0
    find: dict[Label, Finding] = Field(default={}, max_length=50)


class StatusModel(Strict):
    """A message that says whether its device is there: a last will, an availability."""

    path: PathText = "@"
    online: Annotated[list[Scalar], Field(min_length=1, max_length=20)]
    offline: Annotated[list[Scalar], Field(min_length=1, max_length=20)]


class DeviceFrom(Strict):
    path: PathText


class MappingModel(PartModel):
    """How messages on some topics are read."""

    name: MappingName
    about: str = Field(default="", max_length=500)
    topic: TopicPattern = Field(description="levels by /; {device} names a part, + is anything, # at the end everything below")
    kind: Literal[KINDS] = KINDS[0]  # type: ignore[valid-type]
    payload: Literal["json", "text"] | None = None
    bytes: BytesModel | None = None
    lines: LinesModel | None = None
    columns: ColumnsModel | None = None
    where: PathText | None = Field(default=None, description="only messages for which this is true")
    device: Annotated[str, StringConstraints(min_length=1, max_length=256)] | DeviceFrom | None = Field(
        default=None, description="a text with parts of the topic, `{device}`; or {path: ...}. Without it, `{device}`"
    )
    names: dict[Label, DeviceName] = Field(
        default={}, max_length=10_000, description="what devices are called here, by what they call themselves"
    )
    claims: PathText | None = Field(default=None, description="what the message says its device is: it must agree with the topic")
    parts: Annotated[list[PartModel], Field(min_length=1, max_length=100)] | None = None
    status: StatusModel | None = None
    watch: PathText = Field(default="@", description="the part of the message whose fields and types should not change unnoticed")

    @model_validator(mode="after")
    def _is_whole(self) -> "MappingModel":
        forms = [name for name in ("payload", "lines", "columns") if getattr(self, name) is not None]
        if self.bytes is not None and self.bytes.path is None:
            forms.append("bytes")
        if len(forms) > 1:
            msg = f"a message has one form: write one of {', '.join(f'`{form}`' for form in forms)}"
            raise ValueError(msg)
        own = bool(self.readings or self.long or self.each)
        if self.status is not None and (own or self.parts):
            msg = "a message with a `status` has no readings: write two mappings"
            raise ValueError(msg)
        if own and self.parts:
            msg = "write the readings here or in `parts`, not both"
            raise ValueError(msg)
        text = self.device if isinstance(self.device, str) else "{device}" if self.device is None else ""
        parts, wanted = Pattern(self.topic).parts, set(_PLACES.findall(text))
        if set(_PLACES.sub("", text)) & set("{}"):
            msg = "the `device` has a brace that names no part of the topic"
            raise ValueError(msg)
        if self.claims is not None and isinstance(self.device, DeviceFrom):
            msg = "`claims` is held against the topic's device, and here the message says which it is: leave it out"
            raise ValueError(msg)
        if self.columns is not None and not any(part.each for part in self.parts or [self]):
            msg = "rows are read one by one: write `each: rows`"
            raise ValueError(msg)
        missing = sorted(wanted - set(parts))
        if missing:
            msg = f"the topic names no part {', '.join('{' + name + '}' for name in missing)}: say where the `device` stands"
            raise ValueError(msg)
        return self


class OwnMetric(Strict):
    """A metric besides the catalogue's."""

    name: MetricName
    unit: Unit
    low: float
    high: float
    title: str = ""

    @model_validator(mode="after")
    def _is_range(self) -> "OwnMetric":
        if self.low >= self.high:
            msg = "`low` must be less than `high`"
            raise ValueError(msg)
        return self

    def metric(self) -> Metric:
        """Return it as the catalogue has its own."""
        return Metric(self.name, unit_code(self.unit) or self.unit, self.low, self.high, self.title or self.name)


class MappingsModel(Strict):
    """A document of mappings, and the metrics that they bring."""

    metrics: Annotated[list[OwnMetric], Field(max_length=500)] = []
    mappings: Annotated[list[MappingModel], Field(min_length=1, max_length=MAX_MAPPINGS)]
