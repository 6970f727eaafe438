"""The house rules that a machine can hold. A check is a function from a file to its findings, itself tested on a sample it must catch."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES, FUNCTION_LINES = 400, 70
TEXT_SUFFIXES = {".py", ".md", ".yml", ".yaml", ".toml", ".sh", ".json", ".txt", ".conf", ".lock", ".lark", ".cfg", ""}
TEXT_BYTES = 1_000_000

Findings = Iterator[tuple[int, str]]  # line, what


class Check(NamedTuple):
    rule: str
    find: Callable[[str, str], Findings]  # (path, text)
    bad: tuple[str, str]  # a file that it must catch: (path, text)
    good: tuple[str, str]  # one that it must let pass
    suffixes: frozenset[str] = frozenset({".py"})
    exempt: tuple[str, ...] = ()  # folders and files where the rule does not hold


def files() -> list[tuple[str, str]]:
    """Return every text file that is or would be tracked: (path, text)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [
        (path.as_posix(), (ROOT / path).read_text(encoding="utf-8", errors="replace"))
        for path in sorted(paths)
        if path.suffix in TEXT_SUFFIXES and (ROOT / path).stat().st_size <= TEXT_BYTES
    ]


@cache
def nodes(text: str) -> list[ast.AST]:
    """Return every node of a module: parsed once, for there are many checks."""
    return list(ast.walk(ast.parse(text)))


@cache
def unparsed(node: ast.AST) -> str:
    return ast.unparse(node)


def calls(text: str) -> Iterator[tuple[int, str, ast.Call]]:
    for node in nodes(text):
        if isinstance(node, ast.Call):
            yield node.lineno, unparsed(node.func), node


def imported(text: str) -> Iterator[tuple[int, str]]:
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes(text) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def long_modules(path: str, text: str) -> Findings:
    if text.count("\n") > MODULE_LINES:
        yield MODULE_LINES, f"the module has {text.count(chr(10))} lines"


def long_functions(path: str, text: str) -> Findings:
    for function in functions(text):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES:
            yield function.lineno, f"{function.name} has {length} lines"


def silent_modules(path: str, text: str) -> Findings:
    tree = ast.parse(text)
    if tree.body and ast.get_docstring(tree) is None:
        yield 1, "the module does not say what it is"


def nameless_modules(path: str, text: str) -> Findings:
    if Path(path).stem in {"utils", "util", "helpers", "helper", "common", "misc", "core", "types", "manager"}:
        yield 1, "the name is not a concept"


def wall_clocks(path: str, text: str) -> Findings:
    names = re.compile(r"(^|\.)((datetime|date)\.(now|utcnow|today)|time\.(time|time_ns|localtime|gmtime|ctime))$")
    yield from ((line, name) for line, name, _ in calls(text) if names.search(name))
    yield from ((line, name) for line, name in imported(text) if name in {"time.time", "time.time_ns"})


def naive_times(path: str, text: str) -> Findings:
    for line, name, call in calls(text):
        keywords = {keyword.arg for keyword in call.keywords}
        method = name.rpartition(".")[2]
        if (
            (method in {"utcnow", "utcfromtimestamp"})
            or (method == "now" and name.endswith("datetime.now") and not call.args and "tz" not in keywords)
            or (method == "fromtimestamp" and len(call.args) < 2 and "tz" not in keywords)
            or (name in {"datetime", "datetime.datetime"} and len(call.args) < 8 and "tzinfo" not in keywords)
        ):
            yield line, f"{name} without a time zone"


def prints(path: str, text: str) -> Findings:
    yield from ((line, name) for line, name, _ in calls(text) if name in {"print", "sys.stdout.write", "pprint"})


def dynamic_outputs(path: str, text: str) -> Findings:
    yield from ((line, name) for line, name in imported(text) if re.search(r"\bDynamic(Sink|Source)$", name))


def broad_excepts(path: str, text: str) -> Findings:
    for node in nodes(text):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            if not caught or re.search(r"\b(Base)?Exception\b", caught):
                yield node.lineno, f"catches {caught or 'everything'}"


def sleeps(path: str, text: str) -> Findings:
    yield from ((line, name) for line, name, _ in calls(text) if name in {"time.sleep", "sleep"})


