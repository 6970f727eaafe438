"""What ingest may be told. Plain values, already checked and with secrets already read: the composition root makes them from YAML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from decoders.topics import FILTERS


@dataclass(frozen=True)
class TlsSettings:
    ca: Path | None = None  # None: the authorities that the machine trusts
    certificate: Path | None = None  # of the client, with its chain
    key: Path | None = None


@dataclass(frozen=True)
class BrokerSettings:
    host: str = "127.0.0.1"
    port: int = 1883
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    client_id: str = "vitalane-ingest"  # names the session at the broker: fixed, and nobody else's
    topics: tuple[str, ...] = FILTERS
    qos: Literal[0, 1, 2] = 1
    keepalive_s: int = 30
    max_inflight: int = 2000  # MQTT 5: messages that the broker may send ahead of our acknowledgement; with 3.1.1 it decides itself
    session_expiry_s: int = 7 * 86_400  # MQTT 5: how long the broker keeps what we have not acknowledged; with 3.1.1 it decides itself
    receiver: Literal["tap", "callback"] = "tap"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsSettings | None = None
    connect_timeout_s: float = 5.0
    backoff_first_s: float = 0.5  # after a connection is lost; doubles with every failure, and half of it is chance
    backoff_longest_s: float = 30.0


@dataclass(frozen=True)
class SparkplugSettings:
    """What is told to the session that hosts Sparkplug's edge nodes, besides what the broker's settings say."""

    host_id: str = "vitalane"
    client_id: str = "vitalane-ingest-sparkplug"
    groups: tuple[str, ...] = ()  # none: all
    listening: bytes = b""  # the control record that goes before what a new connection brings
    reorder_s: float = 1.0  # how long a message waits for those before it
    ask_every_s: float = 5.0  # a node is asked for a rebirth no more often; doubles as long as it does not answer
    ask_at_least_every_s: float = 60.0
    max_waiting: int = 100_000  # messages that are received and not journalled
    max_waiting_bytes: int = 64 << 20


@dataclass(frozen=True)
class RetentionSettings:
    max_age_ms: int | None = None
    max_bytes: int | None = None
    consumers: tuple[str, ...] = ("flow",)  # nothing is removed that one of them has not read
    every_s: float = 60.0


@dataclass(frozen=True)
class IngestSettings:
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    commit_messages: int = 2000  # a commit takes about this many messages at most
    commit_ms: float = 4.0  # messages wait about this long for company at 10,000 a second; half at less, up to four times at more
    tick_ms: int = 1000  # a partition without a row for so long gets a tick
    max_payload_bytes: int = 262_144
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    sparkplug: SparkplugSettings | None = None


class SparkplugStatus(NamedTuple):
    """How it stands with Sparkplug's edge nodes."""

    connected: bool  # subscribed, and online by our STATE
    nodes: int  # that are born
    asked: int  # rebirths asked for since the start
    lost: int  # messages for which there was no room
    error: str  # one sentence; empty where all is well


class IngestStatus(NamedTuple):
    """How it stands, for whoever watches."""

    received: int  # messages journalled since the start
    own_alerts: int  # messages that were our own alerts come back: acknowledged, not journalled
    commits: int
    last_commit_ms: int  # 0: none yet
    connected: bool  # subscribed, and nothing known to be wrong
    error: str  # one sentence; empty where all is well
    sparkplug: SparkplugStatus | None = None  # None: not configured
