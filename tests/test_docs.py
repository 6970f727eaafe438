"""Documents that say what the code has: links lead somewhere, promises have their tests, names and forms are those of the program."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import program
from cli.registry import RegistryModel
from decoders.decode import decode_row
from decoders.mapping_model import MappingsModel
from documents import parse
from journal.messages import decode_messages, encode_messages
from rules.document import load_rules
from simulators.faults import FaultKind
from simulators.incidents import IncidentKind
from simulators.scenario import PARAMETERS, ScenarioModel
from simulators.score import CAUSES
from sinks.points import MEASUREMENTS
from telemetry.metrics import CATALOGUE
from telemetry.reasons import Reason

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def links(document: Path) -> Iterator[tuple[str, str]]:
    """Return the relative links of a document: (words, target)."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    yield from ((words, target) for words, target in LINK.findall(prose) if "://" not in target and not target.startswith("#"))


def untested(text: str, folder: Path) -> list[str]:
    """Return the promises of a document that link no test, and the links to tests that do not exist."""
    found = []
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(("| promise", "|---")):
            promise, proofs = line.strip("| ").split(" | ", 1) if " | " in line.strip("| ") else (line, "")
            tests = LINK.findall(proofs)
            if not tests:
                found.append(f"no test: {promise}")
    for words, target in LINK.findall(text):
        file = folder / target
        if target.endswith(".py") and (
            not file.is_file() or not re.search(rf"^\s*(async )?def {re.escape(words)}\(", file.read_text(), re.MULTILINE)
        ):
            found.append(f"no such test: {words} in {target}")
    return found


def section(title: str) -> str:
    reference = (ROOT / "docs/REFERENCE.md").read_text()
    return reference.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def table(title: str) -> list[list[str]]:
    """Return the cells of a section's table, its head left out."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def commands(group: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the commands of the program, groups left out."""
    if isinstance(group, click.Group):
        for word, command in subcommands(group).items():
            yield from commands(command, (*words, word))
    else:
        yield words


def subcommands(group: click.Group) -> dict[str, click.Command]:
    """Return the commands of a group, loaded: some groups load theirs when they are asked for."""
    context = click.Context(group)
    return {name: command for name in group.list_commands(context) if (command := group.get_command(context, name))}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    broken = [target for _, target in links(document) if not (document.parent / target.partition("#")[0]).exists()]
    assert not broken


def test_every_promise_has_a_test_that_exists():
    """A guarantee without a test is a hope; one whose test was renamed away is worse."""
    problems = untested((ROOT / "docs/GUARANTEES.md").read_text(), ROOT / "docs")
    assert not problems, "\n".join(problems)


def test_a_promise_without_its_test_is_found():
    """The check itself."""
    text = "| promise | proved by |\n|---|---|\n| Nothing is lost. | trust us |\n| All is well. | [test_gone](../tests/test_docs.py) |\n"
    assert untested(text, ROOT / "docs") == ["no test: Nothing is lost.", "no such test: test_gone in ../tests/test_docs.py"]


def test_every_metric_is_documented():
    expected = [[f"`{m.name}`", m.title, f"`{m.unit}`", f"{m.low:g} to {m.high:g}"] for m in CATALOGUE.values()]
    assert table("Metrics") == expected


def test_every_reason_of_quarantine_is_documented():
    assert [row[0] for row in table("Reasons of quarantine")] == [f"`{reason}`" for reason in Reason]


def test_every_measurement_is_documented():
    """Somebody else's Grafana is written against this table."""
    documented = {row[0].strip("`"): (set(row[1].split(", ")), set(row[2].split(", "))) for row in table("Measurements in InfluxDB")}
    assert documented == {name: (set(tags), set(fields)) for name, (tags, fields) in MEASUREMENTS.items()}


def test_every_command_is_documented():
    documented = re.findall(r"`vitalane ([a-z ]+)`", "".join(row[0] for row in table("Commands")))
    assert sorted(documented) == sorted(" ".join(words) for words in commands(program))


@pytest.mark.parametrize(
    ("title", "model"), [("Messages of other makes", MappingsModel), ("The registry", RegistryModel), ("Scenarios", ScenarioModel)]
)
def test_an_example_of_a_document_is_right(title, model):
    [text] = re.findall(r"^```yaml\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    assert parse(text, title, model)


def test_every_incident_and_every_fault_is_documented_with_what_can_be_said_of_it_and_what_it_can_cause():
    rows = [[set(re.findall(r"`([a-z_-]+)`", cell)) for cell in row] for row in table("Scenarios")]
    assert set().union(*(row[0] for row in rows)) == {str(kind) for kind in (*IncidentKind, *FaultKind)}
    for names, _, parameters, causes in (row for row in rows if len(row) == 4 and row[0]):
        for kind in map(FaultKind, names):
            assert parameters == {name.rstrip("_") for name in PARAMETERS.get(kind, ())}, kind
            assert causes == set(CAUSES[kind].rules), kind


def examples() -> Iterator[tuple[str, str]]:
    for form, body in re.findall(r"^```json (\w+)\n(.*?)^```", section("Payloads"), re.MULTILINE | re.DOTALL):
        yield from ((form, line) for line in body.splitlines())


@pytest.mark.parametrize(("form", "payload"), list(examples()))
def test_an_example_of_a_payload_is_taken(form, payload):
    """What a device's author copies from the page must work."""
    topic = f"vitalane/v1/shipment/truck-1/{form}".encode()
    decoded = decode_row(decode_messages(encode_messages([topic], [payload.encode()], b"\0")), 1_763_674_000_123, CATALOGUE)
    assert not decoded.refusals
    assert decoded.packets.values or decoded.statuses


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_rule_in_a_document_is_one(document, tmp_path):
    for number, body in enumerate(re.findall(r"^```yaml\n(rules:\n.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(body)
        assert load_rules([file]).rules


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_command_in_a_document_exists(document):
    """`make` targets and `vitalane` commands with their options, wherever they stand in code."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`([^`\n]+)`", document.read_text()) + re.findall(
        r"^```(?:sh|bash)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [line.partition("#")[0].strip() for piece in code for line in piece.splitlines()]
    for line in lines:
        if match := re.fullmatch(r"make ([a-z]+)", line):
            assert match[1] in targets, line
        if line.startswith("vitalane "):
            assert_exists(line.split()[1:])


def assert_exists(words: list[str]) -> None:
    """Fail where a command line names a command or an option that the program does not have."""
    command: click.Command = program
    for word in words:
        if word.startswith("-"):
            options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {
                "--help",
                "--version",
            }
            assert word.partition("=")[0] in options, f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            known = subcommands(command)
            assert word in known or not re.fullmatch(r"[a-z]+", word), f"{command.name} has no command {word}"
            command = known.get(word, command)
