"""Payloads to documents, as a mapping says: JSON, a text, lines of a text, rows with columns, or bytes with fields at fixed places.

A document is what paths lead through: dicts, lists, numbers, texts. What is wrong with a payload raises Unreadable, and nothing else does.
"""

import csv
import json
from base64 import b64decode
from binascii import Error as NoBase64
from binascii import unhexlify
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from decoders.examine import read_json
from decoders.packets import Unreadable
from decoders.patterns import Pattern
from decoders.wire import MAX_READINGS
from telemetry.reasons import Reason

Document = Any
Read = Callable[[bytes], Document]

UNKNOWN_TAG = "unknown tag"
MAX_COLUMNS = 500
LONGEST_LINE = 10_000

_TYPES = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int24": 3, "uint24": 3, "int32": 4, "uint32": 4}

_json = msgspec.json.Decoder()


class Wrong(NamedTuple):
    """In the place of a sample that cannot be read, and why."""

    why: str


class Field(NamedTuple):
    """A whole number at a place of some bytes."""

    name: str
    at: int  # of its first byte
    size: int  # bytes
    little: bool
    signed: bool
    low_bit: int  # the part of it that is meant
    bits: int  # 0: all of it
    optional: bool  # the bytes may end before it

    def read(self, data: bytes) -> int | None:
        """Return the number, None where it may be left out and is. Raises Unreadable where the bytes end before it."""
        end = self.at + self.size
        if end > len(data):
            if self.optional:
                return None
            raise Unreadable(Reason.MALFORMED, f"{len(data)} bytes end before `{self.name}`")
        number = int.from_bytes(data[self.at : end], "little" if self.little else "big", signed=self.signed)
        return (number >> self.low_bit) & ((1 << self.bits) - 1) if self.bits else number


def field(name: str, at: int, kind: str, bits: tuple[int, int] | None, *, optional: bool) -> Field:
    """Return a field of a type like `int16` or `uint16le`; `bits` are its first and last bit, counted from the lowest."""
    base, little = kind.removesuffix("le"), kind.endswith("le")
    low, high = bits or (0, -1)
    return Field(name, at, _TYPES[base], little, base.startswith("int"), low, high - low + 1, optional)


class Tagged(NamedTuple):
    """Bytes in which each value follows its tag: the fields of an entry count from the end of the tag."""

    tag_bytes: int
    entries: Mapping[bytes, tuple[tuple[Field, ...], int]]  # tag -> its fields and how many bytes they take


class Layout(NamedTuple):
    """What stands where in some bytes."""

    encoding: str  # raw, hex, base64
    starts_with: bytes
    fields: tuple[Field, ...]
    tagged: Tagged | None

    def read(self, value: object) -> Document:
        """Return the fields by name. Raises Unreadable where the value is none of these bytes."""
        data = self._bytes(value)
        if not data:
            raise Unreadable(Reason.MALFORMED, "there are no bytes in it")
        if not data.startswith(self.starts_with):
            raise Unreadable(Reason.WRONG_TYPE, f"the bytes do not begin with {self.starts_with.hex()}")
        document: dict[str, Any] = {}
        for item in self.fields:
            number = item.read(data)
            if number is not None:
                document[item.name] = number
        if self.tagged is not None:
            _read_tagged(self.tagged, data, document)
        return document

    def _bytes(self, value: object) -> bytes:
        if self.encoding == "raw":
            if not isinstance(value, bytes):
                raise Unreadable(Reason.WRONG_TYPE, "there are no bytes where they should be")
            return value
        try:
            text = value.strip() if isinstance(value, bytes) else value.strip().encode("ascii") if isinstance(value, str) else None
            if text is None:
                raise Unreadable(Reason.WRONG_TYPE, f"there is no text in {self.encoding} where it should be")
            return unhexlify(text.replace(b":", b"").replace(b" ", b"")) if self.encoding == "hex" else b64decode(text, validate=True)
        except (NoBase64, UnicodeEncodeError):
            raise Unreadable(Reason.MALFORMED, f"the bytes are not written in {self.encoding}") from None


def _read_tagged(tagged: Tagged, data: bytes, document: dict[str, Any]) -> None:
    at = 0
    while at + tagged.tag_bytes <= len(data):
        tag = data[at : at + tagged.tag_bytes]
        entry = tagged.entries.get(tag)
        if entry is None:
            document[UNKNOWN_TAG] = tag.hex()  # how long it is, nobody knows: what follows cannot be read
            return
        fields, size = entry
        begin = at + tagged.tag_bytes
        for item in fields:
            number = item.read(data[begin : begin + size])
            if number is not None:
                document[item.name] = number
        at = begin + size


def read_json_document(payload: bytes) -> Document:
    """Return the JSON value of a payload."""
    try:
        return _json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = read_json(payload)  # says what is wrong, and takes NaN so that it can be named
    if b"\\u" in payload:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Unreadable(Reason.MALFORMED, "a text in it is no Unicode: half of a surrogate pair") from None
    return document


def read_text(payload: bytes) -> str:
    """Return a payload that is one text, without white space around it."""
    return _text(payload).strip()


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(Reason.MALFORMED, f"not UTF-8 at byte {error.start}") from None


def lines_reader(find: Mapping[str, Pattern], rows: Pattern | None) -> Read:
    """Return what reads a text by patterns: the first match of each `find` by its name, and all matches of `rows`, by their groups."""

    def read(payload: bytes) -> Document:
        text = _lines(payload)
        document: dict[str, Any] = {}
        for name, pattern in find.items():
            match = pattern.search(text)
            if match is not None:
                document[name] = match[1]
        if rows is not None:
            document["rows"] = [match.groupdict() for match, _ in zip(rows.finditer(text), range(MAX_READINGS + 1), strict=False)]
        return document

    return read


def columns_reader(delimiter: str, columns: list[str] | None, skip: int, find: Mapping[str, Pattern]) -> Read:
    """Return what reads rows with columns; without `columns`, the first line after those that are skipped names them."""

    def read(payload: bytes) -> Document:
        text = _lines(payload)
        document: dict[str, Any] = {name: match[1] for name, pattern in find.items() if (match := pattern.search(text)) is not None}
        try:
            reader = csv.reader(text.split("\n")[skip:], delimiter=delimiter, strict=True)
            names = columns or [name.strip() for name in next(reader, [])]
            if len(names) > MAX_COLUMNS:
                raise Unreadable(Reason.TOO_LARGE, f"more than {MAX_COLUMNS} columns")
            if len(set(names)) < len(names):
                raise Unreadable(Reason.MALFORMED, "two columns have one name")
            found = zip(reader, range(MAX_READINGS + 1), strict=False)
            document["rows"] = [_row(names, cells) for cells, _ in found if cells]
        except csv.Error as error:
            raise Unreadable(Reason.MALFORMED, f"no rows with columns: {error}") from None
        return document

    return read


def _row(names: list[str], cells: list[str]) -> Document:
    """Return one row. One with more cells than there are columns is none: a comma in a number, most likely, and who knows where."""
    return dict(zip(names, cells, strict=False)) if len(cells) <= len(names) else Wrong(f"{len(cells)} cells for {len(names)} columns")


def _lines(payload: bytes) -> str:
    text = _text(payload)
    if not text or text.isspace():
        raise Unreadable(Reason.MALFORMED, "the payload is empty")
    if max(map(len, text.split("\n"))) > LONGEST_LINE:
        raise Unreadable(Reason.TOO_LARGE, f"a line of more than {LONGEST_LINE} characters")
    return text
