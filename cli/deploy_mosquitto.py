"""`vitalane deploy mosquitto`: accounts and access rules of a Mosquitto broker, from the registry.

Run it again whenever devices come or go: who has a password keeps it, who is no longer registered has none. What it writes is for its own
user's eyes, and no password is ever printed.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from cli.accounts import access_rules, accounts, hashed, is_account, matches, new_password
from cli.configuration import Configuration, read_configuration
from cli.exits import writing
from cli.options import config_option
from cli.registered import registered
from decoders.sparkplug import command_topic, filters, state_topic
from telemetry.errors import ConfigError, Problem, VitalaneError

SERVICE = "vitalane"
ACL, PASSWORDS, CREDENTIALS, CONFIGURATION = "acl", "passwords", "credentials.json", "mosquitto.conf"
OWN_RULES = "acl.own"  # nobody writes it but people; its lines end the access rules
MAX_BYTES = 64 << 20  # of a file of ours: 200,000 devices take some 20 MB
SHOWN = 10

BROKER = """\
# A broker for Vitalane; written once by `vitalane deploy mosquitto` and yours from then on. It takes nobody without an account, and listens
# on this machine only: for devices outside, add a listener with TLS (cafile, certfile, keyfile, tls_version tlsv1.2).
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
listener {port} 127.0.0.1

# What ingest has not taken waits here, on disk, within bounds; the defaults (20 in flight, 1000 queued) would silently drop a burst.
persistence true
persistence_location {folder}/data/
autosave_interval 60
max_inflight_messages 0
max_queued_messages 1000000
max_queued_bytes 1073741824
message_size_limit 1048576
persistent_client_expiration 14d
set_tcp_nodelay true
"""


class Change(NamedTuple):
    """What became of the accounts."""

    added: list[str]
    removed: list[str]
    rotated: list[str]
    kept: int


@click.command()
@config_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The folder; without it, `mosquitto` beside the configuration."
)
@click.option("--rotate", multiple=True, metavar="ACCOUNT", help="Make a new password for this account; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
def mosquitto(config_file: Path, out: Path | None, rotate: tuple[str, ...], as_json: bool) -> None:
    """Write Mosquitto's accounts and access rules: each device may publish on its own topics, and nothing else."""
    configuration = read_configuration(config_file)
    folder = (configuration.folder / "mosquitto" if out is None else out).absolute()
    service = configuration.settings.broker.user or SERVICE
    if not is_account(service):
        raise configuration.problem(("broker", "user"), "cannot be an account: letters, digits and `. _ -`")
    known, sparkplug = registered(configuration), configuration.settings.sparkplug
    topics, said = known.topics(configuration.settings.broker.topics), tuple[str, ...]()
    if sparkplug is not None:
        groups, state = () if sparkplug.groups == "all" else sparkplug.groups, state_topic(sparkplug.host_id)
        topics, said = (*topics, *filters(groups), state), (state, *(command_topic(group, "+") for group in groups or ("+",)))
    try:
        wanted = accounts(known.entries(), service, topics, known.library.mappings, said)
    except ValueError as error:
        raise ConfigError(
            [Problem(str(configuration.folder / (configuration.settings.registry or "")), 0, 0, "devices", str(error))]
        ) from error
    for name in rotate:
        if name not in wanted:
            msg = f"there is no account `{name}`; a device that has a `via` publishes by that"
            raise click.BadParameter(msg, param_hint="--rotate")
    with writing(folder):
        change = _write_all(configuration, folder, service, {name: name in rotate for name in wanted}, access_rules(wanted))
    _tell(change, folder, service, configured=configuration.settings.broker.user is not None, as_json=as_json)


def _write_all(configuration: Configuration, folder: Path, service: str, wanted: Mapping[str, bool], rules: str) -> Change:
    """Write every file; `wanted` says of each account whether it gets a new password. The next run mends what a crash left."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    before = _credentials(folder / CREDENTIALS)
    now = {name: new_password() if rotated or name not in before else before[name] for name, rotated in wanted.items()}
    lines = dict(line.split(":", 1) for line in _text(folder / PASSWORDS).splitlines() if ":" in line)
    hashes = {name: lines[name] if name in lines and matches(password, lines[name]) else hashed(password) for name, password in now.items()}
    _write(folder / CREDENTIALS, json.dumps(now, indent=1) + "\n")  # before its hash: a password that opens and nobody knows helps nobody
    _write(folder / f"{service}.password", now[service] + "\n")
    _write(folder / PASSWORDS, "".join(f"{name}:{digest}\n" for name, digest in hashes.items()))
    own_rules = _text(folder / OWN_RULES)
    _write(folder / ACL, f"{rules}\n{own_rules}" if own_rules else rules)
    if not (folder / CONFIGURATION).exists():
        _write(folder / CONFIGURATION, BROKER.format(folder=folder, port=configuration.settings.broker.port))
    removed = [name for name in before if name not in wanted]
    for name in filter(is_account, removed):
        (folder / f"{name}.password").unlink(missing_ok=True)  # that of the services under another name
    rotated = [name for name, anew in wanted.items() if anew and name in before]
    added = [name for name in wanted if name not in before]
    return Change(added, removed, rotated, len(wanted) - len(added) - len(rotated))


def _credentials(file: Path) -> dict[str, str]:
    """Return the passwords that there are. Raises VitalaneError where the file is not what this command writes."""
    text = _text(file)
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        msg = f"{file} is no JSON any more ({error}): mend it, or move it away and every account gets a new password"
        raise VitalaneError(msg) from error
    if not isinstance(found, dict) or not all(isinstance(password, str) and password for password in found.values()):
        msg = f"{file} does not hold a password for each account: mend it, or move it away and every account gets a new one"
        raise VitalaneError(msg)
    return found


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _write(file: Path, text: str) -> None:
    """Replace a file as a whole, for its own user's eyes from its first byte on."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(file)


def _tell(change: Change, folder: Path, service: str, *, configured: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "service": service, **change._asdict()}))
        return
    click.echo(f"{folder}: {ACL}, {PASSWORDS}, {CREDENTIALS} written; {CONFIGURATION} is written once")
    for word in ("added", "removed", "rotated"):
        names: list[str] = getattr(change, word)
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            click.echo(f"{word}: {', '.join(names[:SHOWN])}{more}")
    click.echo(f"kept: {change.kept}")
    if not configured:
        click.echo(f"our own services: `broker: {{user: {service}, password: {{file: {folder / service}.password}}}}` in the configuration")
    click.echo("a broker that runs reads them at SIGHUP: `systemctl reload mosquitto`, or `kill -HUP` its process")
