"""What ingest knows of Sparkplug's edge nodes: in which order to journal what they say, and whom to ask for a rebirth. No clock is read.

A message that comes before its turn waits for those before it, for `reorder_s` at most; then it is journalled, with a gap before it. A
BIRTH or a death does not wait: it begins and ends what is counted. Nothing is dropped here, whatever it is.

The journal decides what a message means; here the same sessions are kept only to know when a node is to be asked. It is asked at most
every `ask_every_s`, then after twice as long each time while it does not answer, GIVE_UP_AFTER times; and no more once it is born or
dead. After a new connection all nodes are asked that were known before, by this process or from the journal, unless they are born by
themselves within `reorder_s`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from decoders.decode import FLAG_TOO_LARGE
from decoders.edge_nodes import MAX_NODES, EdgeNodes
from decoders.packets import Unreadable
from decoders.sparkplug import NBIRTH, NDEATH, PREFIX, SEQUENCE, NodeTopic, Payload, parse_topic, payload_of
from ingest.settings import SparkplugSettings
from journal.messages import FLAG_RETAIN, decode_messages
from journal.reader import JournalReader
from journal.rows import RowKind
from telemetry.reasons import Reason

MAX_WAITING_OF_NODE = SEQUENCE // 2  # beyond that before and behind cannot be told apart
MAX_WAITING = 2_000  # of all nodes: what comes then is journalled with its gap at once
LOOK_EVERY_S, ASKED_AT_ONCE = 0.05, 50
LAST_OFFSETS, ROWS_AT_ONCE = 20_000, 64  # of each partition
GIVE_UP_AFTER = 10  # questions without an answer: until the node is heard again


class Message(NamedTuple):
    """A message as it was received."""

    topic: bytes
    payload: bytes
    flags: int


class _Waiting(NamedTuple):
    message: Message
    topic: NodeTopic
    payload: Payload
    seq: int
    until: float


class _Asked(NamedTuple):
    at: float
    unanswered: int


class Watch:
    """The edge nodes of one connection after the other. `now` is the monotonic clock, seconds."""

    def __init__(self, settings: SparkplugSettings, known: Iterable[tuple[str, str]] = ()) -> None:
        self.nodes = EdgeNodes(kind="")
        self._settings = settings
        self._known = list(known)[:MAX_NODES]  # group and node of those that were heard before
        self._look_at = 0.0
        self._waiting: dict[str, list[_Waiting]] = {}  # by node, in the order of their turn
        self._waiting_in_all = 0
        self._wanted: dict[tuple[str, str], float] = {}  # group and node -> when it is to be asked
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._ready: list[Message] = []

    def add(self, message: Message, now: float) -> None:
        """Take a message that was received."""
        topic = parse_topic(message.topic)
        if topic is None or message.flags & FLAG_RETAIN:
            self._ready.append(message)
            return
        payload = payload_of(Unreadable(Reason.TOO_LARGE, "too large") if message.flags & FLAG_TOO_LARGE else message.payload)
        if topic.type in {NBIRTH, NDEATH}:
            self._release(topic.node_name, now)
        elif isinstance(payload, Payload) and payload.seq is not None and self._is_ahead(topic.node_name, payload.seq):
            self._wait(_Waiting(message, topic, payload, payload.seq, now + self._settings.reorder_s))
            return
        self._say(message, topic, payload, now)
        self._release(topic.node_name, now, in_turn=True)

    def take(self, now: float) -> list[Message]:
        """Return what is to be journalled now, in order."""
        for name in [name for name, waiting in self._waiting.items() if min(item.until for item in waiting) <= now]:
            self._release(name, now)
        ready, self._ready = self._ready, []
        return ready

    def end(self, now: float) -> list[Message]:
        """Return all that waits: what comes next is of another connection."""
        for name in list(self._waiting):
            self._release(name, now)
        return self.take(now)

    def begin(self, now: float) -> None:
        """Hear that a new connection begins, of which nothing is known yet."""
        for name in self.nodes.nodes:
            group, _, node = name.partition(":")
            self._known.append((group, node))
        self._wanted = dict.fromkeys(self._known, now + self._settings.reorder_s)
        self._known = []
        self.nodes.forget()

    def to_ask(self, now: float) -> list[tuple[str, str]]:
        """Return the nodes that are to be asked for a rebirth now, as group and node: so many at once that their answers find room."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        due = [node for node, at in self._wanted.items() if at <= now][:ASKED_AT_ONCE]
        for node in due:
            before = self._asked.get(node)
            asked = self._asked[node] = _Asked(now, before.unanswered + 1 if before else 1)
            if asked.unanswered < GIVE_UP_AFTER:
                self._wanted[node] = self._next(node, now)
            else:
                del self._wanted[node]
        while len(self._asked) > MAX_NODES:
            del self._asked[next(iter(self._asked))]
        return due

    def _say(self, message: Message, topic: NodeTopic, payload: Payload | Unreadable, now: float) -> None:
        """Pass a message on, and note what it means for its node."""
        self._ready.append(message)
        node = (topic.group, topic.node)
        said = self.nodes.take(topic, payload)
        if topic.type in {NBIRTH, NDEATH} and said.statuses:
            self._wanted.pop(node, None)
            if node in self._asked:
                self._asked[node] = self._asked[node]._replace(unanswered=0)
        if said.rebirth and node not in self._wanted and len(self._wanted) < MAX_NODES:
            self._wanted[node] = self._next(node, now)

    def _next(self, node: tuple[str, str], now: float) -> float:
        """Return when a node may be asked again."""
        asked = self._asked.get(node)
        if asked is None:
            return now
        wait_s = min(self._settings.ask_at_least_every_s, self._settings.ask_every_s * float(1 << max(0, asked.unanswered - 1)))
        return max(now, asked.at + wait_s)

    def _is_ahead(self, name: str, seq: int) -> bool:
        expected = self.nodes.expected(name)
        waiting = len(self._waiting.get(name, ()))
        room = waiting < MAX_WAITING_OF_NODE and self._waiting_in_all < MAX_WAITING
        return room and expected is not None and 0 < (seq - expected) % SEQUENCE < MAX_WAITING_OF_NODE

    def _wait(self, item: _Waiting) -> None:
        waiting = self._waiting.setdefault(item.topic.node_name, [])
        waiting.append(item)
        self._waiting_in_all += 1
        expected = self.nodes.expected(item.topic.node_name) or 0
        waiting.sort(key=lambda other: (other.seq - expected) % SEQUENCE)

    def _release(self, name: str, now: float, *, in_turn: bool = False) -> None:
        """Pass on what waits of a node: all of it, or as far as it is its turn."""
        waiting = self._waiting.pop(name, [])
        while waiting and not (in_turn and waiting[0].seq != self.nodes.expected(name)):
            item = waiting.pop(0)
            self._waiting_in_all -= 1
            self._say(item.message, item.topic, item.payload, now)
        if waiting:
            self._waiting[name] = waiting


def heard_of(reader: JournalReader) -> list[tuple[str, str]]:
    """Return group and node of the edge nodes that the end of a journal has heard of, and not heard dying."""
    found: dict[tuple[str, str], None] = {}
    for partition in range(reader.partitions):
        head = reader.head(partition)
        offset = max(reader.first(partition), head - LAST_OFFSETS)
        while offset < head and (rows := reader.read(partition, offset, max_rows=ROWS_AT_ONCE)):
            for row in rows:
                if row.kind == RowKind.MESSAGES and PREFIX in row.body:
                    _note(found, decode_messages(row.body).topics)
            offset = rows[-1].offset + rows[-1].count
    return list(found)


def _note(found: dict[tuple[str, str], None], topics: list[bytes]) -> None:
    for topic in map(parse_topic, topics):
        if topic is not None and topic.type == NDEATH:
            found.pop((topic.group, topic.node), None)
        elif topic is not None:
            found[topic.group, topic.node] = None
