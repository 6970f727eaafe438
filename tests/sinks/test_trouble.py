"""A failure that repeats has one voice."""

import logging

import pytest

from sinks.trouble import QUIET_S, Trouble
from telemetry.errors import Transient

DOWN, BUSY = Transient("down"), Transient("busy")


def test_a_failure_is_said_once_per_change_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trouble = Trouble(logging.getLogger("test"), "sinks.delivery", "pager")
    trouble.over()
    for error in (DOWN, DOWN, BUSY, BUSY, DOWN):
        trouble.report(error)
    trouble.over()
    trouble.over()
    assert [record.getMessage() for record in caplog.records] == [
        "sinks.delivery_failed name=pager error='down'",
        "sinks.delivery_failed name=pager error='busy'",
        "sinks.delivery_failed name=pager error='down'",
        "sinks.delivery_recovered name=pager failures=5",
    ]


def test_failing_and_succeeding_by_turns_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now_s = [1000.0]
    trouble = Trouble(logging.getLogger("test"), "sinks.delivery", "pager", clock_s=lambda: now_s[0])
    for _ in range(100):
        trouble.report(DOWN)
        trouble.over()
    assert len(caplog.records) == 2
    now_s[0] += QUIET_S
    trouble.report(DOWN)
    assert len(caplog.records) == 3
