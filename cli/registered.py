"""What is known of devices: the registry document, what was assigned by command since, and the mappings by which other makes are read.

Assignments by command are kept in `data/control/devices.json`, with who and why; of two that overlap the one that begins later holds,
wherever it stands. The journal has all of it, as one control record.
"""

import json
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from cli.configuration import Configuration, attempt
from cli.registry import DeviceEntry, RegistryModel
from cli.settings import Use
from decoders.decode import RowDecoder
from decoders.library import Library, adapted, gathered, read_document, shipped_names
from decoders.mapping_model import MappingsModel
from decoders.mappings import Mappings, as_plain
from decoders.topics import covers
from documents import load
from rules.control import registry_record
from telemetry.clock import format_ms, utc_now_ms
from telemetry.errors import ConfigError, Problem, VitalaneError
from telemetry.metrics import CATALOGUE, Metric

MAX_BYTES = 64 << 20


class Assigned(NamedTuple):
    """One assignment by command."""

    entry: DeviceEntry
    who: str
    why: str
    since: str  # when it was made, RFC 3339


class Registered(NamedTuple):
    document: RegistryModel
    assigned: list[Assigned]
    library: Library

    def entries(self) -> list[DeviceEntry]:
        """Return every assignment, those by command last."""
        return [*self.document.devices, *(item.entry for item in self.assigned)]

    def assignments(self) -> list[dict[str, Any]]:
        """Return every assignment as the control record has it."""
        return [entry.assignment() for entry in self.entries()]

    def metrics(self) -> list[Metric]:
        """Return the metrics besides the catalogue's: of the registry and of the mappings."""
        return [*self.document.own_metrics(), *self.library.metrics]

    def catalogue(self) -> dict[str, Metric]:
        """Return every metric by its name."""
        return CATALOGUE | {metric.name: metric for metric in self.metrics()}

    def decoder(self) -> RowDecoder:
        return RowDecoder(self.catalogue(), self.mappings())

    def mappings(self) -> Mappings:
        return Mappings(self.library.mappings)

    def topics(self, configured: list[str]) -> tuple[str, ...]:
        """Return what is to be subscribed to: what the configuration says, and what the mappings read, each topic once."""
        wanted = list(dict.fromkeys([*configured, *self.mappings().filters]))
        return tuple(one for one in wanted if not any(other != one and covers(other, one) for other in wanted))

    def record(self, who: str = "", why: str = "") -> bytes:
        """Return the control record that puts all of it in force."""
        return registry_record(
            self.assignments(),
            self.metrics(),
            applied_by=who,
            why=why,
            mappings=as_plain(self.library.mappings),
            unknown="" if self.document.unknown == "accept" else self.document.unknown,
            max_messages_per_minute=self.document.max_messages_per_minute or 0,
        )


def registered(configuration: Configuration) -> Registered:
    """Return what is known of devices. Raises ConfigError with every problem."""
    named = configuration.settings.registry
    document = RegistryModel() if named is None else load(configuration.folder / named, RegistryModel)
    own = {metric.name: metric for metric in document.own_metrics()}
    return Registered(document, assigned(configuration.data_dir), _library(configuration, own))


def _library(configuration: Configuration, own: dict[str, Metric]) -> Library:
    problems: list[Problem] = []
    documents = []
    for index, item in enumerate(configuration.settings.mappings):
        use = item if isinstance(item, Use) else Use(use=item)
        document = attempt(problems, partial(_document, configuration, index, use))
        if document is not None:
            documents.append((use.use, document))
    if problems:
        raise ConfigError(problems)
    return gathered(documents, own)


def _document(configuration: Configuration, index: int, use: Use) -> MappingsModel:
    return adapted(read_document(_source(configuration, index, use.use)), use.changes(), use.use)


def _source(configuration: Configuration, index: int, name: str) -> Path | str:
    """Return the file, or the name in the library, that a configuration means."""
    if name in shipped_names():
        return name
    file = configuration.folder / name
    if file.is_file():
        return file
    near = get_close_matches(name, shipped_names(), n=1)
    hint = f", did you mean `{near[0]}`?" if near else f" (shipped: {', '.join(shipped_names())})"
    raise configuration.problem(("mappings", index), f"there is no file and no shipped mapping `{name}`{hint}")


def assigned(data_dir: Path) -> list[Assigned]:
    """Return the assignments by command, oldest first. Raises VitalaneError where their file cannot be read."""
    file = _file(data_dir)
    try:
        with file.open("rb") as opened:
            plain = json.loads(opened.read(MAX_BYTES))
        return [Assigned(DeviceEntry.model_validate(item.pop("entry")), **item) for item in plain]
    except (FileNotFoundError, NotADirectoryError):  # who needs the folder says what is wrong with it
        return []
    except (OSError, ValueError, TypeError, AttributeError, KeyError, ValidationError) as error:
        msg = f"{file} cannot be read, so it is not known what was assigned: {error}"
        raise VitalaneError(msg) from error


def assign(data_dir: Path, entry: DeviceEntry, who: str, why: str) -> None:
    """Keep an assignment."""
    file = _file(data_dir)
    everything = [*assigned(data_dir), Assigned(entry, who[:200], why[:1000], format_ms(utc_now_ms()))]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    plain = [item._asdict() | {"entry": item.entry.model_dump(mode="json", by_alias=True, exclude_defaults=True)} for item in everything]
    temporary.write_text(json.dumps(plain, ensure_ascii=False, indent=1))
    temporary.replace(file)


def _file(data_dir: Path) -> Path:
    return data_dir / "control" / "devices.json"
