"""Files as devices export them, cut into messages and published as they are: what they mean, a mapping says at the other end.

A file whose rows stand for themselves goes out some rows at a time, each message below the lines that belong to all of them; one whose
rows mean something only together goes out whole.
"""

from collections.abc import Iterator
from pathlib import Path

from decoders.mapping_model import MappingModel, PartModel, TimeModel
from decoders.topics import Pattern
from simulators.faults import Message
from simulators.replay import unreadable
from telemetry.errors import ConfigError, Problem

MOST_BYTES = 64 << 20


class ExportSource:
    """A file's messages, all of the same event time: they are published as fast as the broker takes them."""

    def __init__(self, path: Path, mapping: MappingModel, topic: str, rows: int) -> None:
        """Raises ConfigError where the file cannot be read or the topic is not one of the mapping's."""
        if Pattern(mapping.topic).match(topic) is None:
            raise ConfigError([Problem("--topic", 0, 0, "", f"{topic} is no topic of {mapping.name}: that is {mapping.topic}")])
        try:
            with path.open("rb") as file:
                self._text = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise unreadable(path, 0, error) from error
        if len(self._text) > MOST_BYTES:
            raise ConfigError([Problem(str(path), 0, 0, "", f"is larger than {MOST_BYTES >> 20} MiB")])
        self._messages = (Message(0, topic, payload) for payload in cut(self._text, mapping, rows))
        self._next = next(self._messages, None)

    @property
    def next_ms(self) -> int | None:
        return None if self._next is None else 0

    def take(self) -> list[Message]:
        """Return the next message."""
        assert self._next is not None, "nobody takes from a source that has ended"
        found, self._next = [self._next], next(self._messages, None)
        return found


def topic_for(mapping: MappingModel, device: str) -> str:
    """Return a topic of a mapping for one device; levels that say nothing of it are called `export`."""
    parts = ("export" if level in {"+", "#"} else level for level in mapping.topic.split("/"))
    named = dict.fromkeys(Pattern(mapping.topic).parts, "export") | {"device": device}
    return "/".join(parts).format_map(named)


def cut(text: bytes, mapping: MappingModel, rows: int) -> Iterator[bytes]:
    """Yield the payloads of an export."""
    columns = mapping.columns
    if columns is None or any(time.step for time in _times(mapping)):
        yield text
        return
    lines = text.splitlines()
    head = columns.skip + (columns.columns is None)
    for at in range(head, len(lines), rows):
        yield b"\n".join([*lines[:head], *lines[at : at + rows]])


def _times(mapping: MappingModel) -> Iterator[TimeModel]:
    parts: list[PartModel] = list(mapping.parts or [mapping])
    for part in parts:
        yield from part.time if isinstance(part.time, list) else [] if part.time is None else [part.time]
