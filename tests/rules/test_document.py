"""Rule documents: strict, complete in their problems, and versioned by content."""

import jsonschema
import pytest
import yaml

from rules.document import compile_rules, load_rules, pack_names, schema
from telemetry.errors import ConfigError

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
