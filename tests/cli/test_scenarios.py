"""Every scenario of the library, rehearsed: through the decoder and the evaluator that run live, held against its own truth.

`vitalane simulate scenario --rehearse --seeds 1-50 --faults all` is the whole profile, and prints the table; here it is a test of some
minutes with `VITALANE_SEEDS=1-50`.
"""

import os
from random import Random

import pytest

from cli.rehearsal import rehearse, rules_of, staged, unbalanced
from cli.rehearsals import rehearsed, table
from simulators.faults import Fault, FaultKind, Span, Way
from simulators.mixture import Group, can_have, make
from simulators.scenario import WORLDS, library, read_scenario
from simulators.score import by_fault, merged, score, total
from simulators.truth_file import parse_truth

NAMES = [path.stem for path in library()]

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def seeds() -> range:
    first, _, last = os.environ.get("VITALANE_SEEDS", "1-2").partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize("faults", ["own", "all"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_found_whole_with_any_seed(name: str, faults: str) -> None:
    """The books balance, every incident that was long enough for its rule and not hidden is found, no alert is without a cause."""
    outcomes = []
    for seed in seeds():
        outcome = rehearsed(name, seed, faults).outcome
        outcomes.append(outcome)
        result = outcome.result
        assert not outcome.wrong, f"{outcome.command}: {outcome.wrong}"
        assert not [item for item in result.found if item.missed], outcome.command
        assert not result.of_nobody, f"{outcome.command}: {result.of_nobody}"
        assert total(result).found, f"{outcome.command}: nothing was to be found"
    print("\n".join(["", *table(outcomes)]))


def test_a_mixture_of_all_faults_hides_next_to_nothing_and_has_every_kind() -> None:
    """Recall that rests on excuses would be worth nothing."""
    together = merged([rehearsed(name, seed, "all").outcome.result for name in NAMES for seed in seeds()])
    assert total(together).hidden <= 0.05 * total(together).incidents
    assert {line.name for line in by_fault(together) if line.messages} == {str(kind) for kind in FaultKind}


@pytest.mark.parametrize("name", ["cold-chain-day", "ward-night"])
def test_faults_compose_in_any_order_and_all_on_the_same_devices(name: str) -> None:
    """A device that has everything at once, in whatever order, is still counted to the last reading."""
    for seed in seeds():
        scenario = read_scenario(name)
        rules = rules_of(scenario)
        played = staged(scenario, rules, seed=seed, faults="none")
        random, faults = Random(seed), list[Fault]()
        for source, (group, model) in zip(played.sources, scenario.model.devices.items(), strict=True):
            devices = tuple(device.device for device in played.devices if device.device.startswith(group))
            of = Group(group, WORLDS[model.world], devices, model.report)
            run = played.truth.run
            span = Span(run.start_ms + (run.end_ms - run.start_ms) // 4, run.end_ms - (run.end_ms - run.start_ms) // 4)
            mine = [make(kind, of, random.sample(devices, 4), span, seed=seed) for kind in FaultKind if can_have(kind, of)]
            random.shuffle(mine)
            source._way = Way(mine)
            faults += mine
        played.truth.faults[:] = faults
        done = rehearse(played, rules)
        order = ", ".join(fault.kind for fault in faults)
        assert not unbalanced(played, done.books), f"{name}, seed {seed}: {order}"
        result = score(parse_truth(played.truth.lines()), done.events)
        assert not [item for item in result.found if item.missed], f"{name}, seed {seed}: {order}"
        assert not result.of_nobody, f"{name}, seed {seed}: {order}"
