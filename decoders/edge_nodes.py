"""The sessions of Sparkplug's edge nodes: who was born, what its aliases mean, whether something was lost. Pure, and no clock is read.

What a node sends means something only after its BIRTH certificate and only as long as nothing was lost. So:

- Data before a BIRTH is refused: its units and datatypes are in the certificate, and nobody guesses.
- `seq` counts every message of a node. A message that is not the next one says that something was lost, which may have been a BIRTH
  with other aliases: all aliases are void until they are given anew. Metrics that are called by name are still taken.
- An NDEATH counts where its `bdSeq` is the session's, or where no session is known. It takes the node and all its devices offline.
- `forget` ends all sessions: the connection to the broker is another one, and nobody knows what was said meanwhile. Which devices a node
  has is remembered, so that its death is still theirs.

In each of these cases but a death the node is to be asked for a rebirth. Bounded in nodes, and in devices and metrics of all together.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from decoders import sparkplug
from decoders.packets import PacketBuilder, Run, Unreadable, event_time, shown
from decoders.senml import NAMES
from decoders.sparkplug import BD_SEQ, SEQUENCE, Metric, NodeTopic, Payload
from decoders.topics import Topic
from telemetry.readings import DeviceStatus
from telemetry.reasons import Reason

MAX_NODES = 10_000
MAX_HELD = 200_000  # devices and metrics, of all nodes
FORM = "sparkplug"

_NOT_MEASURED = (BD_SEQ, "Node Control/", "Device Control/", "Properties/")
_NOBODY = ("", "")


class Measured(NamedTuple):
    """A value as a node sent it, under the name that it would have in the catalogue; the catalogue has not been asked."""

    metric: str
    value: object
    unit: str | None
    time_ms: int


class Said(NamedTuple):
    """What one message says."""

    readings: list[Measured]
    statuses: list[tuple[str, bool]]  # device, whether it is online
    refusals: list[tuple[Unreadable, str]]  # and the metric; empty: the whole message
    rebirth: list[str]  # why the node is to be asked for a rebirth; empty: it is not


class Signal(NamedTuple):
    """What a BIRTH says of a metric. Durable: grows at its end."""

    datatype: int
    unit: str | None


class _Node:
    """One edge node. A device, or the node itself as the device "", is born where it has an entry in `signals`."""

    def __init__(self) -> None:
        self.seq: int | None = None  # of the last message of the session; None: there is no session
        self.bd_seq: int | None = None
        self.devices: set[str] = set()  # that are not known to be offline
        self.signals: dict[str, dict[str, Signal]] = {}
        self.aliases: dict[int, tuple[str, str]] = {}  # -> device and metric
        self.packed = b""  # signals and aliases, until they change

    def held(self) -> int:
        return len(self.devices) + sum(map(len, self.signals.values()))

    def end(self) -> None:
        self.seq, self.packed = None, b""
        self.signals, self.aliases = {}, {}

    def void_aliases(self) -> None:
        self.aliases, self.packed = {}, b""

    def drop(self, device: str) -> None:
        """Forget what a device's last BIRTH said."""
        self.signals.pop(device, None)
        self.aliases = {alias: owner for alias, owner in self.aliases.items() if owner[0] != device}
        self.packed = b""

    def learn(self, device: str, metrics: list[Metric]) -> None:
        """Take over the metrics of a BIRTH. An alias that stands for two stands for none."""
        self.signals[device] = {metric.name: Signal(metric.datatype, metric.unit) for metric in metrics}
        for metric in metrics:
            if metric.alias is not None:
                self.aliases[metric.alias] = _NOBODY if metric.alias in self.aliases else (device, metric.name)
        self.packed = b""

    def name_of(self, metric: Metric, device: str) -> str:
        """Return what a metric is called; empty where nobody can say."""
        if metric.name or metric.alias is None:
            return metric.name
        owner, name = self.aliases.get(metric.alias, _NOBODY)
        return name if owner == device else ""

    def dump(self) -> tuple[Any, ...]:
        if not self.packed:
            tables = [self.signals, [[alias, *owner] for alias, owner in self.aliases.items()]]
            self.packed = zlib.compress(json.dumps(tables).encode(), 1)
        return self.seq, self.bd_seq, sorted(self.devices), self.packed

    @classmethod
    def restore(cls, dumped: tuple[Any, ...]) -> "_Node":
        node = cls()
        node.seq, node.bd_seq, devices, node.packed = dumped[:4]
        node.devices = set(devices)
        signals, aliases = json.loads(zlib.decompress(node.packed))
        node.signals = {device: {name: Signal(*signal) for name, signal in known.items()} for device, known in signals.items()}
        node.aliases = {alias: (device, name) for alias, device, name in aliases}
        return node


