"""Reading what the flow decided. `Outbox` reads the rows of every outbox file after a cursor; `Bell` notices that there are new ones.

The bell asks the file system whether a write-ahead log has changed, which costs a microsecond where a query costs ten, and does so for all
destinations of a process at once. It is a hint only: every destination also looks by itself from time to time.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from journal.reader import JournalReader
from journal.rows import Row
from sinks.trouble import Trouble
from telemetry.clock import utc_now_ms
from telemetry.errors import OffsetTrimmed, VitalaneError

logger = logging.getLogger(__name__)

Source = tuple[int, int]
"""The number of an outbox file, and the partition in it."""

Cursor = dict[Source, int]


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


class Bell:
    """Wakes destinations when an outbox file has changed. One thread a process, whatever the number of destinations."""

    QUICK_FOR_S = 1.0
    DISTRUST_MS = 12  # the kernel stamps files by its tick: a second change within one leaves no trace, so ring on until it has passed

    def __init__(self, paths: Sequence[Path], *, quick_s: float = 0.001, slow_s: float = 0.02) -> None:
        self._files = [path.with_name(f"{path.name}-wal") for path in paths]
        self._quick_s, self._slow_s = quick_s, slow_s
        self._wakes: list[Callable[[], None]] = []
        self._seen: dict[Path, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bell", daemon=True)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake`, which must return at once, at every change."""
        self._wakes = [*self._wakes, wake]

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        self._wakes = [other for other in self._wakes if other != wake]

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        pause_s, quick_for_s = self._quick_s, self.QUICK_FOR_S
        while not self._stop.wait(pause_s):
            if self._changed():
                pause_s, quick_for_s = self._quick_s, self.QUICK_FOR_S
                for wake in self._wakes:
                    wake()
            elif quick_for_s > 0:
                quick_for_s -= pause_s
            else:
                pause_s = min(self._slow_s, pause_s * 1.5)

    def _changed(self) -> bool:
        changed = False
        for file in self._files:
            try:
                status = file.stat()
            except OSError:  # not written yet, or just taken down with its last connection
                continue
            stamp = (status.st_size, status.st_mtime_ns)
            if stamp != self._seen.get(file):
                self._seen[file] = stamp
                changed = True
            elif utc_now_ms() - status.st_mtime_ns // 1_000_000 < self.DISTRUST_MS:
                changed = True
        return changed
