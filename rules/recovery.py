"""The evaluator's state, out and in again: plain values and arrays. Durable: it grows by new keys and columns, which an older one lacks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rules.history import HistoryChunk
from rules.in_force import link_metrics, read_controls
from rules.metrics import MetricTable, Subject
from rules.series import SeriesTable
from rules.watch import Watch

if TYPE_CHECKING:
    from rules.evaluator import Evaluator

SNAPSHOT_VERSION = 2


def dump(evaluator: "Evaluator") -> dict[str, Any]:
    """Return the state without the history, nothing shared with the live state."""
    return {
        "version": SNAPSHOT_VERSION,
        "controls": dict(evaluator.controls),
        "names": evaluator.series.names(),
        "series": evaluator.series.dump(),
        "metrics": evaluator.metrics.dump(),
        "history": evaluator.history.dump(),
        "windows": evaluator.cutting.dump(),
        "watch": evaluator.watch.dump_state(),
        "offences": evaluator.offences.dump(),
        "bursts": evaluator.offences.dump_bursts(),
        "overdue": evaluator.overdue.dump(),
        "counts": dict(evaluator.counting.counts),
        "quarantined": dict(evaluator.counting.quarantined),
        "alerts": dict(evaluator.counting.alerts),
        "clock": (evaluator.latest_ms, evaluator.books_ms, evaluator.settle_ms, evaluator.registry_due_ms, evaluator.clock_ms),
    }


def load(evaluator: "Evaluator", state: dict[str, Any], history: Iterable[HistoryChunk]) -> None:
    """Fill a new evaluator with a state and its history. Raises ValueError for a state of another version."""
    if state["version"] != SNAPSHOT_VERSION:
        msg = f"the recovery snapshot is of version {state['version']}, this program reads version {SNAPSHOT_VERSION}"
        raise ValueError(msg)
    _link(evaluator, state)
    evaluator.history.restore(state["history"])
    evaluator.history.refill(history)
    evaluator.cutting.restore(state["windows"])
    evaluator.watch.restore(state["watch"], evaluator.metrics)
    evaluator.judging.applied = evaluator.watch.applied
    evaluator.offences.restore(state["offences"], state.get("bursts"))
    if "overdue" in state:
        evaluator.overdue.restore(state["overdue"])
    counting = evaluator.counting
    counting.counts.update(state["counts"])
    counting.quarantined.update(state["quarantined"])
    counting.alerts.update(state["alerts"])
    evaluator.latest_ms, evaluator.books_ms, evaluator.settle_ms, evaluator.registry_due_ms = state["clock"][:4]
    evaluator.clock_ms = state["clock"][4] if len(state["clock"]) > 4 else evaluator.books_ms


def _link(evaluator: "Evaluator", state: dict[str, Any]) -> None:
    """Put in force what was, and connect the series that there were, in the order in which they came."""
    read_controls(evaluator, state["controls"])
    evaluator.watch = Watch(evaluator.rules)
    evaluator.hold(SeriesTable.again(state["names"], state["series"], evaluator.catalogue), MetricTable())
    evaluator.watch.await_again(state["watch"])
    series, metrics = evaluator.series, evaluator.metrics
    for row, key in enumerate(series.keys):
        series.signal[row] = metrics.add(Subject(key.kind, key.subject, series.tags[row]), key.metric, row, series.devices)
    link_metrics(evaluator)
    metrics.restore(state["metrics"])
    evaluator.history.extend(series.length)
    evaluator.define()
    evaluator.cutting.extend()