class EdgeNodes:
    """All edge nodes whose messages lie in one stream."""

    def __init__(self, kind: str, max_nodes: int = MAX_NODES, max_held: int = MAX_HELD) -> None:
        self.kind = kind  # what their devices watch
        self.max_nodes, self.max_held = max_nodes, max_held
        self.nodes: dict[str, _Node] = {}
        self.born = 0  # how many of them have a session
        self.held = 0

    def add_message(self, builder: PacketBuilder, index: int, topic: bytes, payload: bytes | Unreadable) -> None:
        """Add what one message of a journal row says; never raises."""
        parsed = sparkplug.parse_topic(topic)
        if parsed is None:
            detail = f"{shown(topic.decode('utf-8', 'backslashreplace'))}: no message of an edge node called by letters, digits and . _ -"
            builder.refuse(index, None, Reason.UNMAPPED, detail)
            return
        said = self.take(parsed, sparkplug.payload_of(payload))
        device = Topic(self.kind, parsed.name, FORM)
        run = Run(builder, index, device)
        for error, metric in said.refusals:
            builder.refuse(index, device, error.reason, error.detail, metric)
        for reading in said.readings:
            run.add(*reading)
        run.close()
        builder.statuses += [DeviceStatus(index, self.kind, name, online) for name, online in said.statuses]

    def take(self, topic: NodeTopic, payload: Payload | Unreadable) -> Said:
        """Return what one message says, and remember what it says of those to come."""
        said = Said([], [], [], [])
        births_or_deaths = topic.type not in {sparkplug.NDATA, sparkplug.DDATA}
        born, held = self._counted(topic) if births_or_deaths else (0, 0)
        try:
            if isinstance(payload, Unreadable):
                raise payload
            self._take(topic, payload, said)
        except Unreadable as error:
            said.refusals.append((error, ""))
            self._not_understood(topic, error, said)
        if births_or_deaths:
            now_born, now_held = self._counted(topic)
            self.born += now_born - born
            self.held += now_held - held
        return said

    def expected(self, node_name: str) -> int | None:
        """Return the `seq` that comes next from a node, None where it has no session."""
        node = self.nodes.get(node_name)
        return None if node is None or node.seq is None else (node.seq + 1) % SEQUENCE

    def forget(self) -> None:
        """End all sessions."""
        for node in self.nodes.values():
            node.end()
        self._count()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values. Durable: grows at its end."""
        return {"kind": self.kind, "nodes": {name: node.dump() for name, node in self.nodes.items()}}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "EdgeNodes":
        nodes = cls(state["kind"])
        nodes.nodes = {name: _Node.restore(dumped) for name, dumped in state["nodes"].items()}
        nodes._count()
        return nodes

    def _take(self, topic: NodeTopic, payload: Payload, said: Said) -> None:
        """Take a message that could be read. Raises Unreadable where it says nothing."""
        if topic.type == sparkplug.NDEATH:
            self._die(topic, payload, said)
            return
        if payload.seq is None or payload.seq >= SEQUENCE:
            raise Unreadable(Reason.WRONG_TYPE, "the payload has no seq from 0 to 255")
        if topic.type == sparkplug.NBIRTH:
            node = self._reborn(topic, payload)
            self._bear(node, topic, payload, said)
            return
        found, expected = self.nodes.get(topic.node_name), self.expected(topic.node_name)
        if found is None or expected is None:
            raise Unreadable(Reason.NO_SESSION, f"{topic.node_name} has published no NBIRTH")
        if payload.seq != expected:
            found.void_aliases()
            said.rebirth.append(f"seq {payload.seq} came where {expected} was expected")
        found.seq = payload.seq
        if topic.type == sparkplug.DBIRTH:
            found.drop(topic.device)
            self._check_room(payload)
            found.devices.add(topic.device)
            self._bear(found, topic, payload, said)
        elif topic.type == sparkplug.DDEATH:
            found.drop(topic.device)
            found.devices.discard(topic.device)
            said.statuses.append((topic.name, False))
        elif topic.device not in found.signals:
            raise Unreadable(Reason.NO_SESSION, f"{topic.name} has published no DBIRTH")
        else:
            _measure(found, topic.device, payload.metrics, payload, said)

    def _reborn(self, topic: NodeTopic, payload: Payload) -> _Node:
        """Return a node at the beginning of its session."""
        node = self.nodes.get(topic.node_name)
        if node is not None:
            node.end()
        self._check_room(payload)
        if node is None:
            if len(self.nodes) >= self.max_nodes:
                self._make_room()
            node = self.nodes[topic.node_name] = _Node()
        node.seq, node.bd_seq = payload.seq, _bd_seq(payload)
        return node

    def _bear(self, node: _Node, topic: NodeTopic, payload: Payload, said: Said) -> None:
        """Take over a BIRTH, and the values in it."""
        named = [metric for metric in payload.metrics if metric.name]
        if len(named) < len(payload.metrics):
            said.refusals.append((Unreadable(Reason.WRONG_TYPE, "a metric of a BIRTH has no name"), "metric"))
        node.learn(topic.device, named)
        said.statuses.append((topic.name, True))
        _measure(node, topic.device, named, payload, said)

    def _die(self, topic: NodeTopic, payload: Payload, said: Said) -> None:
        """Take a node and its devices offline, where the will is that of its present session."""
        bd_seq = _bd_seq(payload)
        if bd_seq is None:
            raise Unreadable(Reason.WRONG_TYPE, "an NDEATH has no bdSeq")
        node = self.nodes.get(topic.node_name)
        if node is not None and node.seq is not None and bd_seq != node.bd_seq:
            raise Unreadable(Reason.NO_SESSION, f"bdSeq {bd_seq} is not of the session of {topic.node_name}, which has {node.bd_seq}")
        said.statuses.append((topic.name, False))
        if node is not None:
            said.statuses.extend((f"{topic.name}:{device}", False) for device in sorted(node.devices))
            node.end()
            node.devices = set()

    def _not_understood(self, topic: NodeTopic, error: Unreadable, said: Said) -> None:
        """Whatever was not understood may have been a BIRTH: what it would have changed is not known any more."""
        if topic.type == sparkplug.NDEATH:
            return
        node = self.nodes.get(topic.node_name)
        if node is not None:
            if topic.type == sparkplug.NBIRTH:
                node.end()
            elif error.reason not in {Reason.NO_SESSION, Reason.TOO_MANY_SERIES}:
                node.void_aliases()
        if error.reason is not Reason.TOO_MANY_SERIES:
            said.rebirth.append(error.detail)

    def _counted(self, topic: NodeTopic) -> tuple[int, int]:
        """Return what the message's node adds to `born` and to `held`."""
        node = self.nodes.get(topic.node_name)
        return (0, 0) if node is None else (int(node.seq is not None), node.held())

    def _count(self) -> None:
        self.born = sum(node.seq is not None for node in self.nodes.values())
        self.held = sum(node.held() for node in self.nodes.values())

    def _check_room(self, payload: Payload) -> None:
        if self.held + len(payload.metrics) >= self.max_held:
            raise Unreadable(Reason.TOO_MANY_SERIES, f"no more than {self.max_held} devices and metrics of edge nodes are known at a time")

    def _make_room(self) -> None:
        """Forget the node that was met first of those without a session. Raises Unreadable where all have one."""
        name = next((name for name, node in self.nodes.items() if node.seq is None), None)
        if name is None:
            raise Unreadable(Reason.TOO_MANY_SERIES, f"no more than {self.max_nodes} edge nodes are known at a time")
        self.held -= self.nodes.pop(name).held()


