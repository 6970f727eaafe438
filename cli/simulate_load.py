"""`vitalane simulate load`: how much a broker, and what stands behind it, takes, and how long a message waits for its acknowledgement."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import click

from cli.exits import FAILED
from cli.stopping import stop_on_signals
from simulators import load, pace
from simulators.publish import Broker, Counts

Show = Callable[[pace.Progress], None]


def run_load(broker: Broker, plan: load.Plan, shown: AbstractContextManager[Show], *, as_json: bool) -> int:
    """Publish as planned, showing how it goes; print what came of it, and return the exit code."""
    try:
        plan.check()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with shown as show:
        outcome = load.run(broker, plan, stop_on_signals().stop, lambda tally: show(_progress(tally, plan)))
    faults = outcome.faults(plan.rate)
    click.echo(json.dumps(_figures(outcome, plan, faults)) if as_json else _summary(outcome, plan))
    for fault in faults:
        click.echo(fault, err=True)
    return FAILED if faults else 0


def _progress(tally: load.Tally, plan: load.Plan) -> pace.Progress:
    behind_ms = round(1000 * (tally.due - tally.sent) / plan.rate)
    return pace.Progress(tally.elapsed_s, Counts(tally.sent, tally.acked, 0, 0, plan.clients, 0), (), (behind_ms,))


def _latency_ms(outcome: load.Outcome) -> dict[str, float]:
    latencies = outcome.latencies
    percentiles = {f"p{100 * share:g}": latencies.percentile_s(share) for share in load.SHARES}
    return {name: round(1000 * seconds, 3) for name, seconds in (percentiles | {"max": latencies.longest_s}).items()}


def _summary(outcome: load.Outcome, plan: load.Plan) -> str:
    tally = outcome.tally
    until = "acknowledged" if plan.qos else "handed over"
    latencies = ", ".join(f"{name} {value:.2f} ms" for name, value in _latency_ms(outcome).items())
    return "\n".join(
        [
            f"{tally.due} messages due, {tally.sent} sent, {tally.acked} {until}, in {tally.elapsed_s:.1f} s",
            f"rate     {tally.rate:.0f}/s of {plan.rate:g}/s asked, {plan.devices} devices, {plan.readings_per_message} readings a message",
            f"latency  from due to {until}: {latencies}",
            f"used     {100 * outcome.cpu_s / tally.elapsed_s if tally.elapsed_s else 0.0:.0f} % of a processor by the load itself",
        ]
    )


def _figures(outcome: load.Outcome, plan: load.Plan, faults: list[str]) -> dict[str, object]:
    tally = outcome.tally
    return {
        "devices": plan.devices,
        "qos": plan.qos,
        "clients": plan.clients,
        "readings_per_message": plan.readings_per_message,
        "asked_per_s": plan.rate,
        "sent_per_s": round(tally.rate, 1),
        "seconds": round(tally.elapsed_s, 3),
        "due": tally.due,
        "sent": tally.sent,
        "acknowledged": tally.acked,
        "latency_ms": _latency_ms(outcome),
        "cpu_s": round(outcome.cpu_s, 3),
        "faults": faults,
    }
