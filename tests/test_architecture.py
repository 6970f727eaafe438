"""The law of imports: dependencies point down, one third-party package has one home, and no installed package takes one of our names."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = {
    # package: what it may import of ours (a package, or one module of it)
    "telemetry": set(),
    "documents": {"telemetry"},
    "journal": {"telemetry"},
    "decoders": {"telemetry", "documents", "journal"},
    "ingest": {"telemetry", "journal", "decoders"},
    "rules": {"telemetry", "documents"},
    "flows": {"telemetry", "journal", "decoders", "rules"},
    "alerts": {"telemetry", "journal", "documents"},
    "sinks": {"telemetry", "journal"},
    "simulators": {"telemetry", "documents", "decoders.topics", "decoders.wire", "decoders.mapping_model"},
    "cli": {"telemetry", "documents", "journal", "decoders", "ingest", "rules", "flows", "alerts", "sinks", "simulators"},
}

HOMES = {
    # third-party package: the packages or modules that may import it
    "amqtt": {"cli.broker"},
    "apprise": {"sinks.chat"},
    "bytewax": {"flows", "cli"},
    "cbor2": {"decoders.senml"},
    "click": {"cli"},
    "google": {"decoders.sparkplug"},  # protobuf, which comes with tahutils
    "jmespath": {"decoders"},
    "re2": {"decoders"},
    "influxdb_client": {"sinks.influxdb"},
    "lark": {"rules"},
    "msgspec": {"decoders"},
    "numpy": {"rules", "flows", "simulators"},
    "paho": {"ingest.mqtt", "ingest.sparkplug", "ingest.tap", "sinks.mqtt", "simulators.publish"},
    "pwdlib": {"cli.broker"},
    "pyarrow": {"cli.readings_file"},
    "pydantic": {"documents", "decoders", "rules", "alerts", "simulators", "cli"},
    "rich": {"cli"},
    "tahutils": {"decoders.sparkplug"},
    "urllib3": {"sinks.webhook", "sinks.influxdb", "sinks.influxdb_past"},
    "yaml": {"documents", "cli.asyncapi", "cli.config"},
}

OUTSIDE = ("benchmarks", "dashboards", "tests")  # import what they like; nobody imports them


class Import(NamedTuple):
    place: str  # file:line
    importer: str  # rules.lifecycle
    names: tuple[str, ...]  # what is bound from: `ingest`, or `decoders.decode` where a module of it is named
    relative: bool = False


def imports(source: str, path: str) -> Iterator[Import]:
    """Return the imports of a file, those inside functions and TYPE_CHECKING blocks included."""
    importer = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(f"{path}:{node.lineno}", importer, (alias.name,)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield Import(
                f"{path}:{node.lineno}", importer, tuple(f"{module}.{alias.name}" for alias in node.names), relative=node.level > 0
            )


def broken(source: str, path: str) -> list[str]:
    """Return what a file imports against the law, one line each."""
    found = []
    for imported in imports(source, path):
        package = imported.importer.partition(".")[0]
        if imported.relative:
            found.append(f"{imported.place} imports relatively: imports are absolute")
            continue
        for name in imported.names:
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == package:
                continue
            if top in OUTSIDE:
                found.append(f"{imported.place} imports {top}, which nobody may")
            elif top in PACKAGES:
                if not within(name, PACKAGES[package]):
                    found.append(f"{imported.place}: {package} may not import {name}")
            elif not within(imported.importer, HOMES.get(top, set())):
                found.append(f"{imported.place}: {top} has no home in {imported.importer}")
    return found


def within(name: str, allowed: set[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in allowed)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down_and_third_party_packages_stay_at_home(package):
    """A reader may trust the table above: a package can be understood without those that are not in its row."""
    assert modules(package), f"{package}/ holds no module"
    found = [line for path in modules(package) for line in broken(path.read_text(), path.relative_to(ROOT).as_posix())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("import paho.mqtt.client", "rules/lifecycle.py", "rules/lifecycle.py:1: paho has no home in rules.lifecycle"),
        ("import sinks.ledger", "ingest/mqtt.py", "ingest/mqtt.py:1: ingest may not import sinks.ledger"),
        ("from ingest import mqtt", "flows/dataflow.py", "flows/dataflow.py:1: flows may not import ingest.mqtt"),
        ("def f():\n    from cli.main import main", "alerts/x.py", "alerts/x.py:2: alerts may not import cli.main.main"),
        ("from tests.tools import free_port", "cli/main.py", "cli/main.py:1 imports tests, which nobody may"),
        ("from . import clock", "telemetry/alert.py", "telemetry/alert.py:1 imports relatively: imports are absolute"),
        ("import leftpad", "cli/main.py", "cli/main.py:1: leftpad has no home in cli.main"),
    ],
)
def test_an_import_against_the_law_is_found(source, path, expected):
    """The check itself: without this, an empty list of findings could mean that nothing was looked at."""
    assert broken(source, path) == [expected]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from decoders.decode import decode_row", "flows/dataflow.py"),
        ("from decoders import decode", "flows/dataflow.py"),
        ("import json\nfrom collections.abc import Mapping", "telemetry/alert.py"),
        ("import paho.mqtt.client", "ingest/mqtt.py"),
        ("from rules.rule import Rule", "rules/lifecycle.py"),
    ],
)
def test_an_import_within_the_law_passes(source, path):
    assert broken(source, path) == []


def test_every_package_is_installed_and_has_its_row():
    """A package that pyproject.toml does not list works in the checkout and is missing from the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    assert set(listed) == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for package in PACKAGES for path in modules(package)}
    homes = {path.parent.name for path in ROOT.glob("*/*.py")} - set(OUTSIDE)
    assert homes == set(PACKAGES)


def test_no_installed_distribution_provides_a_package_of_our_names():
    """Flat names are ours only as long as nobody else installs one (docs/design/001-flat-packages.md)."""
    ours = {*PACKAGES, *OUTSIDE}
    taken = {name: owners for name, owners in packages_distributions().items() if name in ours and set(owners) != {"vitalane"}}
    assert not taken, f"installed distributions provide packages with our names: {taken}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_doorway_of_a_package_imports_nothing_heavy(package):
    """`import sinks` must not pay for InfluxDB, apprise and paho, and a service must not load another service's libraries."""
    program = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"amqtt", "apprise", "bytewax", "influxdb_client", "paho", "rich"} & set(result.stdout.split())
    assert not heavy, f"import {package} loads {heavy}"
