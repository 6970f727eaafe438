"""The first keyed step: decodes a row, sends each reading to the shard of its subject. Its law: nothing is decided here, nothing is lost.

Ingest puts all messages of a subject into one partition where it can, so that a row is, as a rule, wholly its own shard's and goes there
as it is. Where it cannot (a registry that changed, an exchanged logger's backlog, several ingest processes), the readings and statuses of
devices whose subject lives in another shard are split off. Control records, ticks, refusals and retained messages stay with the
partition.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from bytewax.operators import StatefulBatchLogic

from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes, after
from decoders.mappings import NO_MAPPINGS, from_plain
from decoders.shapes import Shapes
from flows.gate import Gate
from flows.keys import shard_key
from flows.part import Part
from journal.messages import decode_messages
from journal.rows import Row, RowKind
from rules.control import read_catalogue, read_record
from rules.registry import Registry
from telemetry.metrics import CATALOGUE
from telemetry.readings import NO_TIME, Decoded, divided
from telemetry.routing import partition_of

MAX_DEVICES = 500_000  # remembered; more are looked up again

Addressed = tuple[str, Part]


@dataclass(frozen=True)
class Routes:
    """Builds the logic of each partition."""

    partitions: int
    decoders: dict[str, RowDecoder] = field(default_factory=dict)  # by version of the registry

    def build(self, resume_state: Any | None) -> "RouteLogic":
        return RouteLogic(self, resume_state)

    def decoder(self, record: dict[str, Any]) -> RowDecoder:
        """Return the decoder of a registry record, the same object to every partition."""
        version = record["version"]
        if version not in self.decoders:
            self.decoders.clear()
            mappings = from_plain(record["mappings"]) if record.get("mappings") else NO_MAPPINGS
            self.decoders[version] = RowDecoder(read_catalogue(record), mappings)
        return self.decoders[version]


class RouteLogic(StatefulBatchLogic[Row, Addressed, Any]):
    """The state is the registry in force, as its control record, the shapes of messages, what the gate has counted, and edge nodes."""

    def __init__(self, routes: Routes, resume_state: Any | None) -> None:
        self.routes = routes
        self.registry, self.decoder, self.packed = Registry(), RowDecoder(CATALOGUE), b""
        self.homes: Homes | None = None
        self.gate, self.shapes = Gate(), Shapes()
        self.edge_nodes: EdgeNodes | None = None  # of Sparkplug, where these are listened to
        if resume_state is not None:
            if resume_state["registry"]:
                self._put_in_force(zlib.decompress(resume_state["registry"]))
            self.gate.restore(resume_state.get("gate", (0, {})))
            if resume_state.get("shapes"):
                self.shapes.restore(resume_state["shapes"])
            if resume_state.get("edge_nodes"):
                self.edge_nodes = EdgeNodes.restore(resume_state["edge_nodes"])

    def on_batch(self, values: list[Row]) -> tuple[Sequence[Addressed], bool]:
        return [(shard_key(part.home), part) for row in values for part in self._on_row(row)], False

    def _on_row(self, row: Row) -> Iterator[Part]:
        home, end = row.partition, row.offset + row.count
        if row.kind != RowKind.MESSAGES:
            if row.kind == RowKind.CONTROL:
                self._on_control(row.body)
            yield Part(home, home, row.offset, end, row.time_ms, row.kind, row.body, None, (), ())
            return
        messages = decode_messages(row.body)
        decoded = self.decoder.decode(messages, row.time_ms, self.shapes, self.edge_nodes)
        decoded = self.gate.admit(messages, decoded, row.time_ms)
        if self.homes is None:  # a key learns which partition it is from its first row
            self.homes = Homes(self.registry, row.partition, self.routes.partitions)
        whole = Part(home, home, row.offset, end, row.time_ms, row.kind, b"", decoded, messages.topics, messages.payloads)
        if self.homes.all_here(decoded.packets.devices) and self.homes.all_here([status.device for status in decoded.statuses]):
            yield whole
        else:
            yield from self.homes.split(whole, decoded)

    def _on_control(self, body: bytes) -> None:
        record = read_record(body)
        if record["type"] == "registry":
            self._put_in_force(body)
        self.edge_nodes = after(self.edge_nodes, record)

    def _put_in_force(self, body: bytes) -> None:
        record = read_record(body)
        self.registry, self.decoder = Registry(record["devices"]), self.routes.decoder(record)
        self.gate.define(record, self.registry)
        self.packed = zlib.compress(body, 1)
        self.homes = None

    def on_eof(self) -> tuple[Sequence[Addressed], bool]:
        return [], False

    def snapshot(self) -> Any:
        edge_nodes = None if self.edge_nodes is None else self.edge_nodes.snapshot()
        return {"registry": self.packed, "gate": self.gate.dump(), "shapes": self.shapes.dump(), "edge_nodes": edge_nodes}


class Homes:
    """Where the readings of each device are evaluated, seen from one partition."""

    def __init__(self, registry: Registry, partition: int, partitions: int) -> None:
        self.registry, self.partition, self.partitions = registry, partition, partitions
        self.here: set[str] = set()  # devices whose readings of any time are evaluated here
        self.elsewhere: dict[str, int | None] = {}  # the shard of any other device; None: it depends on the time

    def all_here(self, devices: Sequence[str]) -> bool:
        """Return whether all readings of these devices are evaluated here. Some 20 ns for each, for this is asked of every row."""
        if self.partitions == 1 or self.here.issuperset(devices):
            return True
        if len(self.here) + len(self.elsewhere) > MAX_DEVICES:
            self.here.clear()
            self.elsewhere.clear()
        for device in set(devices).difference(self.here, self.elsewhere):
            self._look_up(device)
        return self.here.issuperset(devices)

    def home(self, device: str, time_ms: int) -> int:
        """Return where a device's reading of some time is evaluated."""
        if device not in self.here and device not in self.elsewhere:
            self._look_up(device)
        if device in self.here:
            return self.partition
        home = self.elsewhere[device]
        return self.registry.home(device, time_ms, self.partitions) if home is None else home

    def _look_up(self, device: str) -> None:
        assigned = self.registry.assigned.get(device, ())
        subjects = {assignment.subject for assignment in assigned}
        if not assigned or device in self.registry.timed:
            subjects.add(device)  # its own subject, at the times for which nobody assigned it
        homes = {partition_of(subject, self.partitions) for subject in subjects}
        if homes == {self.partition}:
            self.here.add(device)
        else:
            self.elsewhere[device] = homes.pop() if len(homes) == 1 else None

    def split(self, whole: Part, decoded: Decoded) -> Iterator[Part]:
        """Yield a row's own part, and a part for every other shard that has readings or statuses in it."""
        packets, now_ms = decoded.packets, whole.time_ms
        homes = [
            self.home(device, now_ms if time_ms == NO_TIME else time_ms)
            for device, time_ms in zip(packets.devices, packets.times_ms, strict=True)
        ]
        status_homes = [self.home(status.device, now_ms) for status in decoded.statuses]  # a status is of the time when it comes
        promise_homes = [self.home(item.device, now_ms if item.time_ms == NO_TIME else item.time_ms) for item in decoded.promises]
        shared = divided(packets, homes)
        for home in sorted({self.partition, *homes, *status_homes}):
            statuses = list(compress(decoded.statuses, [at == home for at in status_homes]))
            promises = list(compress(decoded.promises, [at == home for at in promise_homes]))
            theirs = shared[home]
            if home == self.partition:
                yield whole._replace(decoded=decoded._replace(packets=theirs, statuses=statuses, promises=promises))
                continue
            messages = sorted({*theirs.message, *(status.message for status in statuses)})
            yield whole._replace(
                home=home,
                decoded=Decoded(theirs, [], statuses, 0, promises=promises),
                topics={index: whole.topics[index] for index in messages},
                payloads={index: whole.payloads[index] for index in messages},
            )
