"""The deliverer put together: every channel and store in its thread, one bell for all, and a baseline that lets `verify` check their books.

The baseline is where each channel stood when the subscriptions in force took effect: what it owes since then follows from the outbox alone.
"""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from alerts.privacy import Pseudonyms
from alerts.subscriptions import Subscription, wants
from cli.configuration import Configuration
from cli.destinations import channel, pseudonyms, stores, subscriptions
from cli.places import ledger_path, offsets_path, outbox_paths
from sinks.crew import Loop, run_all
from sinks.delivery import ChannelDelivery
from sinks.ledger import ChannelLedger
from sinks.outbox import Bell, Cursor, Outbox
from sinks.sink import Store
from sinks.store_ledger import StoreLedger
from sinks.storing import StoreDelivery
from telemetry.errors import VitalaneError

BASELINE_FILE = "subscriptions.json"


class Baseline(NamedTuple):
    """Where a channel stood when the subscriptions took effect."""

    cursor: Cursor
    decided: int


def run(configuration: Configuration, stop: threading.Event) -> None:
    """Deliver until told to stop. Raises VitalaneError with a sentence, and ConfigError where a destination's settings cannot work."""
    data_dir = configuration.data_dir
    paths = outbox_paths(data_dir, configuration.settings.partitions)
    subscribed = subscriptions(configuration)
    set_baseline(configuration, subscribed)
    names = _names(configuration)
    bell = Bell(list(paths.values()))
    offsets = offsets_path(data_dir)

    def channel_loop(name: str) -> ChannelDelivery:
        ledger, outbox = ChannelLedger(ledger_path(data_dir, name)), Outbox(paths)
        return ChannelDelivery(
            channel(configuration, name, names), wants(subscribed, name), ledger, outbox, stop, bell=bell, offsets=offsets
        )

    def store_loop(name: str, opened: Callable[[], Store]) -> StoreDelivery:
        return StoreDelivery(name, opened(), StoreLedger(ledger_path(data_dir, name)), Outbox(paths), stop, offsets=offsets)

    build: dict[str, Callable[[], Loop]] = {name: partial(channel_loop, name) for name in configuration.settings.channels}
    build |= {name: partial(store_loop, name, opened) for name, opened in stores(configuration).items()}
    bell.start()
    try:
        run_all(build, stop)
    finally:
        bell.close()


def _names(configuration: Configuration) -> Pseudonyms | None:
    needed = any(not entry.identifiers for entry in configuration.settings.channels.values())
    return pseudonyms(configuration) if needed else None


def set_baseline(configuration: Configuration, subscribed: Sequence[Subscription]) -> None:
    """Note where each channel stands, where other subscriptions than before take effect."""
    file, version = configuration.data_dir / BASELINE_FILE, subscriptions_version(subscribed)
    before = _read(file)
    known = before.get("channels", {}) if before.get("version") == version else {}
    new = {name: _position(configuration, name) for name in configuration.settings.channels if name not in known}
    if before.get("version") == version and not new:
        return
    temporary = file.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps({"version": version, "channels": {**known, **new}}))
        temporary.replace(file)
    except OSError as error:
        msg = f"{file} cannot be written: {(error.strerror or str(error)).lower()}"
        raise VitalaneError(msg) from error


def _position(configuration: Configuration, name: str) -> dict[str, Any]:
    with closing(ChannelLedger(ledger_path(configuration.data_dir, name), serve=False)) as ledger:
        return {"cursor": [[*source, at] for source, at in ledger.cursor().items()], "decided": ledger.counts().decided}


def baselines(configuration: Configuration, subscribed: Sequence[Subscription]) -> dict[str, Baseline]:
    """Return the baseline of each channel; none where the deliverer has not yet run with these subscriptions."""
    noted = _read(configuration.data_dir / BASELINE_FILE)
    if noted.get("version") != subscriptions_version(subscribed):
        return {}
    return {
        name: Baseline({(file, partition): at for file, partition, at in entry["cursor"]}, entry["decided"])
        for name, entry in noted["channels"].items()
    }


def subscriptions_version(subscribed: Sequence[Subscription]) -> str:
    """Return a digest of what subscriptions mean."""
    meaning = [
        [
            item.name,
            *(sorted(map(str, values)) for values in (item.kinds, item.severities, item.phases, item.channels)),
            sorted((name, sorted(values)) for name, values in item.tags.items()),
            *(None if pattern is None else pattern.pattern for pattern in (item.subjects, item.rules)),
            item.inhibited,
        ]
        for item in subscribed
    ]
    return blake2b(json.dumps(meaning).encode(), digest_size=6).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        noted = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
