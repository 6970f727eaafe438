"""A channel's loop: nothing lost, nothing overtaken within its alert, nobody held up by somebody else's failure."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from journal.rows import RowKind
from sinks.backoff import Backoff
from sinks.delivery import ChannelDelivery
from sinks.ledger import ChannelLedger
from sinks.outbox import Bell, Outbox
from telemetry.clock import utc_now_ms
from telemetry.errors import Rejected, Transient
from tests.sinks.parts import Kept, OutboxFile, event, eventually, running

QUICK = Backoff(base_s=0.001, cap_s=0.01)


def loop(tmp_path: Path, stop: threading.Event, channel: Kept, **options: Any) -> ChannelDelivery:
    wants = options.pop("wants", lambda _: True)
    ledger = ChannelLedger(tmp_path / f"delivery-{channel.name}.db")
    options = {"backoff": QUICK} | options
    return ChannelDelivery(channel, wants, ledger, Outbox({0: tmp_path / "outbox-0.db"}), stop, **options)


def counts(tmp_path: Path, name: str = "kept"):
    ledger = ChannelLedger(tmp_path / f"delivery-{name}.db", serve=False)
    found = ledger.counts()
    ledger.close()
    assert found.balances()
    return found


def owed(tmp_path: Path, name: str = "kept"):
    ledger = ChannelLedger(tmp_path / f"delivery-{name}.db", serve=False)
    found = ledger.pending(100)
    ledger.close()
    return found


def test_every_event_is_told_in_order(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    events = [event(1, revision) for revision in range(1, 40)]
    outbox_file.alerts(*events[:20])
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: len(channel.told) == 20)
        outbox_file.alerts(*events[20:])
        eventually(lambda: len(channel.told) == 39)
    assert channel.told == events
    assert counts(tmp_path)[:4] == (39, 39, 0, 0)
    assert channel.closed == 1


def test_events_that_no_subscription_wants_are_counted_and_left(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    outbox_file.alerts(event(1), event(2), event(3))
    outbox_file.append((RowKind.WINDOWS, b"not for channels"))
    with running(stop, loop(tmp_path, stop, channel, wants=lambda item: item.subject == "shipment-2")):
        eventually(lambda: counts(tmp_path).unmatched == 2 and channel.told)
    assert channel.told == [event(2)]


def test_a_passing_failure_is_tried_again_until_it_passes(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1).event_id] = [Transient("down")] * 5
    outbox_file.alerts(event(1), event(2))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: len(channel.told) == 2)
    assert channel.attempts.count(event(1).event_id) == 6
    assert counts(tmp_path).delivered == 2


def test_a_refusal_is_final_kept_and_listed(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1).event_id] = [Rejected("410")]
    outbox_file.alerts(event(1), event(2))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: counts(tmp_path).delivered == 1 and counts(tmp_path).dead == 1)
    assert channel.attempts.count(event(1).event_id) == 1
    ledger = ChannelLedger(tmp_path / "delivery-kept.db")
    assert [(letter.event_id, letter.error) for letter in ledger.dead()] == [(event(1).event_id, "410")]
    ledger.close()


def test_after_a_refusal_the_alert_goes_on(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1, 1).event_id] = [Rejected("422")]
    outbox_file.alerts(event(1, 1), event(1, 2))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: channel.told == [event(1, 2)])
    assert channel.attempts == [event(1, 1).event_id, event(1, 2).event_id]


def test_an_alert_keeps_its_order_while_it_fails(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1, 1).event_id] = [Transient("down")] * 3
    outbox_file.alerts(event(1, 1), event(1, 2), event(2, 1))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: len(channel.told) == 3)
    mine = [item.revision for item in channel.told if item.alert_id == event(1).alert_id]
    assert mine == [1, 2]


def test_slow_events_do_not_hold_up_others(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    """Three hang; the rest goes by on what is left."""
    channel = Kept()
    channel.slow = {event(number).event_id: threading.Event() for number in range(3)}
    outbox_file.alerts(*[event(number) for number in range(20)])
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: len(channel.told) == 17)
        for hanging in channel.slow.values():
            hanging.set()
        eventually(lambda: len(channel.told) == 20)
    assert set(channel.ids[-3:]) == set(channel.slow)


def test_failing_events_leave_a_sender_for_new_ones(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    """A crowd that fails slowly, again and again, never takes the last sender."""
    channel = Kept()
    crowd = [event(number) for number in range(8)]
    for item in crowd:
        channel.script[item.event_id] = [Transient("hangs, then fails")]
    outbox_file.alerts(*crowd)
    with running(stop, loop(tmp_path, stop, channel, backoff=Backoff(base_s=0.05, cap_s=0.05), draw=lambda: 1.0)):
        gate = threading.Event()
        eventually(lambda: len(channel.attempts) >= 8)
        channel.slow = {item.event_id: gate for item in crowd}
        eventually(lambda: len(channel.attempts) >= 11)  # three hang in their second attempt
        fresh = [event(number) for number in range(100, 110)]
        outbox_file.alerts(*fresh)
        eventually(lambda: len(channel.told) >= 10)
        assert channel.told[:10] == fresh
        gate.set()
        eventually(lambda: len(channel.told) == 18)


def test_a_dead_destination_never_delays_another(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    dead, alive = Kept("dead"), Kept("alive")
    dead.always = Transient("nobody there")
    with running(stop, loop(tmp_path, stop, dead), loop(tmp_path, stop, alive)):
        for number in range(50):
            outbox_file.alerts(event(number))
        eventually(lambda: len(alive.told) == 50)
        eventually(lambda: counts(tmp_path, "dead").decided == 50)
    assert counts(tmp_path, "dead")[:4] == (50, 0, 50, 0)
    assert counts(tmp_path, "alive")[:4] == (50, 50, 0, 0)


def test_the_wait_that_the_receiver_asks_for_is_kept(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1).event_id] = [Transient("busy", retry_after_s=3000.0)]
    clock = [10_000_000]
    outbox_file.alerts(event(1))
    with running(stop, loop(tmp_path, stop, channel, now_ms=lambda: clock[0])):
        eventually(
            lambda: counts(tmp_path).pending == 1 and ChannelLedger(tmp_path / "delivery-kept.db", serve=False).pending(1)[0].attempts
        )
        clock[0] += 2_999_000
        assert not stop.wait(0.2)
        assert channel.attempts == [event(1).event_id]
        clock[0] += 2_000
        eventually(lambda: channel.told == [event(1)])


def test_what_fails_for_a_day_is_dead(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    """Yesterday's alarm must not go off as if it were now."""
    channel = Kept()
    channel.always = Transient("down")
    clock = [10_000_000]
    outbox_file.alerts(event(1))
    with running(stop, loop(tmp_path, stop, channel, now_ms=lambda: clock[0])):
        eventually(lambda: channel.attempts)
        clock[0] += 86_400_001
        eventually(lambda: counts(tmp_path).dead == 1)
    ledger = ChannelLedger(tmp_path / "delivery-kept.db")
    assert ledger.dead()[0].error == "expired"
    ledger.close()


