"""The dashboards: JSON as their code makes it, asking only for what the InfluxDB sink writes, and every question has an answer."""

import itertools
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dashboards.boards import BOARDS
from dashboards.build import rendered
from journal.rows import Row, RowKind
from sinks.points import MEASUREMENTS, Encoder
from telemetry import alert, blocks
from telemetry.alert import AlertClass, AlertEvent, Phase, Severity
from telemetry.blocks import READING_COLUMNS, WINDOW_COLUMNS, Block
from telemetry.clock import utc_now_ms
from telemetry.metrics import CATALOGUE
from telemetry.readings import SeriesKey
from tests.servers import Influx

ROOT = Path(__file__).resolve().parent.parent.parent
SUBJECTS = {"shipment": "truck-1", "patient": "bed 7, window"}  # the second needs escapes in the line protocol


class Question(NamedTuple):
    board: str
    panel: str
    query: str


def board(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "dashboards" / name).read_text())


def questions(name: str) -> Iterator[Question]:
    """Return every query that Grafana sends for a dashboard: of its panels, variables and annotations."""
    loaded = board(name)
    for panel in loaded["panels"]:
        for asked in panel.get("targets", []):
            yield Question(name, panel["title"], asked["query"])
    for variable in loaded["templating"]["list"]:
        yield Question(name, f"variable {variable['name']}", variable["query"])
    for annotation in loaded["annotations"]["list"]:
        yield Question(name, f"annotation {annotation['name']}", annotation["query"])


QUESTIONS = [question for name in BOARDS for question in questions(name)]


def as_sent(query: str, subject: str = ".*") -> str:
    """Return a query as Grafana's proxy sends it: its macros and variables replaced."""
    sent = query.replace("$timeFilter", "time >= now() - 24h and time <= now()").replace("$__interval", "60s")
    return sent.replace("${subject:regex}", subject)


def rows(now_ms: int) -> Iterator[Row]:
    """Return rows of the outbox as the flow writes them: readings and windows of every metric, alerts in every phase."""
    offsets = itertools.count()
    for kind, subject in SUBJECTS.items():
        series = [SeriesKey(kind, subject, f"{kind}-device", metric) for metric in CATALOGUE]
        numbers, times = array("q", range(len(series))), array("q", [now_ms - 600_000] * len(series))
        values = array("d", [1.0] * len(series))
        columns: dict[str, array[Any]] = {"series": numbers, "time_ms": times, "value": values}
        assert tuple(columns) == READING_COLUMNS
        yield Row(0, next(offsets), 1, RowKind.READINGS, now_ms, blocks.pack(Block(series, columns)), 0, 0)
        windows: dict[str, array[Any]] = {
            name: times if name in {"opens_ms", "closes_ms", "count", "revision"} else values for name in WINDOW_COLUMNS
        } | {"series": numbers}
        yield Row(0, next(offsets), 1, RowKind.WINDOWS, now_ms, blocks.pack(Block(series, windows)), 0, 0)
        for severity in Severity:
            for phase in Phase:
                event = alert_event(kind, subject, f"rule-{severity}", severity, phase, now_ms - 500_000 + next(offsets))
                yield Row(0, next(offsets), 1, RowKind.ALERT, now_ms, alert.to_json(event), 0, 0)
            standing = alert_event(kind, subject, f"standing-{severity}", severity, Phase.RAISED, now_ms - 400_000)
            yield Row(0, next(offsets), 1, RowKind.ALERT, now_ms, alert.to_json(standing), 0, 0)

        for at, (severity, phase) in enumerate([(Severity.CRITICAL, Phase.RAISED), (Severity.INFO, Phase.DEESCALATED)]):
            stepped = alert_event(kind, subject, "stepped", severity, phase, now_ms - 300_000 + at)
            yield Row(0, next(offsets), 1, RowKind.ALERT, now_ms, alert.to_json(stepped), 0, 0)


