"""`vitalane asyncapi`: the AsyncAPI 3 document of every channel and message, made from the code that decodes and writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from cli.asyncapi_channels import CHANNELS, Channel, Message, schemas
from cli.asyncapi_others import SPARKPLUG, SPARKPLUG_SCHEMAS, mapped
from cli.configuration import Configuration, read_configuration
from cli.registered import registered
from cli.settings import Account, Broker, Mqtt, Settings
from decoders.mapping_model import MappingModel

ASYNCAPI = "3.0.0"
MQTT_BINDING = "0.2.0"
API_VERSION = "1.0.0"
"""Of the channels, not of the program: the number that topics, payloads and `EVENT_TYPE` carry."""

SECURITY = {
    "account": {
        "type": "userPassword",
        "description": "the account of a device, a gateway or Vitalane: `vitalane deploy mosquitto` makes them",
    },
    "certificate": {"type": "X509", "description": "a certificate that the broker's authority has signed"},
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
@click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Name the brokers of this configuration."
)
def asyncapi(as_json: bool, config_file: Path | None) -> None:
    """Print the AsyncAPI 3 document of what devices publish and of what Vitalane tells; no secrets."""
    made = document() if config_file is None else _configured(read_configuration(config_file))
    click.echo(json.dumps(made, indent=2, ensure_ascii=False) if as_json else as_yaml(made), nl=as_json)


def as_yaml(made: dict[str, Any]) -> str:
    """Return a document as YAML, what stands there twice written twice."""
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda _self, _data: True})
    return yaml.dump(made, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)


def _configured(configuration: Configuration) -> dict[str, Any]:
    return document(configuration.settings, registered(configuration).library.mappings)


def document(settings: Settings | None = None, mappings: Sequence[MappingModel] = ()) -> dict[str, Any]:
    """Return the document; with settings, with the brokers that they name; with mappings, with what these read."""
    servers = {} if settings is None else _servers(settings)
    others, their_schemas = mapped(list(mappings))
    channels = CHANNELS | SPARKPLUG | others
    messages = {name: message for channel in channels.values() for name, message in channel.messages.items()}
    accounts = [] if settings is None else [settings.broker, *_tellers(settings).values()]
    credentials = {name for account in accounts for name in _credentials(account)}
    made: dict[str, Any] = {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Vitalane",
            "version": API_VERSION,
            "description": "Telemetry of shipments and patients into alerts that somebody can account for. "
            "Secondary notification: no medical device, no primary alarm.",
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": servers,
        "channels": {name: _channel(name, channel, settings) for name, channel in channels.items()},
        "operations": {f"{channel.action}{_title(name)}": _operation(name, channel, settings) for name, channel in channels.items()},
        "components": {
            "messages": {name: _message(message) for name, message in messages.items()},
            "schemas": schemas() | SPARKPLUG_SCHEMAS | their_schemas,
            "securitySchemes": {name: scheme for name, scheme in SECURITY.items() if name in credentials},
        },
    }
    return {key: value for key, value in made.items() if value}


def _to(*steps: str) -> str:
    return "/".join(("#", "components", *steps))


def _channel(name: str, channel: Channel, settings: Settings | None) -> dict[str, Any]:
    servers = [] if settings is None else _servers_of(channel, settings)
    return {
        "address": channel.address,
        "title": _title(name),
        "summary": channel.summary,
        **({"servers": [{"$ref": f"#/servers/{server}"} for server in servers]} if servers else {}),
        "parameters": channel.parameters,
        "messages": {message: {"$ref": _to("messages", message)} for message in channel.messages},
    }


def _operation(name: str, channel: Channel, settings: Settings | None) -> dict[str, Any]:
    qos = settings.broker.qos if settings is not None and channel.action == "receive" else 1
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": channel.summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in channel.messages],
        "bindings": {"mqtt": {"qos": qos, "retain": channel.retained, "bindingVersion": MQTT_BINDING}},
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "title": message.title,
        **({"summary": message.summary} if message.summary else {}),
        "contentType": message.content_type,
        "payload": {"$ref": _to("schemas", message.schema)},
        **({"examples": [{"name": name, "payload": payload} for name, payload in message.examples.items()]} if message.examples else {}),
    }


def _title(name: str) -> str:
    return name[0].upper() + name[1:]


# -- servers ---------------------------------------------------------------------------------------------------------------------------


def _servers_of(channel: Channel, settings: Settings) -> list[str]:
    told_here = any(isinstance(entry, Mqtt) and not entry.host for entry in settings.channels.values())
    own = list(_tellers(settings)) if channel.action == "send" else []
    return own if own and not told_here else ["broker", *own]


def _tellers(settings: Settings) -> dict[str, Mqtt]:
    """Return the channels that tell alerts over a broker of their own."""
    return {name: entry for name, entry in settings.channels.items() if isinstance(entry, Mqtt) and entry.host}


def _servers(settings: Settings) -> dict[str, Any]:
    broker = settings.broker
    session = {"clientId": broker.client_id, "cleanSession": False, "keepAlive": broker.keepalive_s, "bindingVersion": MQTT_BINDING}
    servers = {"broker": _server(broker, "where devices publish") | {"bindings": {"mqtt": session}}}
    return servers | {name: _server(entry, f"where the channel `{name}` tells alerts") for name, entry in _tellers(settings).items()}


def _server(account: Broker | Mqtt, description: str) -> dict[str, Any]:
    host = f"[{account.host}]" if ":" in account.host else account.host
    security = [{"$ref": _to("securitySchemes", name)} for name in _credentials(account)]
    return {
        "host": f"{host}:{account.port}",
        "protocol": "mqtt" if account.tls is None else "secure-mqtt",
        "protocolVersion": account.protocol,
        "description": description,
        **({"security": security} if security else {}),
    }


def _credentials(account: Account) -> list[str]:
    certificate = account.tls is not None and account.tls.certificate is not None
    return ["account"] * (account.user is not None) + ["certificate"] * certificate
