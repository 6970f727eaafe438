"""Reading the outbox: in order, from files that may not be there yet, and noticing what is new."""

import threading
from pathlib import Path

from journal.offsets import ConsumerOffsets
from journal.rows import RowKind
from sinks.outbox import Bell, Outbox, advanced
from sinks.progress import Progress
from tests.sinks.parts import START_MS, OutboxFile, event


def test_rows_come_in_order_from_every_file_that_exists(tmp_path: Path) -> None:
    """The deliverer may be there before the flow is."""
    paths = {number: tmp_path / f"outbox-{number}.db" for number in range(2)}
    outbox = Outbox(paths)
    assert outbox.read({}) == []
    first = OutboxFile(paths[0], 0)
    first.alerts(event(1), event(2))
    taken = outbox.read({})
    assert [(source, row.offset) for source, row in taken] == [((0, 0), 0), ((0, 0), 1)]
    cursor = advanced({}, taken)
    second = OutboxFile(paths[1], 1)
    second.alerts(event(3))
    first.alerts(event(4))
    taken = outbox.read(cursor)
    assert [(source, row.offset) for source, row in taken] == [((0, 0), 2), ((1, 0), 0)]
    assert outbox.read(advanced(cursor, taken)) == []
    assert advanced(cursor, taken) == {(0, 0): 3, (1, 0): 1}
    outbox.close()
    first.close()
    second.close()


def test_one_row_can_be_read_again(tmp_path: Path, outbox_file: OutboxFile) -> None:
    outbox_file.alerts(event(1), event(2))
    outbox = Outbox({0: outbox_file.path})
    row = outbox.row((0, 0), 1)
    assert row is not None
    assert row.offset == 1
    assert outbox.row((0, 0), 5) is None
    outbox.close()


def test_what_retention_removed_is_counted_for_who_had_begun(tmp_path: Path, outbox_file: OutboxFile) -> None:
    """Retention does not pass a consumer; where an operator deletes by hand, the books say so."""
    outbox_file.alerts(*[event(number) for number in range(10)])
    assert outbox_file.writer.trim(max_age_ms=0, max_bytes=None, now_ms=START_MS + 10**9, floor={0: 6}) == 6
    newcomer, late = Outbox({0: outbox_file.path}), Outbox({0: outbox_file.path})
    assert [row.offset for _, row in newcomer.read({})] == [6, 7, 8, 9]
    assert newcomer.trimmed == 0
    assert [row.offset for _, row in late.read({(0, 0): 2})] == [6, 7, 8, 9]
    assert late.trimmed == 4
    assert late.row((0, 0), 2) is None
    newcomer.close()
    late.close()


def test_the_bell_rings_when_something_was_written(tmp_path: Path, outbox_file: OutboxFile) -> None:
    rung = threading.Event()
    bell = Bell([outbox_file.path, tmp_path / "absent.db"])
    bell.subscribe(rung.set)
    bell.start()
    for number in range(3):
        rung.clear()
        outbox_file.alerts(event(number))
        assert rung.wait(5)
    bell.unsubscribe(rung.set)
    bell.close()
    bell.close()


def test_progress_is_what_retention_asks_for(tmp_path: Path, outbox_file: OutboxFile) -> None:
    """Published under the name that the file itself has, and never before the cursor is on disk."""
    outbox_file.append((RowKind.WINDOWS, b"x"))
    outbox = Outbox({0: outbox_file.path})
    cursor = advanced({}, outbox.read({}))
    progress = Progress(tmp_path / "offsets.db", "influxdb", outbox)
    progress.publish(cursor, lambda: False, now=True)
    offsets = ConsumerOffsets(tmp_path / "offsets.db")
    assert offsets.committed("outbox-0", "influxdb") == {}
    progress.publish(cursor, lambda: True, now=True)
    assert offsets.committed("outbox-0", "influxdb") == {0: 1}
    offsets.close()
    progress.close()
    outbox.close()
    restarted = Progress(tmp_path / "offsets.db", "influxdb", Outbox({0: outbox_file.path}))
    restarted.publish(cursor, lambda: True, now=True)  # nothing was read yet: the file's name is not known, and nothing new to say
    restarted.close()
