"""The dataflow, as a table of contents. The step ids are durable: they name the state in the recovery store."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.outbox import OutboxSink
from flows.part import Part
from flows.route import Routes
from flows.shard import Shard
from flows.source import JournalSource


def build(source: JournalSource, routes: Routes, shard: Shard, outbox: OutboxSink) -> Dataflow:
    """Return the flow from the telemetry journal to the outbox. One key is one shard is one journal partition."""
    flow = Dataflow("vitalane")
    rows = op.input("journal", flow, source)  # (shard, journal row)
    addressed = op.stateful_batch("route", rows, routes.build)  # (shard, (home, Part)): decode, find each subject's shard
    parts = op.map("home", addressed, _by_home)  # (home, Part)
    decisions = op.stateful_batch("evaluate", parts, shard.build)  # (home, Decision)
    op.output("outbox", decisions, outbox)
    return flow


def _by_home(routed: tuple[str, tuple[str, Part]]) -> tuple[str, Part]:
    return routed[1]
