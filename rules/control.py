"""Control records: what besides readings decides, as it is journalled. Writers use the builders, the evaluator reads.

Rules, the registry and the settings are journalled whole, as text or plain values, so that a replay needs no file.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from rules.rule import RuleSet
from rules.window import PlainWindow
from telemetry.metrics import CATALOGUE, Metric


class Settings(NamedTuple):
    """How time is cut and judged. Sizes and times in milliseconds, by kind where they differ. Durable: grows at its end."""

    windows_ms: dict[str, PlainWindow]
    grace_ms: dict[str, int]
    max_skew_ms: int  # a reading later than it was received by more than this is refused
    historic_after_ms: int  # an alert detected this long after its reading is historic
    store_readings: bool  # accepted readings go to the outbox
    horizon_ms: dict[str, int] = {"shipment": 72 * 3_600_000, "patient": 10 * 60_000}  # how far behind its series a reading may be
    history_readings: dict[str, int] = {"shipment": 20_000, "patient": 20_000}  # how many of one series are kept for late ones, at most
    max_per_minute: dict[str, int] = {"shipment": 600, "patient": 6_000}  # of one series, by its own time; what is more is shed


DEFAULT_SETTINGS = Settings(
    windows_ms={"shipment": 5 * 60_000, "patient": 10_000},
    grace_ms={"shipment": 60_000, "patient": 2_000},
    max_skew_ms=5 * 60_000,
    historic_after_ms=15 * 60_000,
    store_readings=True,
)
OTHER_WINDOW_MS, OTHER_GRACE_MS = 60_000, 10_000
OTHER_HORIZON_MS, OTHER_HISTORY_READINGS, OTHER_MAX_PER_MINUTE = 3_600_000, 20_000, 6_000


def rules_record(rules: RuleSet, applied_by: str, why: str = "") -> bytes:
    """Return the control record that puts a rule set in force: who applied it, and why where that was said."""
    reason = {"why": why} if why else {}
    return _record("rules", {"documents": rules.documents, "applied_by": applied_by, **reason}, rules.version)


def registry_record(devices: Sequence[Mapping[str, Any]], metrics: Sequence[Metric] = (), **more: Any) -> bytes:
    """Return the control record of the device registry: `device`, `subject`, `kind`, `tags` each, and metrics besides the catalogue's.

    `more` is how messages of other makes are read (`mappings`, plain), and who may publish what: `unknown` (accept, quarantine, refuse) and
    `max_messages_per_minute`; `applied_by` and `why` do not count for its version. What is empty is left out, so that a registry without it
    is written as it always was.
    """
    said = {name: more.pop(name) for name in ("applied_by", "why") if more.get(name)}
    content = {"devices": list(devices), "metrics": [metric._asdict() for metric in metrics]}
    content |= {name: value for name, value in more.items() if value}
    return _record("registry", content | said, _version(content))


def settings_record(settings: Settings) -> bytes:
    """Return the control record of the evaluator's settings."""
    return _record("settings", settings._asdict())


def listening_record(sparkplug: str | None = None) -> bytes:
    """Return the control record that says: from here on readings are being listened for (again).

    With the kind that the devices of Sparkplug's edge nodes watch it says that these are listened for anew, and nothing is known of them.
    """
    return _record("listening", {} if sparkplug is None else {"sparkplug": {"kind": sparkplug}})


def stopped_record() -> bytes:
    """Return the control record that ends a run in order: the books up to it are told at once."""
    return _record("stopped", {})


def read_record(body: bytes) -> dict[str, Any]:
    """Return a control record as a dictionary with at least `type` and `version`."""
    record: dict[str, Any] = json.loads(body)
    return record


def read_settings(record: Mapping[str, Any]) -> Settings:
    return Settings(**{name: record.get(name, default) for name, default in DEFAULT_SETTINGS._asdict().items()})


def read_catalogue(record: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the shipped catalogue with a registry record's own metrics."""
    return CATALOGUE | {metric.name: metric for metric in read_metrics(record)}


def read_metrics(record: Mapping[str, Any]) -> list[Metric]:
    """Return a registry record's own metrics."""
    return [Metric(**item) for item in record.get("metrics", [])]


def _record(kind: str, content: dict[str, Any], version: str | None = None) -> bytes:
    return json.dumps(
        {"type": kind, "version": version or _version(content), **content}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _version(content: dict[str, Any]) -> str:
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake2b(body.encode(), digest_size=6).hexdigest()
