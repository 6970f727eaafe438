import pytest

from cli.registry import RegistryModel
from documents import parse
from rules.control import read_catalogue, read_record, registry_record
from rules.registry import Registry
from telemetry.errors import ConfigError


def test_a_registry_reads_as_what_the_evaluator_takes() -> None:
    """The document, the control record and the evaluator's registry say the same."""
    document = parse(
        "devices:\n"
        "  - {device: probe-1, subject: shipment-7, kind: shipment, tags: {product: vaccine}}\n"
        "  - {device: monitor-1, kind: patient}\n"
        "metrics:\n"
        "  - {name: co2, unit: '%', low: 0, high: 100}\n",
        "registry.yaml",
        RegistryModel,
    )
    record = read_record(registry_record(document.assignments(), document.own_metrics()))
    registry = Registry(record["devices"])
    assert registry.assignment("shipment", "probe-1")[:3] == ("shipment-7", "shipment", (("product", "vaccine"),))
    assert registry.assignment("patient", "monitor-1")[:3] == ("monitor-1", "patient", ())
    assert read_catalogue(record)["co2"].unit == "%"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("devices: [{device: a, kind: ship}]", "must be one of shipment, patient"),
        ("devices: [{device: a, kind: patient}, {device: a, kind: patient}]", "the device `a` stands here twice for the same time"),
        ("devices: [{device: a, kind: patient, from: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z}]", "`from` must be before `until`"),
        ("devices: [{device: a, kind: patient, from: 2026-01-02T00:00:00}]", "timezone"),
        ("devices: [{device: 'a b', kind: patient}]", "String should match pattern"),
        ("metrics: [{name: temperature, unit: Cel, low: 0, high: 1}]", "is in the catalogue already"),
        ("metrics: [{name: x, unit: parsec, low: 0, high: 1}]", "unknown unit"),
        ("metrics: [{name: x, unit: Cel, low: 1, high: 1}]", "`low` must be less than `high`"),
    ],
)
def test_what_is_wrong_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(text, "registry.yaml", RegistryModel)


def test_a_logger_that_is_exchanged_stands_there_twice() -> None:
    """Each for its time: the backlog of either goes to the shipment that it was measured on."""
    document = parse(
        "devices:\n"
        "  - {device: log-1, subject: crate-1, kind: shipment, until: 2026-01-02T00:00:00Z}\n"
        "  - {device: log-1, subject: crate-2, kind: shipment, from: 2026-01-02T01:00:00+01:00}\n",
        "registry.yaml",
        RegistryModel,
    )
    registry = Registry(read_record(registry_record(document.assignments()))["devices"])
    exchanged_ms = 1_767_312_000_000
    assert [registry.assignment("shipment", "log-1", exchanged_ms + at).subject for at in (-1, 0)] == ["crate-1", "crate-2"]
    assert registry.timed == {"log-1"}
