import json
import os
from pathlib import Path

import pytest

from cli.main import run
from rules.document import pack_names
from tests.cli.running import decided_world
from tests.goldens import assert_golden

BAD = Path(__file__).parents[1] / "golden" / "bad-rules"
ODD = """rules:
  - {id: far, when: temperature > 200 Cel, severity: warning}
  - {id: flaps, when: spo2 < 90 %, clear: {when: spo2 > 85 %}, severity: warning}
  - {id: stays, when: spo2 < 80 %, clear: {when: spo2 > 100 %}, severity: warning}
  - {id: same, when: spo2 < 80 %, clear: {when: spo2 > 100 %}, severity: critical}
"""
BEFORE = """rules:
  - {id: a, when: spo2 < 90 %, severity: warning}
  - {id: b, when: spo2 < 80 %, severity: warning}
  - {id: gone, when: spo2 < 3 %, severity: info}
"""
AFTER = """rules:
  - {id: a, when: spo2 < 91 %, severity: warning}
  - {id: b, when: spo2 < 80 %, severity: critical, mode: shadow}
  - {id: n, when: spo2 < 2 %, severity: info}
"""


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gives_its_message_and_exit_2(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    assert run(["rules", "check", file.name]) == 2
    captured = capsys.readouterr()
    assert_golden(file.with_suffix(".txt"), captured.err.encode())
    assert captured.out == ""
    assert file.name in captured.err


def test_there_are_bad_files_enough() -> None:
    assert len(list(BAD.glob("*.yaml"))) >= 60


def test_a_file_of_ten_megabytes_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * 10_000_000)
    assert run(["rules", "check", str(tmp_path / "large.yaml")]) == 2
    assert "large" in capsys.readouterr().err


@pytest.mark.parametrize("pack", pack_names())
def test_the_shipped_packs_need_no_advice(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "check", "--strict", pack]) == 0
    assert "rules are right" in capsys.readouterr().out


