"""`vitalane devices`: which device watches which subject, since when, what was heard of it; and assignments, in force while all runs."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import click
from pydantic import ValidationError

from cli.applying import ask_registry
from cli.asking import one_at_a_time, put_in_force, who
from cli.configuration import Configuration, read_configuration, rule_set
from cli.exits import CONFIG
from cli.options import config_option
from cli.places import telemetry_path
from cli.registered import Registered, assign, registered
from cli.registry import DeviceEntry
from decoders.topics import KINDS
from flows.published import Heard, heard
from rules.registry import Registry
from telemetry.clock import format_ms, utc_now_ms
from telemetry.errors import ConfigError, Problem

ALWAYS = "always"


class Line(NamedTuple):
    """One assignment, or a device that nobody assigned but that was heard."""

    device: str
    subject: str
    kind: str
    tags: dict[str, str]
    from_: str
    until: str
    by: str  # registry, or who assigned it
    heard: Heard | None


@click.group()
def devices() -> None:
    """List, show and assign devices."""


@devices.command("list")
@config_option
@click.option("--unknown", is_flag=True, help="Only devices that were heard and that nobody registered.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(config_file: Path, unknown: bool, as_json: bool) -> None:
    """List the devices: subject, kind, tags, when they were heard last. What was heard is read from the end of the journal."""
    configuration = read_configuration(config_file)
    lines = [line for line in _lines(configuration, registered(configuration)) if not unknown or line.by == ""]
    if as_json:
        for line in lines:
            click.echo(json.dumps(_plain(line), ensure_ascii=False))
        return
    if not lines:
        click.echo("no device is registered, and none was heard" if not unknown else "every device that was heard is registered")
        return
    rows = [("device", "kind", "subject", "tags", "since", "last heard"), *map(_row, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@devices.command()
@click.argument("device")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(device: str, config_file: Path, as_json: bool) -> int:
    """Show one device: its assignments over time, by whom and why, its limits, and what it publishes."""
    configuration = read_configuration(config_file)
    known = registered(configuration)
    lines = [line for line in _lines(configuration, known) if line.device == device]
    if not lines:
        click.echo(f"vitalane: no device {device!r} is registered or was heard: `vitalane devices list` shows what there is", err=True)
        return CONFIG
    limits = [entry.limits.model_dump(exclude_none=True) for entry in known.entries() if entry.device == device and entry.limits]
    why = {item.since: item for item in known.assigned if item.entry.device == device}
    if as_json:
        made = [item._asdict() | {"entry": item.entry.model_dump(mode="json", by_alias=True, exclude_none=True)} for item in why.values()]
        click.echo(json.dumps({"device": device, "assignments": [_plain(line) for line in lines], "limits": limits, "made": made}))
        return 0
    for line in lines:
        tags = "".join(f" {name}={value}" for name, value in sorted(line.tags.items()))
        maker = f"by {line.by}" if line.by else "not registered"
        click.echo(f"{line.kind} {line.subject}{tags}: from {line.from_} until {line.until} ({maker})")
    for item in why.values():
        click.echo(f"  assigned to {item.entry.subject or device} at {item.since} by {item.who}" + (f": {item.why}" if item.why else ""))
    for limit in limits:
        click.echo("  limits: " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in limit.items()))
    found = lines[0].heard
    if found is None:
        click.echo("  not heard lately")
        return 0
    click.echo(f"  last heard {format_ms(found.last_ms)}")
    for metric, number in sorted(found.metrics.items()):
        click.echo(f"    {metric}: {number} readings at the end of the journal")
    return 0


@devices.command("assign")
@click.argument("device")
@config_option
@click.option("--subject", help="The shipment or patient that it watches; without it, the device itself.")
@click.option("--kind", type=click.Choice(KINDS), help="Without it, what the device is registered as.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag of the subject; may be given several times.")
@click.option(
    "--from",
    "from",
    metavar="TIME",
    default="now",
    show_default=True,
    help="Readings measured before belong to whoever had it then: 2026-01-31T08:00:00Z, now, or always.",
)
@click.option("--until", metavar="TIME", help="As do those measured at this time or after it.")
@click.option("--why", default="", help="The reason, for the record.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def assign_(device: str, config_file: Path, tags: tuple[str, ...], why: str, as_json: bool, **fields: str | None) -> int:
    """Assign DEVICE to a subject, for a time or from now on for good. Kept, journalled, and in force at once where ingest runs."""
    configuration = read_configuration(config_file)
    known = registered(configuration)
    entry = _entry(device, known, {**fields, "tags": _tags(tags)})
    rule_set(configuration, known.catalogue())  # a configuration that does not stand takes nothing on
    with one_at_a_time(configuration.data_dir):
        assign(configuration.data_dir, entry, who(), why)
        return _apply(configuration, why, as_json, f"{device} watches {entry.subject or device}{_other(configuration, entry)}")


@devices.command()
@config_option
@click.option("--why", default="", help="The reason, for the record.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def apply(config_file: Path, why: str, as_json: bool) -> int:
    """Put the registry and the mappings as their files say now in force, without a restart."""
    configuration = read_configuration(config_file)
    with one_at_a_time(configuration.data_dir):
        return _apply(configuration, why, as_json, "the registry is read")


def _other(configuration: Configuration, entry: DeviceEntry) -> str:
    """Return what is to be known of an assignment that does not hold at this moment, or not for good."""
    now_ms, (begins, ends) = utc_now_ms(), entry.span_ms()
    held = Registry(registered(configuration).assignments()).held(entry.device, now_ms)
    if begins > now_ms:
        return f" from {entry.from_} on"
    if ends <= now_ms:
        return f" for readings measured until {entry.until}"
    if held is not None and held.subject != (entry.subject or entry.device):
        return f", but one that began later holds now: {held.subject} (see `vitalane devices show {entry.device}`)"
    return ""


def _apply(configuration: Configuration, why: str, as_json: bool, what: str) -> int:
    record = registered(configuration).record(who(), why)
    version = json.loads(record)["version"]
    return put_in_force(configuration, lambda: ask_registry(configuration.data_dir, record), f"{what}; registry", version, as_json)


def _entry(device: str, known: Registered, fields: dict[str, Any]) -> DeviceEntry:
    before = [entry for entry in known.entries() if entry.device == device]
    kind = fields.pop("kind") or (before[-1].kind if before else None)
    if kind is None:
        raise ConfigError([Problem("--kind", 0, 0, "", f"nobody knows what {device} is yet: say --kind {' or --kind '.join(KINDS)}")])
    if fields["from"] in {"now", "always"}:
        fields["from"] = format_ms(utc_now_ms()) if fields["from"] == "now" else None
    try:
        return DeviceEntry.model_validate({"device": device, "kind": kind} | {name: value for name, value in fields.items() if value})
    except ValidationError as error:
        found = [(item["loc"][0] if item["loc"] else "from", item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        raise ConfigError([Problem(f"--{name}", 0, 0, "", text) for name, text in found]) from error


def _tags(written: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in written]
    wrong = [name for name, equals, _ in pairs if not equals or not name]
    if wrong:
        raise ConfigError([Problem("--tag", 0, 0, "", f"{wrong[0]!r} is no tag: write it like product=vaccine")])
    return {name: value for name, _, value in pairs}


def _lines(configuration: Configuration, known: Registered) -> list[Line]:
    found = _heard(configuration, known)
    by = ["registry"] * len(known.document.devices) + [item.who for item in known.assigned]
    lines = [
        Line(
            entry.device,
            entry.subject or entry.device,
            entry.kind,
            entry.tags,
            entry.from_.isoformat() if entry.from_ else ALWAYS,
            entry.until.isoformat() if entry.until else ALWAYS,
            maker,
            found.get(entry.device),
        )
        for entry, maker in zip(known.entries(), by, strict=True)
    ]
    names = {line.device for line in lines}
    lines += [Line(name, name, item.kind, {}, ALWAYS, ALWAYS, "", item) for name, item in sorted(found.items()) if name not in names]
    return sorted(lines, key=lambda line: (not line.by, line.device))


def _heard(configuration: Configuration, known: Registered) -> dict[str, Heard]:
    path = telemetry_path(configuration.data_dir)
    if not path.exists():
        return {}
    return heard(path, configuration.settings.partitions, known.decoder())


def _row(line: Line) -> tuple[str, ...]:
    tags = " ".join(f"{name}={value}" for name, value in sorted(line.tags.items())) or "-"
    since = line.from_ if line.by else "not registered"
    return line.device, line.kind, line.subject, tags, since, format_ms(line.heard.last_ms) if line.heard else "-"


def _plain(line: Line) -> dict[str, Any]:
    plain = line._asdict() | {"from": line.from_, "registered": bool(line.by)}
    del plain["from_"]
    plain["heard"] = None if line.heard is None else {"last": format_ms(line.heard.last_ms), "readings": dict(line.heard.metrics)}
    return plain
