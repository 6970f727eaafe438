"""docker-compose.yml, its image and its configuration: valid, closed by default, and complete for somebody who has only a clone."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema.validators import validator_for

from cli.main import program

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("vitalane:"))


def variables(text: str) -> dict[str, str]:
    """Return the variables that a compose file reads, with what follows the name: `:?words`, `:-default` or nothing."""
    return dict(re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text))


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def secrets_written(folder: Path) -> dict[str, str]:
    subprocess.run(["sh", ROOT / "deploy/secrets.sh", ROOT / ".env.example", folder / ".env"], check=True, capture_output=True)
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def image_context(target: Path) -> Path:
    """Copy what .dockerignore lets into the image's build: everything is shut out but the lines that begin with `!`."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for rule in rules:
        if rule.startswith("!"):
            source = ROOT / rule[1:]
            if source.is_dir():
                shutil.copytree(source, target / rule[1:], ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                (target / rule[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / rule[1:])
    return target


def test_the_compose_file_follows_the_compose_specification():
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    problems = [f"{list(error.path)}: {error.message}" for error in validator_for(schema)(schema).iter_errors(yaml.safe_load(COMPOSE))]
    assert not problems


def test_a_mistake_in_the_compose_file_would_be_found():
    """The check itself: the schema refuses a key that compose does not know."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    wrong = yaml.safe_load(COMPOSE)
    wrong["services"]["ingest"]["helthcheck"] = {}
    assert not validator_for(schema)(schema).is_valid(wrong)


def test_every_secret_is_in_the_example_and_is_demanded():
    """A secret that is forgotten must stop compose with a sentence, not start a service with an empty password."""
    read = variables(COMPOSE)
    demanded = {name for name, rest in read.items() if rest.startswith(":?")}
    assert demanded == set(example())
    assert all(rest.startswith(":-") for name, rest in read.items() if name not in demanded)


def test_fresh_secrets_differ_are_private_and_never_overwritten(tmp_path):
    written = secrets_written(tmp_path)
    assert set(written) == set(example())
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in written.values())
    assert len(set(written.values())) == len(written)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert secrets_written(tmp_path) == written


def test_the_example_holds_no_secret():
    assert not any(example().values())


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_listens_outside_this_machine(name):
    """Patients' data is behind these ports: opening one is a decision, and comes with TLS."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")
    assert re.search(r":\d+\.\d+", service["image"]), "an image is pinned to a version"


@pytest.mark.parametrize("name", OURS)
def test_our_services_write_only_their_data(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["user"] == "10001:10001"
    assert service["volumes"][-1] == "./deploy/compose:/etc/vitalane:ro"
    assert service["volumes"][:-1] in ([], ["data:/var/lib/vitalane"])


def test_the_data_path_has_a_health_check_and_one_image():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"vitalane:{version}"}
    assert OURS == ["deliver", "fleet", "flow", "ingest", "ward"]
    for name in sorted(set(SERVICES) - {"fleet", "ward"}):
        assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_everything_that_is_mounted_exists():
    mounts = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    named = set(yaml.safe_load(COMPOSE)["volumes"])
    for source, *_ in mounts:
        assert (ROOT / source).exists() if source.startswith(".") else source in named, source


def test_simulators_start_only_when_asked_for():
    assert [name for name in SERVICES if SERVICES[name].get("profiles") == ["simulate"]] == ["fleet", "ward"]


def test_the_services_understand_their_configuration(tmp_path):
    """The files that compose mounts, checked by the program that reads them, with the secrets that compose passes."""
    secrets = secrets_written(tmp_path)
    for name in ("vitalane.yaml", "simulate.yaml"):
        result = CliRunner().invoke(program, ["config", "check", "-c", str(ROOT / "deploy/compose" / name)], env=secrets)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", OURS)
def test_a_service_gets_the_secrets_that_its_configuration_names_and_no_others(name):
    file = ROOT / "deploy/compose" / next(Path(word).name for word in SERVICES[name]["command"] if word.endswith(".yaml"))
    named = set(re.findall(r"^[^#\n]*\{env: (\w+)\}", file.read_text(), re.MULTILINE))
    assert set(SERVICES[name].get("environment", {})) <= named


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_exists(name):
    command = SERVICES[name]["command"]
    words = [word for word in command if not word.startswith(("-", "/")) and not word.isdigit()]
    result = CliRunner().invoke(program, [*words, "--help"])
    assert result.exit_code == 0, result.output
    options = [word for word in command[command.index(words[-1]) :] if word.startswith("--")]
    assert all(option in result.output for option in options)


def test_the_image_runs_as_nobody_in_particular():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["python:3.12-slim"] * 2
    assert "--require-hashes" in dockerfile


@pytest.mark.long
def test_what_the_image_is_built_from_is_enough_to_run(tmp_path):
    """The Dockerfile's own step on the Dockerfile's own context: a data file that is not packaged would be missing in the image only."""
    context, target = image_context(tmp_path / "context"), tmp_path / "installed"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        ".",
    ]
    subprocess.run(command, cwd=context, check=True, capture_output=True)
    tracked = [path.relative_to(context) for path in context.rglob("*") if path.is_file() and len(path.relative_to(context).parts) > 1]
    for path in tracked:
        if not fnmatch(path.as_posix(), "deploy/*") and "build" not in path.parts and "egg-info" not in str(path):
            assert (target / path).exists(), f"{path} is not packaged"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    for words in (["--help"], ["init", "fresh"], ["config", "check", "-c", "fresh/vitalane.yaml"]):
        result = subprocess.run([sys.executable, "-m", "cli.main", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
