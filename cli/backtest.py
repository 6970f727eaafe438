"""`vitalane backtest`: what rules would have told over a journal or a file, and how that differs from what other rules tell."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.backtest_page import page
from cli.configuration import Configuration, read_configuration, registry
from cli.exits import Unreachable
from cli.places import telemetry_path
from cli.readings_file import read_csv
from cli.rules_files import loaded
from rules import backtest as running
from rules.backtest import Done, Measured
from rules.control import DEFAULT_SETTINGS
from rules.episodes import DAY_MS, Difference, Episode, differences, final_episodes, totals
from rules.rule import RuleSet
from telemetry.clock import format_ms, parse_ms
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE


class Tested(NamedTuple):
    """What one set of rules tells."""

    done: Done
    episodes: list[Episode]


class Source(NamedTuple):
    """Where the readings of the past are, and which of them count."""

    name: str  # journal, or a file
    config_file: Path | None
    span: tuple[int, int | None]  # since, until (exclusive)
    kind: str
    tags: dict[str, str]

    def readings(self) -> list[Measured]:
        """Return the readings of a file, none where the source is a journal."""
        if self.name == "journal":
            return []
        configuration = self._configuration()
        own = [] if configuration is None else registry(configuration).own_metrics()
        found = read_csv(Path(self.name), self.kind, CATALOGUE | {metric.name: metric for metric in own})
        since_ms, until_ms = self.span
        return [item for item in found if since_ms <= item.time_ms and (until_ms is None or item.time_ms < until_ms)]

    def run(self, rules: RuleSet | None) -> Done:
        """Run rules, without any a journal's own. Raises ConfigError where that cannot be."""
        if self.name != "journal":
            if rules is None:
                raise ConfigError([Problem("backtest", 0, 0, "--rules", "a file has no rules of its own: name some")])
            readings = self.readings()
            names = sorted({(item.kind, item.device) for item in readings})
            devices = [{"device": name, "kind": kind, "subject": name, "tags": self.tags} for kind, name in names]
            return running.run(readings, rules, DEFAULT_SETTINGS, devices)
        from flows.replay import replay

        configuration = self._configuration()
        if configuration is None:
            message = "name the configuration of the journal with -c, or a file with --from"
            raise ConfigError([Problem("backtest", 0, 0, "--config", message)])
        path = telemetry_path(configuration.data_dir)
        if not path.exists():
            msg = f"there is no journal in {configuration.data_dir} yet: `vitalane up` makes it"
            raise Unreachable(msg)
        with _Progress() as progress:
            return replay(path, configuration.settings.partitions, rules, since_ms=self.span[0], until_ms=self.span[1], progress=progress)

    def _configuration(self) -> Configuration | None:
        return None if self.config_file is None else read_configuration(self.config_file)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where readings are; it gets them as `source`."""
    options = [
        click.option("--from", "from_name", default="journal", show_default=True, metavar="journal|FILE.csv", help="The readings."),
        click.option("-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Its journal and registry."),
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


@click.command()
@click.option("--rules", "rules_files", multiple=True, metavar="FILE", help="Files, folders, packs. Of a journal, by default its own.")
@click.option("--against", "against_files", multiple=True, metavar="FILE", help="Compare with what these rules tell.")
@source_options
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page with timelines.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def backtest(*, rules_files: Sequence[str], against_files: Sequence[str], source: Source, html_file: Path | None, as_json: bool) -> None:
    """Run rules over the past: the same evaluator as live, over a journal or a CSV file; nobody is told of anything."""
    rules = loaded(rules_files, None) if rules_files else None
    against = loaded(against_files, None) if against_files else None
    began = time.perf_counter()
    done = source.run(rules)
    after = Tested(done, final_episodes(done.events))
    took_s = time.perf_counter() - began
    before = None
    if against is not None:
        other = source.run(against)
        before = Tested(other, final_episodes(other.events))
    report = reported(after, before, took_s)
    if html_file is not None:
        html_file.write_text(page(report, after.episodes, source.readings(), done.last_ms))
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        click.echo("\n".join(written(report)))


class _Progress:
    """A line of progress on a terminal: readings so far, and how many a second."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.shown_s = 0.0
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal and self.shown_s:
            click.echo("\r\x1b[K", err=True, nl=False)

    def __call__(self, rows: int, readings: int) -> None:
        elapsed_s = time.perf_counter() - self.began
        if self.terminal and elapsed_s - self.shown_s > 0.2:
            self.shown_s = elapsed_s
            click.echo(f"\r\x1b[K{rows} rows, {readings} readings, {readings / elapsed_s:,.0f}/s", err=True, nl=False)


