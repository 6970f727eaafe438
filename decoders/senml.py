"""SenML, RFC 8428, in JSON and CBOR: packs resolved to records that stand for themselves, and those that name a metric of ours to packets.

The trap of its units: `/` and, in spite of its looks, `%` are ratios from 0 to 1 (RFC 8428 section 12.1, note 1). Percentages are `%RH`,
`%EL` and `/100`. A device that sends 97 as `%` is 9700 % and fails as implausible, in sight; the other reading would make 0.97 a deadly
saturation. The device is the topic's; of a record's name only the last part counts, which is the metric.

Whatever bytes come, work and memory are bounded by their number: names have a length, packs a number of records, and of CBOR only what
JSON can say is read. Tags make objects of bytes (references to what encloses them, patterns, fractions); none but decimal fractions is.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from decoders.examine import read_json
from decoders.packets import EARLIEST_MS, LATEST_MS, PacketBuilder, Run, Unreadable, shown
from decoders.topics import Topic
from decoders.wire import MAX_READINGS
from telemetry.metrics import unit_code
from telemetry.readings import Promise
from telemetry.reasons import Reason

if TYPE_CHECKING:
    import cbor2

VERSION = 10  # of RFC 8428; a pack with a greater `bver` may mean what we do not know

RELATIVE_BELOW = 2**28
"""Times below this many seconds are relative to now (section 4.5.3)."""

MAX_NAME = 256
"""Characters of a record's whole name. A long base name on many records would be work that grows with the square of the payload."""

MAX_UPDATE_S = 366 * 86_400
"""A longer update time is no promise: nobody would wait for it."""

NAMES = {"temp": "temperature", "hum": "humidity", "batt": "battery", "lat": "latitude", "lon": "longitude"}
"""Usual short names of our metrics."""

UNITS = {"%": "1", "lat": "deg", "lon": "deg"}
"""Units that SenML means otherwise than our catalogue's spellings do, or that only SenML has."""

LABELS = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""The fields of a record by their labels in CBOR (table 4, which is conclusive: what comes later is labelled with text)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_NUMBERS = frozenset({"bt", "bv", "bs", "v", "s", "t", "ut"})
_TEXTS = frozenset({"bn", "bu", "n", "u", "vs", "vd"})
_LARGEST = 2.0**1021  # of a number: what is made of two or three is a float, too
_BASE = frozenset({"bn", "bt", "bu", "bv", "bs", "bver"})
_VALUES = frozenset({"v", "vs", "vb", "vd"})
_FIELDS = frozenset(LABELS.values())
_NO_VALUE = {
    key: Unreadable(Reason.WRONG_TYPE, f"it has no value that is a number or a state: it is {what}")
    for key, what in (("vs", "text"), ("vd", "data"), ("s", "a sum, which is no value"))
}
_NO_TIME = Unreadable(Reason.IMPOSSIBLE_TIME, "the time is not between the years 2000 and 9999")

_BUILT_IN_TAGS = (0, 1, 2, 3, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
"""What cbor2 would make objects of; other tags it asks about. A test tries them all."""

_DEPTH = 4  # of what an unknown field may hold; a decimal fraction takes two
_ARRAY, _MAP, _INDEFINITE, _BREAK = 4, 5, 31, b"\xff"
_OPEN = "without its end: cut off, or a SenSML stream; a message is one whole SenML pack"


def resolve(pack: Sequence[Any], now: float) -> list[dict[str, Any]]:
    """Return a pack's records resolved (section 4.6): full names, absolute times in seconds, no base fields; in the pack's order.

    They are the pack's own, changed; those that carry only base fields vanish. Raises Unreadable where the pack breaks the RFC.
    """
    if not isinstance(pack, list):
        raise Unreadable(Reason.WRONG_TYPE, "a SenML pack is an array")
    if not pack:
        raise Unreadable(Reason.WRONG_TYPE, "a SenML pack has at least one record")
    if len(pack) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} records in one pack")
    base: dict[str, Any] = {}
    for record in pack:
        _check(record)
        if not _BASE.isdisjoint(record):
            base |= {key: record.pop(key) for key in _BASE & record.keys()}
        if record:
            _resolve_record(record, base, now)
    return [record for record in pack if record]


