"""Rule documents: strict, complete in their problems, and versioned by content."""

import jsonschema
import pytest
import yaml

from rules.document import compile_rules, load_rules, pack_names, schema
from telemetry.errors import ConfigError
from tests.rules.stream import Shard

TWO_FAULTY_FILES = (
    (
        "a.yaml",
        """rules:
  - id: Big
    when: temprature > 8
    severity: bad
  - id: same
    when: temperature > 8 Cel
    clear: {when: humidity < 3, for: 3 min}
    severity: info
    mesage: "{sub}"
""",
    ),
    (
        "b.yaml",
        """rules:
  - {id: x, when: temperature > 8 Cel, severity: info, message: "{sub}"}
""",
    ),
)


def test_the_problems_of_all_files_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        compile_rules(TWO_FAULTY_FILES)

    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml:2:9: rules[0].id: String should match pattern '^[a-z0-9][a-z0-9._-]{0,63}$' (it is 'Big')",
        "a.yaml:3:11: rules[0].when: unknown metric `temprature`, did you mean `temperature`? (it is 'temprature > 8')",
        "a.yaml:4:15: rules[0].severity: Input should be 'info', 'warning' or 'critical' (it is 'bad')",
        "a.yaml:9:5: rules[1].mesage: unknown key, did you mean `message`?",
        "b.yaml:2:65: rules[0].message: the message names {sub}, did you mean {subject}? (it is '{sub}')",
    ]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("when: 'absent(spo2, 6 s)', for: 3 s", "leave out `for`, `accumulated` and `clear`"),
        ("when: 'mean(spo2, 9 s, 9 s) < 90 %', clear: {when: temperature > 3 Cel}", "which do not combine"),
        ("when: 'spo2 < 90 %', clear: {when: 'absent(spo2, 3 s)'}", "cannot be an absence"),
        ("when: spo2 < 90 %, message: '{value.real}'", "the message names"),
        ("when: spo2 < 90 %, message: '{value!r}'", "is not understood"),
        ("when: spo2 < 90 %, message: '{value:>99999}'", "is not understood"),
        ("when: spo2 < 90 %, message: '{'", "not a template"),
        ("for: 3 min", "`when` is missing"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, said):
    with pytest.raises(ConfigError, match=said):
        compile_rules([("f", f"rules: [{{id: x, severity: info, {rule}}}]")])


def test_two_rules_of_one_name_are_refused_with_both_places():
    with pytest.raises(ConfigError, match="`z` is a rule already, in f:1"):
        compile_rules(
            [("f", "rules: [{id: z, when: spo2 < 3, severity: info}]"), ("g", "rules: [{id: z, when: spo2 < 3, severity: info}]")]
        )


def test_the_version_is_the_content():
    first, again, other = (compile_rules([("f", text)]).version for text in ("rules: []", "rules: []", "rules: [] # more"))

    assert first == again != other


def test_every_pack_loads_and_fits_the_schema_for_editors():
    for name in pack_names():
        rules = load_rules([name])
        assert rules.rules
        jsonschema.validate(yaml.safe_load(rules.documents[0][1]), schema())


def test_a_missing_file_names_the_packs_there_are():
    with pytest.raises(ConfigError, match="packs: cold-chain, demo,"):
        load_rules(["nowhere.yaml"])


OWN_LIMIT = "rules: [{id: low, when: 'spo2 < limit(spo2_low, 90 %)', clear: {when: 'spo2 >= limit(spo2_ok, 92 %)'}, severity: warning}]"


@pytest.mark.parametrize(
    ("tags", "raised", "threshold"),
    [({}, 89, 90), ({"spo2_low": "85"}, 84, 85), ({"spo2_low": "unknown"}, 89, 90), ({"spo2_low": "nan"}, 89, 90)],
)
def test_a_subject_has_limits_of_its_own(tags, raised, threshold):
    shard = Shard(OWN_LIMIT, devices=[{"device": "m", "kind": "patient", "subject": "bed", "tags": tags}])
    values = (90, 89, 85, 84, 91)
    alerts = [shard.messages(at, ("patient", "m", at, {"spo2": float(value)})).alerts for at, value in enumerate(values)]
    [event] = [event for found in alerts for event in found]

    assert (event.value, event.threshold, event.comparison) == (raised, threshold, f"< {threshold}")


def test_a_limit_is_in_the_unit_that_is_written():
    text = "rules: [{id: warm, when: 'temperature > limit(warm_at, 50 degF)', severity: warning}]"
    shard = Shard(text, devices=[{"device": "t", "kind": "shipment", "subject": "t", "tags": {"warm_at": "59"}}])
    events = [
        event
        for at, value in enumerate((11.0, 14.9, 15.1))
        for event in shard.messages(at, ("shipment", "t", at, {"temperature": value})).alerts
    ]

    assert [(event.value, event.threshold) for event in events] == [(15.1, 15.0)]
    assert compile_rules([("f", text)]).rules[0].when.threshold == 10


def test_an_alert_that_is_to_be_kept_firing_waits_for_as_long():
    shard = Shard("rules: [{id: low, when: spo2 < 90 %, keep_firing_for: 5 s, max_gap: 30 s, severity: warning}]")
    values = (89, 91, 91, 91, 89, 91, 91, 91, 91, 91, 91)
    events = [event for at, value in enumerate(values) for event in shard.messages(at, ("patient", "m", at, {"spo2": float(value)})).alerts]

    assert [(str(event.phase), event.detected_at_ms % 100_000) for event in events] == [("raised", 0), ("resolved", 10_000)]
