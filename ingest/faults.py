"""What is wrong with the broker, in one sentence that says what to look at: the text of ingest that a person under stress will read."""

import socket
import ssl

from ingest.settings import BrokerSettings
from ingest.stream import ProtocolError

_REFUSALS = {
    "Bad user name or password": "refused the user name or password: check broker.user and broker.password",
    "Not authorized": "refused the user name or password, or they may not connect: check broker.user and broker.password",
    "Client identifier not valid": "refused the client id {client_id!r}: check broker.client_id",
    "Unsupported protocol version": "does not speak MQTT {protocol}: check broker.protocol",
    "Session taken over": "gave the session to another client with the id {client_id!r}: every ingest needs a broker.client_id of its own",
    "Server busy": "is busy and refused the connection",
    "Server unavailable": "is not available yet",
    "Receive maximum exceeded": "says that it was sent more than it can take",
    "Packet too large": "refused a packet as too large",
    "Server shutting down": "is shutting down",
}


def address(broker: BrokerSettings) -> str:
    return f"the broker at {broker.host}:{broker.port}"


def unreachable(broker: BrokerSettings, error: OSError | UnicodeError) -> str:
    """Return why no connection could be made."""
    match error:
        case UnicodeError() | socket.gaierror():
            return f"the broker's name {broker.host!r} is not known: check broker.host"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {address(broker)} is not trusted ({error.verify_message}): check broker.tls.ca and broker.host"
        case ssl.SSLError():
            return f"TLS with {address(broker)} failed ({_reason(error)}): check broker.port and broker.tls"
        case ConnectionRefusedError():
            return f"nobody listens at {broker.host}:{broker.port}: is the broker up, and are broker.host and broker.port right?"
        case ConnectionError() if broker.tls:
            return f"{address(broker)} ended the connection when TLS began: does broker.port speak TLS?"
        case TimeoutError():
            return f"{address(broker)} does not answer: check broker.host, broker.port and what is between"
        case _:
            return f"{address(broker)} cannot be reached: {error.strerror or error}"


def refused(broker: BrokerSettings, reason: str) -> str:
    """Return what the broker's own word for refusing or ending a connection means here."""
    text = _REFUSALS.get(reason, "ended the connection: {reason}")
    return f"{address(broker)} {text.format(client_id=broker.client_id, protocol=broker.protocol, reason=reason)}"


def lost(broker: BrokerSettings, error: Exception | None) -> str:
    """Return why a connection that stood does no more."""
    match error:
        case ProtocolError():
            return f"the connection to {address(broker)} was given up: {error}"
        case ssl.SSLError():
            return f"{address(broker)} ended the TLS connection ({_reason(error)}): check broker.tls.certificate and broker.tls.key"
        case _:
            return f"the connection to {address(broker)} was lost"


def lost_again(broker: BrokerSettings) -> str:
    """Return what it can mean that connections are made and lost, one after the other."""
    return (
        f"the connection to {address(broker)} is lost again and again soon after it is made: "
        f"does another client use the id {broker.client_id!r}? Every ingest needs a broker.client_id of its own"
    )


def unanswered(broker: BrokerSettings) -> str:
    """Return what it means that the connection ended before it was one of MQTT."""
    expected = "TLS" if broker.tls else "no TLS"
    return f"{address(broker)} ended the connection without an answer: we speak {expected} and MQTT {broker.protocol}, does this port?"


def silent(broker: BrokerSettings) -> str:
    return f"{address(broker)} takes connections but does not answer: does this port speak MQTT?"


def not_subscribed(broker: BrokerSettings, topic_filter: str, reason: str) -> str:
    return f"{address(broker)} refused the subscription to {topic_filter} ({reason}): check its access control list"


def unheard(broker: BrokerSettings, topic: str) -> str:
    """Return what it means that what we publish does not come back to us, who have subscribed to it."""
    return (
        f"{address(broker)} does not pass on {topic}: its access control list must let us write and read it, and read what edge nodes say"
    )


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
