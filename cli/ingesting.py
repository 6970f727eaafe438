"""Ingest put together: its settings from the configuration, the journal's writer, and the control records that say what holds from here on.

The whole set is written at every start: a replay finds it behind whatever retention has removed. At every connection a record says that
listening begins, which keeps silence from being proved over a time when nobody listened.
"""

import logging
import threading
from pathlib import Path
from typing import Any

from cli.applying import InForce, Requests, note_in_force
from cli.configuration import Configuration, flow_terms
from cli.exits import Unreachable
from cli.places import FLOW, TELEMETRY, offsets_path, telemetry_path
from cli.registered import Registered
from cli.settings import Account, Sparkplug
from cli.status import StatusFile
from ingest.service import run as run_ingest
from ingest.settings import BrokerSettings, IngestSettings, IngestStatus, RetentionSettings, SparkplugSettings, TlsSettings
from journal.offsets import ConsumerOffsets
from journal.reader import JournalReader
from journal.rows import Entry, RowKind
from journal.writer import JournalWriter
from rules.control import listening_record, rules_record, settings_record, stopped_record
from rules.rule import RuleSet
from telemetry.clock import utc_now_ms
from telemetry.errors import JournalCorrupt, JournalFull, VitalaneError

FULL_RETRY_S = 1.0

logger = logging.getLogger(__name__)


def run(configuration: Configuration, registered: Registered, rules: RuleSet, stop: threading.Event) -> None:
    """Ingest until told to stop. Raises Unreachable where the journal cannot be opened for writing."""
    data_dir, partitions = configuration.data_dir, configuration.settings.partitions
    settings = ingest_settings(configuration, registered)
    in_force = InForce(settings_record(flow_terms(configuration.settings)), registered.record(), rules_record(rules, "configuration"))
    controls = list(in_force)
    latest = IngestStatus(0, 0, 0, 0, connected=False, error="")

    def on_status(status: IngestStatus) -> None:
        nonlocal latest
        latest = status

    def next_offsets() -> dict[int, int]:
        with JournalReader(telemetry_path(data_dir)) as reader:
            return {partition: reader.head(partition) for partition in range(partitions)}

    requests = Requests(data_dir, in_force, next_offsets)

    def look() -> dict[str, Any]:
        return latest._asdict() | {"sparkplug": latest.sparkplug and latest.sparkplug._asdict()}

    with (
        _writer(telemetry_path(data_dir), partitions) as writer,
        ConsumerOffsets(offsets_path(data_dir)) as offsets,
        StatusFile(data_dir, "ingest", look),
    ):
        _append(writer, partitions, controls, stop)
        note_in_force(data_dir, rules, registered.metrics(), "configuration", "")
        run_ingest(settings, writer, offsets, controls, stop, on_status, listening=listening_record(), requests=requests)
        try:
            writer.append(_entries(partitions, [stopped_record()]), utc_now_ms())
        except JournalFull:
            return  # nothing more is said where there is no room: the next start says that listening begins anew


def ingest_settings(configuration: Configuration, registered: Registered) -> IngestSettings:
    """Return what the configuration says of ingest, its secret read; what mappings read is subscribed to, too."""
    broker, ingest = configuration.settings.broker, configuration.settings.ingest
    return IngestSettings(
        broker=BrokerSettings(
            host=broker.host,
            port=broker.port,
            protocol=broker.protocol,
            client_id=broker.client_id,
            topics=registered.topics(broker.topics),
            qos=broker.qos,
            keepalive_s=broker.keepalive_s,
            max_inflight=broker.max_inflight,
            receiver=broker.receiver,
            user=broker.user,
            password=None if broker.password is None else configuration.secret(("broker", "password"), broker.password),
            tls=_tls(configuration, broker),
        ),
        commit_messages=ingest.commit_messages,
        commit_ms=ingest.commit_ms,
        tick_ms=ingest.tick_ms,
        max_payload_bytes=ingest.max_payload_bytes,
        retention=RetentionSettings(ingest.retention.max_age, ingest.retention.max_size, consumers=(FLOW,)),
        sparkplug=_sparkplug(configuration.settings.sparkplug),
    )


def _sparkplug(sparkplug: Sparkplug | None) -> SparkplugSettings | None:
    if sparkplug is None:
        return None
    return SparkplugSettings(
        host_id=sparkplug.host_id,
        client_id=sparkplug.client_id,
        groups=() if sparkplug.groups == "all" else tuple(sparkplug.groups),
        listening=listening_record(sparkplug=sparkplug.kind),
        reorder_s=sparkplug.reorder_timeout / 1000,
    )


def _tls(configuration: Configuration, account: Account) -> TlsSettings | None:
    if account.tls is None:
        return None
    folder = configuration.folder
    return TlsSettings(*(None if path is None else folder / path for path in (account.tls.ca, account.tls.certificate, account.tls.key)))


def _writer(path: Path, partitions: int) -> JournalWriter:
    try:
        return JournalWriter(path, TELEMETRY, partitions)
    except JournalCorrupt:
        raise
    except VitalaneError as error:
        raise Unreachable(str(error)) from error


def _append(writer: JournalWriter, partitions: int, bodies: list[bytes], stop: threading.Event) -> None:
    """Write control records into every partition, waiting for room where there is none."""
    told = False
    while not stop.is_set():
        try:
            writer.append(_entries(partitions, bodies), utc_now_ms())
        except JournalFull as error:
            if not told:
                logger.warning("cli.journal_full reason=%r", str(error))
            told = True
            stop.wait(FULL_RETRY_S)
        else:
            return


def _entries(partitions: int, bodies: list[bytes]) -> list[Entry]:
    return [Entry(partition, RowKind.CONTROL, 1, body) for partition in range(partitions) for body in bodies]
