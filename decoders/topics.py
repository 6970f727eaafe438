"""The grammar of topics: `vitalane/v1/{kind}/{device}/{form}`. `parse` and `format_topic` are inverses of each other.

Whose message it is stands in the topic, not in the payload: a device cannot speak for another one whose topics the broker does not
let it publish to. Alerts go out under `vitalane/v1/alerts/...`, which no kind is called, so that what we say never comes back as a reading.
"""

import re
from functools import lru_cache
from typing import NamedTuple

PREFIX = "vitalane/v1"
KINDS = ("shipment", "patient")
READINGS, SENML, STATUS = FORMS = ("readings", "senml", "status")

FILTERS = tuple(f"{PREFIX}/{kind}/+/+" for kind in KINDS)
"""What ingest subscribes to: every kind, and never our own alerts."""

OWN_ALERTS = f"{PREFIX}/alerts/".encode()

REMEMBERED_TOPICS = 131_072  # a device has one to three; beyond this many a parsed topic is forgotten and parsed again

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PART = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_GROUP = re.compile(r"[^/+#\x00]{1,128}")
_TOPIC = re.compile(rf"{PREFIX}/({'|'.join(KINDS)})/({_DEVICE.pattern})/({'|'.join(FORMS)})".encode())


class Topic(NamedTuple):
    kind: str  # of KINDS
    device: str
    form: str  # of FORMS: how the payload is written


@lru_cache(REMEMBERED_TOPICS)
def parse(topic: bytes) -> Topic | None:
    """Return what a topic names, or None where it is none of ours."""
    match = _TOPIC.fullmatch(topic)
    return Topic(*(part.decode() for part in match.groups())) if match else None


def format_topic(topic: Topic) -> str:
    """Return the topic as it is published. Raises ValueError where a part is outside the grammar."""
    text = f"{PREFIX}/{topic.kind}/{topic.device}/{topic.form}"
    if not _TOPIC.fullmatch(text.encode("utf-8", "replace")):
        msg = f"{text!r} is not {PREFIX}/{{{'|'.join(KINDS)}}}/{{device}}/{{{'|'.join(FORMS)}}}"
        raise ValueError(msg)
    return text


def is_device(text: str) -> bool:
    """Return whether a text can be the name of a device in a topic."""
    return _DEVICE.fullmatch(text) is not None


def alert_topic(kind: str, rule: str) -> str:
    """Return the topic on which alerts of one rule are published. Raises ValueError where a part is outside the grammar."""
    if kind not in KINDS or not _RULE.fullmatch(rule):
        msg = f"no alert topic for kind {kind!r} and rule {rule!r}"
        raise ValueError(msg)
    return f"{PREFIX}/alerts/{kind}/{rule}"


class Pattern:
    """Topics of other makes as a mapping writes them: `tele/{device}/SENSOR`. `{device}` names a level, `+` is any one, `#` what is left.

    Raises ValueError for a text that is none.
    """

    def __init__(self, text: str) -> None:
        levels = text.split("/")
        named = [match[1] for level in levels if (match := _PART.fullmatch(level))]
        self.text, self.parts = text, tuple(named)
        self.filter = "/".join("+" if _PART.fullmatch(level) else level for level in levels)
        """What is subscribed to."""
        if not is_filter(self.filter) or any(character in self.filter for character in "{}"):
            msg = "is no topic: levels by /, {name} or + for one level, # for the rest at the end"
            raise ValueError(msg)
        if len(set(named)) < len(named):
            msg = "names a part twice"
            raise ValueError(msg)
        self._regex = re.compile("/".join(_level(level) for level in levels).replace("/.*", "(?:/.*)?"))

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the named parts of a topic, None where it is another one."""
        found = self._regex.fullmatch(topic)
        return found.groupdict() if found else None


def _level(level: str) -> str:
    named = _PART.fullmatch(level)
    if named:
        return f"(?P<{named[1]}>[^/]+)"
    return {"+": "[^/]*", "#": ".*"}.get(level) or re.escape(level)


def covers(wide: str, narrow: str) -> bool:
    """Return whether every topic of one filter is one of another."""
    wanted, given = wide.split("/"), narrow.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(given) or given[number] == "#" or (level != "+" and level != given[number]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Return whether some topic is one of both filters."""
    ours, theirs = one.split("/"), other.split("/")
    for left, right in zip(ours, theirs, strict=False):
        if "#" in {left, right}:
            return True
        if left != right and "+" not in {left, right}:
            return False
    rest = ours[len(theirs) :] + theirs[len(ours) :]
    return not rest or rest == ["#"]


def is_filter(text: str) -> bool:
    """Return whether MQTT allows a text as a topic filter: `+` and `#` stand alone in their level, `#` at the end."""
    levels = text.split("/")
    whole = all("+" not in level and "#" not in level for level in levels if level not in {"+", "#"})
    return 0 < len(text.encode("utf-8", "replace")) <= 65_535 and "\x00" not in text and whole and "#" not in levels[:-1]


def shared(topic_filter: str, group: str) -> str:
    """Return the form of a filter under which several ingest processes share its messages. Raises ValueError for a bad group name."""
    if not _GROUP.fullmatch(group):
        msg = f"{group!r} is not the name of a shared subscription"
        raise ValueError(msg)
    return f"$share/{group}/{topic_filter}"
