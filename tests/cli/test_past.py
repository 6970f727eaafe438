"""Where a backtest's readings come from: a Parquet file, a real InfluxDB; and that several processes come to what one does."""

import datetime
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cli.main import run
from cli.parallel import replay_parts, run_parts
from cli.places import telemetry_path
from cli.progress import line
from cli.readings_file import read_csv, read_file
from flows.replay import replay
from rules.backtest import Measured
from rules.backtest import run as run_alone
from rules.control import DEFAULT_SETTINGS
from rules.document import compile_rules
from rules.episodes import final_episodes
from sinks.influxdb_past import InfluxPast
from telemetry.errors import ConfigError, VitalaneError
from telemetry.metrics import CATALOGUE
from tests.flows.mixed import write_mixed_world
from tests.servers import Influx, started

NAIVE = datetime.datetime.fromisoformat("2026-03-01T00:00:00")
START_MS = 1_772_352_000_000  # 2026-03-01T08:00:00Z
RULES = """rules:
  - {id: warm, when: temperature > 8 Cel, for: 2 min, max_gap: 15 min, severity: warning}
  - {id: damp, when: 'mean(humidity, 10 min) > 55 %', max_gap: 15 min, severity: info}
  - {id: silent, when: 'absent(temperature, 20 min)', severity: warning}
"""


def measured(devices: int, count: int, seed: int) -> list[Measured]:
    """Readings that come and go, each device's on its own minute."""
    rng = random.Random(seed)
    found = []
    for device in range(devices):
        level = 6.0
        for minute in range(count):
            level = min(max(level + rng.uniform(-1, 1.05), -10), 30)
            if (minute // 40 + device // 2) % 5:  # away for a while, each at another time
                time_ms = START_MS + minute * 60_000 + device * 997 % 60_000
                found.append(Measured(time_ms, "shipment", f"logger-{device}", "temperature", round(level, 2)))
                found.append(Measured(time_ms, "shipment", f"logger-{device}", "humidity", round(40 + level, 1)))
    return sorted(found)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_come_to_what_one_does(processes):
    readings, rules = measured(12, 400, seed=4), compile_rules([("r", RULES)])
    devices = [{"device": f"logger-{at}", "kind": "shipment", "subject": f"crate-{at // 2}", "tags": {}} for at in range(12)]
    told: list[int] = []
    spread = run_parts(readings, rules, DEFAULT_SETTINGS, devices, lambda _, count: told.append(count), processes)
    alone = run_alone(readings, rules, DEFAULT_SETTINGS, devices)

    assert final_episodes(spread.events) == final_episodes(alone.events)
    assert {item.rule for item in final_episodes(alone.events)} == {"warm", "damp", "silent"}
    assert (spread.accepted, spread.subjects, spread.quarantined) == (alone.accepted, 6, {})
    assert (spread.first_ms, spread.last_ms) == (alone.first_ms, alone.last_ms)


def test_an_exchanged_device_ties_its_subjects_together():
    readings, rules = measured(4, 100, seed=5), compile_rules([("r", RULES)])
    devices = [
        {"device": "logger-0", "kind": "shipment", "subject": "one", "until_ms": START_MS + 3_000_000},
        {"device": "logger-0", "kind": "shipment", "subject": "two", "from_ms": START_MS + 3_000_000},
    ]
    done = run_parts(readings, rules, DEFAULT_SETTINGS, devices, lambda *_: None, 2)

    assert final_episodes(done.events) == final_episodes(run_alone(readings, rules, DEFAULT_SETTINGS, devices).events)


def test_progress_says_how_far_how_fast_and_how_long():
    assert line(100_000, 500_000, 200_000, 2.0) == "[##########          ]  50%  500,000 readings, 250,000/s, 2 s left"
    assert line(0, 0, 10, 0.0) == "[                    ]   0%  0 readings"
    assert line(500, 500, 0, 2.0) == "500 readings, 250/s"


@pytest.mark.parametrize("processes", [2, 3])
def test_a_journal_over_several_processes_comes_to_what_one_does(tmp_path, processes):
    """Its subjects have devices in several partitions."""
    write_mixed_world(tmp_path, 3, 60, seed=8)
    far: list[tuple[int, int]] = []
    spread = replay_parts(telemetry_path(tmp_path), 3, None, (0, None), lambda done, readings: far.append((done, readings)), processes)
    alone = replay(telemetry_path(tmp_path), 3, None)

    assert final_episodes(spread.events) == final_episodes(alone.events)
    assert len(spread.events) > 50
    assert spread._replace(events=[]) == alone._replace(events=[])


def test_a_device_of_two_kinds_is_two_subjects_and_takes_no_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["time,kind,device,body_temperature,temperature"]
    rows += [
        f"{1767225600 + 60 * at},{kind},d1,{'39,' if kind == 'patient' else ',5'}" for at, kind in enumerate(("shipment", "patient") * 2)
    ]
    (tmp_path / "both.csv").write_text("\n".join(rows))
    (tmp_path / "fever.yaml").write_text("rules: [{id: fever, when: body_temperature > 38 Cel, severity: warning}]")
    arguments = ["backtest", "--rules", str(tmp_path / "fever.yaml"), "--from", str(tmp_path / "both.csv"), "--json"]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)

    assert (told["readings"], list(told["by_subject"])) == (4, ["patient/d1"])
    assert run([*arguments, "--tag", "ward=icu"]) == 2
    assert "the device `d1` is of several kinds" in capsys.readouterr().err


