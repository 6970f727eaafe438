"""A signed webhook: Standard Webhooks 1.0 over HTTP POST, the body being the alert event as CloudEvents JSON.

Only 2xx means delivered. Redirects are not followed, and the address is checked where it is used: after its name was resolved, on the very
connection that carries the event, so that a name cannot point at this machine's own network behind our back.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from sinks.backoff import retry_after_s
from sinks.sink import Compose
from telemetry.alert import AlertEvent, to_json
from telemetry.clock import Clock, utc_now_ms
from telemetry.errors import Rejected, Transient, VitalaneError

MAX_BODY_BYTES = 20_000
MAX_EVIDENCE = 10
MAX_ANSWER_BYTES = 64_000
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of one


class _PrivateAddress(urllib3.exceptions.HTTPError):
    """The name leads into a private network."""


class Webhook:
    def __init__(
        self,
        name: str,
        url: str,
        secrets: Sequence[str],
        compose: Compose,
        *,
        allow_private: bool = False,
        timeout_s: float = 15.0,
        headers: Mapping[str, str] | None = None,
        ca: Path | None = None,
        senders: int = 4,
        now_ms: Clock = utc_now_ms,
    ) -> None:
        """`secrets` holds the one in use and, while it is being replaced, the one before it. Raises VitalaneError where one is none."""
        self.name = name
        address = _checked_url(url)
        self._target = address.request_uri
        self._keys = [secret_key(secret) for secret in secrets]
        if not self._keys:
            msg = f"the webhook {name} needs a secret, {SECRET_PREFIX}..."
            raise VitalaneError(msg)
        self._compose, self._headers, self._timeout_s, self._now_ms = compose, dict(headers or {}), timeout_s, now_ms
        self._pool = _pool(address, senders, str(ca) if ca else None, allow_private=allow_private)

    def send(self, event: AlertEvent) -> None:
        body = body_of(self._compose(event).event)
        timestamp = self._now_ms() // 1000
        headers = {
            **self._headers,
            "content-type": "application/cloudevents+json; charset=utf-8",
            "user-agent": "vitalane",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signature(key, event.event_id, timestamp, body) for key in self._keys),
        }
        deadline_s = time.monotonic() + self._timeout_s
        timeout = urllib3.Timeout(total=self._timeout_s)
        try:
            answer = self._pool.urlopen(
                "POST", self._target, body, headers, retries=False, redirect=False, timeout=timeout, preload_content=False
            )
            try:
                _drain(answer, deadline_s)
            finally:
                answer.release_conn()
        except _PrivateAddress as error:
            raise Transient(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            msg = f"{self.name}: no answer: {type(error).__name__}"  # its text may hold the URL, which may hold a secret
            raise Transient(msg) from error
        self._judge(answer.status, answer.headers.get("Retry-After"))

    def close(self) -> None:
        self._pool.close()

    def _judge(self, status: int, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        msg = f"{self.name}: the receiver answers {status}"
        if 300 <= status < 400:
            msg += ": redirects are not followed, give the address it leads to"
            raise Transient(msg)
        if status in {408, 425, 429} or status >= 500:
            raise Transient(msg, retry_after_s(retry_after, self._now_ms()))
        if status == 410:
            msg += ": it wants no more of these"
        raise Rejected(msg)


def secret_key(secret: str) -> bytes:
    """Return the key of a secret `whsec_<base64 of 24 to 64 bytes>`. Raises VitalaneError, without repeating it, where it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        msg = f"a webhook secret is {SECRET_PREFIX} and the base64 of 24 to 64 random bytes; this is not"
        raise VitalaneError(msg)
    return key


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the signature of Standard Webhooks 1.0, `v1,<base64>`."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def body_of(event: AlertEvent) -> bytes:
    """Return the event's JSON, with only the latest of its evidence where it would be too large for receivers to take."""
    body = to_json(event)
    if len(body) > MAX_BODY_BYTES:
        body = to_json(event._replace(evidence=event.evidence[-MAX_EVIDENCE:], positions=event.positions[-MAX_EVIDENCE:]))
    return body


def _checked_url(url: str) -> urllib3.util.Url:
    try:
        parsed = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.auth:
        msg = "a webhook's URL is https://host/path, without user or password in it; this is not"
        raise VitalaneError(msg)
    return parsed


def _drain(answer: urllib3.BaseHTTPResponse, deadline_s: float) -> None:
    """Read the answer's body so that the connection can be used again; give up on one that is long or drips."""
    size = 0
    while chunk := answer.read1(8192):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES or time.monotonic() > deadline_s:
            answer.close()
            return


def _pool(address: urllib3.util.Url, senders: int, ca: str | None, *, allow_private: bool) -> HTTPConnectionPool:
    """Return a keep-alive pool to one host, whose connections refuse private addresses where they must."""
    assert address.host is not None, "checked before"
    if address.scheme == "https":
        tls = HTTPSConnectionPool if allow_private else _GuardedTlsPool
        return tls(address.host, address.port, maxsize=senders, block=False, ca_certs=ca, cert_reqs="CERT_REQUIRED")
    plain = HTTPConnectionPool if allow_private else _GuardedPool
    return plain(address.host, address.port, maxsize=senders, block=False)


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet. IPv4 in IPv6 counts as what is in it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if (
            ip.sixtofour or ip.teredo or ip in ipaddress.IPv6Network("64:ff9b::/96")
        ):  # tunnels and translators: they lead to any IPv4 address
            return False
        if ip.ipv4_mapped:
            return ip.ipv4_mapped.is_global and not ip.ipv4_mapped.is_multicast
    return ip.is_global and not ip.is_multicast


def _connect(connection: HTTPConnection, host: str) -> socket.socket:
    """Open the connection's socket to an address that has been looked at: resolved once, checked, then used."""
    try:
        found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    except OSError as error:
        msg = "its name cannot be resolved"
        raise urllib3.exceptions.NewConnectionError(connection, msg) from error
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    if not all(is_public(address) for address in addresses):
        msg = f"{host} leads to a private address: set allow_private: true where that is meant"
        raise _PrivateAddress(msg)
    options: Any = connection.socket_options
    for address in addresses:
        try:
            return create_connection((address, connection.port), connection.timeout, socket_options=options)
        except TimeoutError as error:
            msg = "no connection in time"
            raise urllib3.exceptions.ConnectTimeoutError(connection, msg) from error
        except OSError as error:
            failure = error
    raise urllib3.exceptions.NewConnectionError(connection, failure.strerror or "refused") from failure


class _GuardedConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self, self.host)


class _GuardedTlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self, self.host)


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTlsConnection
