"""What an operator may say in `vitalane.yaml`. Unknown keys are refused; secrets are named (as a variable or a file), never written.

Paths are relative to the folder of the configuration file, so that a command means the same from everywhere.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, field_validator, model_validator

from decoders.mapping_model import Zone
from decoders.topics import FILTERS, KINDS
from documents import ByteSize, Duration, Strict
from rules.control import DEFAULT_SETTINGS
from rules.window import read_window

DAY_MS = 86_400_000

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


def _is_kind(kind: str) -> str:
    if kind not in KINDS:
        msg = f"must be one of {', '.join(KINDS)}"
        raise ValueError(msg)
    return kind


Kind = Annotated[str, AfterValidator(_is_kind)]
WindowForm = Annotated[
    int | list[int],
    BeforeValidator(read_window),
    WithJsonSchema({"type": "string", "examples": ["10 s", "30 s every 10 s", "session 5 min"]}),
]
Port = Annotated[int, Field(ge=1, le=65535)]
GROUP = re.compile(r"[^+#/\x00]{1,128}")
MAIL_ADDRESS = r"^[^@\s<>,;]+@[^@\s<>,;]+$"


def _as_text(value: Any) -> Any:
    """Return a number as text: `protocol: 5` is what people write."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _groups(value: Any) -> Any:
    """Return the groups of Sparkplug's edge nodes. Raises ValueError for what are none."""
    named = isinstance(value, list) and 1 <= len(value) <= 100 and all(isinstance(name, str) and GROUP.fullmatch(name) for name in value)
    if not named and value != "all":
        msg = "must be `all`, or a list of groups whose names have no `+`, `#` or `/`"
        raise ValueError(msg)
    return value


class Secret(Strict):
    """`{env: NAME}` or `{file: PATH}`."""

    env: str | None = Field(default=None, min_length=1, description="the environment variable that holds it")
    file: Path | None = Field(default=None, description="the file that holds it; one trailing line break is dropped")

    @model_validator(mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        if not isinstance(value, dict | Secret):
            msg = "a secret is not written here: name where it is, `{env: NAME}` or `{file: PATH}`"
            raise ValueError(msg)  # noqa: TRY004 - what pydantic collects
        return value

    @model_validator(mode="after")
    def _is_one(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            msg = "write one of `{env: NAME}` and `{file: PATH}`"
            raise ValueError(msg)
        return self

    def read(self, folder: Path) -> str:
        """Return the secret. Raises ValueError with a sentence where it is not there."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                msg = f"the environment variable {self.env} is not set"
                raise ValueError(msg)
            return value
        assert self.file is not None
        path = folder / self.file
        try:
            text = path.read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8"
            msg = f"the secret's file {path} cannot be read: {reason}"
            raise ValueError(msg) from error
        if not text:
            msg = f"the secret's file {path} is empty"
            raise ValueError(msg)
        return text


class Tls(Strict):
    ca: Path | None = Field(default=None, description="PEM of the authorities to trust; without it, the system's")
    certificate: Path | None = Field(default=None, description="PEM of the client's certificate")
    key: Path | None = Field(default=None, description="PEM of the client's key")

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.certificate is None) != (self.key is None):
            msg = "`certificate` and `key` come together"
            raise ValueError(msg)
        return self


class Account(Strict):
    """How to reach an MQTT broker and who we are there."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: Port = 1883
    user: str | None = None
    password: Secret | None = None
    tls: Tls | None = Field(default=None, description="`tls: {}` is TLS with the system's authorities")

    @model_validator(mode="after")
    def _user_with_password(self) -> "Account":
        if self.password is not None and self.user is None:
            msg = "`password` needs a `user`"
            raise ValueError(msg)
        return self


class Broker(Account):
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_as_text)] = Field(
        default="3.1.1", description="5 costs twice as much per message"
    )
    client_id: str = Field(default="vitalane-ingest", min_length=1, max_length=64, description="names the session: one ingest each")
    topics: Annotated[list[str], Field(min_length=1, max_length=64)] = list(FILTERS)
    qos: Literal[0, 1, 2] = 1
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    max_inflight: Annotated[int, Field(ge=1, le=65535)] = Field(default=2000, description="MQTT 5: messages that the broker may send ahead")
    receiver: Literal["tap", "callback"] = Field(default="tap", description="tap: batches from under paho; callback: its own path")


