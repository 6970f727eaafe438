"""Sweeps: one rule with many thresholds and durations, judged in one pass over the readings; each combination is a rule of its own.

What a combination costs people is its alerts; what it costs patients and goods is the time in breach in which there was no alert. So every
threshold is also run with no duration at all: the time of those alerts is the time in breach.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from documents import format_duration, read_tree
from rules.backtest import Done
from rules.condition import HAS, Comparison
from rules.document import compile_rules
from rules.episodes import MINUTE_MS, Episode, final_episodes
from rules.rule import Rule, RuleSet
from telemetry.metrics import Metric

MAX_COMBINATIONS = 1_000
SEPARATOR = ".."

Run = Callable[[RuleSet], Done]


class Cell(NamedTuple):
    """What one combination comes to."""

    threshold: float
    for_ms: int
    alerts: int
    alerted_minutes: float
    missed_minutes: float  # in breach, and no alert


def sweep(
    rules: RuleSet, name: str, thresholds: Sequence[float], durations_ms: Sequence[int], run: Run, catalogue: dict[str, Metric]
) -> tuple[list[Cell], Done]:
    """Return a cell for each combination, by threshold, then duration. Raises ValueError where the rule cannot be varied so."""
    rule = next(item for item in rules.rules if item.id == name)
    if not isinstance(rule.when, Comparison) or rule.when.operator == HAS or rule.within_ms:
        msg = f"`{rule.id}` cannot be swept: it must compare one signal with a threshold, and prove that without a break"
        raise ValueError(msg)
    if len(thresholds) * (len(durations_ms) + 1) > MAX_COMBINATIONS:
        msg = f"{len(thresholds)} thresholds times {len(durations_ms)} durations are too many: {MAX_COMBINATIONS} combinations are the most"
        raise ValueError(msg)
    variants = {
        f"{rule.id[:40]}{SEPARATOR}{number}": (threshold, duration_ms)
        for number, (threshold, duration_ms) in enumerate(
            (threshold, duration_ms) for threshold in thresholds for duration_ms in sorted({0, *durations_ms})
        )
    }
    written, places = _written(rules, name)
    documents = [_varied(written, rule, variant, *combination) for variant, combination in variants.items()]
    done = run(compile_rules([("sweep", json.dumps({"places": places, "rules": documents}))], catalogue))
    found: dict[tuple[float, int], list[Episode]] = {combination: [] for combination in variants.values()}
    for episode in final_episodes(done.events):
        if episode.rule in variants:
            found[variants[episode.rule]].append(episode)
    minutes = {combination: _minutes(episodes, done.last_ms) for combination, episodes in found.items()}
    cells = [
        Cell(
            threshold,
            duration_ms,
            len(found[threshold, duration_ms]),
            minutes[threshold, duration_ms],
            max(0.0, minutes[threshold, 0] - minutes[threshold, duration_ms]),
        )
        for threshold in thresholds
        for duration_ms in durations_ms
    ]
    return cells, done


def _written(rules: RuleSet, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a rule as its document has it, and the places of all documents."""
    trees = [read_tree(text, document).value or {} for document, text in rules.documents]
    places = {place: plain for tree in trees for place, plain in tree.get("places", {}).items()}
    return next(item for tree in trees for item in tree.get("rules", []) if item["id"] == name), places


def _varied(written: Mapping[str, Any], rule: Rule, name: str, threshold: float, for_ms: int) -> dict[str, Any]:
    """Return a rule as its document has it, with another threshold and duration; `clear` stays as far from the threshold as it was."""
    assert isinstance(rule.when, Comparison)
    assert rule.clear_when is not None
    moved = rule.clear_when.threshold + threshold - rule.when.threshold
    clear = {"when": rule.clear_when._replace(threshold=moved, limit="").text(), "for": format_duration(rule.clear_for_ms)}
    when = rule.when._replace(threshold=threshold, limit="").text()
    kept = {key: value for key, value in written.items() if key not in {"keep_firing_for", "mode"}}
    return kept | {"id": name, "when": when, "for": format_duration(for_ms), "clear": clear}


def _minutes(episodes: Iterable[Episode], until_ms: int) -> float:
    return sum(max(0, (until_ms if item.end_ms is None else item.end_ms) - item.start_ms) for item in episodes) / MINUTE_MS


__all__ = ["Cell", "sweep"]
