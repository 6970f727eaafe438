"""What a rule watches: one signal, where its two conditions are of the same one; else a derived signal that says both."""

from rules.condition import CLEARS, HAS, HOLDS, SCORE, Comparison, Derived, Expression, Logic, Signal
from rules.rule import DEFAULT_MAX_GAP_MS, OTHER_MAX_GAP_MS
from rules.scores import scores


def watched(when: Expression, clear: Expression | None, max_gap_ms: int | None) -> tuple[Comparison, Comparison]:
    """Return what raises and what clears, as comparisons of one signal; without `clear`, that `when` is known not to hold.

    `max_gap_ms` is also how long a reading stands for its metric beside others. Raises ValueError where the two do not go together.
    """
    if isinstance(when, Comparison) and (clear is None or (isinstance(clear, Comparison) and clear.signal == when.signal)):
        clear = when.inverse() if clear is None else clear
        return (_scored(when), _scored(clear)) if when.signal.aggregate == SCORE else (when, clear)
    windowed = [leaf for side in (when, clear) if side is not None for leaf in side.leaves() if leaf.signal.window is not None]
    if windowed:
        msg = (
            f"`when` and `clear` watch different signals, and `{windowed[0].signal}` is of closed windows, which do not combine with others"
        )
        raise ValueError(msg)
    limited = [leaf for side in (when, clear) if side is not None for leaf in side.leaves() if leaf.limit]
    if limited:
        msg = f"`when` and `clear` watch different signals, and `limit({limited[0].limit}, …)` does not combine with others yet"
        raise ValueError(msg)
    clear = Logic("not", (when,)) if clear is None else clear
    leaves = [*when.leaves(), *clear.leaves()]
    reach_ms = max(_valid_ms(leaf.signal, max_gap_ms) + leaf.signal.trailing_ms for leaf in leaves)
    signal = Signal(when.text(), trailing_ms=reach_ms + 1, derived=Derived(when, clear, max_gap_ms))
    return Comparison(signal, HAS, HOLDS, ""), Comparison(signal, HAS, CLEARS, "")


def _scored(comparison: Comparison) -> Comparison:
    name = comparison.signal.metric
    valid_ms = scores()[name].score.valid_ms
    return comparison._replace(signal=Signal(name, SCORE, valid_ms + 1, derived=Derived(None, None, None)))


def _valid_ms(signal: Signal, max_gap_ms: int | None) -> int:
    """Return how long a reading stands for its metric, at the longest."""
    if signal.aggregate == SCORE:
        return scores()[signal.metric].score.valid_ms
    return max(OTHER_MAX_GAP_MS, *DEFAULT_MAX_GAP_MS.values()) if max_gap_ms is None else max_gap_ms
