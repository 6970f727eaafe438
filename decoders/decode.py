"""From the messages of one journal row to readings: the only way in which bytes from outside become numbers. Pure, and never raises.

A row is decoded in one call of msgspec. Payloads of one line each are joined by newlines, but msgspec would also read two values from one
line or one value from two lines. Where every joint reads `}`, newline, `{`, neither can happen unseen: a newline inside a string is no
JSON, and inside an object `}` cannot be followed by `{`, so every joint lies between two values; then as many values as lines means one
value a line. Where a row does not look like that, its messages are decoded one by one, with the same meaning.

Names, units, types and finiteness are judged here; plausible values and times against the journal's clock are the evaluator's matter.
"""

from collections.abc import Mapping, Sequence

import msgspec

from decoders.examine import check_device, check_version, examine
from decoders.mapping import MAPPED
from decoders.mappings import NO_MAPPINGS, Claim, Mappings
from decoders.packets import EARLIEST_MS, LATEST_MS, PacketBuilder, Plans, Run, Sessions, Unreadable, event_time, shown
from decoders.senml import add_pack
from decoders.shapes import Shapes
from decoders.sparkplug import PREFIX as SPARKPLUG
from decoders.topics import READINGS, SENML, Topic, parse
from decoders.wire import MAX_READINGS, VERSION, WireMessage, WireReading, WireStatus
from journal.messages import FLAG_RETAIN, Messages
from telemetry.metrics import Metric
from telemetry.readings import NO_TIME, Decoded, DeviceStatus
from telemetry.reasons import Reason

FLAG_TOO_LARGE = 8
"""In a message's flags: ingest kept only the first KEPT_OF_TOO_LARGE bytes of a payload that was over the limit."""

KEPT_OF_TOO_LARGE = 1024

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_ORDINARY_FLAGS = bytes(flags for flags in range(256) if not flags & (FLAG_RETAIN | FLAG_TOO_LARGE))
MAX_SHAPES = 4096  # of `values` messages: more are forgotten and worked out again

_STATUS = {b"online": True, b"offline": False}

_message_decoder = msgspec.json.Decoder(WireMessage)
_status_decoder = msgspec.json.Decoder(WireStatus)
_decoders: dict[int, "RowDecoder"] = {}


def decode_row(messages: Messages, received_ms: int, catalogue: Mapping[str, Metric]) -> Decoded:
    """Return what the messages of one journal row say in our own forms. Never raises, for any bytes; the catalogue is never changed."""
    decoder = _decoders.get(id(catalogue))
    if decoder is None or decoder.catalogue is not catalogue:
        _decoders.clear()
        decoder = _decoders[id(catalogue)] = RowDecoder(catalogue)
    return decoder.decode(messages, received_ms)