def mocks(path: str, text: str) -> Findings:
    yield from ((line, name) for line, name in imported(text) if name.partition(".")[0] == "mock" or name.startswith("unittest.mock"))
    for line, name, call in calls(text):
        if name == "monkeypatch.setattr":
            target = ast.unparse(call.args[0]).strip("'\"").partition(".")[0] if call.args else ""
            if target not in {"os", "sys", "time"}:
                yield line, f"{name}({target})"


def unfinished_work(path: str, text: str) -> Findings:
    words = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "place" + "holder", "for" + " now"])
    pattern = re.compile(rf"\b({words})\b|NotImplemented" + r"Error\(", re.IGNORECASE)
    yield from matches(pattern, text)


def machine_paths(path: str, text: str) -> Findings:
    yield from matches(re.compile(r"(?<![\w.$}~])/(?:work|farm|root|home/\w+|Users/\w+)/"), text)


def index_addresses(path: str, text: str) -> Findings:
    yield from matches(
        re.compile(r"--(?:extra-)?index" + r"-url|--find" + r"-links|\"resolved\": \"http|registry = \"http|^-i http", re.MULTILINE), text
    )
    if path.endswith(".lock"):
        yield from matches(re.compile(r"https?://"), text)
    if Path(path).name == "uv.lock":
        yield 1, "uv.lock names the index that it was resolved with"


def headings(path: str, text: str) -> Findings:
    prose = re.sub(r"^(```|~~~).*?^\1", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    titles = [number for number, line in enumerate(prose.splitlines(), 1) if line.startswith("# ")]
    if len(titles) != 1 or titles[0] != 1:
        yield titles[1] if len(titles) > 1 else 1, f"{len(titles)} titles; one, on the first line"


def idle_tests(path: str, text: str) -> Findings:
    for function in functions(text):
        if function.name.startswith("test_") and not asserts(function):
            yield function.lineno, f"{function.name} asserts nothing"


def asserts(function: ast.AST) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call) and re.search(r"raises|warns|check|assert|expect|verify|fail|match", unparsed(node.func)):
            return True
    return False


def nameless_events(path: str, text: str) -> Findings:
    """A log line starts with the name of its event, so that it can be searched and counted: `ingest.broker_connected host=%s`."""
    package = path.partition("/")[0]
    for line, name, call in calls(text):
        if re.fullmatch(r"_?logger\.(debug|info|warning|error|critical|exception)", name, re.IGNORECASE) and call.args:
            first = call.args[0]
            event = first.value if isinstance(first, ast.Constant) else ""
            if not (isinstance(event, str) and re.match(rf"{package}\.[a-z]+(_[a-z]+)+( |$)", event)):
                yield line, f"{ast.unparse(first)} is not `{package}.noun_verbed key=%s`"


def timed_tests(path: str, text: str) -> Findings:
    """Read literally: an assertion that names elapsed time would make a slow machine a failing one."""
    for node in nodes(text):
        if isinstance(node, ast.Assert) and re.search(r"\b(elapsed|took|duration_s|perf_counter)\b", ast.unparse(node.test)):
            yield node.lineno, ast.unparse(node.test)


def matches(pattern: re.Pattern[str], text: str) -> Findings:
    yield from ((text.count("\n", 0, match.start()) + 1, match[0]) for match in pattern.finditer(text))


