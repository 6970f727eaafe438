"""A configuration as it is read: the settings, where each of them stands, and the documents that they name.

Whatever is wrong is a Problem with its place, and all of them are found before any service starts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from cli.places import telemetry_path
from cli.settings import Account, Secret, Settings
from decoders.sparkplug import filters
from decoders.topics import overlap
from documents import Tree, read_tree
from documents.model import validate
from documents.tree import Steps, read_text, where
from journal.reader import JournalReader
from rules.control import Settings as FlowTerms
from rules.document import load_rules, pack_names
from rules.rule import RuleSet
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import Metric

Result = TypeVar("Result")


class Configuration(NamedTuple):
    path: Path
    settings: Settings
    tree: Tree

    @property
    def folder(self) -> Path:
        """What relative paths of the configuration are relative to."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        return self.folder / self.settings.data_dir

    def problem(self, steps: Steps, message: str, *, key: bool = False) -> ConfigError:
        """Return the error that names a place of the configuration."""
        line, column = self.tree.place(steps, key=key)
        return ConfigError([Problem(self.tree.file, line, column, where(steps), message)])

    def secret(self, steps: Steps, secret: Secret) -> str:
        """Return a secret. Raises ConfigError where it is not there."""
        try:
            return secret.read(self.folder)
        except ValueError as error:
            raise self.problem(steps, str(error)) from error


def read_configuration(path: Path) -> Configuration:
    """Return the configuration of a file. Raises ConfigError with every problem of its form."""
    if not path.exists():
        raise ConfigError([Problem(str(path), 0, 0, "", "there is no such file: `vitalane init` writes one to start from")])
    tree = read_tree(read_text(path), str(path))
    return Configuration(path, validate(tree, Settings), tree)


def rule_set(configuration: Configuration, known: Mapping[str, Metric]) -> RuleSet:
    """Return the rules in force; `known` are all metrics. Raises ConfigError with every problem of every document."""
    sources = rule_sources(configuration)
    return load_rules(sources, known)


def rule_sources(configuration: Configuration) -> list[Path | str]:
    """Return the files and packs that hold the rules. Raises ConfigError where one is not there."""
    packs = pack_names()
    sources: list[Path | str] = []
    problems: list[Problem] = []
    for index, name in enumerate(configuration.settings.rules):
        file = configuration.folder / name
        if name in packs:
            sources.append(name)
        elif file.exists():
            sources.append(file)
        else:
            near = get_close_matches(name, packs, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f" (packs: {', '.join(packs)})"
            problems += configuration.problem(("rules", index), f"there is no file and no rule pack `{name}`{hint}").problems
    if problems:
        raise ConfigError(problems)
    return sources


def partition_problems(configuration: Configuration) -> list[Problem]:
    """Return what is wrong with the number of partitions, where there is a journal already."""
    path = telemetry_path(configuration.data_dir)
    if not path.exists():
        return []
    with JournalReader(path) as reader:
        found = reader.partitions
    if found == configuration.settings.partitions:
        return []
    message = f"the journal in {configuration.data_dir} has {found} partitions, which cannot change: write {found}, or use another data_dir"
    return configuration.problem(("partitions",), message).problems


def sparkplug_problems(configuration: Configuration, mapped: Sequence[str] = ()) -> list[Problem]:
    """Return what would bring the messages of edge nodes twice, or end one of the two connections for the other.

    `mapped` are the topics that mappings read.
    """
    broker, sparkplug = configuration.settings.broker, configuration.settings.sparkplug
    if sparkplug is None:
        return []
    problems: list[Problem] = []
    theirs = filters(() if sparkplug.groups == "all" else sparkplug.groups)
    places: list[tuple[Steps, str]] = [(("broker", "topics", index), topic_filter) for index, topic_filter in enumerate(broker.topics)]
    for steps, topic_filter in [*places, *((("mappings",), topic_filter) for topic_filter in mapped)]:
        if any(overlap(topic_filter, other) for other in theirs):
            message = f"`{topic_filter}` brings what `sparkplug` listens to by a connection of its own: leave it out here"
            problems += configuration.problem(steps, message).problems
    if sparkplug.client_id == broker.client_id:
        problems += configuration.problem(("sparkplug", "client_id"), "is that of `broker`: a broker keeps one connection an id").problems
    return problems


def flow_terms(settings: Settings) -> FlowTerms:
    """Return what of the settings decides, as it is journalled."""
    return FlowTerms(
        windows_ms=dict(settings.windows),
        grace_ms=dict(settings.grace),
        max_skew_ms=settings.max_skew,
        historic_after_ms=settings.historic_after,
        store_readings=settings.flow.store_readings,
        horizon_ms=dict(settings.horizon),
        history_readings=dict(settings.max_readings),
        max_per_minute=dict(settings.max_per_minute),
    )


def secrets_of(model: BaseModel, steps: Steps = ()) -> Iterator[tuple[Steps, Secret]]:
    """Yield every secret that the settings name, with its path."""
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        if isinstance(value, Secret):
            yield (*steps, key), value
        elif isinstance(value, BaseModel):
            yield from secrets_of(value, (*steps, key))
        elif isinstance(value, dict):
            for entry, item in value.items():
                if isinstance(item, BaseModel):
                    yield from secrets_of(item, (*steps, key, entry))


def attempt(problems: list[Problem], action: Callable[[], Result]) -> Result | None:
    """Return what an action returns, or None where it raises ConfigError, whose problems are added."""
    try:
        return action()
    except ConfigError as error:
        problems += error.problems
        return None


def tls_problems(configuration: Configuration, steps: Steps, account: Account) -> list[Problem]:
    """Return what is wrong with the files that an account's `tls` names."""
    problems: list[Problem] = []
    if account.tls is not None:
        for name in ("ca", "certificate", "key"):
            file = getattr(account.tls, name)
            if file is not None and not (configuration.folder / file).is_file():
                problems += configuration.problem((*steps, "tls", name), f"there is no file {configuration.folder / file}").problems
    return problems
