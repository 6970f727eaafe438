"""A change of form is noticed once; what a device does every day is none."""

from hypothesis import given
from hypothesis import strategies as st

from decoders.shapes import GONE_AFTER, LEARNT, MAX_FIELDS, Shapes
from tests.decoders.reading import read, told, written

USUAL = {"t": 4, "meta": {"rssi": -80}, "list": [{"x": 1}]}


class Device:
    """One device, its messages by a mapping."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self.number = 0

    def says(self, document: object) -> str | None:
        """Return what is noticed in its next message; the state goes by way of its dump each time."""
        self.number += 1
        change = self.shapes.note(self.number, "shipment", "d", "m", document)
        dumped = self.shapes.dump()
        self.shapes = Shapes()
        self.shapes.restore(dumped)
        return None if change is None else change.detail


def learnt() -> Device:
    device = Device()
    assert [device.says(USUAL) for _ in range(LEARNT)] == [None] * LEARNT
    return device


def test_a_field_that_appears_is_told_once():
    device = learnt()
    assert device.says({**USUAL, "hum": 40}) == "m: `hum` is new"
    assert [device.says({**USUAL, "hum": 40}) for _ in range(20)] == [None] * 20


def test_a_field_of_another_type_is_told_once():
    device = learnt()
    assert device.says({**USUAL, "t": "4"}) == "m: `t` is a text, it was a number"
    assert [device.says({**USUAL, "t": "4"}) for _ in range(20)] == [None] * 20
    assert device.says({**USUAL, "t": 4.5}) is None, "it was a number before"


def test_a_field_that_is_gone_is_told_once():
    """One message without it is what devices do; several in a row are a change."""
    device = learnt()
    assert device.says({"t": 4, "list": [{"x": 1}]}) is None
    assert device.says(USUAL) is None
    without = [device.says({"t": 4, "list": [{"x": 1}]}) for _ in range(GONE_AFTER + 20)]
    assert [said for said in without if said] == ["m: `meta.rssi` is gone"]
    assert without[GONE_AFTER - 1] is not None


def test_a_field_that_is_now_a_number_and_now_a_text_is_told_once():
    """Many devices write N/A where there is no number: two kinds of value, one change."""
    device = learnt()
    said = [device.says({**USUAL, "t": "N/A" if number % 4 == 0 else 4}) for number in range(400)]
    assert [one for one in said if one] == ["m: `t` is a text, it was a number"]


def test_a_device_whose_fields_are_named_after_what_it_measures_is_not_watched():
    device = Device()
    said = [device.says({f"tag-{number}": {"t": 4, "rssi": -80}}) for number in range(1000)]
    assert sum(one is not None for one in said) <= MAX_FIELDS // 2
    assert said[-500:] == [None] * 500


def test_lists_whose_elements_differ_are_no_change():
    device = Device()
    both = [{"temperature": 4}, {"humidity": 40}]
    assert [device.says({"list": both if number % 2 else both[::-1]}) for number in range(40)] == [None] * 40


def test_whoever_invents_devices_and_fields_costs_little():
    """State is written at the end of each epoch: what somebody invents must not be written again and again."""
    shapes = Shapes()
    for number in range(30_000):
        shapes.note(0, "shipment", f"invented-{number}", "m", {f"{'k' * 150}-{number}-{at}": 1 for at in range(10)})
    assert len(shapes.dump()) < 8_000_000
    assert shapes.dump() is shapes.dump()


def test_devices_of_one_make_share_what_is_known_of_them():
    shapes = Shapes()
    for device in range(1000):
        for _ in range(LEARNT + 1):
            shapes.note(0, "shipment", f"d{device}", "m", {f"field-{at}": 1.5 for at in range(60)})
    assert len(shapes.dump()) < 60_000


def test_null_is_not_there_and_whole_numbers_are_numbers():
    device = learnt()
    assert device.says({**USUAL, "t": 4.5, "note": None}) is None
    assert device.says({**USUAL, "t": None}) is None


def test_what_comes_and_goes_while_a_device_is_learnt_is_no_change_later():
    device = Device()
    for number in range(LEARNT):
        assert device.says({"t": 4} if number % 2 else {"t": 4, "cuff": 120}) is None
    assert [device.says({"t": 4}) for _ in range(50)] == [None] * 50
    assert device.says({"t": 4, "cuff": 120}) is None


def test_a_message_that_changes_altogether_is_one_change():
    assert learnt().says({f"k{n}": n for n in range(40)}) == "m: `k0` is new, `k1` is new, `k10` is new and 37 more"


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.lists(DOCUMENTS))
def test_anything_may_be_said(documents):
    """Bounded, and restored state notices what unbroken state notices."""
    device, unbroken = Device(), Shapes()
    for number, document in enumerate(documents, start=1):
        change = unbroken.note(number, "shipment", "d", "m", document)
        assert device.says(document) == (None if change is None else change.detail)
        assert change is None or len(change.detail) < 1000


def test_a_change_comes_with_the_message_and_the_rest_of_it_is_read():
    by = written("mappings: [{name: m, topic: 'a/{device}', readings: {temperature: t, humidity: h}}]")
    shapes = Shapes()
    for _ in range(LEARNT):
        assert not read(by, ("a/d", b'{"t":4,"h":40}'), shapes=shapes).changes
    decoded = read(by, ("a/d", b'{"t":"4","h":41}'), shapes=shapes)
    assert [(change.device, change.detail) for change in decoded.changes] == [("d", "m: `t` is a text, it was a number")]
    assert [(one.metric, one.value) for one in told(decoded)] == [("humidity", 41)]
