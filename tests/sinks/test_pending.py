"""Who may be sent now: order within an alert, never across alerts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sinks.pending import Delivery, Pending


def taken(pending: Pending, now_ms: int = 0) -> Delivery:
    found = pending.take(now_ms)
    assert found is not None
    return found


def delivery(sequence: int, alert: str = "", attempts: int = 0, next_ms: int = 0) -> Delivery:
    return Delivery(sequence, f"e{sequence}", alert or f"a{sequence}", attempts, next_ms, 0)


def test_first_attempts_go_in_the_order_of_deciding() -> None:
    pending = Pending()
    for sequence in (1, 2, 3):
        pending.add(delivery(sequence))
    assert [taken(pending).sequence for _ in range(3)] == [1, 2, 3]
    assert pending.take(0) is None
    assert len(pending) == 3, "taken is not settled"


def test_the_next_event_of_an_alert_waits_for_the_one_before() -> None:
    """People hear `raised` before `resolved`."""
    pending = Pending()
    raised, resolved = delivery(1, "a"), delivery(2, "a")
    pending.add(raised)
    pending.add(resolved)
    assert pending.take(0) is raised
    assert pending.take(0) is None
    pending.postpone(raised, 100)
    assert pending.take(99) is None
    assert pending.next_ms() == 100
    assert pending.take(100) is raised
    pending.settle(raised)
    assert pending.take(100) is resolved


def test_a_failing_event_does_not_hold_up_another_alert() -> None:
    pending = Pending()
    failing, other = delivery(1), delivery(2)
    pending.add(failing)
    pending.postpone(taken(pending), 1000)
    pending.add(other)
    assert pending.take(0) is other


def test_retries_can_be_left_out() -> None:
    pending = Pending()
    pending.add(delivery(1, attempts=3, next_ms=0))
    assert pending.take(0, retries=False) is None
    assert taken(pending).sequence == 1


def test_what_has_failed_before_goes_when_it_is_due() -> None:
    pending = Pending()
    for sequence, due_ms in ((1, 300), (2, 100), (3, 200)):
        pending.add(delivery(sequence, attempts=1, next_ms=due_ms))
    assert [taken(pending, 1000).sequence for _ in range(3)] == [2, 3, 1]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_every_event_is_settled_once_and_in_the_order_of_its_alert(seed: int, alerts: list[int]) -> None:
    """Whatever fails how often: nothing is lost, doubled or overtaken within its alert."""
    print("seed", seed)
    draw = random.Random(seed)
    pending, settled, flying, now_ms = Pending(), [], [], 0
    for sequence, alert in enumerate(alerts):
        pending.add(delivery(sequence, f"a{alert}"))
    while len(pending):
        while (found := pending.take(now_ms)) is not None:
            flying.append(found)
        if flying:
            some = flying.pop(draw.randrange(len(flying)))
            if draw.random() < 0.5 and some.attempts < 5:
                pending.postpone(some, now_ms + draw.randrange(100))
            else:
                pending.settle(some)
                settled.append(some.sequence)
        else:
            now_ms = pending.next_ms() or now_ms
    assert sorted(settled) == list(range(len(alerts)))
    for alert in set(alerts):
        mine = [sequence for sequence in settled if alerts[sequence] == alert]
        assert mine == sorted(mine)
