"""One message of our JSON that the fast path did not take: read part by part, so that one bad value does not cost the others.

Whatever is refused is refused with the reason and the place; whatever is not refused means here exactly what it means on the fast path.
"""

import json
from typing import Any

from decoders.packets import PacketBuilder, Run, Unreadable, event_time, shown
from decoders.topics import Topic
from decoders.wire import MAX_READINGS, VERSION, WireMessage, WireReading
from telemetry.reasons import Reason

MESSAGE_KEYS = frozenset(WireMessage.__struct_fields__)
READING_KEYS = frozenset(WireReading.__struct_fields__)


def examine(builder: PacketBuilder, index: int, topic: Topic, payload: bytes) -> None:
    """Add the readings of one message of the form `readings`, and the refusals of what cannot be taken."""
    try:
        _message(builder, index, topic, read_json(payload))
    except Unreadable as error:
        builder.refuse(index, topic, error.reason, error.detail)


def read_json(payload: bytes) -> Any:
    """Return the JSON value of a payload, NaN and infinities included so that they can be named. Raises Unreadable."""
    if not payload.strip():
        raise Unreadable(Reason.MALFORMED, "the payload is empty")
    try:
        return json.loads(payload.decode())
    except UnicodeDecodeError as error:
        raise Unreadable(Reason.MALFORMED, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Unreadable(Reason.MALFORMED, f"not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise Unreadable(Reason.MALFORMED, "JSON nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise Unreadable(Reason.MALFORMED, "a number with too many digits") from None


def check_version(version: object) -> None:
    """Raise Unreadable unless this is the version that we read."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Unreadable(Reason.WRONG_TYPE, "v is no version number")
    if version != VERSION:
        raise Unreadable(Reason.UNSUPPORTED_VERSION, f"v is {version if version < 2**63 else 'too large'}; this reads {VERSION}")


def check_device(device: object, topic: Topic) -> None:
    """Raise Unreadable where a payload names another device than its topic."""
    if device is None:
        return
    if not isinstance(device, str):
        raise Unreadable(Reason.WRONG_TYPE, "device is no text")
    if device != topic.device:
        raise Unreadable(Reason.DEVICE_MISMATCH, f"the payload names the device {shown(device)}")


def _message(builder: PacketBuilder, index: int, topic: Topic, document: Any) -> None:
    if not isinstance(document, dict):
        raise Unreadable(Reason.WRONG_TYPE, "the payload is no JSON object")
    check_version(document.get("v", VERSION))  # first: a later version may have keys that this one does not know
    _check_keys(document, MESSAGE_KEYS)
    check_device(document.get("device"), topic)
    forms = [form for form in ("metric", "values", "readings") if document.get(form) is not None]
    if len(forms) != 1:
        raise Unreadable(Reason.WRONG_TYPE, "exactly one of metric, values and readings says what was measured")
    own = [key for key in ("value", "unit") if document.get(key) is not None]
    run = Run(builder, index, topic)
    if forms == ["metric"]:
        _reading(run, document)
    elif own:
        raise Unreadable(Reason.WRONG_TYPE, f"{own[0]} belongs to a metric, not to {forms[0]}")
    elif forms == ["values"]:
        _values(run, document["values"], _time(document))
    elif document.get("time") is not None:
        raise Unreadable(Reason.WRONG_TYPE, "with readings, each reading has its own time")
    else:
        _readings(run, document["readings"])
    run.close()


def _values(run: Run, values: object, time_ms: int) -> None:
    if not isinstance(values, dict):
        raise Unreadable(Reason.WRONG_TYPE, "values is no object")
    if not values:
        raise Unreadable(Reason.WRONG_TYPE, "values is empty")
    if len(values) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} readings in one message")
    for name, value in values.items():
        run.add(name, value, None, time_ms)


def _readings(run: Run, readings: object) -> None:
    if not isinstance(readings, list):
        raise Unreadable(Reason.WRONG_TYPE, "readings is no list")
    if not readings:
        raise Unreadable(Reason.WRONG_TYPE, "readings is empty")
    if len(readings) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} readings in one message")
    for reading in readings:
        try:
            _element(run, reading)
        except Unreadable as error:
            name = reading.get("metric") if isinstance(reading, dict) else None
            run.refuse(error, name if isinstance(name, str) else "reading")


def _element(run: Run, reading: object) -> None:
    if not isinstance(reading, dict):
        raise Unreadable(Reason.WRONG_TYPE, "an element of readings is no object")
    _check_keys(reading, READING_KEYS)
    _reading(run, reading)


def _reading(run: Run, reading: dict[str, Any]) -> None:
    name, unit = reading.get("metric"), reading.get("unit")
    if not isinstance(name, str):
        raise Unreadable(Reason.WRONG_TYPE, "metric is no text")
    if "value" not in reading:
        raise Unreadable(Reason.WRONG_TYPE, f"{shown(name)} has no value")
    if unit is not None and not isinstance(unit, str):
        raise Unreadable(Reason.WRONG_TYPE, f"the unit of {shown(name)} is no text")
    run.add(name, reading["value"], unit, _time(reading))


def _time(document: dict[str, Any]) -> int:
    time = document.get("time")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int | str)):
        raise Unreadable(Reason.WRONG_TYPE, "time is neither whole milliseconds nor text")
    return event_time(time)


def _check_keys(document: dict[str, Any], known: frozenset[str]) -> None:
    for key in document:
        if key not in known:
            raise Unreadable(Reason.WRONG_TYPE, f"{shown(key)} is no key of this form")
