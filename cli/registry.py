"""The registry document: which device watches which subject, and metrics besides the catalogue's."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from cli.settings import Kind
from decoders.mapping_model import OwnMetric
from documents import Strict
from rules.registry import ALWAYS_FROM_MS, ALWAYS_UNTIL_MS
from telemetry.metrics import CATALOGUE, Metric

MAX_DEVICES = 200_000

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class LimitsEntry(Strict):
    messages_per_minute: Annotated[int, Field(ge=1)] | None = Field(default=None, description="on one topic, by the journal's clock")
    payload_bytes: Annotated[int, Field(ge=1)] | None = None


class DeviceEntry(Strict):
    device: Identifier
    subject: Identifier | None = Field(default=None, description="the shipment or patient that it watches; without it, the device itself")
    kind: Kind
    via: AccountName | None = Field(default=None, description="the account that publishes for it, a gateway's; without it, its own")
    tags: dict[Label, str] = Field(default={}, max_length=32)
    from_: AwareDatetime | None = Field(default=None, alias="from", description="readings measured before belong to somebody else")
    until: AwareDatetime | None = Field(default=None, description="as do those measured at this time or after it")

    limits: LimitsEntry | None = Field(default=None, description="less, or more, than devices otherwise may send")

    def assignment(self) -> dict[str, Any]:
        """Return the entry as the control record has it."""
        begins, ends = self.span_ms()
        plain: dict[str, Any] = {"device": self.device, "subject": self.subject or self.device, "kind": self.kind, "tags": self.tags}
        plain |= {} if begins == ALWAYS_FROM_MS else {"from_ms": begins}
        plain |= {} if ends == ALWAYS_UNTIL_MS else {"until_ms": ends}
        return plain | ({"limits": self.limits.model_dump(exclude_none=True)} if self.limits else {})

    def span_ms(self) -> tuple[int, int]:
        """Return from when, inclusive, until when, exclusive, the device watches its subject."""
        return (
            ALWAYS_FROM_MS if self.from_ is None else round(self.from_.timestamp() * 1000),
            ALWAYS_UNTIL_MS if self.until is None else round(self.until.timestamp() * 1000),
        )

    @model_validator(mode="after")
    def _is_span(self) -> "DeviceEntry":
        begins, ends = self.span_ms()
        if begins >= ends:
            msg = "`from` must be before `until`"
            raise ValueError(msg)
        return self


class MetricEntry(OwnMetric):
    @model_validator(mode="after")
    def _is_new(self) -> "MetricEntry":
        if self.name in CATALOGUE:
            msg = f"`{self.name}` is in the catalogue already"
            raise ValueError(msg)
        return self


class RegistryModel(Strict):
    devices: Annotated[list[DeviceEntry], Field(max_length=MAX_DEVICES)] = []
    metrics: Annotated[list[MetricEntry], Field(max_length=1000)] = []
    unknown: Literal["accept", "quarantine", "refuse"] = Field(
        default="accept", description="devices that are not listed: each is its own subject, or is kept apart, or only counted"
    )
    max_messages_per_minute: Annotated[int, Field(ge=1)] | None = Field(default=None, description="on one topic; 60,000 where not said")

    @field_validator("devices")
    @classmethod
    def _once_each(cls, devices: list[DeviceEntry]) -> list[DeviceEntry]:
        spans: dict[str, list[tuple[int, int]]] = {}
        for entry in devices:
            begins, ends = entry.span_ms()
            if any(begins < other_ends and other_begins < ends for other_begins, other_ends in spans.get(entry.device, ())):
                msg = f"the device `{entry.device}` stands here twice for the same time: give each its `from` and `until`"
                raise ValueError(msg)
            spans.setdefault(entry.device, []).append((begins, ends))
        return devices

    def assignments(self) -> list[dict[str, Any]]:
        """Return the devices as the control record has them."""
        return [entry.assignment() for entry in self.devices]

    def own_metrics(self) -> list[Metric]:
        return [entry.metric() for entry in self.metrics]
