"""Who is told what: a strict YAML list of subscriptions, each a match and the channels it names. An event that two of them match for one
channel is told once.

    - name: ward
      match: {kind: patient, severity: [warning, critical], tags: {ward: icu}, subject: "bed-*", rule: "desat*", phase: [raised, resolved]}
      channels: [pager]

Every condition of a match must hold; one that is left out holds for every event. Of a list, one is enough.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import translate
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, RootModel, ValidationInfo, field_validator

from documents.model import Strict, validate
from documents.tree import read_text, read_tree
from telemetry.alert import AlertEvent, Phase, Severity

MAX_SUBSCRIPTIONS = 1000


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(min_length=1)]


class Match(Strict):
    """What an event must be. Kinds are words; subjects and rules are patterns with `*` and `?`."""

    kind: Names | None = None
    severity: Annotated[tuple[Severity, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    phase: Annotated[tuple[Phase, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    subject: Names | None = None
    rule: Names | None = None
    tags: dict[Name, Names] = {}
    inhibited: bool = Field(False, description="alerts on a signal that is absent too, which are else for the record only")


class SubscriptionDocument(Strict):
    """One subscription as it is written. Validated with the context `channels`, a channel that is not among them is an error."""

    name: Name
    match: Match = Match(inhibited=False)
    channels: Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(min_length=1)]

    @field_validator("channels")
    @classmethod
    def _known(cls, channels: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = (info.context or {}).get("channels")
        if known is not None:
            unknown = [unknown_channel(channel, known) for channel in channels if channel not in known]
            if unknown:
                raise ValueError("; ".join(unknown))
        return channels

    def subscription(self) -> "Subscription":
        """Return this as it is used."""
        match = self.match
        return Subscription(
            name=self.name,
            kinds=frozenset(match.kind or ()),
            severities=frozenset(match.severity or ()),
            phases=frozenset(match.phase or ()),
            tags={name: frozenset(values) for name, values in match.tags.items()},
            subjects=_pattern(match.subject),
            rules=_pattern(match.rule),
            inhibited=match.inhibited,
            channels=frozenset(self.channels),
        )


class SubscriptionList(RootModel[Annotated[list[SubscriptionDocument], Field(max_length=MAX_SUBSCRIPTIONS)]]):
    """The document: a list of subscriptions."""

    @field_validator("root")
    @classmethod
    def _named_once(cls, documents: list[SubscriptionDocument]) -> list[SubscriptionDocument]:
        names = [document.name for document in documents]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"two subscriptions have the same name: {', '.join(twice)}"
            raise ValueError(msg)
        return documents


class Subscription(NamedTuple):
    """An empty set or None holds for every event."""

    name: str
    kinds: frozenset[str]
    severities: frozenset[Severity]
    phases: frozenset[Phase]
    tags: Mapping[str, frozenset[str]]
    subjects: re.Pattern[str] | None
    rules: re.Pattern[str] | None
    channels: frozenset[str]
    inhibited: bool = False

    def matches(self, event: AlertEvent) -> bool:
        """Return whether the event is one that this subscription is about."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (not self.severities or not self.severities.isdisjoint(event.severities))
            and (not self.phases or event.phase in self.phases)
            and (self.subjects is None or self.subjects.match(event.subject) is not None)
            and (self.rules is None or self.rules.match(event.rule) is not None)
            and (self.inhibited or event.inhibited_by is None)
            and all(event.tags.get(name) in values for name, values in self.tags.items())
        )


def load_subscriptions(path: Path, channels: Collection[str]) -> list[Subscription]:
    """Return the subscriptions of a file. Raises ConfigError with every problem, channels that do not exist among them."""
    tree = read_tree(read_text(path), str(path))
    if tree.value is None:
        return []
    documents = validate(tree, SubscriptionList, {"channels": frozenset(channels)})
    return [document.subscription() for document in documents.root]


def wants(subscriptions: Sequence[Subscription], channel: str) -> Callable[[AlertEvent], bool]:
    """Return whether an event is for a channel, as a function of the event."""
    mine = [subscription for subscription in subscriptions if channel in subscription.channels]
    return lambda event: any(subscription.matches(event) for subscription in mine)


def unknown_channels(documents: Sequence[SubscriptionDocument], channels: Collection[str]) -> list[tuple[int, str]]:
    """Return (index, sentence) for each channel that does not exist: for subscriptions that stand in the document of the channels."""
    return [
        (index, unknown_channel(channel, channels))
        for index, document in enumerate(documents)
        for channel in document.channels
        if channel not in channels
    ]


def unknown_channel(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"there is no channel {name!r}, did you mean {near[0]!r}?"
    return f"there is no channel {name!r}: there " + (f"are {', '.join(sorted(known))}" if known else "are none")


def _pattern(globs: Sequence[str] | None) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None
