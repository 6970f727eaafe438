"""Reading what the flow decided. `Outbox` reads the rows of every outbox file after a cursor; `Bell` wakes who waits for new ones.

Whether a write-ahead log has changed is asked of the file system, which costs a microsecond where a query costs ten, and for all
destinations of a process at once. A change is a reason to ask the journal, again and again, until the commit that it belongs to can be
read: the log is written first and synced after. The bell is a hint only: every destination also looks by itself from time to time.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from journal.reader import JournalReader
from journal.rows import Row
from sinks.trouble import Trouble
from telemetry.errors import OffsetTrimmed, VitalaneError

logger = logging.getLogger(__name__)

Source = tuple[int, int]
"""The number of an outbox file, and the partition in it."""

Cursor = dict[Source, int]

QUICK_FOR_S = 1.0
COMMITTING_S = 1.0  # a written log may be a commit that is being synced
SAME_TICK_S = 0.025  # the kernel stamps files by its tick, up to 10 ms: a second commit within one may leave no trace


class Taken(NamedTuple):
    source: Source
    row: Row


class Outbox:
    """The rows of all outbox files. Belongs to one thread, which opens each file when it first exists."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self._paths = dict(paths)
        self._readers: dict[int, JournalReader] = {}
        self._troubles = {number: Trouble(logger, "sinks.outbox_open", path.name) for number, path in self._paths.items()}
        self.trimmed = 0  # offsets that retention removed before they were read

    def read(self, cursor: Mapping[Source, int], *, max_rows: int = 64, max_bytes: int = 4 << 20) -> list[Taken]:
        """Return rows at and after the cursor, in order within each source, at most so many of each source."""
        taken: list[Taken] = []
        for number, path in self._paths.items():
            reader = self._readers.get(number) or self._open(number, path)
            if reader is None:
                continue
            for partition in range(reader.partitions):
                source = (number, partition)
                taken += [Taken(source, row) for row in self._rows(reader, source, cursor.get(source), max_rows, max_bytes)]
        return taken

    def row(self, source: Source, offset: int) -> Row | None:
        """Return the row that begins at an offset, None where it is no longer kept."""
        reader = self._readers.get(source[0]) or self._open(source[0], self._paths[source[0]])
        if reader is None:
            return None
        try:
            rows = reader.read(source[1], offset, max_rows=1)
        except OffsetTrimmed:
            return None
        return rows[0] if rows and rows[0].offset == offset else None

    def stream(self, number: int) -> str | None:
        """Return the name of a file's stream, None where it is not open: nothing was read of it yet."""
        reader = self._readers.get(number)
        return reader.stream if reader else None

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _open(self, number: int, path: Path) -> JournalReader | None:
        if not path.exists():  # the flow has not begun
            return None
        try:
            reader = self._readers[number] = JournalReader(path)
        except VitalaneError as error:
            self._troubles[number].report(error)
            return None
        self._troubles[number].over()
        return reader

    def _rows(self, reader: JournalReader, source: Source, offset: int | None, max_rows: int, max_bytes: int) -> list[Row]:
        try:
            return reader.read(source[1], offset or 0, max_rows=max_rows, max_bytes=max_bytes)
        except OffsetTrimmed:
            first = reader.first(source[1])
            if offset is not None:  # a destination that has never read has lost nothing
                self.trimmed += first - offset
                logger.error("sinks.outbox_trimmed source=%s from=%d to=%d", source, offset, first)  # noqa: TRY400 - it says it all
            return reader.read(source[1], first, max_rows=max_rows, max_bytes=max_bytes)


def advanced(cursor: Mapping[Source, int], taken: Sequence[Taken]) -> Cursor:
    """Return the cursor behind these rows."""
    return {**cursor, **{source: row.offset + row.count for source, row in taken}}


class _File:
    """One outbox file as the bell sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._reader: JournalReader | None = None
        self._stamp = (0, 0)
        self._heads: list[int] = []
        self._ask_until_s = 0.0

    def is_new(self) -> bool:
        """Return whether rows can be read that could not be when this was last asked."""
        try:
            status = self._log.stat()
        except OSError:  # not written yet
            return False
        stamp, now_s = (status.st_size, status.st_mtime_ns), time.monotonic()
        if stamp != self._stamp:
            self._stamp, self._ask_until_s = stamp, now_s + COMMITTING_S
        if now_s > self._ask_until_s:
            return False
        try:
            if self._reader is None:
                self._reader = JournalReader(self._path)
            heads = [self._reader.head(partition) for partition in range(self._reader.partitions)]
        except VitalaneError:  # who reads it says so
            return True
        if heads == self._heads:
            return False
        self._heads, self._ask_until_s = heads, now_s + SAME_TICK_S
        return True

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class Bell:
    """One thread a process, whatever the number of destinations."""

    def __init__(self, paths: Sequence[Path], *, quick_s: float = 0.001, slow_s: float = 0.02) -> None:
        self._files = [_File(path) for path in paths]
        self._quick_s, self._slow_s = quick_s, slow_s
        self._wakes: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bell", daemon=True)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake`, which must return at once, whenever there is something new."""
        self._wakes = [*self._wakes, wake]

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        self._wakes = [other for other in self._wakes if other != wake]

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for file in self._files:
            file.close()

    def _watch(self) -> None:
        pause_s, quick_for_s = self._quick_s, QUICK_FOR_S
        while not self._stop.wait(pause_s):
            if sum(file.is_new() for file in self._files):  # each is asked, not only until one says yes
                pause_s, quick_for_s = self._quick_s, QUICK_FOR_S
                for wake in self._wakes:
                    wake()
            elif quick_for_s > 0:
                quick_for_s -= pause_s
            else:
                pause_s = min(self._slow_s, pause_s * 1.5)
