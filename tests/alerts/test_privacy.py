"""Pseudonyms: stable, keyed, and nothing of the patient left beside them."""

import pytest

from alerts.privacy import Pseudonyms
from telemetry.errors import VitalaneError
from tests.sinks.parts import event


def test_the_same_patient_has_the_same_pseudonym() -> None:
    """Who reads two notifications must see that they are about one patient."""
    first, again = Pseudonyms(b"k" * 16), Pseudonyms(b"k" * 16)
    assert first.of("patient", "bed-7") == again.of("patient", "bed-7")
    assert first.of("patient", "bed-7") != first.of("patient", "bed-8")
    assert first.of("patient", "bed-7").partition("-")[2] != first.of("device", "bed-7").partition("-")[2]


def test_another_key_gives_other_pseudonyms() -> None:
    """Who has no key can neither compute nor test one."""
    assert Pseudonyms(b"k" * 16).of("patient", "bed-7") != Pseudonyms(b"l" * 16).of("patient", "bed-7")
    assert Pseudonyms(b"k" * 100).of("patient", "bed-7") != Pseudonyms(b"k" * 101).of("patient", "bed-7")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(VitalaneError, match="has 5 bytes"):
        Pseudonyms(b"short")


def test_subject_devices_and_every_tag_are_replaced() -> None:
    patient = event(kind="patient", subject="Jane", tags={"ward": "icu", "mrn": "123"})
    masked = Pseudonyms(b"k" * 16).event(patient)
    assert masked.subject.startswith("patient-")
    assert masked.tags.keys() == patient.tags.keys()
    assert not set(masked.tags.values()) & set(patient.tags.values())
    assert all(item.device.startswith("device-") for item in masked.evidence)
    assert masked.value == patient.value


def test_a_shipment_keeps_its_name() -> None:
    shipment = event()
    assert Pseudonyms(b"k" * 16).event(shipment) is shipment