class Sparkplug(Strict):
    """Edge nodes of Sparkplug B at the broker, with its account; `sparkplug: {}` listens to all of them."""

    host_id: str = Field(default="vitalane", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="our name on `spBv1.0/STATE/{host_id}`")
    client_id: str = Field(default="vitalane-ingest-sparkplug", min_length=1, max_length=64, description="of its connection")
    groups: Annotated[Literal["all"] | list[str], BeforeValidator(_groups)] = Field(default="all", description="`all`, or at most 100")
    kind: Kind = Field(default="shipment", description="what the edge nodes' devices watch")
    reorder_timeout: Duration = Field(default=1000, description="how long a message waits for those before it")


class Retention(Strict):
    max_age: Duration | None = 30 * DAY_MS
    max_size: ByteSize | None = 20 * 10**9


class Ingest(Strict):
    commit_messages: Annotated[int, Field(ge=1, le=100_000)] = Field(default=2000, description="a group commit has at most so many")
    commit_ms: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=4, description="time between commits at 10,000 messages a second; half of it at low rates, four times at most"
    )
    tick_ms: Annotated[int, Field(ge=100, le=60_000)] = Field(default=1000, description="the journal's clock when nothing arrives")
    max_payload_bytes: Annotated[int, Field(ge=1024, le=268_435_455)] = 262_144
    retention: Retention = Retention()


class Flow(Strict):
    epoch_ms: Annotated[int, Field(ge=10, le=10_000)] = Field(default=3000, description="how often the flow's state is made durable")
    store_readings: bool = Field(default=True, description="whether every reading goes to the stores, or only windows and alerts")
    retention: Retention = Retention()


class Use(Strict):
    """A mapping document, and what is changed in it."""

    use: str = Field(min_length=1, description="a file, or the name of a shipped mapping")
    zone: Zone | None = Field(default=None, description="of local times that name none: Europe/Amsterdam")
    kind: Kind | None = None
    topic: str | None = Field(default=None, description="another topic than the document's, where it has one mapping")
    names: dict[str, str] | None = Field(default=None, max_length=10_000, description="what devices are called here, by their own names")

    def changes(self) -> dict[str, Any]:
        """Return what is changed."""
        return self.model_dump(exclude={"use"}, exclude_none=True)


class InfluxDB(Strict):
    url: str = Field(pattern=r"^https?://[^@\s]+$", description="http://localhost:8086")
    org: str = ""
    bucket: str = Field(min_length=1, description="InfluxDB 1.8: database or database/policy")
    token: Secret = Field(description="InfluxDB 1.8: user:password")
    ca: Path | None = None
    timeout: Duration = 30_000


class History(Strict):
    """The embedded store: data/history.db."""

    keep: Duration | None = Field(default=None, description="how long; without it, for ever")


