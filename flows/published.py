"""What devices publish, as the end of the journal has it: for advice on rules, and for people who ask which devices there are."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes, after
from journal.messages import decode_messages
from journal.reader import JournalReader
from journal.rows import Row, RowKind
from rules.control import read_record
from telemetry.readings import NO_TIME, Decoded

LAST_ROWS = 20_000  # of each partition
AT_ONCE = 64


class Heard(NamedTuple):
    """What was heard of one device."""

    kind: str  # as its topic says
    last_ms: int  # journal time
    metrics: Counter[str]  # readings by metric


def intervals_ms(journal: Path, partitions: int, decoder: RowDecoder) -> dict[tuple[str, str], int | None]:
    """Return by (kind, metric) the median time between two readings of one device, milliseconds; None where there was one only."""
    times: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row, decoded in _decoded(journal, partitions, decoder):
        packets = decoded.packets
        for kind, device, names, time_ms in zip(packets.kinds, packets.devices, packets.metrics, packets.times_ms, strict=True):
            for name in names:
                times[kind, device, name].append(row.time_ms if time_ms == NO_TIME else time_ms)
    apart: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for (kind, _, name), seen in times.items():
        ordered = sorted(set(seen))
        apart[kind, name] += [later - earlier for earlier, later in itertools.pairwise(ordered)]
    return {key: round(median(gaps)) if gaps else None for key, gaps in apart.items()}


def heard(journal: Path, partitions: int, decoder: RowDecoder) -> dict[str, Heard]:
    """Return what was heard of each device."""
    found: dict[str, Heard] = {}
    for row, decoded in _decoded(journal, partitions, decoder):
        packets = decoded.packets
        named = list(zip(packets.kinds, packets.devices, packets.metrics, strict=True))
        named += [(status.kind, status.device, ()) for status in decoded.statuses]
        for kind, device, names in named:
            before = found.get(device)
            metrics = Counter[str]() if before is None else before.metrics
            metrics.update(names)
            found[device] = Heard(kind, max(row.time_ms, before.last_ms if before else 0), metrics)
    return found


def _decoded(journal: Path, partitions: int, decoder: RowDecoder) -> Iterator[tuple[Row, Decoded]]:
    with JournalReader(journal) as reader:
        for partition in range(partitions):
            edge_nodes: EdgeNodes | None = None
            head = reader.head(partition)
            offset = max(reader.first(partition), head - LAST_ROWS)
            while offset < head and (rows := reader.read(partition, offset, max_rows=AT_ONCE)):
                for row in rows:
                    if row.kind == RowKind.CONTROL:
                        edge_nodes = after(edge_nodes, read_record(row.body))
                    elif row.kind == RowKind.MESSAGES:
                        yield row, decoder.decode(decode_messages(row.body), row.time_ms, sessions=edge_nodes)
                offset = rows[-1].offset + rows[-1].count
