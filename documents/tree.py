"""YAML text to plain values, and where each of them stands.

Stricter than YAML: no anchors, aliases, tags or duplicate keys, bounded in size and depth, one document a file; `yes`, `on`, dates and
sexagesimal numbers stay text. So a document means what it looks like, and cannot be made to explode.
"""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from telemetry.errors import ConfigError, Problem

MAX_BYTES = 4 << 20
MAX_DEPTH = 40

Place = tuple[int, int]  # line and column, from 1
Steps = tuple[str | int, ...]


class Tree(NamedTuple):
    """A parsed document. `places` maps the path of each value to where it begins, `keys` the path of each key."""

    file: str
    text: str
    value: Any
    places: dict[Steps, Place]
    keys: dict[Steps, Place]

    def place(self, path: Steps, *, key: bool = False) -> Place:
        """Return where the value (or key) at a path stands, or the nearest thing above that has a place."""
        known = self.keys if key else self.places
        while path and path not in known:
            path, known = path[:-1], self.places
        return known.get(path, (0, 0))


def read_text(path: Path) -> str:
    """Return a document's text. Raises ConfigError where it cannot be read, is too large or is not UTF-8."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError([Problem(str(path), 0, 0, "", f"{size} bytes are more than a document may have ({MAX_BYTES})")])
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {(error.strerror or str(error)).lower()}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            [Problem(str(path), 0, 0, "", f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")]
        ) from error


def read_tree(text: str, file: str) -> Tree:
    """Return the tree of one YAML document. Raises ConfigError with the first problem of its form, or all duplicate keys."""
    try:
        _refuse_what_explodes(text, file)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError([Problem(file, line, column, "", f"is not YAML: {error.problem or error.context}")]) from error
    except yaml.YAMLError as error:
        raise ConfigError([Problem(file, 0, 0, "", f"is not YAML: {error}")]) from error
    tree = Tree(file, text, None, {}, {})
    problems: list[Problem] = []
    value = _value(node, (), tree, problems) if node is not None else None
    if problems:
        raise ConfigError(problems)
    return tree._replace(value=value)


def _refuse_what_explodes(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        refused = None
        if isinstance(event, yaml.AliasEvent):
            refused = f"aliases are not allowed here (*{event.anchor})"
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            refused = f"anchors are not allowed here (&{event.anchor})"
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            refused = f"tags are not allowed here ({event.tag})"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                refused = f"is nested deeper than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        mark = event.start_mark
        if refused and mark is not None:
            raise ConfigError([Problem(file, mark.line + 1, mark.column + 1, "", refused)])


def _value(node: yaml.Node, path: Steps, tree: Tree, problems: list[Problem]) -> Any:
    tree.places[path] = _place(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*path, index), tree, problems) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, child in node.value:
            line, column = _place(key_node)
            key = str(key_node.value)
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem(tree.file, line, column, where(path), "a key must be plain text"))
                continue
            if key in mapping:
                first = tree.keys[(*path, key)][0]
                problems.append(Problem(tree.file, line, column, where((*path, key)), f"stands here twice, first in line {first}"))
                continue
            tree.keys[(*path, key)] = (line, column)
            mapping[key] = _value(child, (*path, key), tree, problems)
        return mapping
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    text, kind = str(node.value), node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        if kind == "int" and ":" not in text:
            return int(text.replace("_", ""), 0)
        if kind == "float" and ":" not in text:
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))
    except ValueError:  # 0o17 and its like, which YAML 1.1 and Python read differently: text says it best
        return text
    return text


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def where(path: Steps) -> str:
    """Return a path as people write it: `rules[2].for`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
