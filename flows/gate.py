"""Who may publish, and how much: what a row's messages say is held against the registry before it goes to any shard.

A device that nobody registered is its own subject, or is quarantined, or refused, as the registry says. A topic that brings more messages
in a minute of the journal's clock than it may is shut until the minute ends, so that one device cannot cost the others their time, whatever
it sends; what is left out is counted as `flood`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from journal.messages import Messages
from rules.registry import Registry
from telemetry.readings import Decoded, Refusal, Shed, divided
from telemetry.reasons import Reason

MINUTE_MS = 60_000
MAX_MESSAGES_PER_MINUTE = 60_000
"""Of one topic, where the registry says nothing else: a thousand a second, more than any device and less than would hurt."""

MAX_TOPICS = 100_000  # counted at a time

ACCEPT, QUARANTINE, REFUSE = POLICIES = ("accept", "quarantine", "refuse")


class Gate:
    """The state is how many messages each topic has brought in the minute that runs."""

    def __init__(self) -> None:
        self.minute = 0
        self.brought: Counter[bytes] = Counter()
        self.define({}, Registry())

    def define(self, record: Mapping[str, Any], registry: Registry) -> None:
        """Put a registry in force."""
        self.known, self.policy = registry.assigned.keys(), record.get("unknown", ACCEPT)
        self.most = int(record.get("max_messages_per_minute", MAX_MESSAGES_PER_MINUTE))
        limits = {item["device"]: item["limits"] for item in record.get("devices", []) if item.get("limits")}
        self.most_of = {device: int(given["messages_per_minute"]) for device, given in limits.items() if "messages_per_minute" in given}
        self.bytes_of = {device: int(given["payload_bytes"]) for device, given in limits.items() if "payload_bytes" in given}
        self.least = min([self.most, *self.most_of.values()])

    def admit(self, messages: Messages, decoded: Decoded, now_ms: int) -> Decoded:
        """Return what of a row is let in, and the refusals of the rest. About 0.1 us a message where all of it is."""
        decoded = self._rate(messages, decoded, now_ms)
        if self.bytes_of:
            decoded = self._size(messages, decoded)
        return decoded if self.policy == ACCEPT else self._strangers(decoded)

    def _rate(self, messages: Messages, decoded: Decoded, now_ms: int) -> Decoded:
        if now_ms // MINUTE_MS != self.minute:
            self.minute, self.brought = now_ms // MINUTE_MS, Counter()
        if len(self.brought) > MAX_TOPICS:  # somebody invents names: those that came once are far from any limit
            again = {topic: number for topic, number in self.brought.items() if number > 1}
            self.brought = Counter(again if len(again) < MAX_TOPICS // 2 else {})
        if max(map(self.brought.__getitem__, messages.topics), default=0) + len(messages.topics) <= self.least:
            self.brought.update(messages.topics)
            return decoded
        devices, shut = _whose(decoded), set()
        for index, topic in enumerate(messages.topics):
            self.brought[topic] += 1
            if self.brought[topic] > self.most_of.get(devices.get(index, ("", ""))[1], self.most):
                shut.add(index)
        if not shut:
            return decoded
        statuses = decoded.statuses  # they cost little, and who is gone must be known
        kept = _shed(decoded._replace(statuses=[]), Reason.FLOOD, lambda message, _device: message in shut)
        return kept._replace(statuses=statuses)

    def _size(self, messages: Messages, decoded: Decoded) -> Decoded:
        sizes = {index: len(payload) for index, payload in enumerate(messages.payloads)}
        large = {index: whose for index, whose in _whose(decoded).items() if sizes[index] > self.bytes_of.get(whose[1], sizes[index])}
        if not large:
            return decoded
        kept, _ = _parted(decoded, lambda message, _device: message in large)
        detail = "{} bytes are more than the registry gives this device"
        refused = [Refusal(index, Reason.TOO_LARGE, detail.format(sizes[index]), "", *whose) for index, whose in sorted(large.items())]
        return kept._replace(refusals=[*kept.refusals, *refused])

    def _strangers(self, decoded: Decoded) -> Decoded:
        """Take out what devices say that nobody registered."""
        known, refused = self.known, decoded.refusals if self.policy == REFUSE else []
        heard = {*decoded.packets.devices, *(status.device for status in decoded.statuses), *(refusal.device for refusal in refused)}
        if known >= heard - {""}:
            return decoded
        if self.policy == REFUSE:
            return _shed(decoded, Reason.UNKNOWN_DEVICE, lambda _message, device: bool(device) and device not in known)
        kept, left = _parted(decoded, lambda _message, device: bool(device) and device not in known)
        packets = left.packets
        whose = zip(packets.message, packets.kinds, packets.devices, packets.metrics, strict=True)
        named = [(message, name, kind, device) for message, kind, device, names in whose for name in names]
        named += [(status.message, "", status.kind, status.device) for status in left.statuses]
        detail = "nobody registered this device"
        strangers = [Refusal(message, Reason.UNKNOWN_DEVICE, detail, name, kind, device) for message, name, kind, device in named]
        return kept._replace(refusals=[*kept.refusals, *left.refusals, *strangers])

    def dump(self) -> tuple[int, dict[bytes, int]]:
        """Return the state as plain values."""
        return self.minute, dict(self.brought)

    def restore(self, dumped: tuple[int, dict[bytes, int]]) -> None:
        """Take what `dump` returned."""
        self.minute, self.brought = dumped[0], Counter(dumped[1])


def _whose(decoded: Decoded) -> dict[int, tuple[str, str]]:
    """Return kind and device of each message that names one."""
    packets = decoded.packets
    named = {status.message: (status.kind, status.device) for status in decoded.statuses}
    named |= {refusal.message: (refusal.kind, refusal.device) for refusal in decoded.refusals if refusal.device}
    return named | dict(zip(packets.message, zip(packets.kinds, packets.devices, strict=True), strict=True))


def _parted(decoded: Decoded, out: Callable[[int, str], bool]) -> tuple[Decoded, Decoded]:
    """Return what stays of a row, and what `out(message, device)` says is to leave it."""
    packets = decoded.packets
    leaves = [out(message, device) for message, device in zip(packets.message, packets.devices, strict=True)]
    parts = divided(packets, leaves)
    both = [
        decoded._replace(
            packets=parts[leaving],
            refusals=[item for item in decoded.refusals if out(item.message, item.device) == leaving],
            statuses=[item for item in decoded.statuses if out(item.message, item.device) == leaving],
            changes=[item for item in decoded.changes if out(item.message, item.device) == leaving],
            promises=[item for item in decoded.promises if out(item.message, item.device) == leaving],
        )
        for leaving in (False, True)
    ]
    return both[0], both[1]


def _shed(decoded: Decoded, reason: Reason, out: Callable[[int, str], bool]) -> Decoded:
    """Return what stays of a row; of what leaves it, only the number of readings of each device stays."""
    kept, left = _parted(decoded, out)
    numbers: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    packets = left.packets
    rows = zip(packets.message, packets.kinds, packets.devices, map(len, packets.metrics), strict=True)
    singly = [(item.message, item.kind, item.device, 1) for item in left.refusals]
    singly += [(item.message, item.kind, item.device, 1) for item in left.statuses]
    for message, kind, device, number in (*rows, *singly):
        numbers[kind, device] += number
        first.setdefault((kind, device), message)
    return kept._replace(shed=[*kept.shed, *(Shed(first[whose], reason, *whose, number) for whose, number in numbers.items())])
