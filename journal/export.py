"""A journal as lines of JSON, for people and their tools. Its law: nothing is left out; what is not text is base64, by its name.

A row of messages becomes one line a message, so that an offset is a line; every other row is one line with its body.
"""

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

from journal.messages import FLAG_DUP, FLAG_RETAIN, QOS_SHIFT, decode_messages
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from telemetry import blocks


def export(reader: JournalReader, *, first: int | None = None, payload: bool = True) -> Iterator[str]:
    """Yield a journal's lines, partition after partition, from offset `first` (or the first retained) up to where each ends now.

    Without `payload`, lines say what there is and not what is in it.
    """
    for partition in range(reader.partitions):
        head = reader.head(partition)
        at = max(first or 0, reader.first(partition))
        while at < head and (rows := reader.read(partition, at)):
            for row in rows:
                yield from lines(row, payload=payload)
            at = rows[-1].offset + rows[-1].count


def lines(row: Row, *, payload: bool = True) -> Iterator[str]:
    """Yield the lines of one row."""
    common: dict[str, Any] = {"partition": row.partition, "offset": row.offset, "kind": row.kind.name.lower(), "time_ms": row.time_ms}
    if row.kind == RowKind.MESSAGES:
        messages = decode_messages(row.body)
        for index, (topic, content, flags) in enumerate(zip(messages.topics, messages.payloads, messages.flags, strict=True)):
            line = common | {"offset": row.offset + index} | _text("topic", topic)
            line |= {"qos": flags >> QOS_SHIFT, "retain": bool(flags & FLAG_RETAIN), "dup": bool(flags & FLAG_DUP)}
            yield _json(line | (_text("payload", content) if payload else {"bytes": len(content)}))
        return
    if row.source_offset >= 0:
        common |= {"source_offset": row.source_offset, "source_part": row.source_part}
    yield _json(common | (_body(row) if payload else {"bytes": len(row.body)}))


def _body(row: Row) -> dict[str, Any]:
    if row.kind == RowKind.TICK:
        return {}
    try:
        if row.kind in {RowKind.WINDOWS, RowKind.READINGS}:
            block = blocks.unpack(row.body)
            columns = {name: [_finite(value) for value in column] for name, column in block.columns.items()}
            return {"body": {"series": block.series, "columns": columns}}
        return {"body": json.loads(row.body)}
    except (ValueError, KeyError, TypeError):
        return _text("body", row.body)


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _text(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _json(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))
