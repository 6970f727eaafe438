"""From a scenario's document, or a file of readings, to what can be played: worlds, incidents, faults and their truth, by a seed."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from simulators.faults import Fault, FaultKind, Span, Tally, dice
from simulators.feeds import Disturbed, WorldSource
from simulators.incidents import Incident, Limit, strike
from simulators.mixture import HARMLESS, Group, can_have, chosen, make, mixture
from simulators.patient import Patients
from simulators.replay import Contents, ReplaySource
from simulators.scenario import WORLDS, DevicesModel, FaultModel, Scenario
from simulators.shipment import Shipments
from simulators.truth import Run, Truth
from simulators.world import Device
from telemetry.errors import ConfigError, Problem

World = Shipments | Patients

ALL, OWN, NONE = "all", "own", "none"
"""Which faults: the scenario's own and a mixture of every kind; its own; none at all. Kinds may be named too."""


class Played(NamedTuple):
    """A scenario that can be played once."""

    scenario: Scenario
    devices: list[Device]
    sources: list[Disturbed]
    truth: Truth

    def tally(self) -> Tally:
        """Return what has been let go so far, over all groups."""
        total = Tally()
        for source in self.sources:
            total.messages += source.tally.messages
            total.copied += source.tally.copied
            total.refused.update(source.tally.refused)
        return total


def stage(
    scenario: Scenario,
    *,
    seed: int,
    start_ms: int,
    limits: Mapping[str, Limit],
    faults: str = OWN,
    speed: float = 1.0,
    played_ms: int = 0,
    grain_ms: int = 0,
) -> Played:
    """Return a scenario set up to be played from an event time on.

    `limits` are those of the rules that judge one metric, by rule. `faults` is ALL, OWN, NONE, or names of kinds with commas. What is
    published within `grain_ms` is received together, and tallied exactly; 0 is live. Raises ConfigError where a group has too few devices
    for what is to happen to it, or a kind is none.
    """
    model = scenario.model
    run = Span(start_ms, start_ms + model.lasts)
    worlds = {name: _world(name, group, seed, start_ms) for name, group in model.devices.items()}
    groups = {name: _group(name, model.devices[name], world) for name, world in worlds.items()}
    incidents = _incidents(scenario, worlds, seed, start_ms, limits)
    struck = {incident.device for incident in incidents}
    acting = _faults(scenario, groups, run, seed, struck, faults)
    devices = [device for world in worlds.values() for device in world.devices]
    told = Run(scenario.name, seed, run.start_ms, run.end_ms, len(devices), speed, played_ms, grain_ms)
    truth = Truth(incidents, devices=devices, faults=[fault for _, fault in acting], run=told)
    sources = [
        Disturbed(
            WorldSource(world, truth=truth),
            [fault for group, fault in acting if group.name == name],
            end_ms=run.end_ms,
            seen=truth.let_go,
            received_ms=told.on_the_clock,
            exact=bool(grain_ms),
        )
        for name, world in worlds.items()
    ]
    return Played(scenario, devices, sources, truth)