def alert_event(kind: str, subject: str, rule: str, severity: Severity, phase: Phase, time_ms: int) -> AlertEvent:
    return AlertEvent(
        alert_id=alert.alert_id(rule, subject, time_ms),
        revision=1,
        phase=phase,
        rule=rule,
        rule_version="1",
        severity=severity,
        alert_class=AlertClass.PHYSIOLOGICAL,
        kind=kind,
        subject=subject,
        tags={},
        signal="temperature",
        unit="Cel",
        comparison="> 8",
        threshold=8.0,
        value=9.5,
        peak=9.5,
        started_at_ms=time_ms,
        ended_at_ms=time_ms if phase is Phase.RESOLVED else None,
        time_ms=time_ms,
        detected_at_ms=time_ms,
        historic=False,
        message="",
        evidence=(),
        positions=(),
        correlation_id="c",
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Iterator[Influx]:
    """An InfluxDB that holds what the InfluxDB sink writes, encoded by the sink's own code."""
    server = Influx(tmp_path_factory.mktemp("dashboards"))
    server.start()
    server.create_database()
    encoder = Encoder()
    for row in rows(utc_now_ms()):
        server.write("\n".join(encoder.encode(row).lines))
    yield server
    server.kill()


@pytest.mark.parametrize("name", BOARDS)
def test_the_committed_json_is_what_the_code_makes(name):
    """Whoever edits the JSON by hand or forgets to build would see one thing in review and another in Grafana."""
    assert (ROOT / "dashboards" / name).read_text() == rendered(BOARDS[name]()), "run `make dashboards`"


@pytest.mark.servers
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question.board}-{question.panel}")
def test_every_question_has_an_answer(question, filled):
    """A panel that names a tag or field that nobody writes shows an empty graph, which looks like peace."""
    assert filled.query(as_sent(question.query))


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "name"), [("shipment", "shipments.json"), ("patient", "ward.json")])
def test_a_chosen_subject_is_the_only_one_asked_for(kind, name, filled):
    other = "nobody"
    for question in questions(name):
        if "${subject:regex}" in question.query:
            assert not filled.query(as_sent(question.query, other)), question
            assert filled.query(as_sent(question.query, re.escape(SUBJECTS[kind]).replace(r"\ ", " "))), question


@pytest.mark.servers
@pytest.mark.parametrize("name", BOARDS)
def test_an_alert_counts_as_open_until_its_end_or_its_retraction(name, filled):
    """The sample holds, for each severity, one alert that stands and one whose last event is a retraction; and one critical no longer."""
    counting = [question for question in questions(name) if question.panel.endswith(" open") and "count" in question.query]
    assert len(counting) == 2
    for question in counting:
        assert [row["count"] for row in filled.query(as_sent(question.query))] == [1], question


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question.board}-{question.panel}")
def test_a_question_names_only_what_the_sink_writes(question):
    """Held without a server too: every quoted name is a measurement, a tag or a field of sinks.points, or an alias of the query itself."""
    written = set(MEASUREMENTS)
    for tags, fields in MEASUREMENTS.values():
        written |= {*tags, *fields}
    aliases = set(re.findall(r'AS "(\w+)"', question.query))
    assert set(re.findall(r'"(\w+)"', question.query)) <= written | aliases
    assert "autogen" not in question.query, "a retention policy is not portable"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_stable_and_its_panels_do_not_overlap(name):
    loaded = board(name)
    cells: set[tuple[int, int]] = set()
    for panel in loaded["panels"]:
        place = panel["gridPos"]
        taken = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        cells |= taken
        refs = [asked["refId"] for asked in panel.get("targets", [])]
        assert len(set(refs)) == len(refs)
    assert [panel["id"] for panel in loaded["panels"]] == list(range(1, len(loaded["panels"]) + 1))
    assert loaded["uid"] == f"vitalane-{name.removesuffix('.json')}"
    assert "id" not in loaded, "an id belongs to one Grafana"


def test_dashboards_ask_the_provisioned_data_source():
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/influxdb.yaml").read_text())["datasources"]
    used = set(re.findall(r'"uid": "([\w-]+)"', "".join((ROOT / "dashboards" / name).read_text() for name in BOARDS)))
    assert used - {board(name)["uid"] for name in BOARDS} == {source["uid"] for source in provisioned}


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_says_that_it_is_no_primary_alarm(name):
    assert "no medical device and no primary alarm" in (ROOT / "dashboards" / name).read_text()
