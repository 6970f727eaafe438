"""Readings of a CSV file, in the order of their times: one a row (`time, device, metric, value`), or one column a metric."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from rules.backtest import Measured
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import Metric

TIME, DEVICE, METRIC, VALUE, KIND = "time", "device", "metric", "value", "kind"
MAX_ROWS = 100_000_000
EPOCH_S_BELOW = 100_000_000_000  # a plain number below this is in seconds, else in milliseconds


def read_csv(path: Path, kind: str, catalogue: Mapping[str, Metric]) -> list[Measured]:
    """Return all readings of a file, sorted by time. Raises ConfigError with the line where it cannot be read.

    A time is RFC 3339 with a zone, or a number of seconds or milliseconds since the epoch. Without a column `device` all are of one.
    """
    try:
        return sorted(_readings(path, kind, catalogue))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {error}")]) from error


def _readings(path: Path, kind: str, catalogue: Mapping[str, Metric]) -> Iterator[Measured]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        metrics = [name for name in names if name in catalogue]
        if TIME not in names or not (metrics or {METRIC, VALUE} <= set(names)):
            message = (
                f"has the columns {', '.join(names) or '(none)'}: it needs `time`, and `metric` and `value` or a column for each metric"
            )
            raise ConfigError([Problem(str(path), 1, 1, "", message)])
        for row in reader:
            try:
                yield from _of_row(row, kind, metrics, catalogue)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError([Problem(str(path), reader.line_num, 1, "", str(error))]) from error
            if reader.line_num > MAX_ROWS:
                raise ConfigError([Problem(str(path), reader.line_num, 1, "", f"has more than {MAX_ROWS} rows")])


def _of_row(row: Mapping[str, str], kind: str, metrics: list[str], catalogue: Mapping[str, Metric]) -> Iterator[Measured]:
    time_ms, device = _time(row[TIME]), row.get(DEVICE) or "device"
    if not metrics:
        if row[METRIC] not in catalogue:
            msg = f"unknown metric `{row[METRIC]}`"
            raise ValueError(msg)
        yield Measured(time_ms, row.get(KIND) or kind, device, row[METRIC], float(row[VALUE]))
        return
    for name in metrics:
        if row[name]:
            yield Measured(time_ms, row.get(KIND) or kind, device, name, float(row[name]))


def _time(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        return parse_ms(text)
    return round(number * 1000 if number < EPOCH_S_BELOW else number)
