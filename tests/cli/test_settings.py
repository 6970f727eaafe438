from pathlib import Path

import pytest

from cli.settings import Secret, Settings
from documents import load, parse
from telemetry.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"


def test_an_empty_document_is_a_whole_configuration() -> None:
    """Every key has a default, so the smallest configuration is none."""
    settings = parse("", "vitalane.yaml", Settings)
    assert (settings.partitions, settings.broker.port, settings.windows["shipment"]) == (1, 1883, 300_000)
    assert settings.stores.history is not None


def test_every_problem_of_a_document_is_named_at_its_place() -> None:
    """One run shows all that is wrong: the golden file is what a person reads."""
    with pytest.raises(ConfigError) as caught:
        load(GOLDEN / "settings.yaml", Settings)
    found = "\n".join(str(problem._replace(file="settings.yaml")) for problem in caught.value.problems) + "\n"
    assert found == (GOLDEN / "settings.problems").read_text()
    assert "hunter2" not in found


def test_a_protocol_may_be_written_as_a_number() -> None:
    """`protocol: 5` is what people write."""
    assert parse("broker: {protocol: 5}", "a.yaml", Settings).broker.protocol == "5"


def test_a_secret_is_read_from_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("TOKEN_FOR_TEST", "from-env")
    assert Secret(file=Path("token")).read(tmp_path) == "s3cret"
    assert Secret(env="TOKEN_FOR_TEST").read(tmp_path) == "from-env"


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        (Secret(env="NOT_SET_FOR_TEST"), "the environment variable NOT_SET_FOR_TEST is not set"),
        (Secret(file=Path("nowhere")), "cannot be read: no such file or directory"),
        (Secret(file=Path("empty")), "is empty"),
    ],
)
def test_a_secret_that_is_not_there_says_so(secret: Secret, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match=sentence):
        secret.read(tmp_path)