def reported(after: Tested, before: Tested | None, took_s: float) -> dict[str, Any]:
    """Return the report as plain values."""
    done, last_ms = after.done, after.done.last_ms
    report: dict[str, Any] = {
        "readings": done.accepted,
        "quarantined": done.quarantined,
        "first": format_ms(done.first_ms) if done.accepted else None,
        "last": format_ms(last_ms) if done.accepted else None,
        "took_s": round(took_s, 3),
        "readings_per_s": round(done.accepted / took_s) if took_s else 0,
        "alerts": len(after.episodes),
    }
    for by in ("rule", "subject", "day"):
        report[f"by_{by}"] = {
            (format_ms(int(name) * DAY_MS)[:10] if by == "day" else name): {
                "alerts": total.alerts,
                "minutes": round(total.minutes, 1),
                "longest_minutes": round(total.longest_minutes, 1),
                "first": format_ms(total.first_ms),
                "last": format_ms(total.last_ms),
            }
            for name, total in totals(after.episodes, last_ms, by).items()
        }
    report["episodes"] = [_plain(item) for item in after.episodes]
    if before is not None:
        report["against"] = {
            "alerts": len(before.episodes),
            "differences": [_difference(item) for item in differences(before.episodes, after.episodes, last_ms)],
        }
    return report


def written(report: dict[str, Any]) -> list[str]:
    """Return a report as lines for people."""
    lines = [f"{report['readings']} readings from {report['first']} to {report['last']}, {report['readings_per_s']:,}/s"]
    if report["quarantined"]:
        lines.append("refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(report["quarantined"].items())))
    lines.append(f"{report['alerts']} alerts")
    for by in ("rule", "subject", "day"):
        if report[f"by_{by}"]:
            lines += ["", f"{'by ' + by:32} {'alerts':>7} {'minutes':>9} {'longest':>9}  first                     last"]
        lines += [
            f"{name[:32]:32} {one['alerts']:7} {one['minutes']:9.1f} {one['longest_minutes']:9.1f}  {one['first']}  {one['last']}"
            for name, one in report[f"by_{by}"].items()
        ]
    if "against" in report:
        found = report["against"]["differences"]
        lines += ["", f"against the other rules ({report['against']['alerts']} alerts): {len(found)} differ"]
        for item in found:
            told = item["after"] or item["before"]
            lines.append(
                f"{' and '.join(item['what']):20} {told['rule']} {told['subject']}: {_span(item['before'])} -> {_span(item['after'])}"
            )
    return lines


def _span(episode: dict[str, Any] | None) -> str:
    return "nothing" if episode is None else f"{episode['start']} to {episode['end'] or 'the end'}"


def _plain(item: Episode) -> dict[str, Any]:
    ends = {"start": format_ms(item.start_ms), "end": None if item.end_ms is None else format_ms(item.end_ms)}
    return {"rule": item.rule, "kind": item.kind, "subject": item.subject, **ends, "severity": item.severity, "peak": item.peak}


def _difference(item: Difference) -> dict[str, Any]:
    sides = {name: None if one is None else _plain(one) for name, one in (("before", item.before), ("after", item.after))}
    return {"what": list(item.what), **sides}


def _tags(given: Sequence[str]) -> dict[str, str]:
    wrong = [text for text in given if "=" not in text]
    if wrong:
        raise ConfigError([Problem("backtest", 0, 0, "--tag", f"{wrong[0]!r} is no tag: write name=value")])
    return dict(text.split("=", 1) for text in given)


def _instant(text: str | None, option: str, default: Any) -> Any:
    if text is None:
        return default
    try:
        return parse_ms(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise ConfigError([Problem("backtest", 0, 0, option, str(error))]) from error
