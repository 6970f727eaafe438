"""Mapping documents: files of the operator and the shipped library, with what a configuration changes in them."""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from decoders.mapping_model import MappingModel, MappingsModel, PartModel, TimeModel
from decoders.times import TimeForm
from documents import parse
from documents.tree import read_text
from telemetry.errors import ConfigError, Problem
from telemetry.metrics import CATALOGUE, Metric

LIBRARY = "library"


class Library(NamedTuple):
    """Mappings that are whole: every metric is known, every local time has its zone."""

    mappings: list[MappingModel]
    metrics: list[Metric]  # that they bring besides the catalogue's


def shipped_names() -> list[str]:
    """Return the names of the shipped mapping documents."""
    return sorted(item.name.removesuffix(".yaml") for item in files("decoders").joinpath(LIBRARY).iterdir() if item.name.endswith(".yaml"))


def read_document(source: Path | str) -> MappingsModel:
    """Return the document of a file, or of the library by its name. Raises ConfigError with every problem."""
    if isinstance(source, str):
        return parse(files("decoders").joinpath(LIBRARY, f"{source}.yaml").read_text(), f"{source}.yaml", MappingsModel)
    return parse(read_text(source), str(source), MappingsModel)


def adapted(document: MappingsModel, changes: Dict[str, Any], name: str) -> MappingsModel:
    """Return a document with what a configuration changes: `zone` of local times, `kind`, `topic`, `names`. Raises ConfigError."""
    zone = changes.get("zone") or ""
    plain = {key: value for key, value in changes.items() if key in {"kind", "topic", "names"} and value is not None}
    try:
        mappings = [MappingModel.model_validate(_zoned(mapping.model_dump(by_alias=True), zone) | plain) for mapping in document.mappings]
    except ValidationError as error:
        problems = [Problem(name, 0, 0, "", str(item["msg"]).removeprefix("Value error, ")) for item in error.errors()]
        raise ConfigError(problems) from error
    return document.model_copy(update={"mappings": mappings})


def gathered(documents: Sequence[tuple[str, MappingsModel]], own: Dict[str, Metric]) -> Library:
    """Return the mappings of named documents, in their order, and the metrics that they bring; `own` are metrics that the registry has.

    Raises ConfigError where two have one name, a metric is unknown or meant in two ways, or a local time has no zone.
    """
    problems: list[Problem] = []
    metrics: dict[str, Metric] = {}
    mappings: dict[str, MappingModel] = {}
    for file, document in documents:
        for entry in document.metrics:
            metric = entry.metric()
            known = {**CATALOGUE, **own}.get(entry.name) or metrics.setdefault(entry.name, metric)
            if known.unit != metric.unit:
                problems.append(Problem(file, 0, 0, "metrics", f"`{entry.name}` is measured in {known.unit}, not in {metric.unit}"))
        for mapping in document.mappings:
            if mapping.name in mappings:
                problems.append(Problem(file, 0, 0, mapping.name, "another mapping has this name"))
            mappings[mapping.name] = mapping
    catalogue = {**CATALOGUE, **own, **metrics}
    for file, document in documents:
        for mapping in document.mappings:
            problems += [Problem(file, 0, 0, mapping.name, text) for text in _missing(mapping, catalogue)]
    if problems:
        raise ConfigError(problems)
    return Library(list(mappings.values()), list(metrics.values()))


def _missing(mapping: MappingModel, catalogue: Dict[str, Metric]) -> list[str]:
    named = {metric for part in _parts(mapping) for metric in [*part.readings, *(part.long.names.values() if part.long else ())]}
    found = [f"no metric is called `{name}`: define it under `metrics`" for name in sorted(named - catalogue.keys())]
    if any(time.form is TimeForm.LOCAL and time.zone is None for part in _parts(mapping) for time in _times(part)):
        found.append("its times are local and name no zone: say which with `zone: Europe/Amsterdam`")
    return found


def _parts(mapping: MappingModel) -> list[PartModel]:
    return list(mapping.parts or [mapping])


def _times(part: PartModel) -> list[TimeModel]:
    return part.time if isinstance(part.time, list) else [] if part.time is None else [part.time]


def _zoned(plain: Any, zone: str) -> Any:
    """Return a mapping's plain form in which every local time without a zone has this one."""
    if isinstance(plain, list):
        return [_zoned(item, zone) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if zone and plain.get("form") == TimeForm.LOCAL and plain.get("zone") is None:
        return {**plain, "zone": zone}
    return {key: _zoned(value, zone) for key, value in plain.items()}
