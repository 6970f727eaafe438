"""Journal rows for the evaluator, written down shortly."""

import pickle
from collections.abc import Sequence
from typing import Any

from rules.control import DEFAULT_SETTINGS, Settings, registry_record, rules_record, settings_record
from rules.document import compile_rules
from rules.evaluator import Evaluator
from rules.history import HistoryChunk
from rules.outcome import Outcome
from telemetry.readings import Decoded, no_packets

START_MS = 1_763_000_000_000

Packet = tuple[str, str, float, dict[str, float]]
"""Kind, device, seconds after START_MS, values by metric."""


def decoded(packets: Sequence[Packet]) -> Decoded:
    columns = no_packets()
    for number, (kind, device, time_s, values) in enumerate(packets):
        columns.message.append(number)
        columns.kinds.append(kind)
        columns.devices.append(device)
        columns.metrics.append(tuple(values))
        columns.times_ms.append(START_MS + round(time_s * 1000))
        columns.values.extend(values.values())
    return Decoded(columns, [], [], 0)


class Shard:
    """An evaluator that is fed rows and remembers what came out."""

    def __init__(self, rules: str, settings: Settings = DEFAULT_SETTINGS, devices: Sequence[dict[str, Any]] = ()) -> None:
        self.evaluator = Evaluator(0, 1)
        self.offset = 0
        self.outcomes: list[Outcome] = []
        self.chunks: list[HistoryChunk] = []
        self.control(settings_record(settings), 0)
        self.control(registry_record(devices), 0)
        self.apply(rules, 0)

    def control(self, body: bytes, at_s: float) -> Outcome:
        return self._took(1, self.evaluator.on_control(self.offset, START_MS + round(at_s * 1000), body))

    def apply(self, rules: str, at_s: float) -> Outcome:
        return self.control(rules_record(compile_rules([("rules", rules)]), "test"), at_s)

    def messages(self, at_s: float, *packets: Packet) -> Outcome:
        return self._took(
            max(1, len(packets)), self.evaluator.on_messages(self.offset, len(packets), START_MS + round(at_s * 1000), decoded(packets))
        )

    def decoded(self, at_s: float, count: int, given: Decoded) -> Outcome:
        return self._took(count, self.evaluator.on_messages(self.offset, count, START_MS + round(at_s * 1000), given))

    def tick(self, at_s: float) -> Outcome:
        return self._took(1, self.evaluator.on_tick(self.offset, START_MS + round(at_s * 1000)))

    def restart(self) -> None:
        """Kill the evaluator and make it again, as a recovery does: from a snapshot that went through bytes, and the history's chunks."""
        self.remember()
        self.evaluator = Evaluator.restore(0, 1, pickle.loads(pickle.dumps(self.evaluator.snapshot())), self.chunks)

    def remember(self) -> None:
        """Put away the history since the last time, as an epoch's end does."""
        chunk = self.evaluator.take_history()
        if chunk is not None:
            self.chunks.append(chunk)

    def alerts(self) -> list[tuple[str, str, str, float, float | None]]:
        """Return (phase, rule, subject, start, end), in seconds after START_MS."""
        return [
            (
                str(event.phase),
                event.rule,
                event.subject,
                (event.started_at_ms - START_MS) / 1000,
                None if event.ended_at_ms is None else (event.ended_at_ms - START_MS) / 1000,
            )
            for outcome in self.outcomes
            for event in outcome.alerts
        ]

    def books(self):
        return self.evaluator.books(self.offset, START_MS)

    def _took(self, count: int, outcome: Outcome) -> Outcome:
        self.offset += count
        self.outcomes.append(outcome)
        return outcome
