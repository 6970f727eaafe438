"""A mapping at work: messages of other makes to readings, as a document says (`decoders/mapping_model.py`). Pure, and never raises.

A mapping is plain data that is journalled with the registry, so a replay decodes what it decoded then. What stands nowhere in a message is
no reading and no fault: devices leave out what they have not measured. What stands there and cannot be taken is refused with its reason,
and the rest of the message is read.
"""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from decoders.mapping_model import BitsModel, BytesModel, DeviceFrom, LongModel, MappingModel, PartModel, StepModel, TimeModel
from decoders.mapping_values import Look, Looker, Value, add_value, as_number, is_code, nobody
from decoders.packets import PacketBuilder, Run, Unreadable, event_time, shown
from decoders.paths import compile_path
from decoders.patterns import compile_pattern
from decoders.payloads import (
    UNKNOWN_TAG,
    Document,
    Layout,
    Read,
    Tagged,
    Wrong,
    columns_reader,
    field,
    lines_reader,
    read_json_document,
    read_text,
)
from decoders.times import read_time
from decoders.topics import Pattern, Topic, is_device
from decoders.wire import MAX_READINGS
from telemetry.readings import NO_TIME, DeviceStatus
from telemetry.reasons import Reason

MAPPED = "mapped"
"""The form of a topic that a mapping claims."""

LONGEST_SPAN = 1e9
STEP_MS = {"ms": 1.0, "s": 1000.0, "min": 60_000.0}


class Mapping:
    """One mapping, compiled."""

    def __init__(self, model: MappingModel) -> None:
        self.model, self.name = model, model.name
        self.pattern = Pattern(model.topic)
        self.document = _document_reader(model)
        """Returns what a payload holds, before anything is looked for in it. Raises Unreadable."""
        self._texts = model.lines is not None or model.columns is not None or model.payload == "text"  # numbers are texts there
        self._where = None if model.where is None else compile_path(model.where)
        self._claims = None if model.claims is None else compile_path(model.claims)
        self._device = compile_path(model.device.path) if isinstance(model.device, DeviceFrom) else None
        self._device_text = model.device if isinstance(model.device, str) else "{device}"
        self._parts = [_Part(part, self._texts, alone=not model.parts and model.each is None) for part in model.parts or [model]]
        self._watch = compile_path(model.watch)
        self._status = None if model.status is None else compile_path(model.status.path)

    def watched(self, document: Document) -> Document:
        """Return the part of a message whose fields should not change unnoticed."""
        return self._watch.find(document, document)

    def home(self, parts: Dict[str, str]) -> str | None:
        """Return the device that a topic names; None where only the message does."""
        return None if self._device is not None else self._named(self._device_text.format_map(parts))

    def read_document(
        self, builder: PacketBuilder, index: int, parts: Dict[str, str], document: Document, look: Looker = nobody
    ) -> Topic | None:
        """Add what a document says; returns whose it is, None where `where` does not hold. Raises Unreadable."""
        if self._where is not None and not self._where.find(document, document):
            return None
        topic = self._topic(parts, document, document, look)
        self._check_claim(topic, document)
        if self._status is not None:
            self._read_status(builder, index, topic, document, look)
            return topic
        runs: dict[str, Run] = {topic.device: Run(builder, index, topic)} if topic.device else {}
        found = [(part, part.samples(document)) for part in self._parts]  # all of them, before anything is added
        for part, samples in found:
            for number, sample in enumerate(samples):
                if not topic.device:
                    self._read_sample(part, builder, index, (document, sample, number), runs, look)
                else:
                    part.read(runs[topic.device], document, sample, number, look)
        for run in runs.values():
            run.close()
        tag = _unknown_tag(document)
        if tag is not None:
            detail = f"nobody knows the tag {tag}, nor how long what follows it is: the rest was not read"
            builder.refuse(index, topic if topic.device else None, Reason.UNKNOWN_FIELD, detail, f"tag {tag}")
        return topic

    def _read_sample(
        self, part: "_Part", builder: PacketBuilder, index: int, at: tuple[Document, Document, int], runs: dict[str, Run], look: Looker
    ) -> None:
        """Read one sample of a message in which each says whose it is."""
        document, sample, number = at
        try:
            _check(sample)
            topic = self._topic({}, document, sample, look, alone=True)
        except Unreadable as error:
            builder.refuse(index, None, error.reason, error.detail, "sample")
            return
        if topic.device not in runs:
            runs[topic.device] = Run(builder, index, topic)
        part.read(runs[topic.device], document, sample, number, look)

    def _topic(self, parts: Dict[str, str], document: Document, sample: Document, look: Looker, *, alone: bool = False) -> Topic:
        """Return whose a message is; without a device where each sample says it, and must, when it is asked `alone`."""
        if self._device is None:
            name: object = self._device_text.format_map(parts)
        else:
            name = self._device.find(document, sample)
            if name is None and not alone and any(part.each for part in self._parts):
                return Topic(self.model.kind, "", MAPPED)
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            raise Unreadable(Reason.WRONG_TYPE, f"{self.name}: the message does not say which device it is of")
        device = self._named(name)
        if device is None:
            raise Unreadable(Reason.WRONG_TYPE, f"{self.name}: {shown(name)} is no device name here: give it one under `names`")
        look(Look("device", self.model.topic if self._device is None else self._device.text, name, f"is {device}"))
        return Topic(self.model.kind, device, MAPPED)

    def _named(self, name: str) -> str | None:
        name = self.model.names.get(name, name)
        return name if is_device(name) else None

    def _check_claim(self, topic: Topic, document: Document) -> None:
        claimed = None if self._claims is None else self._claims.find(document, document)
        if claimed is not None and self._named(str(claimed)) != topic.device:
            raise Unreadable(Reason.DEVICE_MISMATCH, f"the payload names the device {shown(str(claimed))}")

    def _read_status(self, builder: PacketBuilder, index: int, topic: Topic, document: Document, look: Looker) -> None:
        assert self._status is not None
        assert self.model.status is not None
        value = self._status.find(document, document)
        for words, online in ((self.model.status.online, True), (self.model.status.offline, False)):
            if any(is_code(value, word) for word in words):
                builder.statuses.append(DeviceStatus(index, topic.kind, topic.device, online))
                look(Look("status", self._status.text, value, "online" if online else "offline"))
                return
        raise Unreadable(Reason.WRONG_TYPE, f"{self.name}: the status is neither one for online nor one for offline")


