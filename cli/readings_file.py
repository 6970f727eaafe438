"""Readings of a CSV or Parquet file, in the order of their times: one a row (`time, device, metric, value`), or one column a metric."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from cli.progress import Progress
from rules.backtest import Measured
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import Metric

TIME, DEVICE, METRIC, VALUE, KIND = "time", "device", "metric", "value", "kind"
LATEST_MS = 253_402_300_800_000  # the year 10000
TOLD_EVERY = 20_000  # readings
MAX_ROWS = 100_000_000
EPOCH_S_BELOW = 100_000_000_000  # a plain number below this is in seconds, else in milliseconds


def read_file(path: Path, kind: str, catalogue: Mapping[str, Metric]) -> list[Measured]:
    """Return all readings of a file, sorted by time; says on a terminal how far it is. Raises ConfigError where it cannot be read."""
    return (read_parquet if path.suffix.lower() in {".parquet", ".pq"} else read_csv)(path, kind, catalogue)


def read_parquet(path: Path, kind: str, catalogue: Mapping[str, Metric]) -> list[Measured]:
    """Return all readings of a Parquet file with the columns of a CSV file, sorted by time; a time may be a timestamp, too."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ConfigError([Problem(str(path), 0, 0, "", "Parquet files need the package `pyarrow`: install it")]) from error
    try:
        with ParquetFile(path) as file, Progress("reading", file.metadata.num_rows) as progress:
            metrics = _metrics(path, file.schema_arrow.names, catalogue)
            number, found = 0, list[Measured]()
            for batch in file.iter_batches(batch_size=65_536):
                for row in _in_microseconds(batch).to_pylist():
                    number += 1
                    found += _placed(path, number, row, kind, metrics, catalogue)
                progress(number, len(found))
            return sorted(found)
    except (OSError, ArrowException) as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {error}")]) from error


def _in_microseconds(batch: Any) -> Any:
    """Return a record batch whose timestamps Python can say: what is finer is cut off."""
    from pyarrow import timestamp, types

    columns, names = [], batch.schema.names
    for column in batch.columns:
        finer = types.is_timestamp(column.type) and column.type.unit == "ns"
        columns.append(column.cast(timestamp("us", tz=column.type.tz), safe=False) if finer else column)
    return type(batch).from_arrays(columns, names=names)


def read_csv(path: Path, kind: str, catalogue: Mapping[str, Metric]) -> list[Measured]:
    """Return all readings of a file, sorted by time. Raises ConfigError with the line where it cannot be read.

    A time is RFC 3339 with a zone, or a number of seconds or milliseconds since the epoch. Without a column `device` all are of one.
    """
    try:
        found: list[Measured] = []
        with path.open("rb") as file, Progress("reading", path.stat().st_size) as progress:
            for reading in _readings(path, file, kind, catalogue):
                found.append(reading)
                if len(found) % TOLD_EVERY == 0:
                    progress(file.tell(), len(found))
        return sorted(found)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {error}")]) from error


def _readings(path: Path, file: BinaryIO, kind: str, catalogue: Mapping[str, Metric]) -> Iterator[Measured]:
    with TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text)
        metrics = _metrics(path, reader.fieldnames or [], catalogue)
        for row in reader:
            yield from _placed(path, reader.line_num, row, kind, metrics, catalogue)
            if reader.line_num > MAX_ROWS:
                raise ConfigError([Problem(str(path), reader.line_num, 1, "", f"has more than {MAX_ROWS} rows")])


def _metrics(path: Path, names: Sequence[str], catalogue: Mapping[str, Metric]) -> list[str]:
    """Return the columns that are metrics, none where a row is of one. Raises ConfigError where these columns are no readings."""
    metrics = [name for name in names if name in catalogue]
    if TIME in names and (metrics or {METRIC, VALUE} <= set(names)):
        return metrics
    message = f"has the columns {', '.join(names) or '(none)'}: it needs `time`, and `metric` and `value` or a column for each metric"
    raise ConfigError([Problem(str(path), 1, 1, "", message)])


def _placed(
    path: Path, line: int, row: Mapping[str, Any], kind: str, metrics: list[str], catalogue: Mapping[str, Metric]
) -> list[Measured]:
    """Return the readings of a row. Raises ConfigError with its line where it cannot be read."""
    try:
        return list(_of_row(row, kind, metrics, catalogue))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([Problem(str(path), line, 1, "", str(error))]) from error


def _of_row(row: Mapping[str, Any], kind: str, metrics: list[str], catalogue: Mapping[str, Metric]) -> Iterator[Measured]:
    time_ms, device = _time(row[TIME]), row.get(DEVICE) or "device"
    if not isinstance(device, str):
        msg = f"the device {device!r} is no text"
        raise TypeError(msg)
    if not metrics:
        if row[METRIC] not in catalogue:
            msg = f"unknown metric `{row[METRIC]}`"
            raise ValueError(msg)
        yield Measured(time_ms, row.get(KIND) or kind, device, row[METRIC], float(row[VALUE]))
        return
    for name in metrics:
        if row[name] not in {"", None}:
            yield Measured(time_ms, row.get(KIND) or kind, device, name, float(row[name]))


def _time(text: Any) -> int:
    if text is None:
        msg = "a row has no time"
        raise ValueError(msg)
    if isinstance(text, datetime):
        if text.tzinfo is None:
            msg = f"the time {text} names no time zone"
            raise ValueError(msg)
        return round(text.timestamp() * 1000)
    try:
        number = float(text)
    except ValueError:
        return parse_ms(text)
    if not 0 <= number < LATEST_MS:
        msg = f"{text} is no time: seconds or milliseconds since 1970 are"
        raise ValueError(msg)
    return round(number * 1000 if number < EPOCH_S_BELOW else number)