def add_pack(builder: PacketBuilder, index: int, topic: Topic, payload: bytes, received_ms: int) -> None:
    """Add the readings of one message of the form `senml`, and the refusals of what is none."""
    try:
        records = resolve(_read(payload), received_ms / 1000)
    except Unreadable as error:
        builder.refuse(index, topic, error.reason, error.detail)
        return
    if not records:
        builder.refuse(index, topic, Reason.WRONG_TYPE, "no record of the pack has a value")
    run = Run(builder, index, topic)
    known: dict[tuple[str, str | None], tuple[str, str | None, Unreadable | None]] = {}
    promised: dict[str, tuple[int, int]] = {}  # by metric: when it was measured, and within what time the next comes
    for record in records:
        named = record["n"], record.get("u")
        found = known.get(named)
        if found is None:
            found = known[named] = _metric_and_unit(builder, *named)
        name, unit, refusal = found
        value, time_ms = record.get("v", record.get("vb")), _time_ms(record["t"])
        if value is None:
            run.refuse(next(why for key, why in _NO_VALUE.items() if key in record), name)
        elif refusal is not None:
            run.refuse(refusal, name)
        elif time_ms is None:
            run.refuse(_NO_TIME, name)
        else:
            run.add(name, value, unit, time_ms)
            within_ms = _within_ms(record.get("ut", 0))
            if within_ms:
                promised[name] = time_ms, within_ms
            elif promised:
                promised.pop(name, None)  # the last record of a sensor says when the next comes
    run.close()
    builder.promises += [Promise(index, topic.kind, topic.device, name, *promise) for name, promise in promised.items()]


def _read(payload: bytes) -> Any:
    """Return the pack as JSON writes it, from either form: a CBOR array begins as no JSON does. Raises Unreadable."""
    if b"\x80" <= payload[:1] <= b"\x9f":
        return _read_cbor(payload)
    text = payload.strip()
    if text.startswith(b"[") and not text.endswith(b"]"):
        raise Unreadable(Reason.MALFORMED, f"a JSON array {_OPEN}")
    return read_json(payload)


def _check(record: object) -> None:
    """Raise Unreadable unless a record's fields have the types of table 3."""
    if not isinstance(record, dict):
        raise Unreadable(Reason.WRONG_TYPE, "a record of the pack is no object")
    for key, value in record.items():
        if key in _NUMBERS:
            _check_number(key, value)
        elif key in _TEXTS:
            if not isinstance(value, str):
                raise Unreadable(Reason.WRONG_TYPE, f"{key} is no text")
        elif key == "vb":
            if not isinstance(value, bool):
                raise Unreadable(Reason.WRONG_TYPE, "vb is neither true nor false")
        elif key == "bver":
            _check_version(value)
        elif key.endswith("_"):
            raise Unreadable(Reason.UNSUPPORTED_VERSION, f"{shown(key)} must be understood, and is not")


def _check_version(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Unreadable(Reason.WRONG_TYPE, "bver is no version number")
    if version > VERSION:
        raise Unreadable(Reason.UNSUPPORTED_VERSION, f"bver is above {VERSION}")


def _check_number(key: str, value: object) -> None:
    if value.__class__ is not float and value.__class__ is not int:
        raise Unreadable(Reason.WRONG_TYPE, f"{key} is no number")
    if not -_LARGEST < value < _LARGEST:
        raise Unreadable(Reason.NOT_FINITE, f"{key} is not a finite number")


def _resolve_record(record: dict[str, Any], base: dict[str, Any], now: float) -> None:
    name = base.get("bn", "") + record.get("n", "")
    if len(name) > MAX_NAME:
        raise Unreadable(Reason.TOO_LARGE, f"{shown(name)} is longer than {MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} is no SenML name")
    values = len(_VALUES & record.keys())
    if values != 1 and (values or not ("s" in record or "bs" in base or "bv" in base)):
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} has not exactly one value")
    time = base.get("bt", 0) + record.get("t", 0)
    record["n"] = name
    record["t"] = now + time if time < RELATIVE_BELOW else time
    if "bu" in base and "u" not in record:
        record["u"] = base["bu"]
    if "bv" in base and ("v" in record or not (values or "s" in record)):
        record["v"] = base["bv"] + record.get("v", 0)
    if "bs" in base:
        record["s"] = base["bs"] + record.get("s", 0)


def _metric(name: str) -> str:
    last = name[max(name.rfind("/"), name.rfind(":")) + 1 :]
    return NAMES.get(last, last) or "?"


def _metric_and_unit(builder: PacketBuilder, full: str, unit: str | None) -> tuple[str, str | None, Unreadable | None]:
    """Return a record's metric and our spelling of its unit, or why it has none: what many records share is asked once."""
    name = _metric(full)
    unit = _unit(builder, name, unit)
    try:
        builder.plans.plan(name, unit)
    except Unreadable as error:
        return name, unit, error
    return name, unit, None


