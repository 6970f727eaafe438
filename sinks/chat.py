"""Any of the services that apprise knows, by its URL: chats, pagers, text messages. The URL is a secret and is never logged here.

apprise says yes or no and not why, so every no is tried again until the delivery is too old.
"""

from collections.abc import Sequence

import apprise

from sinks.sink import Compose
from telemetry.alert import AlertEvent, Severity
from telemetry.errors import Transient, VitalaneError

_TYPES = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}


class Chat:
    def __init__(self, name: str, urls: Sequence[str], compose: Compose) -> None:
        """Raises VitalaneError, without repeating it, where apprise does not know a URL."""
        self.name = name
        self._compose = compose
        self._services = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if not self._services.add(url):
                msg = f"{name}: URL {number} is none that apprise knows: see its list of services for the form"
                raise VitalaneError(msg)
        if not urls:
            msg = f"{name}: it needs the URL of a service"
            raise VitalaneError(msg)

    def send(self, event: AlertEvent) -> None:
        notice = self._compose(event)
        over = event.is_over()
        kind = apprise.NotifyType.SUCCESS if over else _TYPES[event.severity]
        if not self._services.notify(title=notice.title, body=notice.text, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
            msg = f"{self.name}: the service did not take the message"
            raise Transient(msg)

    def close(self) -> None:
        """apprise keeps nothing open."""
