"""InfluxDB 1.8, 2.x and, append-only, 3, through `/api/v2/write`. One synchronous request at a time; never the client's own background
batching, which drops what it cannot write. Each answer means one thing: kept, these lines never, or try again.

What an operator can mend (the token, the bucket, the address) is a passing failure: nothing is lost while they do.
"""

import gzip
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService

from journal.rows import Row
from sinks.backoff import retry_after_s
from sinks.points import Encoder
from sinks.sink import Part, PartlyRejected
from telemetry.clock import Clock, utc_now_ms
from telemetry.errors import Rejected, Transient, VitalaneError

logger = logging.getLogger(__name__)

MAX_LINES = 10_000
MAX_BYTES = 5_000_000
GZIP_LEVEL = 1  # a third of level 9's output more for a sixth of its time

_DROPPED = re.compile(r"dropped=(\d+)")
_UNPARSABLE = re.compile(r"unable to parse '(.*?)': ([^\n]*)")


class _TooLarge(Exception):
    """413: the request has too many bytes."""


class _Refused(Exception):
    """400 or 422: lines of the request are wrong."""

    def __init__(self, message: str, named: dict[int, str]) -> None:
        self.named = named  # index in the request -> why, where the server said which
        found = _DROPPED.search(message)
        self.dropped = int(found[1]) if found else None
        super().__init__(message)


class _Line(NamedTuple):
    row: int  # its index in the batch
    text: str


class InfluxDb:
    def __init__(
        self,
        url: str,
        org: str,
        bucket: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        ca: Path | None = None,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        now_ms: Clock = utc_now_ms,
    ) -> None:
        """Connect at the first write, not here: InfluxDB may be down. With 1.8 the token is `user:password`, the bucket `db` or `db/rp`."""
        if not re.fullmatch(r"https?://[^/\s@]+(/[^\s@]*)?", url) or not bucket:
            msg = "InfluxDB needs a URL like http://host:8086, without user or password in it, and the name of a bucket"
            raise VitalaneError(msg)
        self._url, self._org, self._bucket, self._now_ms = url.rstrip("/"), org, bucket, now_ms
        self._max_lines, self._max_bytes = max_lines, max_bytes
        ssl_ca_cert = str(ca) if ca else None
        self._client = InfluxDBClient(url=self._url, token=token, org=org, timeout=round(timeout_s * 1000), ssl_ca_cert=ssl_ca_cert)
        self._service = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]
        self._encoder = Encoder()

    def write(self, rows: Sequence[Row]) -> None:
        lines: list[_Line] = []
        parts: list[Part] = []
        unreadable: dict[int, str] = {}
        for index, row in enumerate(rows):
            try:
                encoded = self._encoder.encode(row)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                unreadable[index] = f"cannot be read: {type(error).__name__}: {error}"
                continue
            lines += [_Line(index, text) for text in encoded.lines]
            parts += [Part(index, what.encode(), why) for what, why in encoded.refused]
        if unreadable:
            raise Rejected("rows cannot be read", unreadable)  # noqa: EM101 - the reasons say more
        for begin in range(0, len(lines), self._max_lines):
            parts += self._deliver(lines[begin : begin + self._max_lines])
        if parts:
            msg = f"InfluxDB refuses {len(parts)} points"
            raise PartlyRejected(msg, parts)

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def _deliver(self, lines: Sequence[_Line]) -> list[Part]:
        """Write lines until every one is durable or known to be refused; returns the refused ones."""
        refused: list[Part] = []
        unwritten = [lines]
        while unwritten:
            some = unwritten.pop()
            try:
                self._post([line.text for line in some])
            except _TooLarge:
                if len(some) == 1:
                    refused.append(_part(some[0], "the server takes no request as large as this one point"))
                else:
                    unwritten += _halves(some)
            except _Refused as error:
                if error.named:
                    refused += [_part(some[index], why) for index, why in error.named.items()]
                    unwritten.append([line for index, line in enumerate(some) if index not in error.named])
                elif len(some) == 1 or error.dropped == len(some):
                    refused += [_part(line, str(error)) for line in some]
                else:
                    unwritten += _halves(some)
        return refused

    def _post(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        body = "\n".join(lines).encode()
        if len(body) > self._max_bytes and len(lines) > 1:
            raise _TooLarge
        try:
            self._service.post_write(  # type: ignore[no-untyped-call]
                self._org, self._bucket, gzip.compress(body, GZIP_LEVEL), precision="ns", content_encoding="gzip", content_type="text/plain"
            )
        except ApiException as error:
            raise self._verdict(error, lines) from error
        except urllib3.exceptions.HTTPError as error:
            msg = f"InfluxDB at {self._url} does not answer: {_first_line(error)}"
            raise Transient(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{self._url} does not answer like InfluxDB: its error is not text"
            raise Transient(msg) from error

    def _verdict(self, error: ApiException, lines: Sequence[str]) -> Exception:
        """Return what an answer other than success means for these lines."""
        status = error.status or 0
        message = _message(error.body)
        if status == 413:
            return _TooLarge()
        if status in {400, 422} and message is not None:
            return _Refused(message[:2000], _named(message, error.body, lines))
        if status in {401, 403}:
            return Transient(
                f"InfluxDB at {self._url} refuses the token ({status}): give one that may write bucket {self._bucket!r}"
                " (with 1.8 it is user:password)"
            )
        if status == 404:
            return Transient(
                f"InfluxDB at {self._url} has no bucket {self._bucket!r} in organisation {self._org!r} (404): create it or name another"
            )
        if status == 0:
            return Transient(f"InfluxDB at {self._url} cannot be trusted: {_first_line(error.reason)}")
        after_s = retry_after_s(error.headers.get("Retry-After") if error.headers else None, self._now_ms())
        return Transient(f"InfluxDB at {self._url} answers {status}{f': {message[:200]}' if message else ''}", after_s)


def _message(body: str | None) -> str | None:
    """Return what InfluxDB says of a failure; None where the answer is not InfluxDB's, a proxy's page for example."""
    try:
        answer = json.loads(body or "")
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    message = answer.get("message") or answer.get("error")
    return str(message) if message else None


def _named(message: str, body: str | None, lines: Sequence[str]) -> dict[int, str]:
    """Return which lines the server blames: by their text (1.8, 2.x) or by their number (3)."""
    named: dict[int, str] = {}
    data = json.loads(body or "{}").get("data")
    for item in data if isinstance(data, list) else []:
        number = item.get("line_number") if isinstance(item, dict) else None
        if isinstance(number, int) and 1 <= number <= len(lines):
            named[number - 1] = str(item.get("error_message"))
    unparsable = dict(_UNPARSABLE.findall(message))
    if unparsable:
        named |= {index: f"unable to parse: {unparsable[line]}" for index, line in enumerate(lines) if line in unparsable}
    return named


def _part(line: _Line, why: str) -> Part:
    return Part(line.row, line.text.encode(), why)


def _halves(lines: Sequence[_Line]) -> list[Sequence[_Line]]:
    middle = len(lines) // 2
    return [lines[middle:], lines[:middle]]  # a stack: the first half goes first


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:200]
