import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS, run
from tests.cli.running import ROOT, vitalane


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vitalane, version ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The group imports a command when it is used: this is where a wrong name in the table would show."""
    assert run([name, "--help"]) == 0
    assert f"Usage: vitalane {name}" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_VITALANE_COMPLETE" in script
    assert f"{shell}_complete" in script


def test_completion_knows_the_commands() -> None:
    """The script asks the program itself: lazily found commands must be among its answers."""
    asked = vitalane("", _VITALANE_COMPLETE="bash_complete", COMP_WORDS="vitalane de", COMP_CWORD="1")
    assert {"plain,demo", "plain,deliver", "plain,deadletters"} <= set(asked.stdout.split())


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["frobnicate"], ["up", "--frobnicate"], ["demo", "--for", "5 parsecs"], ["demo", "--for", "3s"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "ingest", "flow", "deliver", "verify"])
def test_a_configuration_that_is_not_there_is_one_sentence_and_2(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first mistake of everybody: the sentence says what would help."""
    file = tmp_path / "vitalane.yaml"
    assert run([command, "-c", str(file)]) == 2
    assert capsys.readouterr().err == f"vitalane: {file}: there is no such file: `vitalane init` writes one to start from\n"


def test_ingest_and_deliver_do_not_load_bytewax_and_numpy() -> None:
    """What a service does not need costs it memory and a second of every restart."""
    program = "import cli.main, cli.ingesting, cli.delivering, cli.services, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {"bytewax", "numpy", "rich", "apprise", "influxdb_client", "amqtt"} & set(loaded)
