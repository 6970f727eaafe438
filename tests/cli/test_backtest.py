import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli.main import run
from cli.readings_file import read_csv
from cli.verify import alert_events
from rules.backtest import Measured
from rules.episodes import final_episodes
from telemetry.clock import format_ms
from telemetry.errors import ConfigError
from telemetry.metrics import CATALOGUE
from tests.cli.running import decided_world

RULES = "rules: [{id: warm, when: temperature > 8 Cel, for: 10 min, max_gap: 15 min, severity: warning}]"
START = "2026-03-01T08:00:00Z"


def rows(values: list[float], device: str = "truck-1") -> str:
    return "".join(f"2026-03-01T{8 + at // 12:02}:{at % 12 * 5:02}:00Z,{device},temperature,{value}\n" for at, value in enumerate(values))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(RULES)
    (tmp_path / "looser.yaml").write_text(RULES.replace("8 Cel", "9.5 Cel"))
    (tmp_path / "long.csv").write_text("time,device,metric,value\n" + rows([5, 9, 9, 10, 10, 10, 10, 5]) + rows([5] * 8, "truck-2"))
    return tmp_path


def test_a_file_of_readings(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backtest", "--rules", str(files / "own.yaml"), "--from", str(files / "long.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert (told["readings"], told["alerts"], told["quarantined"]) == (16, 1, {})
    assert told["by_rule"]["warm"] == {
        "alerts": 1, "minutes": 30.0, "longest_minutes": 30.0,
        "first": "2026-03-01T08:05:00.000Z", "last": "2026-03-01T08:05:00.000Z"}  # fmt: skip
    assert list(told["by_subject"]) == ["shipment/truck-1"]
    assert list(told["by_day"]) == ["2026-03-01"]
    assert told["episodes"][0] == {
        "rule": "warm", "kind": "shipment", "subject": "truck-1", "start": "2026-03-01T08:05:00.000Z", "end": "2026-03-01T08:35:00.000Z",
        "severity": "warning", "peak": 10.0}  # fmt: skip


def test_an_alert_that_is_open_has_the_peak_of_all_its_readings(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "open.csv").write_text("time,device,metric,value\n" + rows([5, 9, 9, 9, 15, 10]))
    assert run(["backtest", "--rules", str(files / "own.yaml"), "--from", str(files / "open.csv"), "--json"]) == 0
    [episode] = json.loads(capsys.readouterr().out)["episodes"]

    assert (episode["end"], episode["peak"]) == (None, 15.0)


def test_against_other_rules(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--rules", str(files / "own.yaml"), "--against", str(files / "looser.yaml"), "--from", str(files / "long.csv")]
    assert run(["backtest", *names]) == 0
    told = capsys.readouterr().out

    assert "against the other rules (1 alerts): 1 differ" in told
    assert "earlier and longer   warm truck-1: 2026-03-01T08:15:00.000Z to" in told
    assert "by rule" in told


def test_a_page_with_a_timeline(files: Path) -> None:
    target = files / "page.html"
    assert run(["backtest", "--rules", str(files / "own.yaml"), "--from", str(files / "long.csv"), "--html", str(target)]) == 0
    text = target.read_text()

    plots = [ElementTree.fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in text.split("<svg")[1:]]
    assert len(plots) == 2  # the line of a metric, the bars of the rules
    assert len((plots[0].find("polyline")).get("points").split()) == 8
    threshold = plots[0].find("line")
    assert threshold.find("title").text == "warm: > 8 Cel"
    assert threshold.get("y1") == "46.4"  # three fifths of the way up: 98 - 86 * 3 / 5
    assert (plots[1].find("rect/title")).text == "warm: 2026-03-01T08:05:00.000Z to 2026-03-01T08:35:00.000Z"
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_of_a_journal_has_what_was_measured_and_what_differs(tmp_path: Path) -> None:
    configuration = decided_world(tmp_path)
    (tmp_path / "other.yaml").write_text("rules: [{id: warm, when: temperature > 9.2 Cel, severity: critical}]")
    arguments = [
        "backtest",
        "-c",
        str(configuration.path),
        "--against",
        str(tmp_path / "other.yaml"),
        "--html",
        str(tmp_path / "page.html"),
    ]
    assert run(arguments) == 0
    text = (tmp_path / "page.html").read_text()

    subjects = text.count("<h2>shipment/") + text.count("<h2>patient/")
    assert text.count("<polyline") >= subjects > 1, "of each subject that alerted, the metrics that were measured"
    assert "<h2>differences: " in text
    assert "<tr><td>removed<td>" in text or "<tr><td>added<td>" in text


def test_the_journal_of_a_world_tells_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = decided_world(tmp_path)
    assert run(["backtest", "-c", str(configuration.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    decided, trimmed = alert_events(configuration, {}, dict.fromkeys(((0, 0), (1, 0)), 1 << 40))
    expected = [(item.rule, item.subject, format_ms(item.start_ms)) for item in final_episodes(decided)]

    assert not trimmed
    assert expected
    assert [(item["rule"], item["subject"], item["start"]) for item in told["episodes"]] == expected


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("time,device,temperature,humidity\n1772352000,a,5,40\n1772352060000,a,,41\n", [
            Measured(1772352000000, "shipment", "a", "humidity", 40), Measured(1772352000000, "shipment", "a", "temperature", 5),
            Measured(1772352060000, "shipment", "a", "humidity", 41)]),
        ("time,metric,value,kind\n2026-03-01T08:00:00+00:00,spo2,97,patient\n", [Measured(1772352000000, "patient", "device", "spo2", 97)]),
        ("time,temperature\n", []),
    ],
)  # fmt: skip
def test_forms_of_files(tmp_path: Path, text: str, readings: list[Measured]) -> None:
    (tmp_path / "f.csv").write_text(text)
    assert read_csv(tmp_path / "f.csv", "shipment", CATALOGUE) == readings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when,temperature\n1,2\n", "it needs `time`"),
        ("time,temprature\n1,2\n", "it needs `time`, and `metric` and `value`"),
        ("time,metric,value\n2026-03-01,temperature,5\n", "f.csv:2:1: '2026-03-01' names no time zone"),
        ("time,metric,value\n1772352000,temprature,5\n", "f.csv:2:1: unknown metric `temprature`"),
        ("time,metric,value\n1772352000,temperature,warm\n", "f.csv:2:1: could not convert"),
        ("", "has the columns (none)"),
    ],
)
def test_a_file_that_is_wrong_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_csv(tmp_path / "f.csv", "shipment", CATALOGUE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--from", "nowhere.csv"], 2, "only a journal has rules of its own"),
        (["--from", "nowhere.csv", "--rules", "demo"], 2, "nowhere.csv: cannot be read"),
        ([], 2, "name the configuration of the journal with -c"),
        (["--from", "x.csv", "--rules", "demo", "--since", "yesterday"], 2, "--since"),
        (["--from", "x.csv", "--rules", "demo", "--tag", "red"], 2, "write name=value"),
    ],
)
def test_what_it_cannot_do_it_says(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backtest", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_sweep_shows_what_each_combination_costs(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--rules", str(files / "own.yaml"), "--from", str(files / "long.csv"), "--rule", "warm"]
    assert run(["sweep", *names, "--threshold", "8:10:1", "--for", "0 min:20 min:10 min", "--json"]) == 0
    told = {(cell["threshold"], cell["for_ms"]): cell for cell in json.loads(capsys.readouterr().out)}
    assert len(told) == 9
    assert (told[8, 600_000]["alerts"], told[8, 600_000]["alerted_minutes"]) == (1, 30.0)
    assert (told[10, 0]["alerts"], told[9, 1_200_000]["missed_minutes"]) == (0, 20.0)

    assert run(["sweep", *names, "--threshold", "8:10:1", "--for", "0s"]) == 0
    text = capsys.readouterr().out
    assert "minutes in breach without an alert" in text
    assert "        8█      1" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "cold", "--threshold", "8", "--for", "0s"], "there is no rule `cold` (rules: warm)"),
        (["--rule", "warm", "--threshold", "8:9", "--for", "0s"], "write FROM:TO:STEP"),
        (["--rule", "warm", "--threshold", "9:8:1", "--for", "0s"], "is 0 values"),
        (["--rule", "warm", "--threshold", "8", "--for", "soon"], "write FROM:TO:STEP"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(files: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "--rules", str(files / "own.yaml"), "--from", str(files / "long.csv"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_burden_of_rules(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--rules", str(files / "own.yaml"), "--from", str(files / "long.csv")]
    assert run(["burden", *names, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["alerts"], told["subjects"], told["chattering"]) == (1, 1, [])
    assert run(["burden", *names]) == 0
    assert "1, from 1 of 2 subjects" in capsys.readouterr().out


@pytest.mark.parametrize("time", ["inf", "1e30", "-5"])
def test_a_time_that_is_none_is_said_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str) -> None:
    (tmp_path / "f.csv").write_text(f"time,temperature\n1767225600,5\n{time},5\n")
    assert run(["backtest", "--rules", "demo", "--from", str(tmp_path / "f.csv")]) == 2
    assert f"f.csv:3:1: {time} is no time" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_before_the_work(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(files / "no" / "page.html")
    assert run(["backtest", "--rules", str(files / "own.yaml"), "--from", str(files / "long.csv"), "--html", where]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert run(["rules", "test", "-k", "nothing is called so"]) == 2
    assert "no trial's name" in capsys.readouterr().err


def test_another_severity_is_a_difference(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "stepped.yaml").write_text(
        RULES.replace("severity: warning", "severity: warning, steps: [{when: temperature > 9.5 Cel, severity: critical}]")
    )
    names = ["--rules", str(files / "stepped.yaml"), "--against", str(files / "own.yaml"), "--from", str(files / "long.csv")]
    assert run(["backtest", *names]) == 0
    assert "more severe          warm truck-1" in capsys.readouterr().out
