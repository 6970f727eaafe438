"""Whose fault it is decides what happens next: one class for each answer."""

from collections.abc import Mapping
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong in a document that a person wrote."""

    file: str
    line: int  # from 1; 0 where no line can be named
    column: int  # from 1; 0 likewise
    where: str  # the path inside the document, `rules[2].for`
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"


class VitalaneError(Exception):
    """The base of every error that a person is meant to read; its text is one clear sentence."""


class ConfigError(VitalaneError):
    """The operator's documents are wrong: print every problem, exit 2."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Transient(VitalaneError):
    """The network or a server's passing fault: try again later, with backoff."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Rejected(VitalaneError):
    """These items will never be taken (400, 422, a bad address): keep them as dead letters, go on with the rest."""

    def __init__(self, message: str, reasons: Mapping[int, str] | None = None) -> None:
        self.reasons = dict(reasons or {})  # index in the batch -> why; empty means all of them
        super().__init__(message)


class JournalFull(VitalaneError):
    """The disk or the journal's own limit is full: stop acknowledging, say so, try again."""


class JournalCorrupt(VitalaneError):
    """The journal does not read back as it was written: stop and never guess."""


class OffsetTrimmed(VitalaneError):
    """Retention has removed what was asked for."""
