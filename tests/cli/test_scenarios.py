"""Every scenario of the library, rehearsed: through the decoder and the evaluator that run live, held against its own truth.

`VITALANE_SEEDS=1-50 pytest -s tests/cli/test_scenarios.py` is the whole profile (about four minutes of one processor) and prints the table.
"""

import os

import pytest

from cli.rehearsal import rehearse, rules_of, staged, unbalanced
from cli.scenario import below_floors
from simulators.scenario import library, read_scenario
from simulators.score import Line, Score, by_fault, score, total
from simulators.truth_file import parse_truth

NAMES = [path.stem for path in library()]


def seeds() -> range:
    first, _, last = os.environ.get("VITALANE_SEEDS", "1-2").partition("-")
    return range(int(first), int(last or first) + 1)


def played(name: str, seed: int, faults: str) -> tuple[Score, list[str]]:
    scenario = read_scenario(name)
    rules = rules_of(scenario)
    run = staged(scenario, rules, seed=seed, faults=faults)
    done = rehearse(run, rules)
    result = score(parse_truth(run.truth.lines()), done.events)
    return result, [*unbalanced(run, done.books), *below_floors(run, result)]


def row(name: str, line: Line, result: Score) -> str:
    minutes = ["-" if value is None else f"{value / 60_000:.1f}" for value in (line.p50_ms, line.p95_ms)]
    counts = f"{line.incidents:4} {line.hidden:3} {line.found:4} {line.missed:3}"
    return f"{name:18} {counts}  {line.recall:.3f}  {result.precision:.3f} {minutes[0]:>7} {minutes[1]:>7} {len(result.of_faults):5}"


HEAD = f"\n{'scenario':18} {'n':>4} hid find mis  recall  precis     p50     p95 caused"


@pytest.mark.parametrize("faults", ["own", "all"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_found_whole_with_any_seed(name: str, faults: str) -> None:
    """The books balance, every incident that was long enough for its rule and not hidden is found, no alert is without a cause."""
    print(HEAD)
    for seed in seeds():
        result, wrong = played(name, seed, faults)
        print(row(f"{name} {seed}", total(result), result))
        again = f"vitalane simulate scenario {name} --rehearse --faults {faults} --seed {seed}"
        assert not wrong, f"{again}: {wrong}"
        assert not [item for item in result.found if item.missed], again
        assert not result.of_nobody, f"{again}: {result.of_nobody}"
        assert total(result).found, f"{again}: nothing was to be found"


def test_a_mixture_of_all_faults_hides_next_to_nothing() -> None:
    """Recall that rests on excuses would be worth nothing."""
    lines = [total(played(name, seed, "all")[0]) for name in NAMES for seed in seeds()]
    hidden, incidents = sum(line.hidden for line in lines), sum(line.incidents for line in lines)
    assert hidden <= incidents * 0.02, f"{hidden} of {incidents} were hidden"


def test_a_mixture_has_every_kind_of_fault() -> None:
    kinds = {line.name for name in ("cold-chain-day", "ward-night") for line in by_fault(played(name, 1, "all")[0]) if line.messages}
    assert len(kinds) == 18
