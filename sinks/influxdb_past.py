"""Readings out of InfluxDB again, 1.8, 2.x and 3, through InfluxQL: for backtests over what was stored. Nothing is written."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import urllib3

from telemetry.errors import VitalaneError
from telemetry.readings import SeriesKey

CHUNK_ROWS = 10_000
MAX_LINE = 64_000_000  # bytes of one chunk
OK = 200
COLUMNS = ("value", "kind", "subject", "device", "metric")


class Stored(NamedTuple):
    """One reading as it was stored."""

    time_ms: int
    series: SeriesKey
    value: float


class InfluxPast:
    """Asks for readings, in chunks: what is asked for may be more than fits into memory."""

    def __init__(self, url: str, bucket: str, token: str, *, timeout_s: float = 30.0, ca: Path | None = None) -> None:
        """`bucket` is a bucket, or `database/policy` of InfluxDB 1.8."""
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self.database, _, self.policy = bucket.partition("/")
        self.headers = {"Authorization": f"Token {token}"}
        self.pool = urllib3.PoolManager(retries=False, ca_certs=None if ca is None else str(ca))

    def readings(self, since_ms: int, until_ms: int | None) -> Iterator[Stored]:
        """Yield the readings in `[since_ms, until_ms)` in the order of their times. Raises VitalaneError with what the server says."""
        until = "" if until_ms is None else f" AND time < {int(until_ms)}ms"
        columns = ", ".join(map(_quoted, COLUMNS))
        question = {
            "db": self.database,
            "q": f'SELECT {columns} FROM "readings" WHERE time >= {int(since_ms)}ms{until} ORDER BY time',  # noqa: S608 numbers only
            "epoch": "ms",
            "chunked": "true",
            "chunk_size": str(CHUNK_ROWS),
            **({"rp": self.policy} if self.policy else {}),
        }
        try:
            answer = self.pool.request("POST", f"{self.url}/query", fields=question, encode_multipart=False, headers=self.headers,
                                       preload_content=False, timeout=self.timeout_s, redirect=False)  # fmt: skip
            try:
                if answer.status != OK:
                    why = f"status {answer.status}: {_plain(answer.read(1000, decode_content=True).decode(errors='replace'))}"
                    raise self._failed(why)
                for line in _lines(answer):
                    yield from self._chunk(json.loads(line))
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._failed(type(error).__name__) from error

    def _chunk(self, answer: dict[str, Any]) -> Iterator[Stored]:
        for result in [answer, *answer.get("results", [])]:
            if "error" in result:
                raise self._failed(_plain(str(result["error"])))
        for result in answer.get("results", []):
            for series in result.get("series", []):
                for time_ms, value, kind, subject, device, metric in series["values"]:
                    yield Stored(int(time_ms), SeriesKey(kind, subject, device, metric), float(value))

    def _failed(self, why: str) -> VitalaneError:
        return VitalaneError(f"InfluxDB at {self.url} gave no readings of {self.database!r}: {why}")


def _quoted(name: str) -> str:
    return f'"{name}"'


def _plain(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:300]


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    left = b""
    for part in answer.stream(1 << 18, decode_content=True):
        *whole, left = (left + part).split(b"\n")
        if len(left) > MAX_LINE:
            msg = "a chunk is longer than anything that was asked for"
            raise ValueError(msg)
        yield from filter(None, whole)
    if left:
        yield left
