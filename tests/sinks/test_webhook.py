"""Signed webhooks: the published vector, an independent verifier, every answer a receiver can give, and no way into our own network."""

import json
import os
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import standardwebhooks
import trustme

from alerts.message import NOTICE, compose_with
from alerts.privacy import Pseudonyms
from sinks.webhook import MAX_BODY_BYTES, Webhook, body_of, is_public, secret_key, signature
from telemetry.alert import Evidence, from_json, to_json
from telemetry.errors import Rejected, Transient, VitalaneError
from tests.sinks.parts import START_MS, Answer, Receiver, event

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
DATA = Path(os.environ.get("VITALANE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VECTORS = DATA / "standard-webhooks" / "vectors.json"


def hook(receiver: Receiver, **options) -> Webhook:
    options = {"allow_private": True, "timeout_s": 5.0} | options
    return Webhook("pager", options.pop("url", receiver.url), options.pop("secrets", [SECRET]), compose_with(None), **options)


def test_the_published_vector_verifies() -> None:
    """From the text of Standard Webhooks."""
    signed = signature(secret_key(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.skipif(not VECTORS.exists(), reason="the published vectors are not there: set VITALANE_DATA")
def test_the_published_file_of_vectors_verifies() -> None:
    vector = json.loads(VECTORS.read_text())
    signed = signature(secret_key(vector["secret"]), vector["webhook-id"], vector["webhook-timestamp"], vector["payload"].encode())
    assert signed == vector["webhook-signature"]


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "A" * 88, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La!!Sw"],
)
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(VitalaneError) as raised:
        secret_key(secret)
    assert secret.removeprefix("whsec_") not in str(raised.value) or secret in {"", "whsec_"}


@pytest.mark.parametrize("url", ["", "ftp://host/", "host/path", "https://", "https://user:password@host/", "https://[::1/"])
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(VitalaneError) as raised:
        Webhook("pager", url, [SECRET], compose_with(None))
    assert "password@" not in str(raised.value)


@pytest.mark.servers
def test_an_independent_verifier_accepts_what_we_sign(receiver: Receiver) -> None:
    channel = hook(receiver, secrets=[SECRET, OLD_SECRET], headers={"x-team": "ward"})
    channel.send(event())
    (request,) = receiver.requests
    for secret in (SECRET, OLD_SECRET):  # while one secret replaces another, receivers know either
        payload = standardwebhooks.Webhook(secret).verify(request.body, request.headers)
        assert payload["id"] == event().event_id
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(request.body + b" ", request.headers)
    assert request.headers["webhook-id"] == event().event_id
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["x-team"] == "ward"
    assert from_json(request.body).message.endswith(NOTICE)
    channel.close()


@pytest.mark.servers
def test_a_retry_has_the_same_id_and_a_new_signature(receiver: Receiver) -> None:
    """The id is what a receiver knows a repetition by; the timestamp keeps an old request from being played again."""
    clock = [START_MS]
    channel = hook(receiver, now_ms=lambda: clock[0])
    channel.send(event())
    clock[0] += 60_000
    channel.send(event())
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    channel.close()


@pytest.mark.servers
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(receiver: Receiver, status: int) -> None:
    receiver.answers = [Answer(status, body=b"thanks")]
    channel = hook(receiver)
    channel.send(event())
    assert len(receiver.requests) == 1
    channel.close()


@pytest.mark.servers
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
def test_4xx_is_final(receiver: Receiver, status: int) -> None:
    receiver.answers = [Answer(status)]
    channel = hook(receiver)
    with pytest.raises(Rejected, match=f"answers {status}"):
        channel.send(event())
    channel.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [(429, "7", 7.0), (503, "Thu, 20 Nov 2025 21:27:10 GMT", 30.0), (500, "", None), (502, "", None), (504, "soon", None), (408, "", None)],
)
def test_overload_and_breakdown_pass(receiver: Receiver, status: int, header: str, expected: float | None) -> None:
    receiver.answers = [Answer(status, {"Retry-After": header} if header else {})]
    channel = hook(receiver, now_ms=lambda: START_MS)
    with pytest.raises(Transient, match=f"answers {status}") as raised:
        channel.send(event())
    assert raised.value.retry_after_s == expected
    channel.close()


@pytest.mark.servers
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_failures_and_are_not_followed(receiver: Receiver, status: int) -> None:
    """Followed, a receiver could send patients' alerts wherever it likes."""
    receiver.answers = [Answer(status, {"Location": receiver.url + "/elsewhere"})]
    channel = hook(receiver)
    with pytest.raises(Transient, match="not followed"):
        channel.send(event())
    assert [request.path for request in receiver.requests] == ["/hook"]
    channel.close()


@pytest.mark.servers
def test_no_answer_in_time_passes(receiver: Receiver) -> None:
    receiver.answers = [Answer(204, delay_s=10)]
    channel = hook(receiver, timeout_s=0.2)
    with pytest.raises(Transient, match="no answer: ReadTimeoutError"):
        channel.send(event())
    channel.send(event())
    channel.close()


def test_nobody_there_passes(free_port: int) -> None:
    channel = Webhook("pager", f"http://127.0.0.1:{free_port}/secret-path", [SECRET], compose_with(None), allow_private=True)
    with pytest.raises(Transient) as raised:
        channel.send(event())
    assert "secret-path" not in str(raised.value), "a path may be a password"
    channel.close()
    channel.close()


@pytest.mark.servers
def test_a_connection_is_used_again(receiver: Receiver) -> None:
    """A handshake costs more than the alert."""
    receiver.answers = [Answer(200, body=b"x" * 5000), Answer(500, body=b"sorry"), Answer(204)]
    channel = hook(receiver)
    channel.send(event())
    with pytest.raises(Transient):
        channel.send(event())
    channel.send(event())
    assert receiver.connections == 1
    channel.close()


@pytest.mark.servers
def test_an_answer_that_never_ends_is_left(free_port: int) -> None:
    """It said 200, which is all that counts; nobody reads megabytes of thanks."""
    sent = []

    class Talker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"thanks " * 1000)
                    sent.append(7000)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", free_port), Talker)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    channel = Webhook("pager", f"http://127.0.0.1:{free_port}/", [SECRET], compose_with(None), allow_private=True)
    channel.send(event())
    channel.close()
    thread.join(10)
    assert not thread.is_alive()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_private_addresses_are_known(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.servers
def test_a_private_address_is_not_connected_to_unless_that_is_meant(receiver: Receiver) -> None:
    """The metadata service of a cloud, the database next door: an alert's URL must not reach them."""
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433"):
        channel = hook(receiver, url=f"http://{host}:{receiver.port}/", allow_private=False)
        with pytest.raises(Transient, match="leads to a private address: set allow_private"):
            channel.send(event())
        channel.close()
    assert receiver.connections == 0


@pytest.mark.servers
def test_a_name_is_looked_at_when_it_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was public when it was configured and is private now: what counts is the address that is connected to, at that moment."""
    resolver = Resolver(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    channel = hook(receiver, url=f"http://hook.example:{receiver.port}/", allow_private=False)
    with pytest.raises(Transient, match="private address"):
        channel.send(event())
    assert resolver.asked == 1, "one resolution, checked and used: there is no second one that could answer otherwise"
    assert receiver.connections == 0
    channel.close()


class Resolver:
    """The system's resolver with one name more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
        self.asked = 0
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, *args, **options):
            if host != "hook.example":
                return real(host, port, *args, **options)
            self.asked += 1
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setitem(vars(socket), "getaddrinfo", getaddrinfo)


@pytest.mark.servers
def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = HTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    url = f"https://127.0.0.1:{server.server_address[1]}/"
    trusted = Webhook("pager", url, [SECRET], compose_with(None), allow_private=True, ca=tmp_path / "ca.pem")
    trusted.send(event())
    strange = Webhook("pager", url, [SECRET], compose_with(None), allow_private=True)
    with pytest.raises(Transient, match="SSLError"):
        strange.send(event())
    trusted.close()
    strange.close()
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.servers
def test_a_patient_is_not_in_the_body(receiver: Receiver) -> None:
    channel = Webhook("pager", receiver.url, [SECRET], compose_with(Pseudonyms(b"k" * 32)), allow_private=True)
    channel.send(event(kind="patient", subject="Jane Doe", tags={"ward": "ICU-3"}))
    assert b"Jane" not in receiver.requests[0].body
    assert b"ICU-3" not in receiver.requests[0].body
    channel.close()


def test_a_body_stays_small() -> None:
    """Receivers refuse more than about 20 kB; of the evidence, the latest says the most."""
    long = event(
        evidence=tuple(Evidence(START_MS + n, float(n), "logger-1") for n in range(2000)), positions=tuple((0, n) for n in range(2000))
    )
    body = body_of(long)
    assert len(body) <= MAX_BODY_BYTES
    assert from_json(body).evidence == long.evidence[-10:]
    assert body_of(event()) == to_json(event())
