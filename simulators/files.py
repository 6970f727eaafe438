"""Readers that turn real data sets into long rows: the text export of Q-tag temperature loggers, and CLIF vitals of an intensive care unit.

They give what the file says, dirt included: what is implausible is for ingest to quarantine, and a reader that cleans hides it.
"""

import csv
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from simulators.replay import Row, unreadable
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError, Problem

CLIF_METRICS = {
    "heart_rate": ("heart_rate", "/min"),
    "spo2": ("spo2", "%"),
    "respiratory_rate": ("respiratory_rate", "/min"),
    "sbp": ("sbp", "mm[Hg]"),
    "dbp": ("dbp", "mm[Hg]"),
    "map": ("map", "mm[Hg]"),
    "temp_c": ("body_temperature", "Cel"),
}
"""CLIF's vital categories that are measured again and again; weight and height are not telemetry."""

CLIF_COLUMNS = ("hospitalization_id", "recorded_dttm", "vital_category", "vital_value")
QTAG_TIME = "%Y-%m-%d %H:%M"


def qtag_rows(path: Path) -> Iterator[Row]:
    """Yield the logged temperatures of one Q-tag export. The device is the logger's serial number; its local time is taken as UTC.

    Raises ConfigError where the file is no such export or a row of it cannot be read.
    """
    serial = ""
    for number, line in enumerate(_lines(path), start=1):
        name, _, rest = line.strip().partition(":")
        if name == "Serial" and not serial:
            serial = rest.strip()
        fields = line.split("\t")
        if len(fields) >= 3 and not fields[0] and fields[1][:1].isdigit():
            yield _qtag_row(path, number, serial, fields)


def clif_rows(path: Path, stays: Collection[str] | None = None) -> list[Row]:
    """Return the vital signs of chosen stays (all without), ordered by time; the device is the stay's `hospitalization_id`.

    Where the file has several values for one stay, time and vital, all of them are returned. Raises ConfigError where it cannot be read.
    """
    found: list[Row] = []
    for number, row in _clif(path):
        known = CLIF_METRICS.get(row["vital_category"])
        if known is None or (stays is not None and row["hospitalization_id"] not in stays):
            continue
        try:
            found.append(
                Row(parse_ms(row["recorded_dttm"]), row["hospitalization_id"], known[0], float(row["vital_value"]), known[1], "patient")
            )
        except ValueError as error:
            raise ConfigError([Problem(str(path), number, 0, "", str(error))]) from error
    found.sort(key=lambda row: (row.time_ms, row.device))
    return found


def clif_stays(path: Path) -> list[str]:
    """Return the stays of a file in the order in which they first occur."""
    return list(dict.fromkeys(row["hospitalization_id"] for _, row in _clif(path)))


def start_together(rows: Iterable[Row], start_ms: int) -> list[Row]:
    """Return the rows with each device's times moved so that its first reading is at `start_ms`, ordered by time.

    De-identified stays lie decades apart; this lays them side by side and keeps every interval within a stay.
    """
    every = sorted(rows, key=lambda row: row.time_ms)
    first: dict[str, int] = {}
    for row in every:
        first.setdefault(row.device, row.time_ms)
    moved = [row._replace(time_ms=row.time_ms - first[row.device] + start_ms) for row in every]
    moved.sort(key=lambda row: row.time_ms)
    return moved


def _qtag_row(path: Path, number: int, serial: str, fields: list[str]) -> Row:
    try:
        time_ms = round(datetime.strptime(fields[1], QTAG_TIME).replace(tzinfo=UTC).timestamp() * 1000)
        if serial:
            return Row(time_ms, serial, "temperature", float(fields[2]), "Cel", "shipment")
        why = "a reading stands before the logger's serial number"
    except ValueError as error:
        why = str(error)
    raise ConfigError([Problem(str(path), number, 0, "", why)])


def _clif(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(_lines(path), restval="")
    missing = [name for name in CLIF_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError([Problem(str(path), 1, 0, "", f"no CLIF vitals: the columns {', '.join(missing)} are missing")])
    for row in reader:
        yield reader.line_num, row


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, 0, error) from error
