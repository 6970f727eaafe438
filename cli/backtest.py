"""`vitalane backtest`: what rules would have told over a journal or a file, and how that differs from what other rules tell."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.backtest_page import Points, page
from cli.past import Source, source_options
from cli.rules_files import loaded
from rules.backtest import Done
from rules.episodes import DAY_MS, Difference, Episode, differences, final_episodes, totals
from telemetry.clock import format_ms
from telemetry.errors import ConfigError, Problem


class Tested(NamedTuple):
    """What one set of rules tells."""

    done: Done
    episodes: list[Episode]


@click.command()
@click.option("--rules", "rules_files", multiple=True, metavar="FILE", help="Files, folders, packs. Of a journal, by default its own.")
@click.option("--against", "against_files", multiple=True, metavar="FILE", help="Compare with what these rules tell.")
@source_options
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page with timelines.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def backtest(*, rules_files: Sequence[str], against_files: Sequence[str], source: Source, html_file: Path | None, as_json: bool) -> None:
    """Run rules over the past: the same evaluator as live, over a journal, InfluxDB or a file; nobody is told of anything."""
    rules = loaded(rules_files, source.config_file) if rules_files else None
    against = loaded(against_files, source.config_file) if against_files else None
    began = time.perf_counter()
    if html_file is not None and not html_file.parent.is_dir():
        raise ConfigError([Problem(str(html_file), 0, 0, "--html", f"there is no folder {html_file.parent}")])
    lines: defaultdict[str, defaultdict[str, Points]] = defaultdict(lambda: defaultdict(list))
    done = source.run(rules, lines if html_file is not None else None)
    after = Tested(done, final_episodes(done.events, done.open_peaks))
    took_s = time.perf_counter() - began
    before = None
    if against is not None:
        other = source.run(against)
        before = Tested(other, final_episodes(other.events, other.open_peaks))
    report = reported(after, before, took_s)
    if html_file is not None:
        html_file.write_text(page(report, after.episodes, done.events, lines, done.last_ms))
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        click.echo("\n".join(written(report)))


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
