"""What the flow does on a full disk: it waits for room, and says so once. Deciding stops meanwhile, and loses nothing."""

import logging
import threading
from collections.abc import Sequence

from journal.rows import Entry
from journal.writer import JournalWriter
from telemetry.errors import JournalFull

logger = logging.getLogger(__name__)

RETRY_S = 0.5


def append(writer: JournalWriter, entries: Sequence[Entry], time_ms: int, stop: threading.Event) -> list[int]:
    """Append durably, as soon as there is room; return the first offset of each row. Raises JournalFull where told to stop meanwhile."""
    told = False
    while True:
        try:
            offsets = writer.append(entries, time_ms)
        except JournalFull as error:
            if not told:
                logger.warning("flows.disk_full %s", error)
                told = True
            if stop.wait(RETRY_S):
                raise
        else:
            if told:
                logger.info("flows.disk_has_room path=%s", writer.path)
            return offsets
