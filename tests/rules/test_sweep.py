"""A sweep in one pass says of each combination what a run of that combination alone says."""

import random

import pytest

from rules.backtest import Measured, run
from rules.document import compile_rules
from rules.episodes import MINUTE_MS, final_episodes
from rules.sweep import sweep
from telemetry.metrics import CATALOGUE

START_MS = 1_767_225_600_000


def document(threshold: float, for_s: int) -> str:
    clear = f"clear: {{when: spo2 >= {threshold + 2:g} %, for: 3 s}}"
    held = f"when: spo2 < {threshold:g} %, for: {for_s} s, max_gap: 20 s"
    return f"rules: [{{id: low, applies_to: {{kind: patient}}, {held}, {clear}, severity: warning}}]"


@pytest.fixture(scope="module")
def readings():
    rng, value, found = random.Random(3), 92.0, []
    for second in range(2000):
        value = min(99, max(80, value + rng.choice((-1, 0, 0, 1))))
        if rng.random() > 0.05:
            found.append(Measured(START_MS + second * 1000, "patient", "bed", "spo2", value))
    return found


def test_each_cell_is_what_its_combination_alone_comes_to(readings):
    swept = compile_rules([("r", document(90, 5))])
    cells, done = sweep(swept, "low", [86, 90, 94], [0, 5000, 30_000], lambda rules: run(readings, rules), CATALOGUE)

    assert [cell[:2] for cell in cells] == [(threshold, span) for threshold in (86, 90, 94) for span in (0, 5000, 30_000)]
    assert done.accepted == len(readings)
    for cell in cells:
        alone = final_episodes(run(readings, compile_rules([("r", document(cell.threshold, cell.for_ms // 1000))])).events)
        lasted = sum((done.last_ms if item.end_ms is None else item.end_ms) - item.start_ms for item in alone) / MINUTE_MS
        assert cell.alerts == len(alone)
        assert cell.alerted_minutes == pytest.approx(lasted)
    assert {cell.missed_minutes for cell in cells if cell.for_ms == 0} == {0.0}
    assert any(cell.missed_minutes > 0 for cell in cells)
    assert cells[3].alerts > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{id: a, when: 'absent(spo2, 60 s)', severity: info}", "must compare one signal with a threshold"),
        ("{id: a, when: 'spo2 < 90 % or sbp < 90 mmHg', severity: info}", "must compare one signal"),
        ("{id: a, when: spo2 < 90 %, accumulated: 1 h within 3 h, severity: info}", "without a break"),
    ],
)
def test_what_cannot_be_swept_is_said(text, said):
    swept = compile_rules([("r", f"rules: [{text}]")])
    with pytest.raises(ValueError, match=said):
        sweep(swept, "a", [1.0], [0], lambda rules: run([], rules), CATALOGUE)


def test_a_score_can_be_swept():
    swept = compile_rules([("r", "rules: [{id: high, when: news2 >= 7, severity: critical}]")])
    readings = [Measured(START_MS + at * 1000, "patient", "bed", "respiratory_rate", value) for at, value in enumerate((16, 25, 16))]
    cells, _ = sweep(swept, "high", [1.0, 3.0, 4.0], [0], lambda rules: run(readings, rules), CATALOGUE)

    assert [cell.alerts for cell in cells] == [1, 1, 0]


def test_the_end_of_a_file_is_no_silence():
    rules = compile_rules([("r", "rules: [{id: silent, when: 'absent(spo2, 60 s)', severity: warning}]")])
    readings = [Measured(START_MS + at * 1000, "patient", "bed", "spo2", 97.0) for at in (0, 30, 200, 230)]

    assert [(item.start_ms - START_MS, item.end_ms is None) for item in final_episodes(run(readings, rules).events)] == [
        (32_999, False)  # a minute's silence is watched in parts of three seconds
    ]


def test_too_many_combinations_are_refused():
    swept = compile_rules([("r", document(90, 5))])
    with pytest.raises(ValueError, match="are too many"):
        sweep(swept, "low", [float(at) for at in range(100)], list(range(0, 100_000, 1000)), lambda rules: run([], rules), CATALOGUE)


@pytest.mark.parametrize(
    "more",
    [
        "active: {hours: '00:10-00:20'}",
        "steps: [{when: spo2 < 89 %, for: 2 s, severity: critical}]",
    ],
)
def test_what_else_a_rule_says_is_swept_with_it(readings, more):
    """When it judges, and its steps, which raise before its own duration is proved."""
    text = document(90, 30).replace("severity: warning}", f"severity: warning, {more}}}")
    cells, _ = sweep(compile_rules([("r", text)]), "low", [90], [30_000], lambda rules: run(readings, rules), CATALOGUE)
    alone = final_episodes(run(readings, compile_rules([("r", text)])).events)
    plain = final_episodes(run(readings, compile_rules([("r", document(90, 30))])).events)

    assert cells[0].alerts == len(alone) > 0
    assert [item[:5] for item in alone] != [item[:5] for item in plain]


def test_a_distance_is_swept_from_the_places_of_other_documents():
    documents = [
        ("places", "places: {depot: {center: [52.0, 13.0], radius: 300 m}}"),
        ("r", "rules: [{id: far, when: distance_from(depot) > 1 km, severity: info}]"),
    ]
    readings = sorted(
        Measured(START_MS + at * 60_000, "shipment", "van", name, value)
        for at, latitude in enumerate((52.0, 52.02, 52.04, 52.0))
        for name, value in (("latitude", latitude), ("longitude", 13.0))
    )
    cells, _ = sweep(compile_rules(documents), "far", [1000.0, 3000.0, 5000.0], [0], lambda rules: run(readings, rules), CATALOGUE)

    assert [(cell.alerts, round(cell.alerted_minutes)) for cell in cells] == [(1, 2), (1, 1), (0, 0)]
