"""A backtest as one page that needs nothing from anywhere: the report, and of each subject what was measured, thresholds and episodes."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

from rules.episodes import Episode
from telemetry.alert import AlertEvent
from telemetry.clock import format_ms

WIDTH, HEIGHT, MARGIN, ROW = 900, 110, 40, 18
MAX_POINTS = 2_000  # of a line: more are drawn as least and greatest of each step
MAX_SUBJECTS = 100
COLOURS = {"info": "#2b6cb0", "warning": "#b7791f", "critical": "#c53030"}
STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:960px;color:#1a202c}table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #e2e8f0}td:first-child,th:first-child{text-align:left}
svg{background:#f7fafc;margin:.3em 0}h2{margin-top:2em}.quiet{color:#718096}.words td{text-align:left}"""

Points = list[tuple[int, float]]
Lines = Mapping[str, Mapping[str, Points]]
"""By subject (kind/name) and metric: (milliseconds, value), in the order of time."""


class Level(NamedTuple):
    """A threshold that an alert of a subject was judged by."""

    threshold: float
    severity: str
    text: str


def page(report: dict[str, Any], episodes: Sequence[Episode], events: Sequence[AlertEvent], lines: Lines, last_ms: int) -> str:
    """Return the page as HTML."""
    subjects = dict.fromkeys(f"{item.kind}/{item.subject}" for item in episodes)
    shown = list(subjects)[:MAX_SUBJECTS]
    parts = [f"<!doctype html><meta charset=utf-8><title>Backtest</title><style>{STYLE}</style><h1>Backtest</h1>"]
    parts.append(f"<p>{report['readings']} readings from {report['first']} to {report['last']}: {report['alerts']} alerts.</p>")
    parts += [_table(f"by {by}", report[f"by_{by}"]) for by in ("rule", "subject", "day")]
    if "against" in report:
        parts.append(_changed(report["against"]["differences"]))
    for subject in shown:
        own = [item for item in episodes if f"{item.kind}/{item.subject}" == subject]
        levels = _levels([event for event in events if f"{event.kind}/{event.subject}" == subject])
        parts.append(f"<h2>{escape(subject)}</h2>{_timeline(own, lines.get(subject, {}), levels, last_ms)}")
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
    rows = "".join(
        f"<tr><td>{' and '.join(item['what'])}<td>{escape(told['rule'])}<td>{escape(told['subject'])}<td>{_span(item['before'])}"
        f"<td>{_span(item['after'])}"
        for item in found
        for told in [item["after"] or item["before"]]
    )
    header = "<tr><th>what<th>rule<th>subject<th>before<th>after"
    return f"<h2>differences: {len(found)}</h2><table class=words>{header}{rows}</table>"


def _span(episode: dict[str, Any] | None) -> str:
    return "nothing" if episode is None else f"{episode['start']} to {episode['end'] or 'the end'}"


def _levels(events: Sequence[AlertEvent]) -> dict[str, list[Level]]:
    """Return the thresholds by the signal that they are of."""
    found: dict[str, dict[Level, None]] = {}
    for event in events:
        if event.threshold is not None:
            level = Level(event.threshold, event.severity.value, f"{event.rule}: {event.comparison} {event.unit}")
            found.setdefault(event.signal, {})[level] = None
    return {signal: list(levels) for signal, levels in found.items()}


def _timeline(episodes: Sequence[Episode], lines: Mapping[str, Points], levels: Mapping[str, list[Level]], last_ms: int) -> str:
    first_ms = min([item.start_ms for item in episodes] + [points[0][0] for points in lines.values()])
    span_ms = max(1, last_ms - first_ms)

    def x(time_ms: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (time_ms - first_ms) / span_ms

    drawn = [
        _line(metric, points, [level for signal, of in levels.items() if _is_of(signal, metric) for level in of], x)
        for metric, points in lines.items()
    ]
    bars, names = [], []
    for at, (rule, group) in enumerate(groupby(sorted(episodes, key=lambda item: item.rule), key=lambda item: item.rule)):
        names.append(f'<text x="{MARGIN}" y="{at * ROW + 11}" font-size="10" opacity=".8">{escape(rule)}</text>')
        for item in group:
            left, right = x(item.start_ms), x(last_ms if item.end_ms is None else item.end_ms)
            told = f"{rule}: {format_ms(item.start_ms)} to {'the end' if item.end_ms is None else format_ms(item.end_ms)}"
            bars.append(
                f'<rect x="{left:.1f}" y="{at * ROW + 2}" width="{max(1.5, right - left):.1f}" height="10" '
                f'fill="{COLOURS.get(item.severity, "#718096")}"><title>{escape(told)}</title></rect>'
            )
    drawn.append(_svg(len(names) * ROW + 4, [*bars, *names]))
    return "<br>".join(drawn)


def _is_of(signal: str, metric: str) -> bool:
    """Return whether a threshold on a signal can be drawn among the readings of a metric: in its unit, that is."""
    return signal == metric or signal.startswith(
        tuple(f"{name}({metric}," for name in ("mean", "min", "max", "median", "p95", "first", "last"))
    )


def _line(metric: str, points: Points, levels: Sequence[Level], x: Callable[[int], float]) -> str:
    values = [value for _, value in points] + [level.threshold for level in levels]
    low, high = min(values), max(values)

    def y(value: float) -> float:
        return HEIGHT - 12 - (HEIGHT - 24) * (value - low) / ((high - low) or 1.0)

    path = " ".join(f"{x(time_ms):.1f},{y(value):.1f}" for time_ms, value in _thinned(points))
    parts = [f'<polyline points="{path}" fill="none" stroke="#2d3748" stroke-width="1"/>']
    for level in levels:
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(level.threshold):.1f}" y2="{y(level.threshold):.1f}" stroke-dasharray="4 3" '
            f'stroke="{COLOURS.get(level.severity, "#718096")}"><title>{escape(level.text)}</title></line>'
        )
        parts.append(f'<text x="{WIDTH - MARGIN + 3}" y="{y(level.threshold) + 3:.1f}" font-size="9">{level.threshold:g}</text>')
    parts.append(f'<text x="2" y="14" font-size="10">{high:g}</text><text x="2" y="{HEIGHT - 6}" font-size="10">{low:g}</text>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="10" font-size="11" text-anchor="end">{escape(metric)}</text>')
    return _svg(HEIGHT, parts)


def _thinned(points: Points) -> Points:
    """Return the points of a line; of one that has more than can be seen, the least and the greatest of each step of time."""
    if len(points) <= MAX_POINTS:
        return points
    first_ms, last_ms = points[0][0], points[-1][0]
    kept: Points = []
    begin = 0
    for step in range(1, MAX_POINTS // 2 + 1):
        end = bisect_left(points, (first_ms + (last_ms - first_ms) * step // (MAX_POINTS // 2) + 1, float("-inf")), begin)
        if end > begin:
            part = points[begin:end]
            kept += sorted({min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])})
        begin = end
    return kept


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{"".join(parts)}</svg>'
