"""A backtest as one page that needs nothing from anywhere: the report, and a timeline of readings and episodes for each subject."""

import json
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from rules.backtest import Measured
from rules.episodes import Episode
from telemetry.clock import format_ms

WIDTH, HEIGHT, MARGIN = 900, 110, 40
MAX_POINTS = 2_000  # of a line: more are drawn as least and greatest of each step
MAX_SUBJECTS = 100
COLOURS = {"info": "#2b6cb0", "warning": "#b7791f", "critical": "#c53030"}
STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:960px;color:#1a202c}table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #e2e8f0}td:first-child,th:first-child{text-align:left}
svg{background:#f7fafc;margin:.3em 0}h2{margin-top:2em}.quiet{color:#718096}"""


def page(report: dict[str, Any], episodes: Sequence[Episode], readings: Sequence[Measured], last_ms: int) -> str:
    """Return the page as HTML."""
    subjects = dict.fromkeys(f"{item.kind}/{item.subject}" for item in episodes)
    shown = list(subjects)[:MAX_SUBJECTS]
    parts = [f"<!doctype html><meta charset=utf-8><title>Backtest</title><style>{STYLE}</style><h1>Backtest</h1>"]
    parts.append(f"<p>{report['readings']} readings from {report['first']} to {report['last']}: {report['alerts']} alerts.</p>")
    parts += [_table(f"by {by}", report[f"by_{by}"]) for by in ("rule", "subject", "day")]
    if "against" in report:
        parts.append(_changed(report["against"]["differences"]))
    by_subject: defaultdict[str, list[Measured]] = defaultdict(list)
    for item in readings:
        by_subject[f"{item.kind}/{item.device}"].append(item)
    for subject in shown:
        own = [item for item in episodes if f"{item.kind}/{item.subject}" == subject]
        parts.append(f"<h2>{escape(subject)}</h2>{_timeline(own, by_subject[subject], last_ms)}")
    if len(subjects) > len(shown):
        parts.append(f"<p class=quiet>and {len(subjects) - len(shown)} subjects more</p>")
    return "\n".join(parts)


def _table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    cells = "".join(
        f"<tr><td>{escape(name)}<td>{one['alerts']}<td>{one['minutes']:.1f}<td>{one['longest_minutes']:.1f}<td>{one['first']}<td>{one['last']}"
        for name, one in rows.items()
    )
    return f"<h2>{title}</h2><table><tr><th>{title[3:]}<th>alerts<th>minutes<th>longest<th>first<th>last{cells}</table>"


def _changed(found: Sequence[dict[str, Any]]) -> str:
    items = "".join(f"<li><code>{escape(json.dumps(item, ensure_ascii=False))}</code>" for item in found)
    return f"<h2>differences: {len(found)}</h2><ul>{items}</ul>"


def _timeline(episodes: Sequence[Episode], readings: Sequence[Measured], last_ms: int) -> str:
    first_ms = min([item.start_ms for item in episodes] + [item.time_ms for item in readings[:1]])
    span_ms = max(1, last_ms - first_ms)

    def x(time_ms: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (time_ms - first_ms) / span_ms

    drawn = [
        _line(metric, [(item.time_ms, item.value) for item in readings if item.metric == metric], x)
        for metric in dict.fromkeys(item.metric for item in readings)
    ]
    rules = list(dict.fromkeys(item.rule for item in episodes))
    bars = []
    for item in episodes:
        left, right = x(item.start_ms), x(last_ms if item.end_ms is None else item.end_ms)
        told = f"{item.rule}: {format_ms(item.start_ms)} to {'the end' if item.end_ms is None else format_ms(item.end_ms)}"
        bars.append(
            f'<rect x="{left:.1f}" y="{rules.index(item.rule) * 18 + 2}" width="{max(1.5, right - left):.1f}" height="10" '
            f'fill="{COLOURS.get(item.severity, "#718096")}"><title>{escape(told)}</title></rect>'
        )
    names = [f'<text x="{MARGIN}" y="{at * 18 + 11}" font-size="10" opacity=".8">{escape(rule)}</text>' for at, rule in enumerate(rules)]
    height = len(rules) * 18 + 4
    drawn.append(f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{"".join(bars)}{"".join(names)}</svg>')
    return "<br>".join(drawn)


def _line(metric: str, points: Sequence[tuple[int, float]], x: Any) -> str:
    low, high = min(value for _, value in points), max(value for _, value in points)
    spread = (high - low) or 1.0
    step = max(1, len(points) // MAX_POINTS)
    kept = [
        point
        for at in range(0, len(points), step)
        for point in sorted({min(points[at : at + step], key=lambda one: one[1]), max(points[at : at + step], key=lambda one: one[1])})
    ]
    path = " ".join(f"{x(time_ms):.1f},{HEIGHT - 12 - (HEIGHT - 24) * (value - low) / spread:.1f}" for time_ms, value in kept)
    words = f'<text x="2" y="14" font-size="10">{high:g}</text><text x="2" y="{HEIGHT - 6}" font-size="10">{low:g}</text>'
    title = f'<text x="{WIDTH - MARGIN}" y="14" font-size="11" text-anchor="end">{escape(metric)}</text>'
    line = f'<polyline points="{path}" fill="none" stroke="#2d3748" stroke-width="1"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">{line}{words}{title}</svg>'
