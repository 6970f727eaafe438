"""Where the readings of the past are: the journal, InfluxDB, or a file; and running rules over them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.configuration import Configuration, read_configuration, rule_set
from cli.destinations import influxdb_past
from cli.exits import Unreachable
from cli.parallel import replay_parts, run_parts
from cli.places import telemetry_path
from cli.progress import Progress
from cli.readings_file import TOLD_EVERY, read_file
from cli.registered import registered
from cli.rules_files import catalogue_of
from rules.backtest import Done, Measured
from rules.control import DEFAULT_SETTINGS
from rules.registry import Registry
from rules.rule import RuleSet
from telemetry.blocks import READING_COLUMNS, Block
from telemetry.clock import parse_ms
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, Metric

Lines = defaultdict[str, defaultdict[str, list[tuple[int, float]]]]
"""What was measured, by subject (kind/name) and metric."""

JOURNAL, INFLUXDB = "journal", "influxdb"


class Found(NamedTuple):
    """Readings in the order of their times, and the devices that brought them, as a registry has them."""

    readings: list[Measured]
    devices: list[dict[str, Any]]


class Source(NamedTuple):
    """Where the readings of the past are, and which of them count."""

    name: str  # journal, influxdb, or a file
    config_file: Path | None
    span: tuple[int, int | None]  # since, until (exclusive)
    kind: str
    tags: dict[str, str]

    def catalogue(self) -> dict[str, Metric]:
        """Return the metrics that there are."""
        return catalogue_of(self.config_file)

    def run(self, rules: RuleSet | None, lines: Lines | None = None) -> Done:
        """Run rules, without any a journal's own; into `lines` goes what was measured. Raises ConfigError where that cannot be."""
        if self.name == JOURNAL:
            return self._replayed(rules, lines)
        if rules is None and self.config_file is None:
            raise ConfigError([Problem(self.name, 0, 0, "--rules", "only a journal has rules of its own: name some, or a configuration")])
        if rules is None:
            assert self.config_file is not None
            rules = rule_set(read_configuration(self.config_file), self.catalogue())
        found = self._found()
        if lines is not None:
            known = Registry(found.devices)
            for time_ms, kind, device, metric, value in found.readings:
                of = known.assignment(kind, device, time_ms)
                lines[f"{of.kind}/{of.subject}"][metric].append((time_ms, value))
        with Progress("judging", len(found.readings)) as progress:
            own = [metric for name, metric in self.catalogue().items() if name not in CATALOGUE]
            return run_parts(found.readings, rules, DEFAULT_SETTINGS, found.devices, progress, metrics=own)

    def _found(self) -> Found:
        configuration = None if self.config_file is None else read_configuration(self.config_file)
        if self.name == INFLUXDB:
            return self._stored(self._needed(configuration))
        since_ms, until_ms = self.span
        found = read_file(Path(self.name), self.kind, self.catalogue())
        if since_ms or until_ms is not None:
            found = [item for item in found if since_ms <= item.time_ms and (until_ms is None or item.time_ms < until_ms)]
        return Found(found, self._devices({(item.kind, item.device): item.device for item in found}, configuration))

    def _stored(self, configuration: Configuration) -> Found:
        """Return what the InfluxDB of a configuration holds."""
        metrics = self.catalogue()
        subjects: dict[tuple[str, str], str] = {}
        readings = []
        with Progress("reading", 0) as progress:
            for number, (time_ms, series, value) in enumerate(influxdb_past(configuration).readings(*self.span)):
                if series.metric in metrics:
                    subjects[series.kind, series.device] = series.subject
                    readings.append(Measured(time_ms, series.kind, series.device, series.metric, value))
                if number % TOLD_EVERY == 0:
                    progress(number, number)
        return Found(readings, self._devices(subjects, configuration))

    def _devices(self, subjects: Mapping[tuple[str, str], str], configuration: Configuration | None) -> list[dict[str, Any]]:
        """Return the registry of a configuration, with the devices that are not in it."""
        known = [] if configuration is None else registered(configuration).assignments()
        names = {item["device"] for item in known}
        others = [{"device": device, "kind": kind, "subject": subject, "tags": self.tags}
                  for (kind, device), subject in sorted(subjects.items()) if device not in names]  # fmt: skip
        several = [name for name, count in Counter(item["device"] for item in others).items() if count > 1]
        if several and (self.tags or any(item["subject"] != item["device"] for item in others)):
            message = f"the device `{several[0]}` is of several kinds, so that tags cannot be given to it: name each kind's devices apart"
            raise ConfigError([Problem(self.name, 0, 0, "--tag", message)])
        return [*known, *(item for item in others if item["device"] not in several)]  # a device is its own subject without being told

    def _replayed(self, rules: RuleSet | None, lines: Lines | None) -> Done:
        from flows.replay import messages, replay

        configuration = self._needed(None if self.config_file is None else read_configuration(self.config_file))
        path = telemetry_path(configuration.data_dir)
        if not path.exists():
            msg = f"there is no journal in {configuration.data_dir} yet: `vitalane up` makes it"
            raise Unreachable(msg)
        partitions = configuration.settings.partitions
        with Progress("judging", messages(path, partitions)) as progress:
            if lines is None:
                return replay_parts(path, partitions, rules, self.span, progress)
            since_ms, until_ms = self.span
            done = replay(
                path, partitions, rules, since_ms=since_ms, until_ms=until_ms, progress=progress, taken=lambda block: _drawn(block, lines)
            )
            for points in (points for metrics in lines.values() for points in metrics.values()):
                points.sort()
            return done

    def _needed(self, configuration: Configuration | None) -> Configuration:
        if configuration is None:
            raise ConfigError(
                [Problem(self.name, 0, 0, "--config", f"name the configuration of the {self.name} with -c, or a file with --from")]
            )
        return configuration


