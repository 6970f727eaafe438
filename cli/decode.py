"""`vitalane decode`: what would be read out of a message, field by field, what is ignored and why. Nothing is published or stored."""

import json
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click

from cli.configuration import read_configuration
from cli.exits import FAILED
from cli.registered import registered
from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes
from decoders.library import adapted, gathered, read_document, shipped_names
from decoders.mapping import Mapping
from decoders.mapping_values import Look
from decoders.mappings import Mappings, as_plain, from_plain
from decoders.packets import PacketBuilder, Plans, Unreadable
from decoders.suggest import leaves, suggest
from decoders.topics import KINDS
from journal.messages import decode_messages, encode_messages
from telemetry.clock import format_ms, utc_now_ms
from telemetry.metrics import CATALOGUE, Metric
from telemetry.readings import NO_TIME, Decoded
from telemetry.reasons import Reason

MAX_BYTES = 16 << 20
MAX_LEAVES = 200
SHOWN = 60


class Known(NamedTuple):
    catalogue: Dict[str, Metric]
    mappings: Mappings


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--topic", required=True, help="The topic that the message was published to.")
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Whose mappings and metrics.")
@click.option("--use", multiple=True, help="A mapping file, or the name of a shipped one; `--use all` is all of those.")
@click.option("--zone", default="UTC", show_default=True, help="Of local times, for `--use`.")
@click.option("--hex", "is_hex", is_flag=True, help="The message is written in hexadecimal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def decode(file: BinaryIO, topic: str, config_file: Path | None, use: tuple[str, ...], zone: str, is_hex: bool, as_json: bool) -> int:
    """Show what is read out of one message: FILE, or the standard input.

    \b
    mosquitto_sub -t 'zigbee2mqtt/+' -C 1 | vitalane decode --topic zigbee2mqtt/fridge --use zigbee2mqtt
    """
    payload = file.read(MAX_BYTES)
    if is_hex:
        try:
            payload = bytes.fromhex(payload.decode("ascii"))
        except ValueError as error:
            msg = f"the message is not written in hexadecimal: {error}"
            raise click.UsageError(msg) from error
    elif payload.endswith(b"\n"):
        payload = payload[:-1]
    known = _known(config_file, use, zone)
    now_ms = utc_now_ms()
    row = decode_messages(encode_messages([topic.encode()], [payload], b"\0"))
    decoded = RowDecoder(known.catalogue, known.mappings).decode(row, now_ms, None, EdgeNodes(KINDS[0]))
    looks, ignored, mapping = _looked(known, topic, payload)
    answer = _answer(decoded, looks, ignored, mapping, known, now_ms)
    if answer["decoder"] == "nobody":
        answer["suggestion"] = suggest([topic], [payload], known.catalogue)
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else "\n".join(_lines(answer)))
    return FAILED if decoded.refusals else 0


def _known(config_file: Path | None, use: tuple[str, ...], zone: str) -> Known:
    default = Path("vitalane.yaml")
    if not use and (config_file is not None or default.exists()):
        known = registered(read_configuration(config_file or default))
        return Known(known.catalogue(), known.mappings())
    names = shipped_names() if "all" in use or not use else list(use)
    library = gathered([(name, adapted(read_document(_source(name)), {"zone": zone}, name)) for name in names], {})
    return Known(CATALOGUE | {metric.name: metric for metric in library.metrics}, from_plain(as_plain(library.mappings)))


def _source(name: str) -> Path | str:
    return name if name in shipped_names() else Path(name)


def _looked(known: Known, topic: str, payload: bytes) -> tuple[list[Look], list[str], str]:
    """Return what was looked at by the mapping that reads the message, which fields it ignores, and its name; nothing without a mapping."""
    for mapping, parts in known.mappings.claims(topic.encode()):
        looks: list[Look] = []
        try:
            document = mapping.document(payload)
            read = mapping.read_document(_builder(known), 0, parts, document, looks.append)
        except Unreadable as error:
            return [*looks, Look("", "", None, f"refused: {error.reason}, {error.detail}")], [], mapping.name
        if read is not None:
            return looks, _ignored(known, mapping, parts, document), mapping.name
    return [], [], ""


