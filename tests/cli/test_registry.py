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
    assert registry.assignment("shipment", "probe-1") == ("shipment-7", "shipment", (("product", "vaccine"),))
    assert registry.assignment("patient", "monitor-1") == ("monitor-1", "patient", ())
    assert read_catalogue(record)["co2"].unit == "%"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("devices: [{device: a, kind: ship}]", "must be one of shipment, patient"),
        ("devices: [{device: a, kind: patient}, {device: a, kind: patient}]", "the device `a` stands here twice"),
        ("devices: [{device: 'a b', kind: patient}]", "String should match pattern"),
        ("metrics: [{name: temperature, unit: Cel, low: 0, high: 1}]", "is in the catalogue already"),
        ("metrics: [{name: x, unit: parsec, low: 0, high: 1}]", "unknown unit"),
        ("metrics: [{name: x, unit: Cel, low: 1, high: 1}]", "`low` must be less than `high`"),
    ],
)
def test_what_is_wrong_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(text, "registry.yaml", RegistryModel)