def disturb(
    source: ReplaySource, contents: Contents, asked: str, *, name: str, seed: int, shift_ms: int, speed: float, played_ms: int
) -> tuple[Disturbed, Truth]:
    """Return a file's messages with faults on top, and the truth about those. Raises ConfigError for a kind of fault that is none."""
    run = Span(contents.first_ms + shift_ms, contents.last_ms + shift_ms + 1)
    report_ms = max(1, (run.end_ms - run.start_ms) * len(contents.devices) * len(contents.metrics) // contents.rows)
    groups = [
        Group(kind, kind, tuple(sorted(device for device, own in contents.devices.items() if own == kind)), report_ms)
        for kind in sorted(set(contents.devices.values()))
    ]
    kinds = [] if asked in {NONE, OWN} else kinds_of(asked)
    faults = [fault for _, fault in mixture(kinds, groups, run, seed=seed, struck=())]
    devices = [Device(device, device, kind, {}) for device, kind in contents.devices.items()]
    told = Run(name, seed, run.start_ms, run.end_ms, len(devices), speed, played_ms)
    truth = Truth([], devices=devices, faults=faults, run=told)
    return Disturbed(source, faults, seen=truth.let_go, received_ms=told.on_the_clock), truth


def kinds_of(text: str) -> list[FaultKind]:
    """Return the kinds that a text names, with commas. Raises ConfigError for one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {kind.value: kind for kind in FaultKind}
    if names == [ALL]:
        return list(FaultKind)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError([Problem("--faults", 0, 0, "", f"{unknown[0]!r} is none of all, own, none, {', '.join(known)}")])
    return [known[name] for name in names]


def _world(name: str, group: DevicesModel, seed: int, start_ms: int) -> World:
    own = math.floor(dice(seed, "world", name) * 2**31)
    tick_ms = group.step
    if group.world == "shipments":
        return Shipments(group.count, seed=own, start_ms=start_ms, tick_ms=tick_ms, report_ms=group.report, prefix=name, tags=group.tags)
    return Patients(
        group.count,
        seed=own,
        start_ms=start_ms,
        tick_ms=tick_ms,
        report_ms=group.report,
        cuff_ms=group.cuff,
        device_prefix=name,
        subject_prefix=f"{name}-patient",
        tags=group.tags,
    )


def _group(name: str, model: DevicesModel, world: World) -> Group:
    return Group(name, WORLDS[model.world], tuple(device.device for device in world.devices), model.report)


def _incidents(scenario: Scenario, worlds: Mapping[str, World], seed: int, start_ms: int, limits: Mapping[str, Limit]) -> list[Incident]:
    found: list[Incident] = []
    for number, item in enumerate(scenario.model.incidents):
        world, taken = worlds[item.of], {incident.device for incident in found}
        free = {
            device.device: index
            for index, device in enumerate(world.devices)
            if device.device not in taken and item.tags.items() <= device.tags.items()
        }
        if len(free) < item.count:
            raise ConfigError([scenario.problem(("incidents", number), f"{len(free)} devices of `{item.of}` are left for it")])
        for device in chosen(list(free), item.count, seed, "incident", str(number)):
            at_ms = start_ms + item.at + round(dice(seed, "incident", number, device, "when") * item.within)
            ends_ms, limit = at_ms + item.for_, limits.get(item.rule)
            found.append(
                strike(world, item.kind, free[device], at_ms, ends_ms, rule=item.rule, also=item.also, limit=limit, depth=item.depth)
            )
    return found


def _faults(
    scenario: Scenario, groups: Mapping[str, Group], run: Span, seed: int, struck: Collection[str], asked: str
) -> list[tuple[Group, Fault]]:
    if asked == NONE:
        return []
    own = [
        (group, fault)
        for number, item in enumerate(scenario.model.faults)
        for group in (groups[name] for name in ([item.of] if item.of else groups))
        if can_have(item.kind, group)
        for fault in [_own(item, number, group, run, seed, struck)]
    ]
    return own if asked == OWN else own + mixture(kinds_of(asked), list(groups.values()), run, seed=seed, struck=struck)


def _own(item: FaultModel, number: int, group: Group, run: Span, seed: int, struck: Collection[str]) -> Fault:
    """Return a fault of the document."""
    length_ms = run.end_ms - run.start_ms
    count = item.count or math.ceil((1.0 if item.share is None else item.share) * len(group.devices))
    anybody = item.anybody if item.anybody is not None else item.kind in HARMLESS
    open_to = [device for device in group.devices if anybody or device not in struck]
    devices = chosen(open_to, count, seed, "fault", str(number))
    start_ms = run.start_ms + item.at + round(dice(seed, "fault", number, "when") * item.within)
    ends_ms = run.end_ms if item.for_ is None else start_ms + item.for_
    numbers: dict[str, Any] = {
        name: value
        for name, value in {
            "probability": item.probability,
            "within_ms": item.spread,
            "mean_ms": item.mean,
            "distribution": item.distribution,
            "every_ms": item.every,
            "lasts_ms": item.lasts,
            "offset_ms": item.ahead if item.ahead is not None else None if item.behind is None else -item.behind,
            "ppm": item.ppm,
            "metric": item.metric,
            "value": item.value,
            "degrees": item.degrees,
            "per_minute": item.per_minute,
            "schema": item.schema_,
            "backlog": item.backlog,
            "named": item.named,
        }.items()
        if value is not None
    }
    return make(item.kind, group, devices, Span(start_ms, min(ends_ms, run.start_ms + length_ms)), seed=seed, most=item.most, **numbers)