class _Part:
    """Readings that are found in the same way."""

    def __init__(self, model: PartModel, texts: bool, *, alone: bool) -> None:
        self._alone = alone  # one sample is the whole message
        self.each = None if model.each is None else compile_path(model.each)
        times = model.time if isinstance(model.time, list) else [] if model.time is None else [model.time]
        self._times = [_Time(time) for time in times]
        self._readings = [(metric, Value(reading, texts)) for metric, reading in model.readings.items()]
        self._long = None if model.long is None else _Long(model.long, texts)

    def samples(self, document: Document) -> Sequence[Document]:
        """Return the samples of a message. Raises Unreadable where there are too many."""
        if self.each is None:
            return [document]
        found = self.each.find(document, document)
        if found is None:
            return []
        samples = found if isinstance(found, list) else [found]
        if len(samples) > MAX_READINGS:
            raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} samples in one message")
        return samples

    def read(self, run: Run, document: Document, sample: Document, number: int, look: Looker) -> None:
        """Add the readings of one sample, and the refusals of what cannot be taken."""
        try:
            _check(sample)
            time_ms = self._time(document, sample, number, look)
        except Unreadable as error:
            if self._alone:
                raise
            run.refuse(error, "sample" if isinstance(sample, Wrong) else "time")
            return
        for metric, value in self._readings:
            add_value(run, metric, value, value.unit, (document, sample), time_ms, look)
        if self._long is not None:
            self._long.add(run, document, sample, time_ms, look)

    def _time(self, document: Document, sample: Document, number: int, look: Looker) -> int:
        for time in self._times:
            value = time.path.find(document, sample)
            if value is not None and value != "":
                time_ms = time.read(value, document, sample, number)
                if look is not nobody:
                    look(Look("time", time.path.text, value, f"is {time_ms} ms since 1970"))
                return time_ms
        return NO_TIME


