"""Files of readings as messages: the long CSV form `time,device,metric,value[,unit][,kind]`, one reading a row, read as a stream.

Neighbouring rows of one time are grouped into one message a device. Rows go out in the file's order; a file that jumps back in time is sent
as it is. What a row must be to become a message at all is checked here, with file and line; what it means is for the other end to judge.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from decoders.topics import KINDS, READINGS, Topic, format_topic, is_device
from decoders.wire import Sample, encode_batch, encode_values
from simulators.faults import Message
from telemetry.clock import format_ms, parse_ms
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, unit_code

REQUIRED = ("time", "device", "metric", "value")
OPTIONAL = ("unit", "kind")
MOST_PROBLEMS = 20  # more would only repeat the first
MOST_BYTES_A_FIELD = 200
LARGEST_MS = 253_402_300_799_999  # the end of the year 9999
MOST_AT_ONCE = 10_000  # rows of one time that are grouped; more go into further messages

ROUTINE_UNITS = {name: metric.unit for name, metric in CATALOGUE.items()}
STATES = {"true": 1.0, "false": 0.0}


class Row(NamedTuple):
    time_ms: int
    device: str
    metric: str
    value: float
    unit: str = ""  # empty: the catalogue's
    kind: str = ""  # empty: as the reader is told


class Contents(NamedTuple):
    """What a file holds."""

    rows: int
    first_ms: int  # the earliest
    last_ms: int  # the latest
    devices: dict[str, str]  # the kind of each
    metrics: tuple[str, ...]


def rows(path: Path, *, kind: str = "shipment") -> Iterator[Row]:
    """Yield the rows of a file. Raises ConfigError at the first one that is none, with its file, line and value."""
    for line, row in _read(path, kind):
        if isinstance(row, str):
            raise ConfigError([Problem(str(path), line, 0, "", row)])
        yield row


def scan(path: Path, *, kind: str = "shipment") -> Contents:
    """Read a file from end to end and return what it holds. Raises ConfigError with its first problems, or where it has no rows."""
    problems: list[Problem] = []
    count, first, last = 0, LARGEST_MS, 0
    devices: dict[str, str] = {}
    metrics: dict[str, None] = {}
    for line, row in _read(path, kind):
        if isinstance(row, str):
            problems.append(Problem(str(path), line, 0, "", row))
            if len(problems) == MOST_PROBLEMS:
                break
            continue
        count += 1
        first, last = min(first, row.time_ms), max(last, row.time_ms)
        devices[row.device] = row.kind or kind
        metrics[row.metric] = None
    if not problems and not count:
        problems.append(Problem(str(path), 0, 0, "", "there are no readings in it"))
    if problems:
        raise ConfigError(problems)
    return Contents(count, first, last, devices, tuple(metrics))


def shift_to_now(span: Contents, speed: float, now_ms: int) -> int:
    """Return what to add to each time so that, played from now at `speed`, the last reading is sent at the instant that it is stamped with.

    No reading is ahead of the clock then. Slower than real time the first reading is the one that is sent at its instant.
    """
    plays_ms = (span.last_ms - span.first_ms) / max(speed, 1.0) if speed else 0.0
    return now_ms + round(plays_ms) - span.last_ms


class ReplaySource:
    """Rows as messages, those of one time together; ends with them."""

    def __init__(self, rows: Iterable[Row], *, kind: str = "shipment", shift_ms: int = 0) -> None:
        self._rows = iter(rows)
        self._kind = kind
        self._shift_ms = shift_ms
        self._ahead = next(self._rows, None)

    @property
    def next_ms(self) -> int | None:
        return None if self._ahead is None else self._ahead.time_ms + self._shift_ms

    def take(self) -> list[Message]:
        """Return the messages of the next time in the file."""
        if self._ahead is None:
            return []
        time_ms, group = self._ahead.time_ms, [self._ahead]
        self._ahead = None
        for row in self._rows:
            if row.time_ms != time_ms or len(group) == MOST_AT_ONCE:
                self._ahead = row
                break
            group.append(row)
        return list(grouped(group, self._kind, self._shift_ms))


def grouped(group: Sequence[Row], kind: str, shift_ms: int = 0) -> Iterator[Message]:
    """Yield one message for each device of rows of one time. What a device says twice needs a further message."""
    parts: dict[tuple[str, str], list[dict[str, Row]]] = {}
    for row in group:
        packets = parts.setdefault((row.kind or kind, row.device), [{}])
        packet = next((packet for packet in packets if row.metric not in packet), None)
        if packet is None:
            packets.append(packet := {})
        packet[row.metric] = row
    for (own_kind, device), packets in parts.items():
        topic = format_topic(Topic(own_kind, device, READINGS))
        for packet in packets:
            time_ms = next(iter(packet.values())).time_ms + shift_ms
            yield Message(time_ms, topic, _payload(list(packet.values()), time_ms))


def write_rows(rows: Iterable[Row], file: TextIO) -> int:
    """Write rows in the long CSV form, times as RFC 3339; return how many."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*REQUIRED, *OPTIONAL])
    count = 0
    for row in rows:
        writer.writerow([format_ms(row.time_ms), row.device, row.metric, repr(row.value), row.unit, row.kind])
        count += 1
    return count


