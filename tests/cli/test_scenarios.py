"""Every scenario of the library, rehearsed: through the decoder and the evaluator that run live, held against its own truth.

`vitalane simulate scenario --rehearse --seeds 1-50 --faults all` is the whole profile, and prints the table; here it is a test of some
minutes with `VITALANE_SEEDS=1-50`.
"""

import os

import pytest

from cli.rehearsals import rehearsed, table
from simulators.faults import FaultKind
from simulators.scenario import library
from simulators.score import by_fault, merged, total

NAMES = [path.stem for path in library()]

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def seeds() -> range:
    first, _, last = os.environ.get("VITALANE_SEEDS", "1-3").partition("-")
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