def after(nodes: EdgeNodes | None, record: Mapping[str, Any]) -> EdgeNodes | None:
    """Return the edge nodes after a control record: where it says that they are listened to anew, those that were known, without sessions.

    None until they are listened to for the first time.
    """
    if record["type"] != "listening" or "sparkplug" not in record:
        return nodes
    nodes = nodes or EdgeNodes(record["sparkplug"]["kind"])
    nodes.kind = record["sparkplug"]["kind"]
    nodes.forget()
    return nodes


def _bd_seq(payload: Payload) -> int | None:
    return next((metric.value for metric in payload.metrics if metric.name == BD_SEQ and isinstance(metric.value, int)), None)


def _measure(node: _Node, device: str, metrics: list[Metric], payload: Payload, said: Said) -> None:
    """Add the readings of a payload, and what is no reading for want of a BIRTH."""
    known = node.signals[device]
    for metric in metrics:
        name = node.name_of(metric, device)
        if name.startswith(_NOT_MEASURED) or metric.null:
            continue
        signal = known.get(name)
        if signal is None:
            called = shown(name) if name else f"alias {metric.alias}"
            said.refusals.append((Unreadable(Reason.NO_SESSION, f"{called} is in no BIRTH that is known"), called))
            said.rebirth.append(f"{called} is in no BIRTH that is known")
            continue
        if metric.unit is not None and metric.unit != signal.unit:
            signal = known[name] = signal._replace(unit=metric.unit)
            node.packed = b""
        try:
            said.readings.append(_reading(name, metric, signal, payload))
        except Unreadable as error:
            said.refusals.append((error, name))


def _reading(name: str, metric: Metric, signal: Signal, payload: Payload) -> Measured:
    """Return what a metric says. Raises Unreadable."""
    if metric.quality in {sparkplug.BAD, sparkplug.STALE}:
        what = "bad" if metric.quality == sparkplug.BAD else "stale"
        raise Unreadable(Reason.BAD_QUALITY, f"the device says that its {shown(name)} is {what} (quality {metric.quality})")
    last = name.rpartition("/")[2].lower().replace(" ", "_")
    time_ms = event_time(payload.time_ms if metric.time_ms is None else metric.time_ms)
    return Measured(NAMES.get(last, last), sparkplug.value_of(metric, name, metric.datatype or signal.datatype), signal.unit, time_ms)