class RowDecoder:
    """Decodes rows with one catalogue and some mappings, and remembers what it worked out about names, units and topics."""

    def __init__(self, catalogue: Mapping[str, Metric], mappings: Mappings = NO_MAPPINGS) -> None:
        self.catalogue, self.mappings = catalogue, mappings
        self.plans = Plans(catalogue)
        self._shapes: dict[tuple[str, ...], tuple[bool, ...]] = {}  # names of a `values` message -> which of them are states

    def decode(self, messages: Messages, received_ms: int, shapes: Shapes | None = None, sessions: Sessions | None = None) -> Decoded:
        """Return what the row says. The loop takes what is usual; everything else goes to `_read_message`, with the same meaning.

        `shapes` are what the messages of mappings looked like so far; without them nothing is said of how they change.
        `sessions` are those of Sparkplug's edge nodes, which the row carries on; without them Sparkplug's topics are like any others.
        """
        builder = PacketBuilder(self.plans, shapes, sessions)
        topics = list(map(parse, messages.topics))
        wires = _decode_usual(messages, topics)
        plans, packets = self.plans.known, builder.packets
        add_message, add_kind, add_device = packets.message.append, packets.kinds.append, packets.devices.append
        add_names, add_time, add_value = packets.metrics.append, packets.times_ms.append, packets.values.append
        for index, (topic, wire) in enumerate(zip(topics, wires, strict=True)):
            if topic is None or wire is None or wire.v != VERSION or wire.device is not None or wire.readings is not None:
                self._read_message(builder, index, topic, messages, received_ms)
                continue
            time, value, several = wire.time, wire.value, wire.values
            if time is None:
                time = NO_TIME
            elif isinstance(time, str) or not EARLIEST_MS <= time <= LATEST_MS:
                self._read_message(builder, index, topic, messages, received_ms)
                continue
            if several is None:
                plan = plans.get((wire.metric, wire.unit))  # type: ignore[arg-type]  # no metric, no plan
                if plan is None or not plan.exact or value is None or (value.__class__ is bool and not plan.state):
                    self._read_message(builder, index, topic, messages, received_ms)
                    continue
                add_names(plan.names)
                add_value(value)
            else:
                names = tuple(several)
                if wire.metric is not None or value is not None or wire.unit is not None or not self._fits(names, several):
                    self._read_message(builder, index, topic, messages, received_ms)
                    continue
                add_names(names)
                packets.values.extend(several.values())
            add_message(index)
            add_kind(topic.kind)
            add_device(topic.device)
            add_time(time)
        return builder.decoded()

    def _fits(self, names: tuple[str, ...], values: Mapping[str, float | bool]) -> bool:
        """Return whether all names are metrics, and only states are true or false."""
        states = self._shapes.get(names)
        if states is None:
            if not names or len(names) > MAX_READINGS or not all(name in self.catalogue for name in names):
                return False
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            states = self._shapes[names] = tuple(self.plans.plan(name, None).state for name in names)
        return bool not in map(type, values.values()) or all(
            state or value.__class__ is float for state, value in zip(states, values.values(), strict=True)
        )

    def _read_message(self, builder: PacketBuilder, index: int, topic: Topic | None, messages: Messages, received_ms: int) -> None:
        """Read one message whatever it is."""
        flags, payload = messages.flags[index], messages.payloads[index]
        if flags & FLAG_RETAIN:
            builder.retained += 1
        elif topic is None and builder.sessions is not None and messages.topics[index].startswith(SPARKPLUG):
            builder.sessions.add_message(builder, index, messages.topics[index], _too_large(payload) if flags & FLAG_TOO_LARGE else payload)
        elif topic is None:
            _read_mapped(builder, index, self.mappings.claims(messages.topics[index]), messages)
        elif flags & FLAG_TOO_LARGE:
            builder.refuse(index, topic, Reason.TOO_LARGE, _too_large(payload).detail)
        elif topic.form == READINGS:
            _read_readings(builder, index, topic, payload)
        elif topic.form == SENML:
            add_pack(builder, index, topic, payload, received_ms)
        else:
            _read_status(builder, index, topic, payload)


def _read_mapped(builder: PacketBuilder, index: int, claims: Sequence[Claim], messages: Messages) -> None:
    """Read one message by the first of the mappings that claim its topic whose `where` holds."""
    wrong: Unreadable | None = None
    kind, device = "", None
    if claims and messages.flags[index] & FLAG_TOO_LARGE:
        wrong, claims = Unreadable(Reason.TOO_LARGE, "over the limit of a payload"), ()
    for mapping, parts in claims:
        try:
            document = mapping.document(messages.payloads[index])
        except Unreadable as error:
            wrong, kind, device = error, mapping.model.kind, mapping.home(parts)
            if mapping.model.where is None:
                break
            continue  # whether it claims the message, nobody can say: another form may be meant
        try:
            topic = mapping.read_document(builder, index, parts, document)
        except Unreadable as error:  # it claims the message: another mapping must not take what this one refuses
            wrong, kind, device = error, mapping.model.kind, mapping.home(parts)
            break
        if topic is not None:
            if builder.shapes is not None and topic.device:
                change = builder.shapes.note(index, topic.kind, topic.device, mapping.name, mapping.watched(document))
                builder.changes += [change] if change else []
            return
    name = messages.topics[index].decode("utf-8", "backslashreplace")
    reason, detail = (wrong.reason, wrong.detail) if wrong else (Reason.UNMAPPED, f"no decoder for the topic {shown(name)}")
    builder.refuse(index, Topic(kind, device, MAPPED) if device else None, reason, detail)


