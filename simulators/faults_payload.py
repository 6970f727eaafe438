"""Faults of what is sent: too much of it, no message at all, another form, or in another device's name."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from decoders.topics import READINGS, Topic, format_topic, parse
from decoders.wire import Sample, encode_batch
from simulators.faults import Fault, FaultKind, Parcel, Span
from simulators.payloads import readings, rewritten
from telemetry.reasons import Reason

MINUTE_MS = 60_000
BATCH = 1_000  # readings in one message of a flood


class Flood(Fault):
    """Of the first metric of a message, `per_minute` readings more within the minute after it."""

    kind: ClassVar[FaultKind] = FaultKind.FLOOD

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, per_minute: int) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.per_minute = per_minute

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        said = readings(parcel.message.payload)
        if parcel.refused or parcel.copy or not said:
            return (parcel,)
        metric, stamp, value = said[0]
        base_ms, step_ms = parcel.measured_ms if stamp is None else stamp, 0.9 * MINUTE_MS / self.per_minute
        value *= 1 - 1e-9  # a hair less, so that none is by chance the very reading that another message brings
        samples = [Sample(metric, value, base_ms + 1 + round(number * step_ms)) for number in range(self.per_minute)]
        batches = [samples[at : at + BATCH] for at in range(0, len(samples), BATCH)]
        return (
            parcel,
            *(parcel.saying(encode_batch(batch)).put_off(parcel.message.time_ms + batch[-1].time_ms - base_ms) for batch in batches),
        )


class Damage(StrEnum):
    CUT = "cut"  # the rest of it did not come
    BYTES = "bytes"  # not UTF-8
    TEXT = "text"  # no JSON


class Malformed(Fault):
    """Bytes that are no message; what they should have said is lost."""

    kind: ClassVar[FaultKind] = FaultKind.MALFORMED

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, probability: float = 1.0) -> None:
        super().__init__(devices, span, seed=seed, most=most)
        self.probability = probability

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        if self.dice(parcel) >= self.probability:
            return (parcel,)
        payload, damages = parcel.message.payload, list(Damage)
        match damages[int(self.dice(parcel, "damage") * len(damages))]:
            case Damage.CUT:
                payload = payload[: max(1, len(payload) // 2)]
            case Damage.BYTES:
                payload = b"\xff\xfe" + payload[2:]
            case Damage.TEXT:
                payload = b"#" + payload
        return (parcel.saying(payload)._replace(refused=((Reason.MALFORMED, 1),)),)


class Schema(StrEnum):
    RENAMED = "renamed"  # its values under another key
    VERSION = "version"  # a version from the future
    METRICS = "metrics"  # other names for its metrics
    FIELD = "field"  # one key more


class SchemaChange(Fault):
    """A device that was updated and speaks otherwise, until somebody takes the update back."""

    kind: ClassVar[FaultKind] = FaultKind.SCHEMA_CHANGE

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, schema: Schema | None = None) -> None:
        """Without a `schema` each device has one by its dice."""
        super().__init__(devices, span, seed=seed, most=most)
        self.schema = schema

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        count = len(readings(parcel.message.payload))
        if parcel.refused or not count:
            return (parcel,)
        schemas = list(Schema)
        chosen = self.schema or schemas[int(self.device_dice(parcel.device) * len(schemas))]
        after = parcel.saying(rewritten(parcel.message.payload, _SCHEMAS[chosen]))
        match chosen:
            case Schema.RENAMED:
                return (after._replace(refused=((Reason.UNKNOWN_FIELD, 1), (Reason.WRONG_TYPE, 1))),)
            case Schema.VERSION:
                return (after._replace(refused=((Reason.UNSUPPORTED_VERSION, 1),)),)
            case Schema.METRICS:
                return (after._replace(refused=((Reason.UNKNOWN_METRIC, count),)),)
            case Schema.FIELD:
                return (after._replace(refused=((Reason.UNKNOWN_FIELD, 1),)),)


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    return {f"{key}s" if key in {"values", "readings", "metric"} else key: value for key, value in body.items()}


def _from_the_future(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"v": 99}


def _other_metrics(body: dict[str, Any]) -> dict[str, Any]:
    if isinstance(body.get("values"), dict):
        body = body | {"values": {f"{metric}_new": value for metric, value in body["values"].items()}}
    if "metric" in body:
        body = body | {"metric": f"{body['metric']}_new"}
    if "readings" in body:
        body = body | {"readings": [part | {"metric": f"{part['metric']}_new"} for part in body["readings"]]}
    return body


def _one_key_more(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"firmware": "2.0.0"}


_SCHEMAS = {
    Schema.RENAMED: _renamed,
    Schema.VERSION: _from_the_future,
    Schema.METRICS: _other_metrics,
    Schema.FIELD: _one_key_more,
}


class GatewayMerge(Fault):
    """A gateway that publishes the readings of its other devices under the first one's topic: named, the payload says whose they are."""

    kind: ClassVar[FaultKind] = FaultKind.GATEWAY_MERGE

    def __init__(self, devices: Iterable[str], span: Span, *, seed: int, most: int | None = None, named: bool = True) -> None:
        """The first of the devices is the one in whose name all speak."""
        super().__init__(devices, span, seed=seed, most=most)
        self.named = named

    @property
    def metrics(self) -> tuple[str, ...]:
        return () if self.named else ("*",)

    def act(self, parcel: Parcel) -> Sequence[Parcel]:
        topic = parse(parcel.message.topic.encode())
        if topic is None or topic.form != READINGS or parcel.device == self.devices[0] or parcel.refused:
            return (parcel,)
        message = parcel.message._replace(topic=format_topic(Topic(topic.kind, self.devices[0], READINGS)))
        if not self.named:
            return (parcel._replace(message=message),)
        payload = rewritten(message.payload, lambda body: {"device": parcel.device, **body})
        return (parcel._replace(message=message._replace(payload=payload), refused=((Reason.DEVICE_MISMATCH, 1),)),)
