"""All mappings in force, by topic. As plain data they are part of the registry's control record, so a replay reads what was read then."""

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from typing import Any, NamedTuple

from decoders.mapping import Mapping
from decoders.mapping_model import MappingModel
from decoders.topics import REMEMBERED_TOPICS


class Claim(NamedTuple):
    """A mapping that a topic belongs to, and the parts that it names."""

    mapping: Mapping
    parts: Dict[str, str]


class Mappings:
    """The mappings in their order: of several that claim a topic, the first whose `where` holds reads the message."""

    def __init__(self, models: Iterable[MappingModel] = ()) -> None:
        self.every = [Mapping(model) for model in models]
        self._claims: dict[bytes, Sequence[Claim]] = {}

    @property
    def filters(self) -> list[str]:
        """What is to be subscribed to, each filter once."""
        return list(dict.fromkeys(mapping.pattern.filter for mapping in self.every))

    def claims(self, topic: bytes) -> Sequence[Claim]:
        """Return the mappings that a topic belongs to, in their order. Worked out once a topic, forgotten when there are too many."""
        found = self._claims.get(topic)
        if found is None:
            if len(self._claims) >= REMEMBERED_TOPICS:
                self._claims.clear()
            found = self._claims[topic] = self._work_out(topic)
        return found

    def home(self, topic: bytes) -> str | None:
        """Return the device that a topic names, by the first mapping that claims it; None where only the message does, or nobody does."""
        claims = self.claims(topic)
        return claims[0].mapping.home(claims[0].parts) if claims else None

    def _work_out(self, topic: bytes) -> Sequence[Claim]:
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            return ()
        matched = ((mapping, mapping.pattern.match(text)) for mapping in self.every)
        return tuple(Claim(mapping, parts) for mapping, parts in matched if parts is not None)


def as_plain(models: Iterable[MappingModel]) -> list[dict[str, Any]]:
    """Return mappings as the control record has them."""
    return [model.model_dump(mode="json", by_alias=True, exclude_defaults=True) for model in models]


def from_plain(plain: Iterable[Dict[str, Any]]) -> Mappings:
    """Return the mappings of a control record."""
    return Mappings(MappingModel.model_validate(item) for item in plain)


NO_MAPPINGS = Mappings()
