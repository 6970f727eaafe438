"""The dataflow, as a table of contents. The step ids are durable: they name the state in the recovery store."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.outbox import OutboxSink
from flows.shard import Shard
from flows.source import JournalSource


def build(source: JournalSource, shard: Shard, outbox: OutboxSink) -> Dataflow:
    """Return the flow from the telemetry journal to the outbox. One key is one shard is one journal partition."""
    flow = Dataflow("vitalane")
    rows = op.input("journal", flow, source)  # (shard, journal row)
    decisions = op.stateful_batch("evaluate", rows, shard.build)  # (shard, Decision): decode, identify, evaluate
    op.output("outbox", decisions, outbox)
    return flow