class Stores(Strict):
    influxdb: InfluxDB | None = None
    history: History | None = None

    def names(self) -> list[str]:
        """Return the stores that are configured, as their ledgers are named."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


class Destination(Strict):
    """What every channel has. Patients go out under pseudonyms unless the channel may name them."""

    identifiers: bool = Field(default=False, description="name patients as they are; without it, pseudonyms")


class Webhook(Destination):
    type: Literal["webhook"]
    url: str | Secret = Field(description="https://...; {env: NAME} where the address itself is a secret")
    secret: Secret = Field(description="signs by Standard Webhooks: whsec_ and base64")
    previous_secret: Secret | None = Field(default=None, description="signs too, while receivers change to the new one")
    headers: dict[str, str] = Field(default={}, max_length=32)
    ca: Path | None = None
    allow_private: bool = Field(default=False, description="whether the address may be of a private network")
    timeout: Duration = 15_000

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: "str | Secret") -> "str | Secret":
        if isinstance(url, str) and not url.startswith(("http://", "https://")):
            msg = "must begin with https:// (or http://)"
            raise ValueError(msg)
        return url


class Mail(Destination):
    type: Literal["mail"]
    host: str = Field(min_length=1)
    port: Port = 587
    security: Literal["starttls", "tls", "plain"] = Field(default="starttls", description="plain: on the loopback only")
    user: str | None = None
    password: Secret | None = None
    sender: str = Field(alias="from", pattern=MAIL_ADDRESS)
    to: Annotated[list[Annotated[str, StringConstraints(pattern=MAIL_ADDRESS)]], Field(min_length=1, max_length=100)]
    ca: Path | None = None
    timeout: Duration = 15_000


class Mqtt(Account, Destination):
    """Alerts on `vitalane/v1/alerts/{kind}/{rule}` of a broker; without a host, of the one that ingest reads from."""

    type: Literal["mqtt"]
    host: str = Field(default="", description="empty: the broker of this configuration, with its account")
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_as_text)] = "5"
    timeout: Duration = 10_000


class Chat(Destination):
    type: Literal["chat"]
    url: Secret = Field(description="an apprise URL: https://github.com/caronc/apprise/wiki")


class Terminal(Destination):
    """A line an alert on the standard output of the deliverer: the operator's own screen, so patients are named."""

    type: Literal["terminal"]
    identifiers: bool = Field(default=True, description="name patients as they are; without it, pseudonyms")


Channel = Annotated[Webhook | Mail | Mqtt | Chat | Terminal, Field(discriminator="type")]


class Privacy(Strict):
    pseudonym_key: Secret | None = Field(default=None, description="at least 16 bytes; without it, data/pseudonyms.key is made")


class Settings(Strict):
    """The whole of `vitalane.yaml`; every key may be left out."""

    data_dir: Path = Path("data")
    partitions: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="of the journal: as many as flow processes will ever share it; cannot change once there is one"
    )
    broker: Broker = Broker()
    ingest: Ingest = Ingest()
    sparkplug: Sparkplug | None = None
    rules: list[str] = Field(default=[], max_length=100, description="files, folders of files, or names of shipped packs")
    registry: Path | None = Field(default=None, description="which device watches which subject")
    mappings: list[str | Use] = Field(
        default=[], max_length=100, description="how messages of other makes are read: files, or names of shipped mappings"
    )
    windows: dict[Kind, WindowForm] = Field(
        default=DEFAULT_SETTINGS.windows_ms, description="`10 s`, `30 s every 10 s` or `session 5 min`, by kind of subject"
    )
    grace: dict[Kind, Duration] = Field(default=DEFAULT_SETTINGS.grace_ms, description="how long a window waits for late readings")
    horizon: dict[Kind, Duration] = Field(
        default=DEFAULT_SETTINGS.horizon_ms, description="how far a reading may be behind its series and still count, by kind of subject"
    )
    max_readings: dict[Kind, Annotated[int, Field(ge=100, le=10_000_000)]] = Field(
        default=DEFAULT_SETTINGS.history_readings, description="how many readings of a series are kept for late ones, at most"
    )
    max_per_minute: dict[Kind, Annotated[int, Field(ge=1)]] = Field(
        default=DEFAULT_SETTINGS.max_per_minute,
        description="readings of a series in a minute of its own time; what is more is shed as a flood",
    )
    max_skew: Duration = Field(default=DEFAULT_SETTINGS.max_skew_ms, description="how far ahead a device's clock may be")
    historic_after: Duration = Field(
        DEFAULT_SETTINGS.historic_after_ms, description="an alert decided so long after its reading is history"
    )
    flow: Flow = Flow()
    stores: Stores = Stores(history=History())
    channels: dict[Name, Channel] = {}
    privacy: Privacy = Privacy()
    subscriptions: str | list[dict[str, Any]] = Field(default=[], description="a file, or the list itself: who hears of what")

    @field_validator("subscriptions", mode="before")
    @classmethod
    def _file_or_list(cls, value: Any) -> Any:
        if isinstance(value, str | list):
            return value
        msg = "must be a file or a list of subscriptions"
        raise ValueError(msg)
