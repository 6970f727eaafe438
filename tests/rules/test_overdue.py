"""Promises of devices: what was promised and does not come is one alert for its device, on the journal's clock, while somebody listens."""

import json
import random

import pytest

from decoders.decode import decode_row
from journal.messages import decode_messages, encode_messages
from rules.control import listening_record, registry_record
from rules.overdue import GRACE_MS, STALE_ENTRIES
from telemetry.alert import AlertEvent
from telemetry.metrics import CATALOGUE
from tests.rules.stream import START_MS, Shard

NO_RULES = "rules: []"


def say(shard: Shard, at_s: float, device: str = "d", origin: int | None = None, **sensors: float | None) -> None:
    """Publish one value of each sensor as SenML; a number is the update time that it promises."""
    pack = [{"n": name, "v": 20 + at_s % 7} | ({} if ut is None else {"ut": ut}) for name, ut in sensors.items()]
    body = encode_messages([f"vitalane/v1/shipment/{device}/senml".encode()], [json.dumps(pack).encode()], bytes(1))
    now_ms = START_MS + round(at_s * 1000)
    decoded = decode_row(decode_messages(body), now_ms, CATALOGUE)
    assert not decoded.refusals, decoded.refusals
    if origin is None:
        shard.decoded(at_s, 1, decoded)
    else:
        shard.outcomes.append(shard.evaluator.on_messages(shard.offset, 0, now_ms, decoded, origin=origin))


def told(shard: Shard) -> list[tuple[str, str, float, float | None]]:
    assert {rule for _, rule, *_ in shard.alerts()} <= {"device-overdue"}
    return [(phase, subject, start, end) for phase, _, subject, start, end in shard.alerts()]


def test_a_promise_that_is_broken_is_told_once_and_is_over_with_the_next_reading():
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=60)
    say(shard, 50, temperature=60)
    shard.tick(139.999)
    assert told(shard) == []
    for second in range(140, 200):
        shard.tick(second)
    assert shard.books().open_alerts == 1
    say(shard, 200, temperature=None)
    shard.tick(10_000)

    assert told(shard) == [("raised", "d", 140, None), ("resolved", "d", 140, 200)]
    raised, resolved = (event for outcome in shard.outcomes for event in outcome.alerts)
    assert (raised.alert_id, raised.alert_class, raised.signal) == (resolved.alert_id, "technical", "temperature")
    assert raised.positions == ((0, 4),)  # the message that promised: after three control records and the first one
    assert shard.books().open_alerts == 0


def test_a_short_promise_is_given_its_grace():
    """Half of a second would be spent on the way."""
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=1)
    shard.tick(1 + GRACE_MS / 1000 - 0.001)
    assert told(shard) == []
    shard.tick(1 + GRACE_MS / 1000)
    assert told(shard) == [("raised", "d", 6, None)]


@pytest.mark.parametrize("ut", [0, -5, 1e9, 1e-9])
def test_what_is_no_promise_is_not_waited_for(ut: float):
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=ut)
    shard.tick(40_000_000)
    assert told(shard) == []
    assert not shard.evaluator.overdue.waiting


def test_a_silent_sensor_behind_a_device_that_speaks_is_found_and_is_one_alert_with_its_neighbours():
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=60, humidity=120, light=60)
    for second in range(10, 300, 10):
        say(shard, second, light=60)
    say(shard, 300, temperature=600, light=600)
    say(shard, 310, humidity=600, light=600)

    assert told(shard) == [("raised", "d", 90, None), ("resolved", "d", 90, 310)]


def test_the_next_episode_of_a_device_is_another_alert():
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=10, humidity=60)
    shard.tick(20)
    say(shard, 21, temperature=None)
    shard.tick(100)
    events = [event for outcome in shard.outcomes for event in outcome.alerts]
    assert [str(event.phase) for event in events] == ["raised", "resolved", "raised"]
    assert len({event.event_id for event in events}) == 3


def test_what_the_last_message_of_a_row_says_holds():
    shard = Shard(NO_RULES)
    packs = [b'[{"n":"temp","v":4,"ut":10}]', b'[{"n":"temp","v":5}]']
    body = encode_messages([b"vitalane/v1/shipment/d/senml"] * 2, packs, bytes(2))
    shard.decoded(0, 2, decode_row(decode_messages(body), START_MS, CATALOGUE))
    shard.tick(1000)
    assert told(shard) == []


