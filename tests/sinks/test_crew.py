"""The destinations of one process: a crash of one is its own affair."""

import threading

import pytest

from sinks.crew import run_all
from telemetry.errors import VitalaneError
from tests.sinks.parts import eventually


class Turn:
    """A loop that crashes a few times and then runs."""

    def __init__(self, stop: threading.Event, crashes: list[Exception]) -> None:
        self.stop, self.crashes, self.runs = stop, crashes, 0

    def run(self) -> None:
        self.runs += 1
        if self.crashes:
            raise self.crashes.pop(0)
        self.stop.wait()


def test_who_crashes_comes_back_and_the_others_never_notice(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    steady, shaky = Turn(stop, []), Turn(stop, [KeyError("a"), KeyError("b")])
    crew = threading.Thread(target=run_all, args=({"steady": lambda: steady, "shaky": lambda: shaky}, stop), kwargs={"rest_s": 0.01})
    crew.start()
    eventually(lambda: shaky.runs == 3)
    assert steady.runs == 1
    assert caplog.text.count("sinks.delivery_crashed name=shaky") == 2
    stop.set()
    crew.join(10)
    assert not crew.is_alive()


def test_what_cannot_begin_is_said_at_once() -> None:
    """A wrong setting is one sentence and an exit, not a log line every minute."""
    stop = threading.Event()

    def refuse() -> Turn:
        msg = "the port is taken"
        raise VitalaneError(msg)

    with pytest.raises(VitalaneError, match="the port is taken"):
        run_all({"steady": lambda: Turn(stop, []), "wrong": refuse}, stop)


def test_what_cannot_begin_again_is_tried_again() -> None:
    stop = threading.Event()
    last = Turn(stop, [])
    turns = [Turn(stop, [KeyError("a")]), None, last]

    def make() -> Turn:
        turn = turns.pop(0)
        if turn is None:
            msg = "served by another process"
            raise VitalaneError(msg)
        return turn

    crew = threading.Thread(target=run_all, args=({"a": make}, stop), kwargs={"rest_s": 0.01})
    crew.start()
    eventually(lambda: last.runs == 1)
    stop.set()
    crew.join(10)
    assert not crew.is_alive()


def test_nothing_to_deliver_waits_for_the_end() -> None:
    stop = threading.Event()
    crew = threading.Thread(target=run_all, args=({}, stop))
    crew.start()
    assert not stop.wait(0.05)
    assert crew.is_alive()
    stop.set()
    crew.join(10)
    assert not crew.is_alive()
