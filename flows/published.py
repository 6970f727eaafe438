"""What devices publish, as the end of the journal has it: of each kind and metric the usual interval. For advice on rules."""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from decoders.decode import decode_row
from journal.messages import decode_messages
from journal.reader import JournalReader
from journal.rows import RowKind
from telemetry.metrics import Metric
from telemetry.readings import NO_TIME

LAST_ROWS = 20_000  # of each partition
AT_ONCE = 64


def intervals_ms(journal: Path, partitions: int, catalogue: Mapping[str, Metric]) -> dict[tuple[str, str], int | None]:
    """Return by (kind, metric) the median time between two readings of one device, milliseconds; None where there was one only."""
    known = dict(catalogue)  # one object: decoders are made for each
    times: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    with JournalReader(journal) as reader:
        for partition in range(partitions):
            head = reader.head(partition)
            offset = max(reader.first(partition), head - LAST_ROWS)
            while offset < head and (rows := reader.read(partition, offset, max_rows=AT_ONCE)):
                for row in rows:
                    if row.kind != RowKind.MESSAGES:
                        continue
                    packets = decode_row(decode_messages(row.body), row.time_ms, known).packets
                    for kind, device, names, time_ms in zip(packets.kinds, packets.devices, packets.metrics, packets.times_ms, strict=True):
                        for name in names:
                            times[kind, device, name].append(row.time_ms if time_ms == NO_TIME else time_ms)
                offset = rows[-1].offset + rows[-1].count
    apart: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for (kind, _, name), seen in times.items():
        ordered = sorted(set(seen))
        apart[kind, name] += [later - earlier for earlier, later in itertools.pairwise(ordered)]
    return {key: round(median(gaps)) if gaps else None for key, gaps in apart.items()}
