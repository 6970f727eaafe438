"""What a newcomer types first: the environment, its lock files, and the sentences that say what is missing."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("sh", "cat", "cksum", "dirname", "sort", "paste", "sed", "awk", "id", "mktemp", "mkdir", "rm", "cut", "getent", "tail", "find")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what deploy/bootstrap.sh reads, and a PATH of its own in `bin`."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("deploy/bootstrap.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    for command in COMMANDS:
        (tmp_path / "bin" / command).symlink_to(str(shutil.which(command)))
    return tmp_path


def bootstrap(checkout: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(checkout / "bin"), "HOME": str(checkout)}
    return subprocess.run(["sh", "deploy/bootstrap.sh"], cwd=checkout, env=environment, capture_output=True, text=True)


def put(checkout: Path, name: str, script: str) -> None:
    program = checkout / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_python_that_bytewax_does_not_know_gets_one_clear_sentence(checkout):
    """pip's own words here are fifty lines about wheels and compilers."""
    put(checkout, "python3", 'case "$2" in *platform*) echo CPython 3.13.0 ;; *) exit 1 ;; esac')
    result = bootstrap(checkout)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "needs CPython 3.11 or 3.12, because its stream processor Bytewax has no wheel" in result.stderr
    assert f"found: {checkout}/bin/python3 is CPython 3.13.0" in result.stderr
    assert "Install python3.12" in result.stderr
    assert "or uv" in result.stderr


def test_no_python_at_all_gets_the_same_sentence(checkout):
    result = bootstrap(checkout)
    assert result.returncode == 1
    assert "found: no Python at all. Install python3.12" in result.stderr


def test_a_python_without_venv_is_told_which_package_to_install(checkout):
    put(checkout, "python3.12", 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo python3.12-venv ;; esac')
    result = bootstrap(checkout)
    assert result.returncode == 1
    assert "run 'sudo apt-get install python3.12-venv'" in result.stderr


def test_uv_brings_a_python_where_the_machine_has_none(checkout):
    """The order of its calls; that uv does what it says is uv's matter."""
    python = '#!/bin/sh\\ncase "$2" in *pip*) exit 1 ;; esac\\n'
    put(checkout, "uv", f"echo \"$@\" >> calls; mkdir -p .venv/bin; printf '{python}' > .venv/bin/python; /bin/chmod +x .venv/bin/python")
    result = bootstrap(checkout)
    assert result.returncode == 0, result.stderr
    calls = (checkout / "calls").read_text().splitlines()
    assert calls[0] == "venv --quiet --python >=3.11,<3.13 .venv"
    assert calls[1].endswith("--require-hashes -r requirements.lock")
    assert calls[2].endswith("--offline --no-deps --no-build-isolation -e .")


def test_a_second_run_does_nothing(checkout):
    put(checkout, "python3", 'case "$2" in *platform*) echo CPython 3.11.0 ;; esac; case "$*" in *"-m "*) echo "$@" >> calls ;; esac')
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.copy(checkout / "bin/python3", python)
    shutil.copy(python, python.parent / "vitalane")
    assert bootstrap(checkout).returncode == 0
    first = (checkout / "calls").read_text()
    assert "--require-hashes -r requirements.lock" in first
    assert "--no-index --no-deps --no-build-isolation -e ." in first
    again = bootstrap(checkout)
    assert (again.returncode, again.stderr) == (0, "")
    assert (checkout / "calls").read_text() == first
    (checkout / "requirements.lock").write_text("changed")
    bootstrap(checkout)
    assert (checkout / "calls").read_text() != first


def test_tools_does_nothing_where_everything_is_there(checkout):
    for name in ("mosquitto", "mosquitto_passwd", "influxd"):
        put(checkout, name, "exit 1")
    shutil.copy(ROOT / "deploy/tools.sh", checkout / "deploy/tools.sh")
    environment = {"PATH": str(checkout / "bin"), "HOME": str(checkout), "VITALANE_TOOLS": str(checkout / "tools")}
    result = subprocess.run(["sh", "deploy/tools.sh"], cwd=checkout, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"Servers: {checkout}/bin/mosquitto, {checkout}/bin/influxd\n"


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return what a lock file pins: name and marker -> (version, hashes)."""
    text = re.sub(r" \\\n\s+", " ", (ROOT / name).read_text())
    pins = {}
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement, *hashes = line.split(" --hash=")
            pin = Requirement(requirement.strip())
            (specifier,) = pin.specifier
            pins[f"{canonicalize_name(pin.name)}; {pin.marker}"] = (specifier.version, frozenset(one.strip() for one in hashes))
    return pins


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/runtime.lock"])
def test_a_lock_pins_everything_by_its_hashes(name):
    pins = locked(name)
    assert len(pins) > 30
    assert all(hashes and all(one.startswith("sha256:") for one in hashes) for _, hashes in pins.values())


def test_the_image_has_the_versions_that_are_tested():
    full, runtime = locked("requirements.lock"), locked("deploy/runtime.lock")
    assert runtime.items() <= full.items()
    assert {"pytest; None", "mypy; None"} & set(runtime) == set()


def test_the_locks_hold_what_the_project_asks_for():
    """Whoever adds a dependency and forgets `make lock` would see it work only where it happens to be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, extra in (("requirements.lock", "dev"), ("deploy/runtime.lock", "image")):
        pins = {key.partition(";")[0]: Version(version) for key, (version, _) in locked(name).items()}
        for line in [*project["dependencies"], *project["optional-dependencies"][extra]]:
            wanted = Requirement(line)
            assert pins[canonicalize_name(wanted.name)] in wanted.specifier, line
