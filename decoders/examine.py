"""One message of our JSON that the fast path did not take: read part by part, so that one bad value does not cost the others.

Whatever is refused is refused with the reason and the place; whatever is not refused means here exactly what it means on the fast path.
"""

import json
from typing import Any

from decoders.packets import PacketBuilder, Run, Unreadable, event_time, shown
from decoders.topics import Topic
from decoders.versions import KEYS, NEWEST, READING_KEYS, upcast
from decoders.wire import MAX_READINGS, VERSION
from telemetry.reasons import Reason

MAX_UNKNOWN = 20  # keys of one message that are named
LONGEST_STEP_MS = 366 * 86_400_000


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


def check_version(version: object, newest: int = VERSION) -> int:
    """Return a version that we read. Raises Unreadable where it is none."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Unreadable(Reason.WRONG_TYPE, "v is no version number")
    if version > newest:
        raise Unreadable(Reason.UNSUPPORTED_VERSION, f"v is {version if version < 2**63 else 'too large'}; this reads up to {newest}")
    return version


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
    version = check_version(document.get("v", VERSION), NEWEST)  # first: a later version may have keys that this one does not know
    check_device(document.get("device"), topic)
    run = Run(builder, index, topic)
    unknown = _unknown(document, KEYS[version])
    for error, name in unknown:
        run.refuse(error, name)
    document = upcast(document, version)
    if (document.get("values") is None) == (document.get("readings") is None):
        raise Unreadable(Reason.WRONG_TYPE, "exactly one of values and readings says what was measured")
    if document.get("readings") is not None:
        if any(document.get(key) is not None for key in ("time", "times", "every_ms", "units")):
            raise Unreadable(Reason.WRONG_TYPE, "with readings, each reading has its own time and unit")
        _readings(run, document["readings"])
    else:
        _values(run, document, nulls=version > 1)
    run.close()


def _values(run: Run, document: dict[str, Any], *, nulls: bool) -> None:
    """Read metrics of one time, or series of them: lists of one length with `times`, or with `time` and `every_ms`.

    `nulls`: null is what was not measured.
    """
    values, units = document["values"], document.get("units")
    units = {} if units is None else units
    if not isinstance(values, dict):
        raise Unreadable(Reason.WRONG_TYPE, "values is no object")
    if not values:
        raise Unreadable(Reason.WRONG_TYPE, "values is empty")
    if not isinstance(units, dict) or not all(isinstance(unit, str) for unit in units.values()):
        raise Unreadable(Reason.WRONG_TYPE, "units is no object of texts")
    if units.keys() - values.keys():
        name = min(units.keys() - values.keys())
        raise Unreadable(Reason.WRONG_TYPE, f"units names {shown(name)}, of which there is no value: is it spelt otherwise?")
    lengths = {len(value) for value in values.values() if isinstance(value, list)}
    if sum(len(value) if isinstance(value, list) else 1 for value in values.values()) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} readings in one message")
    if not lengths:
        if document.get("times") is not None or document.get("every_ms") is not None:
            raise Unreadable(Reason.WRONG_TYPE, "times and every_ms belong to lists of values")
        time_ms = _time(document)
        for name, value in values.items():
            if value is not None or not nulls:
                run.add(name, value, units.get(name), time_ms)
        return
    if len(lengths) > 1 or not all(isinstance(value, list) for value in values.values()):
        raise Unreadable(Reason.WRONG_TYPE, "the lists of values are not of one length")
    _series(run, values, units, _times(document, lengths.pop()))


def _series(run: Run, values: dict[str, list[Any]], units: dict[str, str], times_ms: list[int]) -> None:
    for number, time_ms in enumerate(times_ms):
        for name, series in values.items():
            if series[number] is not None:  # null: not measured then
                run.add(name, series[number], units.get(name), time_ms)


def _times(document: dict[str, Any], length: int) -> list[int]:
    """Return the time of each element of lists of a length."""
    times, every_ms = document.get("times"), document.get("every_ms")
    if times is not None:
        if document.get("time") is not None or every_ms is not None or not isinstance(times, list) or len(times) != length:
            raise Unreadable(Reason.WRONG_TYPE, "times is no list of as many times as there are values, or stands beside time or every_ms")
        if None in times:
            raise Unreadable(Reason.WRONG_TYPE, "a time in times is null")
        return [_time({"time": time}) for time in times]
    if document.get("time") is None or isinstance(every_ms, bool) or not isinstance(every_ms, int) or not 0 < every_ms <= LONGEST_STEP_MS:
        raise Unreadable(Reason.WRONG_TYPE, "lists of values need times, or time and every_ms")
    first_ms = _time(document)
    return [event_time(first_ms + number * every_ms) for number in range(length)]


def _readings(run: Run, readings: object) -> None:
    if not isinstance(readings, list):
        raise Unreadable(Reason.WRONG_TYPE, "readings is no list")
    if not readings:
        raise Unreadable(Reason.WRONG_TYPE, "readings is empty")
    if len(readings) > MAX_READINGS:
        raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_READINGS} readings in one message")
    told: set[str] = set()
    for reading in readings:
        if not isinstance(reading, dict):
            run.refuse(Unreadable(Reason.WRONG_TYPE, "an element of readings is no object"), "reading")
            continue
        for unknown, name in _unknown(reading, READING_KEYS):
            if name not in told and len(told) < MAX_UNKNOWN:  # once a message, not once a reading
                told.add(name)
                run.refuse(unknown, name)
        try:
            _reading(run, reading)
        except Unreadable as error:
            metric = reading.get("metric")
            run.refuse(error, metric if isinstance(metric, str) else "reading")


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


def _unknown(document: dict[str, Any], known: frozenset[str]) -> list[tuple[Unreadable, str]]:
    """Return what a form does not have; the rest of the message is read."""
    extra = [key for key in document if key not in known][:MAX_UNKNOWN]
    return [(Unreadable(Reason.UNKNOWN_FIELD, f"{shown(key)} is no key of this form"), key) for key in extra]