def _payload(packet: Sequence[Row], time_ms: int) -> bytes:
    if all(not row.unit or unit_code(row.unit) == ROUTINE_UNITS.get(row.metric, "") for row in packet):
        return encode_values({row.metric: row.value for row in packet}, time_ms)
    return encode_batch(Sample(row.metric, row.value, time_ms, row.unit or None) for row in packet)


def _read(path: Path, kind: str) -> Iterator[tuple[int, Row | str]]:
    """Yield each row with its line, or what is wrong with it. Raises ConfigError where the file cannot be read at all."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            line = 1
            places = _places(path, header)
            for fields in reader:
                line = reader.line_num
                if fields:
                    yield line, _row(fields, places, len(header), kind)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, line and line + 1, error) from error


def unreadable(path: Path, line: int, error: OSError | UnicodeDecodeError | csv.Error) -> ConfigError:
    """Return the error that says why a file cannot be read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError([Problem(str(path), line, 0, "", f"it cannot be read as CSV text: {why}")])


def _places(path: Path, header: Sequence[str]) -> dict[str, int]:
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name for name in header if name not in REQUIRED + OPTIONAL]
    twice = sorted({name for name in header if header.count(name) > 1})
    wrong = [
        f"{what} {', '.join(repr(name[:MOST_BYTES_A_FIELD]) for name in names)}"
        for what, names in (("the header lacks", missing), ("the header has the unknown", unknown), ("the header has twice", twice))
        if names
    ]
    if wrong:
        expected = f"the first line names the columns {','.join(REQUIRED)} and may name {','.join(OPTIONAL)}"
        raise ConfigError([Problem(str(path), 1, 0, "", f"{'; '.join(wrong)}: {expected}")])
    return {name: header.index(name) for name in (*REQUIRED, *OPTIONAL) if name in header}


def _row(fields: Sequence[str], places: dict[str, int], width: int, kind: str) -> Row | str:
    if len(fields) != width:
        return f"{len(fields)} fields where the header has {width}"
    text = {name: fields[place].strip() for name, place in places.items()}
    shown = {name: repr(value[:MOST_BYTES_A_FIELD]) for name, value in text.items()}
    time_ms = _time_ms(text["time"])
    if time_ms is None:
        return f"time {shown['time']} is neither RFC 3339 with a zone nor milliseconds since 1970"
    if not is_device(text["device"]):
        return f"device {shown['device']} cannot stand in a topic: letters, digits and ._:- only, 128 at most"
    if not text["metric"] or len(text["metric"]) > MOST_BYTES_A_FIELD:
        return f"metric {shown['metric']} is no name"
    value = _value(text["value"])
    if value is None:
        return f"value {shown['value']} is not a finite number"
    own_kind = text.get("kind") or kind
    if own_kind not in KINDS:
        return f"kind {own_kind[:MOST_BYTES_A_FIELD]!r} is none of {', '.join(KINDS)}"
    return Row(time_ms, text["device"], text["metric"], value, text.get("unit", "")[:MOST_BYTES_A_FIELD], own_kind)


def _time_ms(text: str) -> int | None:
    try:
        time_ms = int(text) if text.isascii() and text.lstrip("-").isdigit() else parse_ms(text)
    except (ValueError, OverflowError):
        return None
    return time_ms if 0 <= time_ms <= LARGEST_MS else None


def _value(text: str) -> float | None:
    try:
        value = float(text) if text.lower() not in STATES else STATES[text.lower()]
    except ValueError:
        return None
    return value if math.isfinite(value) else None
