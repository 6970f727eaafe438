"""Messages read by mappings, for tests."""

from collections.abc import Iterable
from typing import NamedTuple

from decoders.decode import RowDecoder
from decoders.library import adapted, gathered, read_document
from decoders.mapping_model import MappingsModel
from decoders.mappings import as_plain, from_plain
from decoders.shapes import Shapes
from documents import parse
from journal.messages import decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Decoded, Refusal

RECEIVED_MS = 1_763_674_000_123


class Told(NamedTuple):
    """One reading as it was read."""

    device: str
    metric: str
    value: float
    time_ms: int | None  # None: when it was received


def decoder(*documents: tuple[str, MappingsModel]) -> RowDecoder:
    """Return a decoder with these mappings, by way of their journalled form."""
    library = gathered(documents, {})
    catalogue = CATALOGUE | {metric.name: metric for metric in library.metrics}
    return RowDecoder(catalogue, from_plain(as_plain(library.mappings)))


def shipped(*names: str, zone: str = "UTC") -> RowDecoder:
    """Return a decoder with documents of the library."""
    return decoder(*((name, adapted(read_document(name), {"zone": zone}, name)) for name in names))


def written(text: str) -> RowDecoder:
    """Return a decoder with the mappings of a YAML text."""
    return decoder(("test.yaml", parse(text, "test.yaml", MappingsModel)))


def read(by: RowDecoder, *messages: tuple[str, bytes], flags: int = 0, shapes: Shapes | None = None) -> Decoded:
    """Return what a row of these messages says."""
    topics, payloads = [topic.encode() for topic, _ in messages], [payload for _, payload in messages]
    return by.decode(decode_messages(encode_messages(topics, payloads, bytes([flags]) * len(messages))), RECEIVED_MS, shapes)


def told(decoded: Decoded) -> list[Told]:
    """Return the readings in their order."""
    found, at = [], 0
    packets = decoded.packets
    for device, names, time_ms in zip(packets.devices, packets.metrics, packets.times_ms, strict=True):
        for name in names:
            found.append(Told(device, name, packets.values[at], None if time_ms == NO_TIME else time_ms))
            at += 1
    return found


def refused(refusals: Iterable[Refusal]) -> list[tuple[str, str]]:
    """Return metric and reason of each refusal."""
    return [(refusal.metric, str(refusal.reason)) for refusal in refusals]