def _ignored(known: Known, mapping: Mapping, parts: Dict[str, str], document: Any) -> list[str]:
    """Return the fields without which the message would read the same."""
    whole = _read_as(known, mapping, parts, document)
    found = islice(leaves(document), MAX_LEAVES)
    return [leaf.path for leaf in found if leaf.steps and _read_as(known, mapping, parts, _without(document, leaf.steps)) == whole]


def _read_as(known: Known, mapping: Mapping, parts: Dict[str, str], document: Any) -> Any:
    builder = _builder(known)
    try:
        mapping.read_document(builder, 0, parts, document)
    except Unreadable as error:
        return error.detail
    return builder.decoded()


def _without(document: Any, steps: tuple[str | int, ...]) -> Any:
    """Return a copy of a document without one of its values."""
    copy = deepcopy(document)
    at = copy
    for step in steps[:-1]:
        at = at[step]
    if isinstance(at, dict):
        del at[steps[-1]]
    else:
        at[steps[-1]] = None
    return copy


def _builder(known: Known) -> PacketBuilder:
    return PacketBuilder(Plans(known.catalogue))


def _answer(decoded: Decoded, looks: list[Look], ignored: list[str], mapping: str, known: Known, now_ms: int) -> dict[str, Any]:
    packets, values = decoded.packets, iter(decoded.packets.values)
    readings = [
        {
            "device": device,
            "kind": kind,
            "metric": name,
            "value": next(values),
            "unit": known.catalogue[name].unit,
            "time": format_ms(now_ms if time_ms == NO_TIME else time_ms),
            "received": time_ms == NO_TIME,  # the message has no time of its own
        }
        for device, kind, names, time_ms in zip(packets.devices, packets.kinds, packets.metrics, packets.times_ms, strict=True)
        for name in names
    ]
    return {
        "decoder": mapping or ("nobody" if any(item.reason is Reason.UNMAPPED for item in decoded.refusals) else "our own forms"),
        "readings": readings,
        "statuses": [{"device": item.device, "kind": item.kind, "online": item.online} for item in decoded.statuses],
        "refused": [{"reason": str(item.reason), "metric": item.metric, "detail": item.detail} for item in decoded.refusals],
        "fields": [{"what": look.what, "path": look.path, "value": _short(look.value), "outcome": look.outcome} for look in looks],
        "ignored": ignored,
    }


def _short(value: object) -> str | None:
    return None if value is None else str(value)[:SHOWN]


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    yield f"read by: {answer['decoder']}"
    for field in answer["fields"]:
        value = "" if field["value"] is None else f" = {field['value']}"
        yield f"  {field['what'] or '-':<20} {field['path']}{value}: {field['outcome']}"
    if answer["ignored"]:
        yield f"ignored: {', '.join(answer['ignored'])}"
    for status in answer["statuses"]:
        yield f"status   {status['kind']} {status['device']}: {'online' if status['online'] else 'offline'}"
    for reading in answer["readings"]:
        when = "when it is received" if reading["received"] else reading["time"]
        yield f"reading  {reading['kind']} {reading['device']} {reading['metric']} = {reading['value']:g} {reading['unit']}, {when}"
    for refusal in answer["refused"]:
        yield f"refused  {refusal['metric'] or 'the message'}: {refusal['reason']}, {refusal['detail']}"
    if not (answer["readings"] or answer["statuses"] or answer["refused"]):
        yield "nothing in it is a reading, and nothing is wrong with it"
    if "suggestion" in answer:
        yield "no mapping reads this topic; one to begin with:\n"
        yield answer["suggestion"]