def test_a_configurations_own_metrics_and_rules_serve_for_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "registry.yaml").write_text('metrics: [{name: co2, unit: "%", low: 0, high: 100}]')
    (tmp_path / "rules.yaml").write_text("rules: [{id: stale-air, when: co2 > 5 %, severity: warning}]")
    (tmp_path / "vitalane.yaml").write_text("rules: [rules.yaml]\nregistry: registry.yaml\n")
    (tmp_path / "air.csv").write_text("time,device,co2\n1767225600,d1,9\n")
    with_config = ["-c", str(tmp_path / "vitalane.yaml"), "--from", str(tmp_path / "air.csv"), "--json"]
    for arguments in ([], ["--rules", str(tmp_path / "rules.yaml")]):
        assert run(["backtest", *arguments, *with_config]) == 0
        assert json.loads(capsys.readouterr().out)["alerts"] == 1
    assert run(["sweep", "--rule", "stale-air", "--threshold", "8:10:2", "--for", "0s", *with_config]) == 0
    assert [cell["alerts"] for cell in json.loads(capsys.readouterr().out)] == [1, 0]
    assert run(["rules", "check", str(tmp_path / "rules.yaml"), "-c", str(tmp_path / "vitalane.yaml")]) == 0


# -- Parquet -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> dict[str, list]:
    times = [datetime.datetime(2026, 3, 1, 8, minute, tzinfo=datetime.UTC) for minute in (10, 0, 20)]
    return {"time": times, "device": ["a", "a", "b"], "temperature": [9.0, 5.0, None], "humidity": [None, 40.0, 41.5]}


def test_a_parquet_file_is_read_as_its_csv_file_is(tmp_path: Path, table: dict[str, list]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "long.parquet")
    rows = ["time,device,temperature,humidity"]
    rows += [",".join("" if cell is None else str(cell).replace(" ", "T") for cell in row) for row in zip(*table.values(), strict=True)]
    (tmp_path / "long.csv").write_text("\n".join(rows))
    found = read_file(tmp_path / "long.parquet", "shipment", CATALOGUE)

    assert found == read_csv(tmp_path / "long.csv", "shipment", CATALOGUE)
    assert found[0] == Measured(START_MS, "shipment", "a", "humidity", 40.0)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"time": [START_MS], "metric": ["temprature"], "value": [1.0]}, "bad.parquet:1:1: unknown metric `temprature`"),
        ({"when": [START_MS], "temperature": [1.0]}, "has the columns when, temperature: it needs `time`"),
        ({"time": [math.inf], "temperature": [1.0]}, "bad.parquet:1:1: inf is no time"),
        ({"time": [None], "temperature": [1.0]}, "bad.parquet:1:1: a row has no time"),
        ({"time": [START_MS], "device": [b"d"], "temperature": [1.0]}, "is no text"),
        ({"time": [NAIVE], "temperature": [1.0]}, "names no time zone"),
    ],
)
def test_a_parquet_file_that_is_no_readings(tmp_path: Path, columns: dict[str, list], said: str) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(ConfigError, match=said):
        read_file(tmp_path / "bad.parquet", "shipment", CATALOGUE)


