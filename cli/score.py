"""`vitalane score`: alerts held against the truth of a run: what was found and how soon, what was missed, what was told without a cause."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cli.configuration import read_configuration
from cli.exits import FAILED
from cli.summary import outbox_events
from documents import format_duration
from simulators.score import Alert, Line, Score, by_fault, by_incident, total
from simulators.score import score as scored
from simulators.truth_file import read_truth
from telemetry import alert
from telemetry.alert import AlertEvent
from telemetry.clock import format_ms
from telemetry.errors import ConfigError, Problem

MOST_BYTES_A_LINE = 4 << 20
SHOWN = 20  # alerts without a cause, and incidents that were missed


@click.command()
@click.option("--truth", "truth_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="What happened.")
@click.option(
    "--alerts",
    "alerts_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Alert events, a line each, or an export of the outbox.",
)
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Instead: whose outbox they are in.")
@click.option("--min-recall", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Exit 1 below it.")
@click.option("--min-precision", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Exit 1 below it.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def score(
    truth_file: Path, alerts_file: Path | None, config_file: Path | None, min_recall: float, min_precision: float, as_json: bool
) -> int:
    """Hold alerts against the truth that a simulator wrote: recall, precision, time to detection, by incident and by fault."""
    if (alerts_file is None) == (config_file is None):
        msg = "name the alerts: either a file with --alerts, or a configuration with -c"
        raise click.UsageError(msg)
    events = read_events(alerts_file) if alerts_file is not None else outbox_events(read_configuration(_given(config_file)))
    result = scored(read_truth(truth_file), events)
    click.echo(json.dumps(plain(result), ensure_ascii=False) if as_json else "\n".join(table(result)))
    return 0 if result.recall >= min_recall and result.precision >= min_precision else FAILED


def _given(config_file: Path | None) -> Path:
    assert config_file is not None, "checked above"
    return config_file


def read_events(path: Path) -> list[AlertEvent]:
    """Return the alert events of a file: CloudEvents as channels send them, or the lines of `vitalane journal export --stream outbox`.

    Raises ConfigError at the first line that is neither.
    """
    events: list[AlertEvent] = []
    number = 0
    try:
        with path.open("rb") as file:
            while text := file.readline(MOST_BYTES_A_LINE):
                number += 1
                if text.strip():
                    events += _event(json.loads(text))
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"it cannot be read: {(error.strerror or str(error)).lower()}")]) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        message = f"it is no alert event, and no line of an exported outbox: {why}"
        raise ConfigError([Problem(str(path), number, 0, "", message)]) from error
    return events


def _event(line: dict[str, Any]) -> list[AlertEvent]:
    if "specversion" in line:
        return [alert.from_json(json.dumps(line).encode())]
    return [alert.from_json(json.dumps(line["body"]).encode())] if line["kind"] == "alert" else []


def table(result: Score) -> list[str]:
    """Return the result for people."""
    lines = [f"{'incident':20} {'n':>4} {'hidden':>6} {'found':>6} {'missed':>6} {'recall':>6} {'p50':>9} {'p95':>9} {'alerts':>6}"]
    lines += [_row(line) for line in (*by_incident(result), total(result))]
    lines += [
        "",
        f"{'with fault':20} {'n':>4} {'hidden':>6} {'found':>6} {'missed':>6} {'recall':>6} {'p50':>9} {'p95':>9} {'caused':>6} messages",
    ]
    lines += [f"{_row(line)} {line.messages:8}" for line in by_fault(result)]
    told = len(result.of_incidents), len(result.of_faults), len(result.of_nobody)
    shown = "{} of incidents + {} caused by faults + {} without a cause".format(*told)
    lines += [
        "",
        f"{sum(told)} alerts = {shown}; {result.retracted} more were taken back",
        f"recall {result.recall:.3f}, precision {result.precision:.3f}, {result.false_per_device_day:.4f} false alerts per device and day",
    ]
    missed = [item.incident for item in result.found if item.missed]
    lines += [f"missed: {item.kind} of {item.subject} from {format_ms(item.start_ms)}, by {item.rule}" for item in missed[:SHOWN]]
    lines += [f"without a cause: {item.rule} for {item.subject} from {format_ms(item.start_ms)}" for item in result.of_nobody[:SHOWN]]
    hidden = [item.incident for item in result.found if item.incident.hidden_by]
    lines += [
        f"hidden: {item.kind} of {item.subject} from {format_ms(item.start_ms)}, by {', '.join(item.hidden_by)}" for item in hidden[:SHOWN]
    ]
    return lines


def _row(line: Line) -> str:
    numbers = f"{line.incidents:4} {line.hidden:6} {line.found:6} {line.missed:6}"
    recall = f"{line.recall:6.3f}" if line.found + line.missed else f"{'-':>6}"
    return f"{line.name:20} {numbers} {recall} {_shown(line.p50_ms):>9} {_shown(line.p95_ms):>9} {line.alerts:6}"


def _shown(delay_ms: int | None) -> str:
    if delay_ms is None:
        return "-"
    return f"{delay_ms / 60_000:.1f} min" if abs(delay_ms) >= 60_000 else format_duration(delay_ms // 1000 * 1000) or "0 s"


def plain(result: Score) -> dict[str, Any]:
    """Return the result for machines."""
    return {
        "recall": round(result.recall, 6),
        "precision": round(result.precision, 6),
        "false_alerts_per_device_day": round(result.false_per_device_day, 6),
        "by_incident": [_plain(line) for line in by_incident(result)],
        "by_fault": [_plain(line) for line in by_fault(result)],
        "all": _plain(total(result)),
        "alerts": {
            "of_incidents": len(result.of_incidents),
            "of_faults": [_alert(item) | {"fault": fault.kind} for item, fault in result.of_faults],
            "of_nobody": _alerts(result.of_nobody),
            "retracted": result.retracted,
        },
        "missed": [
            {"incident": item.incident.kind, "subject": item.incident.subject, "start": format_ms(item.incident.start_ms)}
            for item in result.found
            if item.missed
        ],
    }


def _plain(line: Line) -> dict[str, Any]:
    delays = {name: None if value is None else value / 1000 for name, value in (("p50_s", line.p50_ms), ("p95_s", line.p95_ms))}
    counts = {"incidents": line.incidents, "hidden": line.hidden, "found": line.found, "missed": line.missed}
    return {"name": line.name, **counts, "recall": round(line.recall, 6), **delays, "alerts": line.alerts, "messages": line.messages}


def _alerts(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    return [_alert(item) for item in alerts]


def _alert(item: Alert) -> dict[str, Any]:
    return {"id": item.alert_id, "rule": item.rule, "subject": item.subject, "start": format_ms(item.start_ms)}
