"""From the settings to destinations: which channel and store each configured one is, and who hears of what."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alerts.message import compose_with
from alerts.privacy import Pseudonyms
from alerts.subscriptions import Subscription, SubscriptionList, load_subscriptions, unknown_channels
from cli.configuration import Configuration
from cli.places import history_path
from cli.settings import Chat, Destination, Mail, Mqtt, Terminal, Webhook
from documents import Tree, validate
from sinks.sink import Channel, Compose, Store
from telemetry.errors import ConfigError, Problem, VitalaneError

if TYPE_CHECKING:
    from sinks.influxdb_past import InfluxPast

KEY_FILE = "pseudonyms.key"


def subscriptions(configuration: Configuration) -> list[Subscription]:
    """Return who hears of what. Raises ConfigError with every problem, channels that do not exist among them."""
    settings = configuration.settings
    if isinstance(settings.subscriptions, str):
        return load_subscriptions(configuration.folder / settings.subscriptions, settings.channels)
    documents = _inline(configuration).root
    problems: list[Problem] = []
    for index, sentence in unknown_channels(documents, settings.channels):
        problems += configuration.problem(("subscriptions", index, "channels"), sentence).problems
    if problems:
        raise ConfigError(problems)
    return [document.subscription() for document in documents]


def _inline(configuration: Configuration) -> SubscriptionList:
    """Return the list that stands in the configuration itself, its problems at their places there."""
    tree, key = configuration.tree, "subscriptions"
    value = (tree.value or {}).get(key) or []
    places, keys = ({path[1:]: place for path, place in known.items() if path[:1] == (key,)} for known in (tree.places, tree.keys))
    try:
        return validate(Tree(tree.file, tree.text, value, places, keys), SubscriptionList)
    except ConfigError as error:
        raise ConfigError([problem._replace(where=f"{key}{problem.where}") for problem in error.problems]) from error


def name_problems(configuration: Configuration) -> list[Problem]:
    """Return the channels that are called like a store: each has a ledger of its name."""
    taken = [name for name in configuration.settings.channels if name in type(configuration.settings.stores).model_fields]
    message = "is the name of a store: call the channel otherwise"
    return [problem for name in taken for problem in configuration.problem(("channels", name), message, key=True).problems]


def channel(configuration: Configuration, name: str, names: Pseudonyms | None) -> Channel:
    """Return a channel that can send, under pseudonyms where it may not name patients. Raises ConfigError where it cannot work."""
    entry = configuration.settings.channels[name]
    compose = compose_with(None if entry.identifiers else names)
    try:
        return _channel(configuration, name, entry, compose)
    except ConfigError:
        raise
    except VitalaneError as error:
        raise configuration.problem(("channels", name), str(error)) from error


def _channel(configuration: Configuration, name: str, entry: Destination, compose: Compose) -> Channel:
    folder, place = configuration.folder, ("channels", name)
    match entry:
        case Webhook():
            from sinks.webhook import Webhook as WebhookChannel

            url = entry.url if isinstance(entry.url, str) else configuration.secret((*place, "url"), entry.url)
            keys = [configuration.secret((*place, "secret"), entry.secret)]
            if entry.previous_secret is not None:
                keys.append(configuration.secret((*place, "previous_secret"), entry.previous_secret))
            return WebhookChannel(
                name,
                url,
                keys,
                compose,
                allow_private=entry.allow_private,
                timeout_s=entry.timeout / 1000,
                headers=entry.headers,
                ca=_file(folder, entry.ca),
            )
        case Mail():
            from sinks.mail import Mail as MailChannel

            password = None if entry.password is None else configuration.secret((*place, "password"), entry.password)
            return MailChannel(
                name,
                entry.host,
                entry.port,
                entry.sender,
                entry.to,
                compose,
                security=entry.security,
                user=entry.user,
                password=password,
                ca=_file(folder, entry.ca),
                timeout_s=entry.timeout / 1000,
            )
        case Mqtt():
            return _mqtt(configuration, name, entry, compose)
        case Chat():
            from sinks.chat import Chat as ChatChannel

            return ChatChannel(name, [configuration.secret((*place, "url"), entry.url)], compose)
        case _:
            assert isinstance(entry, Terminal)
            from sinks.terminal import Terminal as TerminalChannel

            return TerminalChannel(name, click.echo, compose)


def _mqtt(configuration: Configuration, name: str, entry: Mqtt, compose: Compose) -> Channel:
    from sinks.mqtt import Mqtt as MqttChannel

    account, place = (entry, ("channels", name)) if entry.host else (configuration.settings.broker, ("broker",))
    tls = account.tls
    return MqttChannel(
        name,
        account.host,
        account.port,
        compose,
        user=account.user,
        password=None if account.password is None else configuration.secret((*place, "password"), account.password),
        ca=_file(configuration.folder, None if tls is None else tls.ca),
        certificate=_file(configuration.folder, None if tls is None else tls.certificate),
        key=_file(configuration.folder, None if tls is None else tls.key),
        tls=tls is not None,
        protocol=entry.protocol,
        timeout_s=entry.timeout / 1000,
    )


def influxdb_past(configuration: Configuration) -> "InfluxPast":
    """Return what asks the configured InfluxDB for readings. Raises ConfigError where none is configured."""
    from sinks.influxdb_past import InfluxPast

    influx = configuration.settings.stores.influxdb
    if influx is None:
        raise ConfigError(configuration.problem(("stores",), "there is no `influxdb` among the stores").problems)
    token, ca = configuration.secret(("stores", "influxdb", "token"), influx.token), _file(configuration.folder, influx.ca)
    return InfluxPast(influx.url, influx.bucket, token, timeout_s=influx.timeout / 1000, ca=ca)


def stores(configuration: Configuration) -> dict[str, Callable[[], Store]]:
    """Return how to open each store that is configured. Secrets are read at once."""
    settings = configuration.settings.stores
    found: dict[str, Callable[[], Store]] = {}
    if settings.influxdb is not None:
        from sinks.influxdb import InfluxDb

        influx, token = settings.influxdb, configuration.secret(("stores", "influxdb", "token"), settings.influxdb.token)
        ca = _file(configuration.folder, influx.ca)
        found["influxdb"] = lambda: InfluxDb(influx.url, influx.org, influx.bucket, token, timeout_s=influx.timeout / 1000, ca=ca)
    if settings.history is not None:
        from sinks.history import History

        keep_ms = settings.history.keep
        found["history"] = lambda: History(history_path(configuration.data_dir), keep_ms=keep_ms)
    return found


def pseudonyms(configuration: Configuration) -> Pseudonyms:
    """Return the pseudonyms of this installation; their key is made at the first need where none is configured."""
    named = configuration.settings.privacy.pseudonym_key
    if named is not None:
        return Pseudonyms(configuration.secret(("privacy", "pseudonym_key"), named).encode())
    file = configuration.data_dir / KEY_FILE
    try:
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(32))
        return Pseudonyms(file.read_bytes())
    except OSError as error:
        msg = f"the key for pseudonyms, {file}, cannot be read or made: {(error.strerror or str(error)).lower()}"
        raise VitalaneError(msg) from error


def _file(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / path
