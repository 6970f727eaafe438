"""kill -9 in the middle of deliveries: every event arrives at least once, under one id, and the ledger balances."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from journal.rows import RowKind
from sinks.history import HistoryReader
from sinks.ledger import ChannelLedger
from sinks.store_ledger import StoreLedger
from tests.sinks.parts import START_MS, Answer, OutboxFile, Receiver, event, eventually, readings

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 400
KILLS = 6

PROGRAM = """
import os, sys, threading
from pathlib import Path
from alerts.message import compose_with
from sinks.crew import run_all
from sinks.delivery import ChannelDelivery
from journal.rows import RowKind
from sinks.history import History
from sinks.ledger import ChannelLedger
from sinks.outbox import Outbox
from sinks.store_ledger import StoreLedger
from sinks.storing import StoreDelivery
from sinks.webhook import Webhook

folder, url = Path(sys.argv[1]), sys.argv[2]
stop = threading.Event()
threading.Thread(target=lambda: sys.stdin.read() or os._exit(1), daemon=True).start()  # nobody is left to kill it: the test is gone
paths = {0: folder / "outbox-0.db"}

def channel():
    hook = Webhook("pager", url, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], compose_with(None), allow_private=True)
    ledger, outbox = ChannelLedger(folder / "delivery-pager.db"), Outbox(paths)
    return ChannelDelivery(hook, lambda _: True, ledger, outbox, stop, offsets=folder / "offsets.db")

def store():
    ledger, outbox = StoreLedger(folder / "delivery-history.db"), Outbox(paths)
    return StoreDelivery("history", History(folder / "history.db"), ledger, outbox, stop, max_rows=4, pause_s=0.001)

run_all({"pager": channel, "history": store}, stop)
"""


class Deliverer:
    """The process that delivers."""

    def __init__(self, folder: Path, url: str) -> None:
        self.command = [sys.executable, "-c", PROGRAM, str(folder), url]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, stdin=subprocess.PIPE)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=10)


@pytest.fixture
def deliverer(tmp_path: Path, receiver: Receiver) -> Iterator[Deliverer]:
    process = Deliverer(tmp_path, receiver.url)
    yield process
    process.kill()


@pytest.mark.servers
def test_kill_minus_nine_loses_nothing(tmp_path: Path, outbox_file: OutboxFile, receiver: Receiver, deliverer: Deliverer) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    draw = random.Random(seed)
    receiver.judge = lambda _: Answer(503) if draw.random() < 0.1 else Answer(204, delay_s=0.002)
    events = [event(number // 2, 1 + number % 2) for number in range(EVENTS)]
    killed = 0
    for begin in range(0, EVENTS, 20):
        for number in range(begin, begin + 20):
            outbox_file.append((RowKind.READINGS, readings([1.0] * 10, first_ms=START_MS + number * 1_000_000)))
            outbox_file.alerts(events[number])
        if killed < KILLS:
            eventually(partial(at_work, receiver, len(receiver.requests)))
            time.sleep(draw.uniform(0, 0.03))
            deliverer.kill()
            killed += 1
            deliverer.start()
    eventually(lambda: balanced(tmp_path), 60)
    deliverer.kill()

    ids = [request.headers["webhook-id"] for request in receiver.accepted]
    assert set(ids) == {item.event_id for item in events}
    first = {an_id: ids.index(an_id) for an_id in ids}
    assert all(first[event(n, 1).event_id] < first[event(n, 2).event_id] for n in range(EVENTS // 2)), "raised before amended"
    reader = HistoryReader(tmp_path / "history.db")
    counts = reader.counts()
    assert (counts["readings"], counts["alerts"]) == (EVENTS * 10, EVENTS)
    reader.close()


def at_work(receiver: Receiver, seen: int) -> bool:
    return len(receiver.requests) > seen


def balanced(folder: Path) -> bool:
    channel, store = ChannelLedger(folder / "delivery-pager.db", serve=False), StoreLedger(folder / "delivery-history.db", serve=False)
    told, kept = channel.counts(), store.counts()
    channel.close()
    store.close()
    assert told.balances()
    assert kept.balances()
    return told[:4] == (EVENTS, EVENTS, 0, 0) and kept[:4] == (2 * EVENTS, 2 * EVENTS, 0, 0)