def test_dead_letters_are_sent_when_somebody_asks(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    channel.script[event(1).event_id] = [Rejected("410")]
    outbox_file.alerts(event(1))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: counts(tmp_path).dead == 1)
        beside = ChannelLedger(tmp_path / "delivery-kept.db", serve=False)
        assert beside.retry(now_ms=utc_now_ms()) == 1
        beside.close()
        eventually(lambda: channel.told == [event(1)])
    assert counts(tmp_path)[:4] == (1, 1, 0, 0)


def test_a_restart_goes_on_where_it_was(tmp_path: Path, outbox_file: OutboxFile) -> None:
    """What was owed is owed, what was told is not told again."""
    channel = Kept()
    channel.script[event(2).event_id] = [Transient("down")] * 1000
    outbox_file.alerts(event(1), event(2))
    first = threading.Event()
    with running(first, loop(tmp_path, first, channel, backoff=Backoff(base_s=0.05, cap_s=0.05))):
        eventually(lambda: counts(tmp_path).delivered == 1 and channel.attempts.count(event(2).event_id) > 1)
    outbox_file.alerts(event(3))
    channel.script.clear()
    second = threading.Event()
    with running(second, loop(tmp_path, second, channel)):
        eventually(lambda: len(channel.told) == 3)
    assert sorted(channel.ids) == sorted([event(1).event_id, event(2).event_id, event(3).event_id])
    assert counts(tmp_path)[:4] == (3, 3, 0, 0)


def test_an_alert_that_cannot_be_read_is_dead_and_others_go_on(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    outbox_file.append((RowKind.ALERT, b"{broken"))
    outbox_file.alerts(event(1))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: channel.told == [event(1)])
    assert counts(tmp_path)[:4] == (2, 1, 0, 1)


def test_a_mistake_of_ours_costs_one_event_and_not_the_channel(
    tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile, caplog: pytest.LogCaptureFixture
) -> None:
    channel = Kept()
    channel.script[event(1).event_id] = [KeyError("what nobody expected")]
    outbox_file.alerts(event(1), event(2))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: len(channel.told) == 2)
    assert "sinks.send_crashed channel=kept" in caplog.text


def test_a_failure_is_logged_once_and_so_is_its_end(
    tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    channel = Kept()
    channel.script[event(1).event_id] = [*[Transient("down")] * 5, *[Transient("busy")] * 5]
    outbox_file.alerts(event(1))
    with running(stop, loop(tmp_path, stop, channel)):
        eventually(lambda: channel.told)
        eventually(lambda: counts(tmp_path).delivered == 1)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("sinks.delivery_")]
    assert said == [
        "sinks.delivery_failed name=kept error='down'",
        "sinks.delivery_failed name=kept error='busy'",
        "sinks.delivery_recovered name=kept failures=10",
    ]


def test_with_a_bell_it_hears_at_once(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    bell = Bell([outbox_file.path])
    bell.start()
    channel = Kept()
    with running(stop, loop(tmp_path, stop, channel, bell=bell)):
        for number in range(20):
            outbox_file.alerts(event(number))
            eventually(partial(channel.has_told, number + 1))
    bell.close()
    assert counts(tmp_path).delivered == 20


def test_a_full_disk_of_the_ledger_holds_alerts_back_and_loses_none(tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile) -> None:
    channel = Kept()
    ledger = ChannelLedger(tmp_path / "delivery-kept.db")
    pages = ledger._database._connection
    pages.execute(f"PRAGMA max_page_count = {pages.execute('PRAGMA page_count').fetchone()[0] + 2}")
    outbox_file.alerts(*[event(number, message="x" * 20_000) for number in range(5)])
    delivery = ChannelDelivery(channel, lambda _: True, ledger, Outbox({0: outbox_file.path}), stop, backoff=QUICK)
    with running(stop, delivery):
        assert not stop.wait(0.3)
        assert channel.told == []
        pages.execute("PRAGMA max_page_count = 100000")
        eventually(lambda: len(channel.told) == 5)
    assert counts(tmp_path)[:4] == (5, 5, 0, 0)