ANY = frozenset(TEXT_SUFFIXES)
PROSE = frozenset({".md"})
CHECKS = [
    Check(
        "a module has at most 400 lines",
        long_modules,
        ("rules/a.py", "x = 1\n" * 401),
        ("rules/a.py", "x = 1\n" * 400),
        exempt=("tests/",),
    ),
    Check(
        "a function has at most 70 lines",
        long_functions,
        ("rules/a.py", "def f():\n" + "    x = 1\n" * 70),
        ("rules/a.py", "def f():\n" + "    x = 1\n" * 69),
    ),
    Check(
        "a module says what it is",
        silent_modules,
        ("rules/a.py", "x = 1\n"),
        ("rules/a.py", '"""The law."""\n'),
        exempt=("tests/",),
    ),
    Check(
        "a module is named for its concept",
        nameless_modules,
        ("rules/utils.py", ""),
        ("rules/lifecycle.py", ""),
    ),
    Check(
        "one module reads the wall clock",
        wall_clocks,
        ("rules/a.py", "import time\nnow = time.time()\n"),
        ("rules/a.py", "import time\nbegan = time.monotonic()\n"),
        exempt=("telemetry/clock.py", "simulators/", "benchmarks/", "tests/"),
    ),
    Check(
        "a time has a zone",
        naive_times,
        ("rules/a.py", "datetime.fromtimestamp(0)\n"),
        ("rules/a.py", "datetime.fromtimestamp(0, UTC)\n"),
    ),
    Check(
        "only programs print",
        prints,
        ("rules/a.py", "print(1)\n"),
        ("rules/a.py", "fingerprint(1)\n"),
        exempt=("cli/", "tests/", "benchmarks/"),
    ),
    Check(
        "outputs are part of the recovery commit",
        dynamic_outputs,
        ("flows/a.py", "from bytewax.outputs import DynamicSink\n"),
        ("flows/a.py", "from bytewax.outputs import FixedPartitionedSink\n"),
        exempt=("tests/", "benchmarks/"),
    ),
    Check(
        "an except names what it expects",
        broad_excepts,
        ("sinks/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    g()\n"),
        ("sinks/a.py", "try:\n    f()\nexcept OSError:\n    g()\n"),
        exempt=("cli/", "tests/"),
    ),
    Check(
        "who waits can be woken",
        sleeps,
        ("rules/a.py", "time.sleep(1)\n"),
        ("rules/a.py", "stopping.wait(1)\n"),
        exempt=("benchmarks/", "simulators/", "sinks/", "ingest/", "cli/", "tests/"),
    ),
    Check(
        "our own code is not mocked",
        mocks,
        ("tests/a.py", "monkeypatch." + "setattr('sinks.ledger.Ledger', None)\n"),
        ("tests/a.py", "monkeypatch.setattr(os, 'fsync', slow)\n"),
    ),
    Check(
        "nothing is unfinished",
        unfinished_work,
        ("docs/a.md", "TO" + "DO: later"),
        ("docs/a.md", "Nothing is left to do."),
        ANY,
    ),
    Check(
        "no path of a machine",
        machine_paths,
        ("docs/a.md", "see /ro" + "ot/file"),
        ("docs/a.md", "see ~/.cache/vitalane"),
        ANY,
    ),
    Check(
        "no address of an index",
        index_addresses,
        ("requirements.lock", "https://index.example/simple"),
        ("requirements.lock", "click==8\n"),
        ANY,
    ),
    Check(
        "a document has one title",
        headings,
        ("docs/a.md", "# A\n\n# B\n"),
        ("docs/a.md", "# A\n\n```sh\n# B\n```\n"),
        PROSE,
    ),
    Check(
        "a test asserts",
        idle_tests,
        ("tests/a.py", "def test_a():\n    f()\n"),
        ("tests/a.py", "def test_a():\n    assert f()\n"),
    ),
    Check(
        "a log line names its event",
        nameless_events,
        ("sinks/a.py", "logger.info('sent %s', 1)\n"),
        ("sinks/a.py", "logger.info('sinks.batch_sent rows=%d', 1)\n"),
        exempt=("tests/", "benchmarks/"),
    ),
    Check(
        "no test depends on the machine's speed",
        timed_tests,
        ("tests/a.py", "assert elapsed < 5\n"),
        ("tests/a.py", "assert delivered == 5\n"),
    ),
]


def found(check: Check, path: str, text: str) -> list[str]:
    if Path(path).suffix not in check.suffixes or path.startswith(check.exempt or ("\0",)):
        return []
    return [f"{path}:{line}: {what}" for line, what in check.find(path, text)]


@pytest.fixture(scope="module")
def tree() -> list[tuple[str, str]]:
    return files()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule.replace(" ", "-"))
def test_the_tree_is_tidy(check, tree):
    """A rule of the house that a machine can hold is a test, so that reviews can be about what a machine cannot."""
    places = [place for path, text in tree for place in found(check, path, text)]
    assert not places, f"{check.rule}:\n" + "\n".join(places)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule.replace(" ", "-"))
def test_a_check_catches_what_it_is_for_and_nothing_else(check):
    """An empty list of findings counts only where the check is known to find something."""
    assert found(check, *check.bad)
    assert not found(check, *check.good)


def test_every_package_of_ours_is_looked_at(tree):
    """The list of files comes from git: were it empty, every check would pass."""
    paths = {path for path, _ in tree}
    assert {"telemetry/clock.py", "requirements.lock", "README.md", "Makefile", ".ci/run"} <= paths