def test_times_finer_than_a_microsecond_are_cut_off(tmp_path: Path) -> None:
    times = pyarrow.array([START_MS * 1_000_000 + 1], pyarrow.timestamp("ns", tz="UTC"))
    pyarrow.parquet.write_table(pyarrow.table({"time": times, "temperature": [5.0]}), tmp_path / "fine.PARQUET")

    assert read_file(tmp_path / "fine.PARQUET", "shipment", CATALOGUE) == [Measured(START_MS, "shipment", "device", "temperature", 5.0)]


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ConfigError, match=r"bad.parquet: cannot be read"):
        read_file(tmp_path / "bad.parquet", "shipment", CATALOGUE)


# -- InfluxDB ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    server = started(lambda: Influx(tmp_path_factory.mktemp("influx"), auth=True))
    server.create_database()
    lines = [
        f"readings,device={item.device},kind=shipment,metric={item.metric},subject=crate-{item.device[-1]} value={item.value}"
        f" {item.time_ms}000000"
        for item in measured(3, 5000, seed=6)
    ]
    for begin in range(0, len(lines), 5000):
        server.write("\n".join(lines[begin : begin + 5000]))
    yield server
    server.stop()


def configured(tmp_path: Path, influx: Influx) -> Path:
    (tmp_path / "token").write_text(influx.token)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "vitalane.yaml").write_text(
        f"rules: [rules.yaml]\nstores: {{influxdb: {{url: '{influx.url}', bucket: {influx.database}, token: {{file: token}}}}}}\n"
    )
    return tmp_path / "vitalane.yaml"


@pytest.mark.servers
def test_a_backtest_over_what_influxdb_holds(tmp_path: Path, influx: Influx, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(tmp_path, influx)
    assert run(["backtest", "--from", "influxdb", "-c", str(config), "--rules", str(tmp_path / "rules.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    readings = measured(3, 5000, seed=6)
    devices = [{"device": f"logger-{at}", "kind": "shipment", "subject": f"crate-{at}", "tags": {}} for at in range(3)]
    expected = final_episodes(run_alone(readings, compile_rules([("r", RULES)]), DEFAULT_SETTINGS, devices).events)

    assert told["readings"] == len(readings) > 20_000, "more than one chunk"
    assert [(item["rule"], item["subject"]) for item in told["episodes"]] == [(item.rule, item.subject) for item in expected]
    assert len(expected) > 10


def test_a_span_of_what_influxdb_holds(influx: Influx) -> None:
    past = InfluxPast(influx.url, influx.database, influx.token)
    found = list(past.readings(START_MS + 60_000, START_MS + 120_000))

    assert [(item.time_ms, item.value) for item in found] == [
        (item.time_ms, item.value) for item in measured(3, 5000, seed=6) if START_MS + 60_000 <= item.time_ms < START_MS + 120_000
    ]


@pytest.mark.parametrize(
    ("database", "token", "said"), [("nowhere", None, "database not found: nowhere"), ("vitalane", "vitalane:wrong", "status 401")]
)
def test_what_influxdb_refuses_is_said_in_its_words(influx: Influx, database: str, token: str | None, said: str) -> None:
    with pytest.raises(VitalaneError, match=said):
        list(InfluxPast(influx.url, database, token or influx.token).readings(0, None))


def test_an_influxdb_that_is_not_there() -> None:
    with pytest.raises(VitalaneError, match="gave no readings"):
        list(InfluxPast("http://127.0.0.1:9", "vitalane", "t").readings(0, None))


def test_a_configuration_without_influxdb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vitalane.yaml").write_text("rules: [demo]\n")
    assert run(["backtest", "--from", "influxdb", "-c", str(tmp_path / "vitalane.yaml"), "--rules", "demo"]) == 2
    assert "there is no `influxdb` among the stores" in capsys.readouterr().err
