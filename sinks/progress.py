"""Telling the outbox how far a destination has come, so that retention never passes it. Late is harmless, early is not: flush first."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from journal.offsets import ConsumerOffsets
from sinks.outbox import Outbox, Source

EVERY_S = 5.0


class Progress:
    """Publishes one destination's cursor in the offsets file, from the one thread that serves it."""

    def __init__(self, path: Path | None, consumer: str, outbox: Outbox) -> None:
        self._path = path
        self._consumer = consumer
        self._outbox = outbox
        self._offsets: ConsumerOffsets | None = None
        self._published: dict[Source, int] = {}
        self._next_s = 0.0

    def publish(self, cursor: Mapping[Source, int], flush: Callable[[], bool], *, now: bool = False) -> None:
        """Publish the cursor where it moved and some seconds have passed, once `flush` has brought it to disk."""
        if self._path is None or cursor == self._published or (not now and time.monotonic() < self._next_s):
            return
        self._next_s = time.monotonic() + EVERY_S
        if not flush():
            return
        if self._offsets is None:
            self._offsets = ConsumerOffsets(self._path)
        for file in {file for file, _ in cursor}:
            stream = self._outbox.stream(file)
            offsets = {partition: offset for (number, partition), offset in cursor.items() if number == file}
            if stream is not None:
                self._offsets.commit(stream, self._consumer, offsets)
                self._published |= {(file, partition): offset for partition, offset in offsets.items()}

    def close(self) -> None:
        if self._offsets is not None:
            self._offsets.close()
            self._offsets = None
