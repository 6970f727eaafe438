import json
import signal
from pathlib import Path

import pytest

from cli.main import run
from cli.summary import Finding, findings, outcome
from simulators.incidents import Incident, IncidentKind
from simulators.score import percentile
from simulators.truth import Breach
from telemetry.alert import AlertClass, AlertEvent, Phase, Severity
from tests.cli.running import Running, vitalane
from tests.tools import find_mosquitto

INCIDENT = Incident(IncidentKind.DESATURATION, "patient-1", "monitor-1", 100_000, 160_000, "desaturation")


def raised(subject: str = "patient-1", rule: str = "desaturation", started_at_ms: int = 120_000) -> AlertEvent:
    return AlertEvent(
        alert_id=f"{rule}-{subject}-{started_at_ms}",
        revision=1,
        phase=Phase.RAISED,
        rule=rule,
        rule_version="0",
        severity=Severity.CRITICAL,
        alert_class=AlertClass.PHYSIOLOGICAL,
        kind="patient",
        subject=subject,
        tags={},
        signal="spo2",
        unit="%",
        comparison="< 90",
        threshold=90.0,
        value=85.0,
        peak=85.0,
        started_at_ms=started_at_ms,
        ended_at_ms=None,
        time_ms=started_at_ms + 8000,
        detected_at_ms=started_at_ms + 8100,
        historic=False,
        message="",
        evidence=(),
        positions=(),
        correlation_id="c",
    )


def test_an_incident_is_found_by_its_rule_on_its_subject_in_its_time() -> None:
    found, unexpected = findings([(INCIDENT, Breach(120_000, 150_000), True)], [raised()])
    assert [outcome(finding) for finding in found] == ["found"]
    assert found[0].delay_ms == 8000
    assert unexpected == []


@pytest.mark.parametrize(
    "event", [raised(subject="patient-2"), raised(rule="tachycardia"), raised(started_at_ms=1_000), raised()._replace(phase=Phase.RESOLVED)]
)
def test_another_alert_does_not_find_it(event: AlertEvent) -> None:
    """A demo that calls anything a success proves nothing."""
    found, unexpected = findings([(INCIDENT, None, True)], [event])
    assert [outcome(finding) for finding in found] == ["missed"]
    assert unexpected == ([event] if event.phase is Phase.RAISED else [])


def test_an_incident_that_was_not_over_is_no_miss() -> None:
    assert outcome(Finding(INCIDENT, None, None, due=False)) == "not over yet"


def test_percentiles_are_nearest_ranks() -> None:
    assert [percentile(list(range(1, 101)), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([], 0.5) is None


@pytest.mark.servers
@pytest.mark.long
@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_the_demo_finds_every_incident_and_balances(broker: str, tmp_path: Path) -> None:
    """The first command of a newcomer, end to end on real parts."""
    if broker == "mosquitto":
        find_mosquitto()
    ended = vitalane("demo", "--for", "20s", "--json", "--broker", broker, "--keep", str(tmp_path / "demo"))
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["good"] is told["balanced"] is True
    assert {incident["rule"]: incident["outcome"] for incident in told["incidents"]} == {
        "vaccine-too-warm": "found", "desaturation": "found", "probe-silent": "found",
    }  # fmt: skip
    unanswered = told["messages"]["sent"] - told["messages"]["acknowledged"]
    assert 0 <= unanswered <= (1 if broker == "amqtt" else 0), "amqtt loses an acknowledgement now and then, when it is busy"
    assert told["messages"]["sent"] <= told["messages"]["journalled"]
    assert told["unexpected_alerts"] == []
    assert told["readings"]["quarantined"]["malformed"] == told["injected"]["malformed"] == 1
    assert told["readings"]["quarantined"]["implausible"] == told["injected"]["spike"] == 1
    assert told["readings"]["duplicate"] >= told["injected"]["duplicates"]
    assert told["received_to_alert_ms"]["events"] == sum(told["alerts"].values()) * 2 - told["open_alerts"]
    assert "[CRITICAL] vaccine-too-warm raised: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert run(["verify", "-c", str(tmp_path / "demo" / "vitalane.yaml")]) == 0


@pytest.mark.servers
@pytest.mark.long
def test_ctrl_c_ends_the_demo_early_with_the_summary() -> None:
    """Nobody waits for a demo; what it has seen by then is still worth a summary."""
    find_mosquitto()
    with Running("demo") as demo:
        demo.says("alerts open")
        code = demo.stop(signal.SIGINT)
    assert any("everything accounted for: yes; every incident found: yes" in line for line in demo.lines), demo.lines
    assert code == 0


def test_the_demo_writes_into_no_folder_that_holds_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("")
    assert run(["demo", "--for", "20s", "--keep", str(tmp_path)]) == 3
    assert "is not empty" in capsys.readouterr().err
