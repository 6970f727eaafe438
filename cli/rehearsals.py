"""Many rehearsals, of several scenarios with many seeds, on all processors; and the table of what they came to."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from cli.rehearsal import Rehearsed, rehearse, rules_of, staged, unbalanced
from documents import format_duration
from simulators.scenario import FloorsModel, read_scenario
from simulators.score import Score, by_fault, merged, score, total
from simulators.staging import Played
from simulators.truth_file import parse_truth


class Outcome(NamedTuple):
    """What one rehearsal came to. `wrong` says what does not add up, and which floor of the scenario was not reached."""

    name: str
    seed: int
    faults: str
    result: Score
    wrong: list[str]

    @property
    def command(self) -> str:
        """Return how to see it again."""
        return f"vitalane simulate scenario {self.name} --rehearse --faults {self.faults} --seed {self.seed}"


class Detail(NamedTuple):
    """A rehearsal with everything that it was made of."""

    outcome: Outcome
    played: Played
    done: Rehearsed


def rehearsed(name: str, seed: int, faults: str) -> Detail:
    """Rehearse a scenario once. Raises ConfigError with every problem of its document."""
    scenario = read_scenario(name)
    rules = rules_of(scenario)
    played = staged(scenario, rules, seed=seed, faults=faults)
    done = rehearse(played, rules)
    result = score(parse_truth(played.truth.lines()), done.events)
    wrong = [*unbalanced(played, done.books), *below_floors(scenario.model.floors, result)]
    return Detail(Outcome(name, seed, faults, result, wrong), played, done)


def rehearse_all(names: Sequence[str], seeds: Sequence[int], faults: str, told: Callable[[int], None] = lambda _: None) -> list[Outcome]:
    """Rehearse each scenario with each seed; `told` hears how many are done."""
    for name in names:
        rules_of(read_scenario(name))  # what is wrong with a document is said before anything is started
    work = [(name, seed) for name in names for seed in seeds]
    found = []
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(work)), mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(partial(_outcome, faults=faults), *zip(*work, strict=True)):
            found.append(outcome)
            told(len(found))
    return found


def below_floors(floors: FloorsModel, result: Score) -> list[str]:
    """Return where a result is below what a scenario promises."""
    wrong = []
    if floors.recall and not any(item.counts for item in result.found):
        wrong.append(
            f"nothing was due of {len(result.found)} incidents, so recall was not tried: `floors: {{recall: 0}}` where that is meant"
        )
    if result.recall < floors.recall:
        wrong.append(f"recall {result.recall:.3f} is below {floors.recall}")
    if result.precision < floors.precision:
        wrong.append(f"precision {result.precision:.3f} is below {floors.precision}")
    undisturbed = by_fault(result)[0].p95_ms
    if floors.p95 and undisturbed is not None and undisturbed > floors.p95:
        wrong.append(f"without faults, 95 % were found within {undisturbed / 60_000:.1f} min, not {format_duration(floors.p95)}")
    return wrong


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a row for each scenario, over all its seeds."""
    lines = [f"{'scenario':18} runs    n hidden found missed  recall  precision  p50 min  p95 min  caused  no cause  wrong"]
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.name == name]
        result = merged([outcome.result for outcome in mine])
        line = total(result)
        minutes = ["-" if value is None else f"{value / 60_000:.1f}" for value in (line.p50_ms, line.p95_ms)]
        counts = f"{len(mine):4} {line.incidents:4} {line.hidden:6} {line.found:5} {line.missed:6}"
        rates = f"{result.recall:6.3f}  {result.precision:9.3f} {minutes[0]:>8} {minutes[1]:>8}"
        alerts = f"{len(result.of_faults):6}  {len(result.of_nobody):8}  {sum(bool(outcome.wrong) for outcome in mine):5}"
        lines.append(f"{name:18} {counts}  {rates}  {alerts}")
    return lines


def _outcome(name: str, seed: int, *, faults: str) -> Outcome:
    return rehearsed(name, seed, faults).outcome
