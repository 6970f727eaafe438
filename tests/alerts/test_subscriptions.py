"""Who is told what: strict documents in, a match out."""

from pathlib import Path

import pytest

from alerts.subscriptions import SubscriptionDocument, SubscriptionList, load_subscriptions, unknown_channels, wants
from documents.model import parse
from telemetry.alert import Phase, Severity
from telemetry.errors import ConfigError
from tests.sinks.parts import event

PATIENT = event(kind="patient", subject="bed-7", rule="desaturation", severity=Severity.WARNING, tags={"ward": "icu"})

DOCUMENT = """
- name: ward
  match:
    {kind: patient, severity: [warning, critical], tags: {ward: icu}, subject: "bed-*", rule: [desat*, apnoea], phase: [raised, resolved]}
  channels: [pager, mail]
- name: everything
  channels: archive
"""


def loaded(tmp_path: Path, text: str, *channels: str):
    path = tmp_path / "subscriptions.yaml"
    path.write_text(text)
    return load_subscriptions(path, channels or ("pager", "mail", "archive"))


def test_an_event_goes_to_the_channels_of_what_it_matches(tmp_path: Path) -> None:
    subscriptions = loaded(tmp_path, DOCUMENT)
    told = {channel for channel in ("pager", "mail", "archive") if wants(subscriptions, channel)(PATIENT)}
    assert told == {"pager", "mail", "archive"}
    assert [wants(subscriptions, channel)(event()) for channel in ("pager", "archive")] == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "shipment"},
        {"severity": Severity.INFO},
        {"tags": {"ward": "er"}},
        {"tags": {}},
        {"subject": "chair-7"},
        {"rule": "bradycardia"},
        {"phase": Phase.AMENDED},
    ],
    ids=str,
)
def test_every_condition_of_a_match_must_hold(tmp_path: Path, change: dict) -> None:
    """One that does not is enough to leave people in peace."""
    pager = wants(loaded(tmp_path, DOCUMENT), "pager")
    assert pager(PATIENT)
    assert not pager(PATIENT._replace(**change))


def test_of_a_list_one_is_enough(tmp_path: Path) -> None:
    pager = wants(loaded(tmp_path, DOCUMENT), "pager")
    assert pager(PATIENT._replace(rule="apnoea", severity=Severity.CRITICAL, phase=Phase.RESOLVED))


def test_a_pattern_means_the_whole_name(tmp_path: Path) -> None:
    subscriptions = loaded(tmp_path, '- {name: a, match: {subject: "bed-?", rule: desat}, channels: [pager]}')
    assert not wants(subscriptions, "pager")(PATIENT)
    assert wants(subscriptions, "pager")(PATIENT._replace(rule="desat"))
    assert not wants(subscriptions, "pager")(PATIENT._replace(rule="desat", subject="bed-77"))
    assert not wants(subscriptions, "pager")(PATIENT._replace(rule="desat", subject="bed-7\n"))


def test_every_problem_is_named_at_its_place(tmp_path: Path) -> None:
    text = """- name: ward
  match: {kind: patient, severity: bad}
  channels: [pagr]
- name: x
  mach: {}
  channels: []
"""
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    said = str(raised.value)
    assert "subscriptions.yaml:2:36" in said
    assert "'info', 'warning' or 'critical'" in said
    assert "there is no channel 'pagr', did you mean 'pager'?" in said
    assert "unknown key, did you mean `match`?" in said
    assert len(raised.value.problems) == 4


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same name: a"):
        loaded(tmp_path, "- {name: a, channels: [pager]}\n- {name: a, channels: [mail]}")


@pytest.mark.parametrize("text", ["{name: a}", "just text", "- 5"])
def test_what_is_no_list_of_subscriptions_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        loaded(tmp_path, text)


def test_an_empty_document_subscribes_nobody(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == []


def test_channels_of_the_same_document_are_checked_afterwards() -> None:
    """In vitalane.yaml both stand side by side, and neither can be validated with the other."""
    documents = parse("- {name: a, channels: [mial, pager]}\n- {name: b, channels: [fax]}", "vitalane.yaml", SubscriptionList).root
    assert all(isinstance(document, SubscriptionDocument) for document in documents)
    assert unknown_channels(documents, ["mail", "pager"]) == [
        (0, "there is no channel 'mial', did you mean 'mail'?"),
        (1, "there is no channel 'fax': there are mail, pager"),
    ]
    assert unknown_channels(documents[1:], []) == [(0, "there is no channel 'fax': there are none")]