def test_advice_is_given_and_strictness_makes_it_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(ODD)
    assert run(["rules", "check", str(file)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "advice: far: `when` never holds where it says `temperature > 200 Cel`: temperature is -100 to 100 Cel"
    assert told[1].startswith("advice: flaps: `clear` holds where `when` does, at 89.99")
    assert told[2] == "advice: stays: `clear` never holds where it says `spo2 > 100 %`: spo2 is 0 to 100 %, so it never clears"
    assert told[4] == "advice: same: it means the same as `stays`: two alerts for one thing"

    assert run(["rules", "check", "--strict", "--json", str(file)]) == 2
    assert len(json.loads(capsys.readouterr().out)["advice"]) == 5


def test_a_difference_says_what_keeps_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(BEFORE)
    new.write_text(AFTER)
    assert run(["rules", "diff", str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "changed  a (begins anew: its open alerts are taken back)",
        "    when: spo2 < 90 % -> spo2 < 91 %",
        "    clear: spo2 >= 90 % -> spo2 >= 91 %",
        "reworded b (keeps what it holds)",
        "    severity: warning -> critical",
        "    mode: live -> shadow",
        "added    n",
        "removed  gone",
        "4 rules differ",
    ]
    assert run(["rules", "diff", str(old), str(old)]) == 0
    assert "the rules mean the same" in capsys.readouterr().out
    assert run(["rules", "diff", str(old), str(new), "--json"]) == 0
    assert [item["what"] for item in json.loads(capsys.readouterr().out)] == ["changed", "reworded", "added", "removed"]


def test_rules_are_shown_in_normal_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "show", "vital-signs", "--json"]) == 0
    told = {item["id"]: item for item in json.loads(capsys.readouterr().out)}
    assert told["respiration-out-of-range"]["when"] == "respiratory_rate > 30 /min or respiratory_rate < 8 /min"
    assert told["probe-off"]["clear"] == "something is received"
    assert run(["rules", "show", "demo"]) == 0
    assert "    for         10 min\n" in capsys.readouterr().out
    assert run(["rules", "show"]) == 2


def test_the_schema_is_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "schema"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["additionalProperties"] is False
    assert set(told["$defs"]["RuleModel"]["required"]) == {"id", "when", "severity"}
    assert told["$defs"]["RuleModel"]["properties"]["mode"]["enum"] == ["live", "shadow"]


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (tmp_path / "code.yaml").write_text(f"rules: !!python/object/apply:os.mkdir ['{target}']\n")
    assert run(["rules", "check", str(tmp_path / "code.yaml")]) == 2
    assert not os.path.lexists(target)


def test_check_knows_what_the_devices_of_a_configuration_publish(tmp_path, capsys):
    """`write_world` publishes temperature of shipments and SpO2 of patients, some every ten seconds, and nothing else."""
    configuration = decided_world(tmp_path)
    (tmp_path / "new.yaml").write_text("""rules:
  - {id: shaken, when: shock > 3 g, severity: info}
  - {id: tight, applies_to: {kind: shipment}, when: temperature > 30 Cel, for: 1 min, max_gap: 1 s, severity: info}
  - {id: hasty, applies_to: {kind: shipment}, when: temperature > 31 Cel, for: 2 s, severity: info}
  - {id: quiet, applies_to: {kind: shipment}, when: 'absent(temperature, 1 s)', severity: info}
  - {id: fine, applies_to: {kind: shipment}, when: temperature > 32 Cel, for: 5 min, severity: info}
""")
    assert run(["rules", "check", str(tmp_path / "new.yaml"), "-c", str(configuration.path), "--json"]) == 0
    told = {(item["rule"], item["text"]) for item in json.loads(capsys.readouterr().out)["advice"]}

    assert ("shaken", "nobody publishes `shock`") in told
    assert {rule for rule, _ in told} == {"shaken", "tight", "hasty", "quiet"}
    assert any(rule == "tight" and "nothing is ever proved" in text for rule, text in told)
    assert any(rule == "hasty" and "the second reading decides" in text for rule, text in told)
    assert any(rule == "quiet" and "all the time" in text for rule, text in told)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("radius: 300 m", "radius: 30 km", "place 1: depot: 300 m around 1 points from (52.5, 13.4)"),
        ("limit(tmax, 8 Cel)", "limit(tmax, 46.4 degF)", "unit of tmax:  -> the tag times 0.555556 plus -17.7778"),
        ("limit(budget, 72 h)", "limit(budget, 3 d)", "for: limit(budget, 72 h) within 60 d -> limit(budget, 3 d) within 60 d"),
    ],
)
def test_diff_tells_what_only_the_meaning_shows(tmp_path, capsys, before, after, said):
    text = """places: {depot: {center: [52.5, 13.4], radius: 300 m}}
rules:
  - {id: a, when: inside(depot), severity: info}
  - {id: b, when: 'temperature > limit(tmax, 8 Cel)', severity: info}
  - {id: c, when: temperature > 8 Cel, accumulated: 'limit(budget, 72 h) within 60 d', severity: info}
"""
    (tmp_path / "old.yaml").write_text(text)
    (tmp_path / "new.yaml").write_text(text.replace(before, after))
    assert run(["rules", "diff", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")]) == 0
    told = capsys.readouterr().out

    assert said in told
    assert "1 rules differ" in told


def test_check_advises_on_steps_and_spans(tmp_path, capsys):
    (tmp_path / "odd.yaml").write_text("""rules:
  - {id: far, when: temperature > 8 Cel, severity: warning, steps: [{when: temperature > 200 Cel, severity: critical}]}
  - {id: weaker, when: temperature > 9 Cel, severity: warning, steps: [{when: temperature > 5 Cel, severity: critical}]}
  - {id: apart, when: temperature > 10 Cel, severity: warning, steps: [{when: temperature < 2 Cel, severity: critical}]}
  - {id: short, when: 'accumulated_time(temperature > 8 Cel, 10 h) > 20 h', severity: warning}
  - {id: fine, when: temperature > 11 Cel, severity: warning, steps: [{when: temperature > 12 Cel, severity: critical}]}
""")
    assert run(["rules", "check", str(tmp_path / "odd.yaml"), "--json"]) == 0
    told = {item["rule"]: item["text"] for item in json.loads(capsys.readouterr().out)["advice"]}

    assert sorted(told) == ["apart", "far", "short", "weaker"]
    assert told["weaker"] == "the step `temperature > 5 Cel` holds whenever the rule does: its own severity is never told"
    assert told["apart"] == "the step `temperature < 2 Cel` never holds while the rule does"