def test_no_promise_is_broken_while_nobody_listens_and_what_was_told_stays_told():
    shard = Shard(NO_RULES)
    say(shard, 0, "early", temperature=10)
    say(shard, 0, "d", temperature=60)
    shard.tick(20)
    shard.control(listening_record(), 3600)
    shard.tick(3689)
    assert told(shard) == [("raised", "early", 15, None)]
    shard.tick(3690)
    say(shard, 3700, "early", temperature=None)
    assert told(shard) == [("raised", "early", 15, None), ("raised", "d", 3690, None), ("resolved", "early", 15, 3700)]


def test_a_logger_that_is_exchanged_is_no_longer_waited_for():
    """Its promise was about this shipment; where it is overdue when it is exchanged, that is over."""
    bounds = {"early": 300_000, "late": 600_000}
    devices = [
        {"device": name, "subject": "crate", "kind": "shipment", "tags": {}, "until_ms": START_MS + until_ms}
        for name, until_ms in bounds.items()
    ]
    devices.append({"device": "new", "subject": "crate", "kind": "shipment", "tags": {}, "from_ms": START_MS + 600_000})
    shard = Shard(NO_RULES, devices=devices)
    say(shard, 10, "late", temperature=60)
    say(shard, 280, "early", temperature=60)
    for second in range(300, 2000, 100):
        shard.tick(second)
    assert told(shard) == [("raised", "crate", 100, None), ("resolved", "crate", 100, 600)]


def test_what_another_partition_carried_late_does_not_take_a_promise_back():
    shard = Shard(NO_RULES)
    say(shard, 100, temperature=60)
    say(shard, 50, origin=1, temperature=None)
    shard.tick(190)
    assert told(shard) == [("raised", "d", 190, None)]


def random_life(shard: Shard, seed: int, restart_after: set[int]) -> list[list[AlertEvent]]:
    """Feed a few devices that keep and break promises; returns everything that came out."""
    chance, at_s = random.Random(seed), 0.0
    devices = [{"device": "b", "subject": "crate", "kind": "shipment", "tags": {"lane": str(seed)}}]
    for step in range(120):
        at_s += chance.choice([0.5, 3, 20, 90])
        match chance.randrange(8):
            case 0:
                shard.control(listening_record(), at_s)
            case 1:
                shard.control(registry_record(devices if chance.random() < 0.5 else []), at_s)
            case 2 | 3:
                shard.tick(at_s)
            case _:
                sensors = chance.sample(["temperature", "humidity", "light"], chance.randint(1, 3))
                say(shard, at_s, chance.choice("abc"), **{name: chance.choice([None, 1, 10, 45]) for name in sensors})
        if step in restart_after:
            shard.restart()
    return [outcome.alerts for outcome in shard.outcomes]


@pytest.mark.parametrize("seed", range(12))
def test_a_restart_at_any_row_changes_nothing(seed: int):
    straight = random_life(Shard(NO_RULES), seed, set())
    assert sum(map(len, straight)) > 5, f"seed {seed} is idle"
    assert random_life(Shard(NO_RULES), seed, set(range(120))) == straight, f"seed {seed}"
    events = [event for alerts in straight for event in alerts]
    assert len({event.event_id for event in events}) == len(events), f"seed {seed}: an id twice"
    open_now: set[str] = set()
    for event in events:
        assert (event.alert_id in open_now) == (event.phase != "raised"), f"seed {seed}: {event}"
        open_now ^= {event.alert_id}


def test_promises_cost_what_there_are_series_however_often_they_are_made():
    shard = Shard(NO_RULES)
    for step in range(3 * STALE_ENTRIES):
        say(shard, step, temperature=5000 - step)
    assert len(shard.evaluator.overdue.waiting) == 1
    assert len(shard.evaluator.overdue._queue) <= STALE_ENTRIES + 2


def test_a_pack_makes_one_promise_a_sensor():
    pack = [{"bn": "x:", "n": "temp", "v": 4, "ut": 10}, *({"n": "temp", "t": -second, "v": 4, "ut": second} for second in range(1, 2000))]
    body = encode_messages([b"vitalane/v1/shipment/d/senml"], [json.dumps(pack).encode()], bytes(1))
    [promise] = decode_row(decode_messages(body), START_MS, CATALOGUE).promises
    assert promise.within_ms == 1_999_000


def test_where_nobody_promises_nothing_is_kept():
    shard = Shard(NO_RULES)
    say(shard, 0, temperature=None)
    shard.tick(1000)
    assert shard.evaluator.snapshot()["overdue"] == {"waiting": {}, "late": {}, "open": []}
