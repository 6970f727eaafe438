"""Summaries of groups of readings: what a window holds, as numbers. One function for every window, closed or closed again.

The law: the summary of a group is a function of its readings alone, to the last bit. Whatever other groups stand beside it in a call, and
wherever it lies in the arrays, it comes out the same, so a window that is computed again after a late reading is what it would have been
had the reading been in time. Three things keep it: every sum over a group is one `np.add.reduceat`, which adds each group pairwise, in an
order that depends on its length only; everything else is either done element by element or exact (least, greatest, sorting); and a zero
has one sign, as which of two zeros is the lesser is left to the processor.

Sums are pairwise (error of order log n). Mean and spread are of two passes: the deviations from a first mean correct it, and the sum of
their squares (the corrected two-pass algorithm of Chan, Golub and LeVeque 1983). Percentiles interpolate between the closest ranks
(Hyndman and Fan 1996, type 7), with numpy's own arithmetic.
"""

from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.columns import Floats, Integers
from rules.window import AGGREGATES, TRAILING

LARGE, SMALL = 2.0**400, 2.0**-400
SHRINK = 2.0**-600
"""A group whose greatest magnitude is outside [SMALL, LARGE] is computed times SHRINK or 1 / SHRINK, so that no square leaves a double."""

KELVIN_0 = 273.15
ACTIVATION_K = 10_000.0

FEW = 128
"""So many groups of unlike lengths are sorted one by one faster than in blocks."""


def summarise(
    starts: Integers,
    counts: Integers,
    times_ms: Integers,
    values: Floats,
    wanted: Collection[str] = AGGREGATES,
    activation_k: float = ACTIVATION_K,
) -> dict[str, NDArray[Any]]:
    """Return an array per wanted aggregate with one entry a group: `count` int64, the others float64, NaN where there is none.

    Group g is `values[starts[g] : starts[g] + counts[g]]`, in the order of (time, device, value), finite, with at least one reading. Groups
    may overlap and leave gaps. All are in the values' unit but `count`, and `slope` and `rate`, which are in that unit a second and need
    two times. `stddev` is of the population, `delta` is last less first, `rate` that over the time between, `mkt` the mean kinetic
    temperature of degrees Celsius; `activation_k` is the heat of activation over the gas constant for it, in kelvins. Whatever lies between
    the values of a group (mean, median, p95, mkt) lies between `min` and `max`.
    """
    assert set(wanted) <= set(TRAILING), f"unknown among {wanted}"
    with np.errstate(over="ignore", invalid="ignore"):  # a sum, a range, a slope or what is between two values may be beyond a double
        groups = _Groups(starts, counts, times_ms, values, activation_k)
        return {name: getattr(groups, name) for name in TRAILING if name in wanted}


