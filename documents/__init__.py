"""Documents that people write: strict YAML in, validated values out, every problem named at its file, line and column."""

from documents.model import Strict, load, parse, validate
from documents.quantities import ByteSize, Duration, format_duration, parse_duration
from documents.tree import Tree, read_tree

__all__ = ["ByteSize", "Duration", "Strict", "Tree", "format_duration", "load", "parse", "parse_duration", "read_tree", "validate"]
