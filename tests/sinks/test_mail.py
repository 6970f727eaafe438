"""Mail through a real SMTP server: with STARTTLS, with TLS from the first byte, with a password, and with every way to be refused."""

import email
import ssl
from collections.abc import Callable, Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from alerts.message import NOTICE, compose_with
from sinks.mail import Mail
from telemetry.errors import Rejected, Transient, VitalaneError
from tests.sinks.parts import event
from tests.tools import free_port as another_port

pytestmark = [
    pytest.mark.servers,
    pytest.mark.filterwarnings(
        "ignore:Requiring AUTH while not requiring TLS"
    ),  # it is TLS from the first byte, which aiosmtpd does not see
]

USER, PASSWORD = "alerts", "correct horse"


class Inbox:
    """What the server took; `refuse` is answered to DATA, `strangers` to RCPT."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse = ""
        self.strangers: dict[str, str] = {}

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address in self.strangers:
            return self.strangers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.messages.append(email.message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(envelope.rcpt_tos)
        return "250 taken"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def start(inbox: Inbox, authority: trustme.CA) -> Iterator[Callable[..., int]]:
    """Start a server, return its port: `start(security="starttls", auth=True)`."""
    running: list[Controller] = []

    def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=right)

    def started(security: str = "plain", *, auth: bool = False) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        options: dict[str, Any] = {"authenticator": login, "auth_required": True, "auth_require_tls": security != "tls"} if auth else {}
        if security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        options["ssl_context"] = context if security == "tls" else None
        controller = Controller(inbox, hostname="127.0.0.1", port=another_port(), **options)
        controller.start()
        running.append(controller)
        return controller.port

    yield started
    for controller in running:
        controller.stop()


def mail(port: int, tmp_path: Path, **given: Any) -> Mail:
    options: dict[str, Any] = {"security": "plain", "timeout_s": 5.0, "ca": tmp_path / "ca.pem"} | given
    recipients = options.pop("recipients", ["nurse@ward.example", "doctor@ward.example"])
    return Mail("ward", "127.0.0.1", port, "alerts@vitalane.example", recipients, compose_with(None), **options)


def test_a_mail_says_what_happened(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    mail(start(), tmp_path).send(event())
    (message,) = inbox.messages
    assert inbox.recipients == [["nurse@ward.example", "doctor@ward.example"]]
    assert message["Subject"] == "[CRITICAL] vaccine-too-warm raised: shipment-1: 9.2 °C since 2025-11-20 21:25:40 UTC"
    assert message["From"] == "alerts@vitalane.example"
    assert message.get_content_type() == "text/plain"
    body = message.get_content()
    assert "Value:    9.25 Cel" in body
    assert body.strip().endswith(NOTICE)


def test_the_same_event_has_the_same_message_id_and_an_alert_is_one_conversation(
    start: Callable[..., int], inbox: Inbox, tmp_path: Path
) -> None:
    channel = mail(start(), tmp_path)
    for an_event in (event(1, 1), event(1, 1), event(1, 2)):
        channel.send(an_event)
    first, again, amended = inbox.messages
    assert first["Message-ID"] == again["Message-ID"] == f"<{event(1, 1).event_id}@vitalane.example>"
    assert amended["Message-ID"] != first["Message-ID"]
    assert amended["References"] == first["References"]
    channel.close()
    channel.close()


def test_starttls_with_a_password(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    mail(start("starttls", auth=True), tmp_path, security="starttls", user=USER, password=PASSWORD).send(event())
    assert len(inbox.messages) == 1


def test_tls_from_the_first_byte_with_a_password(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    mail(start("tls", auth=True), tmp_path, security="tls", user=USER, password=PASSWORD).send(event())
    assert len(inbox.messages) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_nobody_vouches_for_gets_nothing(start: Callable[..., int], inbox: Inbox, tmp_path: Path, security: str) -> None:
    with pytest.raises(Transient, match=r"certificate|CERTIFICATE"):
        mail(start(security), tmp_path, security=security, ca=None).send(event())
    assert inbox.messages == []


def test_a_wrong_password_is_for_somebody_to_mend(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    """The alert is still there when they have."""
    with pytest.raises(Transient, match=r"refuses the user or the password \(535\)"):
        mail(start("starttls", auth=True), tmp_path, security="starttls", user=USER, password="wrong").send(event())


def test_a_server_without_starttls_gets_nothing(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot do what is configured"):
        mail(start(), tmp_path, security="starttls").send(event())
    assert inbox.messages == []


@pytest.mark.parametrize(
    ("answer", "verdict"), [("554 no", Rejected), ("550 spam", Rejected), ("451 later", Transient), ("452 full", Transient)]
)
def test_4xx_passes_and_5xx_stays(start: Callable[..., int], inbox: Inbox, tmp_path: Path, answer: str, verdict: type[Exception]) -> None:
    inbox.refuse = answer
    with pytest.raises(verdict, match=f"answers {answer[:3]}"):
        mail(start(), tmp_path).send(event())


def test_one_recipient_who_is_known_is_enough(start: Callable[..., int], inbox: Inbox, tmp_path: Path) -> None:
    """Sending again would tell those twice who were told."""
    inbox.strangers = {"nurse@ward.example": "550 unknown"}
    mail(start(), tmp_path).send(event())
    assert inbox.recipients == [["doctor@ward.example"]]


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [(("550 unknown", "550 unknown"), Rejected), (("450 greylisted", "550 unknown"), Transient)],
    ids=["all", "some later"],
)
def test_nobody_known_is_a_refusal_unless_one_may_be_later(
    start: Callable[..., int], inbox: Inbox, tmp_path: Path, answers: tuple[str, str], verdict: type[Exception]
) -> None:
    inbox.strangers = dict(zip(("nurse@ward.example", "doctor@ward.example"), answers, strict=True))
    with pytest.raises(verdict, match="none of the recipients"):
        mail(start(), tmp_path).send(event())


def test_no_server_passes(tmp_path: Path, authority: trustme.CA, free_port: int) -> None:
    with pytest.raises(Transient, match="Connection refused"):
        mail(free_port, tmp_path).send(event())


def test_what_cannot_work_is_said_before_the_first_alert(tmp_path: Path) -> None:
    compose = compose_with(None)
    with pytest.raises(VitalaneError, match="readable by anybody"):
        Mail("ward", "mail.example", 25, "a@b.example", ["c@d.example"], compose, security="plain")
    with pytest.raises(VitalaneError, match="nobody to send"):
        Mail("ward", "mail.example", 25, "a@b.example", [], compose)
    for address in ("nobody", "a@", "@b", "a b@c.example", "a@b.example\r\nBcc: x@y.example", "Ward <a@b.example>"):
        with pytest.raises(VitalaneError, match="is not a mail address"):
            Mail("ward", "mail.example", 25, "a@b.example", [address], compose)
    with pytest.raises(VitalaneError, match="no file of certificates"):
        Mail("ward", "mail.example", 25, "a@b.example", ["c@d.example"], compose, ca=tmp_path / "absent.pem")