def _too_large(kept: bytes) -> Unreadable:
    return Unreadable(Reason.TOO_LARGE, f"over the limit of a payload; {len(kept)} bytes of it were kept")


def _decode_usual(messages: Messages, topics: Sequence[Topic | None]) -> Sequence[WireMessage | None]:
    """Return the wire form of every message of the form `readings` that has one; None for every other message."""
    usual = messages.one_line and not messages.flags.translate(None, _ORDINARY_FLAGS)
    if usual and all(topic and topic.form == READINGS for topic in topics):
        return _decode_lines(messages.payload_block, messages.payloads)
    chosen = [
        index
        for index, (topic, flags, payload) in enumerate(zip(topics, messages.flags, messages.payloads, strict=True))
        if topic and topic.form == READINGS and not flags & (FLAG_RETAIN | FLAG_TOO_LARGE) and b"\n" not in payload
    ]
    payloads = [messages.payloads[index] for index in chosen]
    wires: list[WireMessage | None] = [None] * len(topics)
    for index, wire in zip(chosen, _decode_lines(b"\n".join(payloads), payloads), strict=True):
        wires[index] = wire
    return wires


def _decode_lines(block: bytes, payloads: Sequence[bytes]) -> Sequence[WireMessage | None]:
    """Return each payload's wire form, or None; `block` is the payloads, none with a newline in it, joined by newlines."""
    if block.startswith(b"{") and block.endswith(b"}") and block.count(b"}\n{") == len(payloads) - 1:
        try:
            wires = _message_decoder.decode_lines(block)
        except _UNDECODABLE:
            wires = []
        if len(wires) == len(payloads):
            return wires
    return [_decode_message(payload) for payload in payloads]


def _decode_message(payload: bytes) -> WireMessage | None:
    try:
        return _message_decoder.decode(payload)
    except _UNDECODABLE:
        return None


def _read_readings(builder: PacketBuilder, index: int, topic: Topic, payload: bytes) -> None:
    """Read one message of our JSON: through its wire form where it has one, for that is fast, else part by part."""
    wire = _decode_message(payload)
    if wire is None or wire.v != VERSION or (wire.device is not None and wire.device != topic.device):
        examine(builder, index, topic, payload)
        return
    run = Run(builder, index, topic)
    try:
        match (wire.metric, wire.value, wire.values, wire.readings):
            case (str(metric), float() | bool() as value, None, None):
                run.add(metric, value, wire.unit, event_time(wire.time))
            case (None, None, dict(values), None) if values and wire.unit is None:
                time_ms = event_time(wire.time)
                for name, number in values.items():
                    run.add(name, number, None, time_ms)
            case (None, None, None, list(readings)) if 0 < len(readings) <= MAX_READINGS and wire.unit is None and wire.time is None:
                _add_batch(run, readings)
            case _:
                examine(builder, index, topic, payload)
        run.close()
    except Unreadable as error:
        builder.refuse(index, topic, error.reason, error.detail)


def _add_batch(run: Run, readings: Sequence[WireReading]) -> None:
    for reading in readings:
        try:
            run.add(reading.metric, reading.value, reading.unit, event_time(reading.time))
        except Unreadable as error:
            run.refuse(error, reading.metric)


def _read_status(builder: PacketBuilder, index: int, topic: Topic, payload: bytes) -> None:
    """Read one message of the form `status`: a JSON object, or the bare word."""
    word = payload.strip()
    try:
        online = _STATUS.get(word)
        if online is None:
            online = _read_status_object(topic, payload)
    except Unreadable as error:
        builder.refuse(index, topic, error.reason, error.detail)
    else:
        builder.statuses.append(DeviceStatus(index, topic.kind, topic.device, online))


def _read_status_object(topic: Topic, payload: bytes) -> bool:
    try:
        status = _status_decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise Unreadable(Reason.WRONG_TYPE, f"no status message: {shown(str(error))}") from None
    except _UNDECODABLE:
        raise Unreadable(Reason.MALFORMED, "a status is a JSON object, or the word online or offline") from None
    check_version(status.v)
    check_device(status.device, topic)
    online = _STATUS.get(status.status.encode())
    if online is None:
        raise Unreadable(Reason.WRONG_TYPE, "the status is neither online nor offline")
    return online