class _Long:
    """One value a sample, with a field that says of what."""

    def __init__(self, model: LongModel, texts: bool) -> None:
        self._name, self._names, self._units = compile_path(model.name), model.names, model.units
        self._value = Value(model.value, texts)

    def add(self, run: Run, document: Document, sample: Document, time_ms: int, look: Looker) -> None:
        name = self._name.find(document, sample)
        metric = self._names.get(name) if isinstance(name, str) else None
        if metric is not None:
            add_value(run, metric, self._value, self._units.get(metric, self._value.unit), (document, sample), time_ms, look)
        else:
            look(Look("", self._name.text, name, "is not asked for"))


class _Time:
    def __init__(self, model: TimeModel) -> None:
        self.path, self._form, self._layout = compile_path(model.path), model.form, model.layout
        self._zone = None if model.zone is None else ZoneInfo(model.zone)
        self._spans = [_Span(model.step, every=True)] if model.step else []
        self._last: object = self  # the value that was read last
        self._last_ms = 0
        self._spans += [_Span(model.after, every=False)] if model.after else []

    def read(self, value: object, document: Document, sample: Document, number: int) -> int:
        if value is not self._last:  # samples share the time of their message
            self._last, self._last_ms = value, read_time(value, self._form, self._zone, self._layout)
        time_ms = self._last_ms
        if not self._spans:
            return time_ms
        for span in self._spans:
            time_ms += round(span.length_ms(document, sample, number))
        return event_time(time_ms)


class _Span:
    """A span of time: between two samples, or from the message's time to a sample's."""

    def __init__(self, model: StepModel, *, every: bool) -> None:
        self._path = None if model.path is None else compile_path(model.path)
        self._fixed, self._form, self._every = model.fixed, model.form, every

    def length_ms(self, document: Document, sample: Document, number: int) -> float:
        size = self._fixed if self._path is None else as_number(self._path.find(document, sample))
        if (
            not isinstance(size, int | float)
            or isinstance(size, bool)
            or not 0 <= size <= LONGEST_SPAN
            or (self._form == "Hz" and size < 1e-6)
        ):
            raise Unreadable(Reason.WRONG_TYPE, f"{self._path.text if self._path else 'a span'} is no span of time")
        length_ms = 1000.0 / size if self._form == "Hz" else size * STEP_MS[self._form]
        return length_ms * number if self._every else length_ms


def _unknown_tag(document: Document) -> str | None:
    """Return the tag at which reading some bytes had to end."""
    for holder in (document, document.get("bytes") if isinstance(document, dict) else None):
        if isinstance(holder, dict) and isinstance(holder.get(UNKNOWN_TAG), str):
            return str(holder[UNKNOWN_TAG])
    return None


def _check(sample: Document) -> None:
    if isinstance(sample, Wrong):
        raise Unreadable(Reason.MALFORMED, sample.why)


def _document_reader(model: MappingModel) -> Read:
    layout = None if model.bytes is None else _layout(model.bytes)
    if layout is not None and model.bytes is not None and model.bytes.path is None:
        return layout.read
    if model.lines is not None:
        rows = None if model.lines.rows is None else compile_pattern(model.lines.rows)
        return lines_reader({name: compile_pattern(pattern) for name, pattern in model.lines.find.items()}, rows)
    if model.columns is not None:
        columns = model.columns
        find = {name: compile_pattern(pattern) for name, pattern in columns.find.items()}
        return columns_reader(columns.delimiter, columns.columns, columns.skip, find)
    if model.payload == "text":
        return read_text
    if layout is None:
        return read_json_document
    path = compile_path(model.bytes.path)  # type: ignore[union-attr,arg-type]

    def read(payload: bytes) -> Document:
        document = read_json_document(payload)
        value = path.find(document, document)
        if value is not None and isinstance(document, dict):
            document["bytes"] = layout.read(value)
        return document

    return read


def _layout(model: BytesModel) -> Layout:
    tagged = None
    if model.tagged:
        entries = {bytes.fromhex(tag): (_fields(entry.fields), entry.size) for tag, entry in model.tagged.items()}
        tagged = Tagged(model.tag_bytes, entries)
    return Layout(model.encoding, bytes.fromhex(model.starts_with or ""), _fields(model.fields), tagged)


def _fields(models: Dict[str, BitsModel]) -> tuple[Any, ...]:
    return tuple(field(name, model.at, model.as_, model.bits, optional=model.optional) for name, model in models.items())
