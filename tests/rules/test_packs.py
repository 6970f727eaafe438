"""The cold-chain rules on what a real logger measured, against what the logger itself says of it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rules.aggregates import summarise
from rules.control import DEFAULT_SETTINGS
from simulators.files import Row, qtag_rows
from telemetry.alert import Phase
from tests.rules.stream import START_MS, Shard

DATA = Path(os.environ.get("VITALANE_DATA") or Path(__file__).parents[3] / "shared" / "data")
LOGGER = DATA / "qtag-logger" / "qtag_clm_RCPJ00010_run02.txt"
EVERY_MS = 10 * 60_000  # the device judges every minute, the export holds every tenth

ITS_RULES = """rules:
  - {id: alarm-1, when: temperature > 8.0 Cel, for: 30 min, severity: critical}
  - {id: alarm-2, when: temperature > 8.0 Cel, accumulated: 60 min within 30 d, severity: critical}
  - {id: alarm-4, when: temperature < 2.0 Cel, accumulated: 60 min within 30 d, clear: {when: temperature > 99 Cel}, severity: critical}
  - {id: alarm-5, when: temperature < 2.0 Cel, for: 30 min, severity: critical}
"""
ITS_ALARMS = {
    "alarm-1": ["2022-11-08 22:20"],
    "alarm-2": ["2022-11-08 22:50"],
    "alarm-5": ["2022-11-08 12:46", "2022-11-08 16:09"],  # what it says of 15:22 is not to be seen in every tenth minute
}

pytestmark = pytest.mark.skipif(not LOGGER.exists(), reason=f"real data is not at {DATA}: set VITALANE_DATA")


@pytest.fixture(scope="module")
def logged() -> list[Row]:
    return list(qtag_rows(LOGGER))


def at_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_its_alarms_assert_at_its_own_times(logged):
    shard = Shard(ITS_RULES, DEFAULT_SETTINGS._replace(max_skew_ms=10**12))
    for number, row in enumerate(logged):
        shard.messages(number, ("shipment", row.device, (row.time_ms - START_MS) / 1000, {"temperature": row.value}))
    raised = [event for outcome in shard.outcomes for event in outcome.alerts if event.phase is Phase.RAISED]

    for rule, expected in ITS_ALARMS.items():
        asserted = [event.time_ms for event in raised if event.rule == rule]
        for instant in expected:
            assert any(0 <= time_ms - at_ms(instant) + EVERY_MS <= 2 * EVERY_MS for time_ms in asserted), (rule, instant)
    # It counted single minutes below two degrees; every tenth proves the time only where the next one is below too, so later.
    [cumulative] = [event.time_ms for event in raised if event.rule == "alarm-4"]
    assert at_ms("2022-11-08 07:34") <= cumulative <= at_ms("2022-11-08 09:40")


def test_its_mean_kinetic_temperature(logged):
    times_ms, values = np.array([row.time_ms for row in logged]), np.array([row.value for row in logged])
    found = summarise(np.array([0]), np.array([len(logged)]), times_ms, values, ("mkt",))["mkt"][0]

    assert found == pytest.approx(10.5, abs=0.15)