class _Groups:
    """What is known of some groups, computed when it is asked for: an entry a group, but an entry a reading in what is made of `_taken`."""

    def __init__(self, starts: Integers, counts: Integers, times_ms: Integers, values: Floats, activation_k: float) -> None:
        self.activation_k = activation_k
        self.starts, self.counts, self.times_ms, self.values = starts, counts, times_ms, values
        self.offsets = np.cumsum(counts) - counts  # of each group in what is taken

    @property
    def count(self) -> Integers:
        return self.counts.astype(np.int64)

    @property
    def first(self) -> Floats:
        return self.values[self.starts] + 0.0

    @property
    def last(self) -> Floats:
        return self.values[self._lasts] + 0.0

    @cached_property
    def min(self) -> Floats:
        return self._over(np.minimum, self._taken)

    @cached_property
    def max(self) -> Floats:
        return self._over(np.maximum, self._taken)

    @property
    def range(self) -> Floats:
        return self.max - self.min

    @property
    def sum(self) -> Floats:
        return self._unscaled(self._sum)

    @property
    def mean(self) -> Floats:
        mean = self._unscaled(self._centre + self._excess / self.counts)
        # From a centre between the values, rounding leads out of them in no group that fits in memory; but rules are skipped on it.
        return np.minimum(np.maximum(mean, self.min), self.max) + 0.0

    @property
    def stddev(self) -> Floats:
        """The second term is what the squares are too large by because the centre is a rounded mean.

        What is left is not negative: the centre lies between the values, so it is at least half the square of their range.
        """
        squares = self._over(np.add, self._deviations * self._deviations) - self._excess * self._excess / self.counts
        return self._unscaled(np.sqrt(squares / self.counts))

    @property
    def slope(self) -> Floats:
        """Least squares about the means: sum(t x) / sum(t t)."""
        moves = self.times_ms[self._lasts] > self.times_ms[self.starts]
        since_ms = (self.times_ms[self._at] - self._each(self.times_ms[self.starts])).astype(np.float64)
        since_ms -= self._each(self._over(np.add, since_ms) / self.counts)
        together, alone = self._over(np.add, since_ms * self._deviations), self._over(np.add, since_ms * since_ms)
        slope = np.full(len(self.counts), np.nan)
        np.divide(together * 1000.0, alone, out=slope, where=moves)
        return self._unscaled(slope)

    @property
    def delta(self) -> Floats:
        return self.last - self.first

    @property
    def rate(self) -> Floats:
        elapsed_ms = self.times_ms[self._lasts] - self.times_ms[self.starts]
        rate = np.full(len(self.counts), np.nan)
        np.divide(self.delta * 1000.0, elapsed_ms, out=rate, where=elapsed_ms > 0)
        return rate

    @property
    def mkt(self) -> Floats:
        """Mean kinetic temperature (ICH Q1A; USP <1079.2>): that at which, all the time, as much would have degraded.

        Each reading counts for half the time to the one before and half that to the one after, the first and the last for as much on
        their other side: at even intervals all count the same. The heat of activation over the gas constant is 10,000 K where nobody
        says otherwise: 83.144 kJ/mol, the customary value.
        """
        activation_k, times_ms = self.activation_k, self.times_ms[self._at].astype(np.float64)
        first, last = self.offsets, self.offsets + self.counts - 1
        second, last_but_one = np.minimum(first + 1, last), np.maximum(last - 1, first)
        before, after = times_ms.copy(), times_ms.copy()
        before[1:], after[:-1] = times_ms[:-1], times_ms[1:]
        before[first] = 2 * times_ms[first] - times_ms[second]
        after[last] = 2 * times_ms[last] - times_ms[last_but_one]
        weights = after - before
        weights += self._each(np.where(self._over(np.add, weights) > 0, 0.0, 1.0))  # one reading, or all of one time
        speed = np.exp(activation_k / KELVIN_0 - activation_k / np.maximum(self._taken + KELVIN_0, 1.0))
        mean = self._over(np.add, weights * speed) / self._over(np.add, weights)
        kinetic = activation_k / (activation_k / KELVIN_0 - np.log(mean)) - KELVIN_0
        return np.minimum(np.maximum(kinetic, self.min), self.max) + 0.0

    @property
    def median(self) -> Floats:
        return self._percentile(0.5)

    @property
    def p95(self) -> Floats:
        return self._percentile(0.95)

    def _percentile(self, share: float) -> Floats:
        ordered, starts = self._ordered
        rank = (self.counts - 1) * share
        whole = rank.astype(np.int64)
        part = rank - whole
        below = ordered[starts + whole]
        above = ordered[starts + np.minimum(whole + 1, self.counts - 1)]
        apart = above - below
        result: Floats = np.where(part < 0.5, below + apart * part, above - apart * (1.0 - part))  # between the two, whatever is rounded
        beyond = np.isinf(apart)
        if beyond.any():
            result[beyond] = (below * (1.0 - part) + above * part)[beyond]
        return result

    @cached_property
    def _lasts(self) -> Integers:
        return self.starts + (self.counts - 1)

    @cached_property
    def _at(self) -> slice | Integers:
        """Where the readings of the groups lie, group after group: a slice where that is how they lie already."""
        if not len(self.starts):
            return slice(0, 0)
        if (self.starts[1:] == self._lasts[:-1] + 1).all():
            return slice(int(self.starts[0]), int(self._lasts[-1]) + 1)
        return self._each(self.starts - self.offsets) + np.arange(self.counts.sum())

    @cached_property
    def _taken(self) -> Floats:
        taken: Floats = self.values[self._at] + 0.0
        return taken

    @cached_property
    def _scale(self) -> Floats | None:
        """By which power of two each group is multiplied, where one is."""
        magnitude = np.maximum(self.max, -self.min)
        extreme = (magnitude > LARGE) | ((magnitude < SMALL) & (magnitude > 0.0))
        if not extreme.any():
            return None
        return np.where(extreme, np.where(magnitude > 1.0, SHRINK, 1.0 / SHRINK), 1.0)

    @cached_property
    def _scaled(self) -> Floats:
        return self._taken if self._scale is None else self._taken * self._each(self._scale)

    def _unscaled(self, result: Floats) -> Floats:
        return result if self._scale is None else result / self._scale

    @cached_property
    def _sum(self) -> Floats:
        return self._over(np.add, self._scaled)

    @cached_property
    def _centre(self) -> Floats:
        """The first mean. It lies between the values, so equal ones deviate by nothing at all."""
        low, high = (self.min, self.max) if self._scale is None else (self.min * self._scale, self.max * self._scale)
        centre: Floats = np.minimum(np.maximum(self._sum / self.counts, low), high)
        return centre

    @cached_property
    def _deviations(self) -> Floats:
        deviations: Floats = self._scaled - self._each(self._centre)
        return deviations

    @cached_property
    def _excess(self) -> Floats:
        """The sum of the deviations: nothing but for rounding."""
        return self._over(np.add, self._deviations)

    @cached_property
    def _ordered(self) -> tuple[Floats, Integers]:
        """Return the values in order within each group, and where each group starts among them."""
        longest = int(self.counts.max(initial=0))
        if longest and longest * len(self.counts) == len(self._taken):  # all of one length
            return np.sort(self._taken.reshape(-1, longest), axis=1).ravel(), self.offsets
        if len(self.counts) <= FEW:
            ordered = self._taken.copy()
            for start, end in zip(self.offsets.tolist(), (self.offsets + self.counts).tolist(), strict=True):
                ordered[start:end].sort()
            return ordered, self.offsets
        return self._ordered_in_blocks()

    def _ordered_in_blocks(self) -> tuple[Floats, Integers]:
        """Sort the groups of similar length (within a factor of two) together, as rows that are filled up with infinity."""
        blocks, starts, used = [], np.empty(len(self.counts), np.int64), 0
        classes = np.frexp(self.counts)[1]
        for number in np.unique(classes):
            rows = np.flatnonzero(classes == number)
            counts = self.counts[rows, None]
            across = np.arange(int(counts.max()))
            block = self._taken.take(self.offsets[rows, None] + across, mode="clip")
            block[across >= counts] = np.inf
            block.sort(axis=1)
            blocks.append(block.ravel())
            starts[rows] = used + np.arange(len(rows)) * len(across)
            used += block.size
        return np.concatenate(blocks), starts

    def _each(self, of_groups: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(of_groups, self.counts)

    def _over(self, reduce: np.ufunc, of_readings: Floats) -> Floats:
        if not len(self.offsets):
            return np.empty(0)
        result: Floats = reduce.reduceat(of_readings, self.offsets)
        return result