def _unit(builder: PacketBuilder, name: str, unit: str | None) -> str | None:
    """Return our spelling of a record's unit; None, the catalogue's, where a ratio is how SenML writes the value of a switch."""
    metric = builder.plans.catalogue.get(name)
    if unit is None or metric is None:
        return None
    code = UNITS.get(unit, unit)
    return None if metric.unit == "{state}" and unit_code(code) == "1" else code


def _time_ms(seconds: float) -> int | None:
    return round(seconds * 1000) if EARLIEST_MS <= seconds * 1000 <= LATEST_MS else None


def _within_ms(seconds: float) -> int:
    """Return an update time (`ut`) in milliseconds; 0 where it says nothing that could be waited for."""
    return round(seconds * 1000) if 0 < seconds <= MAX_UPDATE_S else 0


# -- CBOR, section 6 ---------------------------------------------------------------------------------------------------------------


def _read_cbor(payload: bytes) -> list[dict[str, Any]]:
    """Return the records of a CBOR pack as JSON has them. Raises Unreadable.

    The heads of the pack and of its records are read here: a map decoded in one go hashes whatever the sender chose as keys.
    """
    import cbor2

    stream = BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        stream,
        read_size=1,  # it never reads ahead of what it decodes
        tag_hook=_refuse_tag,
        semantic_decoders=dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag) | {4: _decimal},
        max_depth=_DEPTH,
        allow_indefinite=False,
        strict_hashable_types=True,
    )
    try:
        pack = [_cbor_record(stream, decoder) for _ in _elements(stream, _ARRAY)]
    except cbor2.CBORDecodeEOF:
        raise Unreadable(Reason.MALFORMED, "CBOR that is cut off") from None
    except cbor2.CBORError as error:
        told = error.__cause__ if isinstance(error.__cause__, Unreadable) else None
        raise Unreadable(Reason.MALFORMED, told.detail if told else f"not CBOR at byte {stream.tell()}: {shown(str(error))}") from None
    if stream.tell() != len(payload):
        raise Unreadable(Reason.MALFORMED, f"more bytes after the pack, from byte {stream.tell()} on")
    return pack


def _cbor_record(stream: BytesIO, decoder: "cbor2.CBORDecoder") -> dict[str, Any]:
    """Return the next element of a pack, the fields by their names."""
    record: dict[str, Any] = {}
    for _ in _elements(stream, _MAP):
        key, value = decoder.decode(), decoder.decode()
        if type(key) is int:
            name = LABELS.get(key)
            if name is None:
                continue  # unknown fields are ignored (section 4.4)
        elif type(key) is str and key not in _FIELDS:
            name = key
        else:
            raise Unreadable(Reason.MALFORMED, f"the label {shown(repr(key))} is neither a number nor the name of a field that has none")
        if name in record:
            raise Unreadable(Reason.MALFORMED, f"{shown(name)} stands twice in one record")
        if name == "vd":
            if not isinstance(value, bytes):
                raise Unreadable(Reason.WRONG_TYPE, "vd is no byte string")
            value = urlsafe_b64encode(value).rstrip(b"=").decode()
        record[name] = value
    return record


def _elements(stream: BytesIO, major: int) -> Iterator[None]:
    """Read the head of an array or a map, then yield for each of its elements, which the caller reads. Raises Unreadable."""
    what = "array" if major == _ARRAY else "map"
    head = stream.read(1)
    if not head or head[0] >> 5 != major:
        raise Unreadable(Reason.WRONG_TYPE if head else Reason.MALFORMED, f"no CBOR {what} where the pack has one")
    info = head[0] & 31
    if info == _INDEFINITE:
        number = 0
        while (following := stream.read(1)) != _BREAK:
            if not following:
                raise Unreadable(Reason.MALFORMED, f"a CBOR {what} {_OPEN}")
            stream.seek(-1, 1)
            number += 1
            _bound(number, what)
            yield
        return
    if info > 27:
        raise Unreadable(Reason.MALFORMED, f"a CBOR {what} of no known length")
    length = info if info < 24 else int.from_bytes(stream.read(1 << info - 24), "big")
    _bound(length, what)
    for _ in range(length):
        yield


def _bound(number: int, what: str) -> None:
    if number > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} elements in a CBOR {what}")


def _refuse_tag(*_: object) -> None:
    raise Unreadable(Reason.MALFORMED, "a CBOR tag that SenML does not have")


def _decimal(value: object, _immutable: object) -> float:
    """Return a decimal fraction (tag 4) as a number: `[exponent, mantissa]`."""
    if not (isinstance(value, Sequence) and len(value) == 2 and all(type(part) is int for part in value)):
        raise Unreadable(Reason.MALFORMED, "a decimal fraction is an exponent and a mantissa")
    exponent, mantissa = value
    return float(f"{mantissa}e{exponent}")
