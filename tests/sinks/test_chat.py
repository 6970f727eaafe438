"""Services that apprise knows, here its plain JSON one against a real HTTP server."""

import json

import pytest

from alerts.message import NOTICE, compose_with
from sinks.chat import Chat
from telemetry.alert import Phase, Severity
from telemetry.errors import Transient, VitalaneError
from tests.sinks.parts import Answer, Receiver, event


@pytest.mark.servers
def test_a_service_gets_title_and_text(receiver: Receiver) -> None:
    channel = Chat("team", [f"json://127.0.0.1:{receiver.port}/hook"], compose_with(None))
    channel.send(event())
    said = json.loads(receiver.requests[0].body)
    assert said["title"].startswith("[CRITICAL] vaccine-too-warm raised: shipment-1")
    assert "9.2 °C" in said["message"]
    assert said["message"].endswith(NOTICE)
    channel.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"severity": Severity.CRITICAL}, "failure"),
        ({"severity": Severity.WARNING}, "warning"),
        ({"severity": Severity.INFO}, "info"),
        ({"phase": Phase.RESOLVED}, "success"),
    ],
    ids=str,
)
def test_a_service_shows_how_grave_it_is(receiver: Receiver, changes: dict, expected: str) -> None:
    Chat("team", [f"json://127.0.0.1:{receiver.port}/"], compose_with(None)).send(event(**changes))
    assert json.loads(receiver.requests[0].body)["type"] == expected


@pytest.mark.servers
@pytest.mark.parametrize("status", [400, 500])
def test_a_no_is_tried_again(receiver: Receiver, status: int) -> None:
    """apprise does not say why."""
    receiver.answers = [Answer(status)]
    with pytest.raises(Transient, match="did not take the message"):
        Chat("team", [f"json://127.0.0.1:{receiver.port}/"], compose_with(None)).send(event())


def test_a_service_that_is_not_known_is_refused_and_its_url_not_repeated() -> None:
    with pytest.raises(VitalaneError, match="URL 2 is none that apprise knows") as raised:
        Chat("team", ["json://127.0.0.1/", "carrier-pigeon://secret"], compose_with(None))
    assert "secret" not in str(raised.value)
    with pytest.raises(VitalaneError, match="needs the URL"):
        Chat("team", [], compose_with(None))
