"""Mail by SMTP. One connection a message: an alert is rare, and a connection kept for hours is one that has silently died.

All revisions of an alert are one conversation in a mail reader: each names the alert in `References`. The same event always has the same
Message-ID. Sending without encryption is refused but on the loopback.
"""

import ipaddress
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Literal

from sinks.sink import Compose
from telemetry.alert import AlertEvent
from telemetry.clock import Clock, utc_now_ms
from telemetry.errors import Rejected, Transient, VitalaneError

Security = Literal["starttls", "tls", "plain"]


class Mail:
    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        sender: str,
        recipients: Sequence[str],
        compose: Compose,
        *,
        security: Security = "starttls",
        user: str | None = None,
        password: str | None = None,
        ca: Path | None = None,
        timeout_s: float = 15.0,
        now_ms: Clock = utc_now_ms,
    ) -> None:
        """Raises VitalaneError where an address is none, or nothing would protect the message on its way."""
        self.name = name
        self._host, self._port, self._security = host, port, security
        self._sender, self._recipients, self._compose = sender, list(recipients), compose
        self._user, self._password, self._timeout_s, self._now_ms = user, password, timeout_s, now_ms
        for address in [sender, *recipients]:
            local, at, domain = address.rpartition("@")
            if not (local and at and domain) or any(character.isspace() or character in "<>,;" for character in address):
                msg = f"{name}: {address!r} is not a mail address"
                raise VitalaneError(msg)
        if not recipients:
            msg = f"{name}: there is nobody to send mail to"
            raise VitalaneError(msg)
        if security == "plain" and not _is_loopback(host):
            msg = f"{name}: mail to {host} would go out readable by anybody: use starttls or tls (plain is for the loopback only)"
            raise VitalaneError(msg)
        try:
            self._context = ssl.create_default_context(cafile=str(ca) if ca else None)
        except OSError as error:
            msg = f"{name}: {ca} is no file of certificates: {error.strerror or error}"
            raise VitalaneError(msg) from error

    def send(self, event: AlertEvent) -> None:
        message = self.message(event)
        try:
            with self._connection() as connection:
                if self._security == "starttls":
                    connection.starttls(context=self._context)
                if self._user is not None:
                    connection.login(self._user, self._password or "")
                connection.send_message(message, self._sender, self._recipients)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._verdict(min(code for code, _ in error.recipients.values()), "takes none of the recipients") from error
        except smtplib.SMTPAuthenticationError as error:
            msg = f"{self.name}: {self._host} refuses the user or the password ({error.smtp_code})"
            raise Transient(msg) from error  # an operator can mend it, and the alert is still there
        except smtplib.SMTPNotSupportedError as error:
            msg = f"{self.name}: {self._host} cannot do what is configured: {error}"
            raise Transient(msg) from error
        except smtplib.SMTPResponseException as error:
            raise self._verdict(error.smtp_code, f"answers {error.smtp_code}") from error
        except (smtplib.SMTPException, OSError) as error:
            msg = f"{self.name}: no mail through {self._host}:{self._port}: {_said(error)}"
            raise Transient(msg) from error

    def message(self, event: AlertEvent) -> EmailMessage:
        """Return the mail of an event."""
        notice = self._compose(event)
        domain = self._sender.rpartition("@")[2]
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = " ".join(notice.title.split())
        message["Date"] = formatdate(self._now_ms() / 1000)
        message["Message-ID"] = f"<{event.event_id}@{domain}>"
        message["References"] = f"<{event.alert_id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(notice.text)
        return message

    def close(self) -> None:
        """Nothing is kept open."""

    def _connection(self) -> smtplib.SMTP:
        if self._security == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=self._context)
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)

    def _verdict(self, code: int, what: str) -> Exception:
        """4xx passes, 5xx stays (RFC 5321, 4.2.1)."""
        msg = f"{self.name}: {self._host} {what}"
        return Transient(msg) if code < 500 else Rejected(msg)


def _said(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else type(error).__name__


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
