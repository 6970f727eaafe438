"""What a rule watches: one signal, where all its conditions are of the same one; else a derived signal that says them all."""

from collections.abc import Sequence
from typing import NamedTuple

from rules.condition import ACCUMULATED, CLEARS, HAS, HOLDS, SCORE, WITHOUT_METRIC, Comparison, Derived, Expression, Logic, Signal, Silence
from rules.places import LATITUDE, LONGITUDE
from rules.rule import DEFAULT_MAX_GAP_MS, OTHER_MAX_GAP_MS, Rule
from rules.scores import scores

FIRST_STEP = 4  # the bit of a derived signal that says that the first step holds; the next one says that it clears


class Pair(NamedTuple):
    """What raises and what clears."""

    when: Comparison
    clear: Comparison


def watched(
    when: Expression, clear: Expression | None, max_gap_ms: int | None, steps: tuple[tuple[Expression, Expression | None], ...] = ()
) -> list[Pair]:
    """Return the conditions of a rule and of its steps, as comparisons of one signal; without `clear`, that `when` is known not to hold.

    `max_gap_ms` is also how long a reading stands for its metric beside others. Raises ValueError where the two do not go together.
    """
    given = [(when, clear), *steps]
    sides = [side for pair in given for side in pair if side is not None]
    if isinstance(when, Comparison) and all(isinstance(side, Comparison) and side.signal == when.signal for side in sides):
        return [_plain(one, other, max_gap_ms) for one, other in given]
    windowed = [leaf for side in sides for leaf in side.leaves() if leaf.signal.window is not None]
    if windowed:
        msg = f"its conditions watch different signals, and `{windowed[0].signal}` is of closed windows, which do not combine with others"
        raise ValueError(msg)
    said = [(one, Logic("not", (one,)) if other is None else other) for one, other in given]
    leaves = [leaf for pair in said for side in pair for leaf in side.leaves()]
    reach_ms = max(_valid_ms(leaf.signal, max_gap_ms) + leaf.signal.trailing_ms for leaf in leaves)
    derived = Derived(*said[0], max_gap_ms, tuple(said[1:]))
    signal = Signal(when.text(), trailing_ms=reach_ms + 1, derived=derived)
    bits = [(HOLDS, CLEARS), *((FIRST_STEP << 2 * at, 2 * FIRST_STEP << 2 * at) for at in range(len(steps)))]
    return [Pair(Comparison(signal, HAS, holds, ""), Comparison(signal, HAS, clears, "")) for holds, clears in bits]


def metrics_of(signal: Signal) -> Sequence[str]:
    """Return the metrics of which a signal is made."""
    if signal.derived is None or signal.derived.when is None:
        if signal.held is not None:
            return (signal.held.metric,)
        if signal.where is not None:
            return LATITUDE, LONGITUDE
        return scores()[signal.metric].score.metrics if signal.aggregate == SCORE else (signal.metric,)
    leaves = [leaf for side in signal.derived.sides() for leaf in side.leaves()]
    return [metric for leaf in leaves for metric in metrics_of(leaf.signal)]


def conditions(rule: Rule) -> list[tuple[Expression, Expression]]:
    """Return what raises and what clears as it was written, of a rule and of its steps; nothing of a rule on silence."""
    if isinstance(rule.when, Silence):
        return []
    assert rule.clear_when is not None
    made = rule.when.signal.derived
    if made is not None and made.when is not None and made.clear is not None:
        return [(made.when, made.clear), *made.steps]
    return [(rule.when, rule.clear_when), *((step.when, step.clear_when) for step in rule.steps)]


def _plain(when: Expression, clear: Expression | None, max_gap_ms: int | None) -> Pair:
    assert isinstance(when, Comparison)
    clear = when.inverse() if clear is None else clear
    assert isinstance(clear, Comparison)
    return Pair(_alone(when, max_gap_ms), _alone(clear, max_gap_ms)) if when.signal.aggregate in WITHOUT_METRIC else Pair(when, clear)


def _alone(comparison: Comparison, max_gap_ms: int | None) -> Comparison:
    """Return a comparison of what is no metric: of a derived signal that is nothing else."""
    signal = comparison.signal
    valid_ms = None if signal.aggregate == SCORE else max_gap_ms
    derived = Derived(None, None, valid_ms)
    return comparison._replace(signal=signal._replace(trailing_ms=_valid_ms(signal, max_gap_ms) + signal.trailing_ms + 1, derived=derived))


def _valid_ms(signal: Signal, max_gap_ms: int | None) -> int:
    """Return how long a reading stands for its metric, at the longest."""
    if signal.aggregate == SCORE:
        return scores()[signal.metric].score.valid_ms
    valid_ms = max(OTHER_MAX_GAP_MS, *DEFAULT_MAX_GAP_MS.values()) if max_gap_ms is None else max_gap_ms
    return 2 * valid_ms if signal.aggregate == ACCUMULATED else valid_ms  # what held may have begun before the span