def _drawn(block: Block, lines: Lines) -> None:
    """Add the readings that were taken from a row of the journal."""
    for series, time_ms, value in zip(*(block.columns[name] for name in READING_COLUMNS), strict=True):
        key = block.series[series]
        lines[f"{key.kind}/{key.subject}"][key.metric].append((time_ms, value))


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where readings are; it gets them as `source`."""
    options = [
        click.option(
            "--from",
            "from_name",
            default=JOURNAL,
            show_default=True,
            metavar="journal|influxdb|FILE.csv|FILE.parquet",
            help="The readings.",
        ),
        click.option(
            "-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Its journal, stores and registry."
        ),
        click.option("--since", metavar="TIME", help="From this time on (RFC 3339, or a day)."),
        click.option("--until", metavar="TIME", help="Until this time, exclusive."),
        click.option("--kind", default="shipment", show_default=True, help="Of a file: what its devices watch, where no column says."),
        click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Of a file: a tag of every subject."),
    ]

    @wraps(command)
    def with_source(
        *, from_name: str, config_file: Path | None, since: str | None, until: str | None, kind: str, tags: Sequence[str], **others: Any
    ) -> Any:
        span = _instant(since, "--since", 0), _instant(until, "--until", None)
        return command(source=Source(from_name, config_file, span, kind, _tags(tags)), **others)

    decorated: Callable[..., Any] = with_source
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _tags(given: Sequence[str]) -> dict[str, str]:
    wrong = [text for text in given if "=" not in text]
    if wrong:
        raise ConfigError([Problem("the past", 0, 0, "--tag", f"{wrong[0]!r} is no tag: write name=value")])
    return dict(text.split("=", 1) for text in given)


def _instant(text: str | None, option: str, default: Any) -> Any:
    if text is None:
        return default
    try:
        return parse_ms(text if len(text) > len("2026-01-31") else f"{text}T00:00:00Z")
    except ValueError as error:
        message = f"{text!r} is no time: write 2026-01-31, or 2026-01-31T08:00:00Z with a zone"
        raise ConfigError([Problem("the past", 0, 0, option, message)]) from error
