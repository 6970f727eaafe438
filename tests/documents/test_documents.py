"""Documents: what is wrong is said at its place, all of it at once, and nothing can explode."""

import pytest
from pydantic import Field

from documents import ByteSize, Duration, Strict, format_duration, load, parse, parse_duration
from telemetry.errors import ConfigError


class Broker(Strict):
    host: str = "localhost"
    port: int = Field(1883, gt=0, lt=65536)
    wait: Duration = 1000
    password: str = ""


class House(Strict):
    broker: Broker = Broker(port=1883)
    names: list[str] = []
    size: ByteSize = 1000


UNIT_PROBLEM = (
    "f.yaml:4:7: size: '3 parsecs' is not understood: write a number and a unit (B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB), like 20 GB"
)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", House)
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_is_told_at_once_and_in_place():
    found = problems("broker: {host: a, prt: 1}\nnames: [1, a]\nzz: 3\nsize: 3 parsecs\n")

    assert found == [
        "f.yaml:1:19: broker.prt: unknown key, did you mean `port`?",
        "f.yaml:2:9: names[0]: Input should be a valid string (it is 1)",
        "f.yaml:3:1: zz: unknown key",
        UNIT_PROBLEM,
    ]


def test_a_secret_is_not_repeated_in_a_problem():
    assert "hunter2" not in problems("broker: {password: [hunter2]}")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x 1\nb: *x", "anchors are not allowed here (&x)"),
        ("a: !!python/object:os.system 1", "tags are not allowed here"),
        ("names: [a]\nnames: [b]", "stands here twice, first in line 1"),
        ("names: " + "[" * 60 + "]" * 60, "is nested deeper than 40 levels"),
        ("names: [", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("\x00", "is not YAML"),
        ("broker: 5", "must be a mapping"),
        ("[1]: 2", "a key must be plain text"),
        ("size: .nan", "is not understood"),
    ],
)
def test_what_is_refused_says_why(text, said):
    assert said in problems(text)[0]


def test_an_empty_document_is_all_defaults():
    assert parse("", "f.yaml", House) == House()


def test_words_that_yaml_1_1_would_change_stay_as_written():
    """`on`, dates and `10:30` are names and times to people, not booleans and numbers."""
    assert parse("names: [on, no, 2026-01-31, 10:30]", "f.yaml", House).names == ["on", "no", "2026-01-31", "10:30"]


def test_files_that_cannot_be_read_say_so(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"names: [\xe9]")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (5 << 20))
    for name, said in (
        ("none.yaml", "cannot be read: no such file"),
        ("latin.yaml", "is not UTF-8"),
        ("huge.yaml", "more than a document"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(tmp_path / name, House)


@pytest.mark.parametrize(("text", "ms"), [("10 s", 10_000), ("60 min", 3_600_000), ("1.5 h", 5_400_000), ("3d", 259_200_000), (0, 0)])
def test_durations_are_read_and_written_back(text, ms):
    assert parse_duration(text) == ms
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize("text", ["10", "min", "-3 s", "1 e9 s", "99 y", 10, None, "900 w"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)
