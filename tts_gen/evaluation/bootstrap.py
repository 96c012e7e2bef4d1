"""Intervals by the bootstrap over groups: utterances of one group (a dialogue file, a prompt group) are not
independent.

Everything reported is a function of sums over groups. What each group adds to the value, its influence, comes of
leaving it out of the sums; a draw then only weighs influences, so that all draws are one matrix product. They are
studentised, each by its own standard error, because plain percentiles cover too seldom where a few long utterances
decide (scripts/simulated_truth.py counts). Values of the same groups are compared by the differences of their
influences under the same draws, which makes the comparison paired.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

LEVEL = 95
"""per cent that an interval covers"""
DRAWS = 1000
"""of the groups, for an interval"""


class Groups(NamedTuple):
    """What an estimate is made of, group by group, so that two of the same groups can be compared in pairs."""

    influence: np.ndarray
    """[G] (G - 1) * (mean of the value without one group - the value without this one); its mean is 0"""
    alone: np.ndarray
    """[G] the statistic of each group by itself; NaN where it has none"""


class Estimate(NamedTuple):
    value: float
    low: float
    high: float
    groups: Groups | None = None
    """None where there are fewer than two groups, or one cannot be left out"""


@functools.lru_cache(maxsize=8)
def draws(n_groups: int, n_boot: int, seed: int) -> np.ndarray:
    """How often each group is drawn, [n_boot, n_groups], not to be written to; every row sums to n_groups."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_boot).astype(float)
    drawn.flags.writeable = False
    return drawn


def halves(n_groups: int, n_splits: int, seed: int) -> np.ndarray:
    """Random halves of the groups, [n_splits, n_groups] of 0 and 1; the other half is 1 minus it."""
    order = np.random.default_rng(seed).random((n_splits, n_groups)).argsort(axis=1)
    return (order < n_groups // 2).astype(float)


def group_sums(terms: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Sums of terms [n, ...] over the positions of each group, [G, ...]; `group` [n] holds integers below G."""
    n = len(terms)
    member = sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(n_groups, n))
    return (member @ terms.reshape(n, -1)).reshape(n_groups, *terms.shape[1:])


def group_histograms(bins: np.ndarray, n_bins: int, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Counts of the bin indices bins [n, ...] in each group: [n_groups, ..., n_bins]."""
    inner = bins[0].size
    cell = (group[:, None] * inner + np.arange(inner)) * n_bins + bins.reshape(len(bins), inner)
    counts = np.bincount(cell.ravel(), minlength=n_groups * inner * n_bins)
    return counts.reshape(n_groups, *bins.shape[1:], n_bins).astype(float)


def weigh(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """weights [R, G] times sums [G, ...]: [R, ...]."""
    return (weights @ sums.reshape(len(sums), -1)).reshape(len(weights), *sums.shape[1:])


def spread(values: np.ndarray) -> tuple[float, float]:
    """Percentiles that hold LEVEL per cent of the values; NaN when one of them is not finite."""
    if not np.isfinite(values).all():
        return np.nan, np.nan
    low, high = np.percentile(values, ((100 - LEVEL) / 2, (100 + LEVEL) / 2))
    return float(low), float(high)


def interval(
    statistic: Callable[..., np.ndarray], sums: Sequence[np.ndarray], weights: np.ndarray, nonnegative: bool = False
) -> Estimate:
    """The statistic and its interval by the studentised bootstrap over groups (`margin`).

    statistic maps weighted sums [R, ...], one for each of `sums` [G, ...], to [R]; weights [R, G] are `draws`. What is
    `nonnegative`, as divergences and error rates are, has its interval cut at 0 (at the value, where a correction has
    taken that below 0). Divergences are biased upwards by sampling noise: the interval is that of their mean over
    evaluations of the same size.
    Fewer than two groups, or a value that is not finite without one of them: no interval (NaN)."""
    whole = [s.sum(axis=0, keepdims=True) for s in sums]
    value = float(statistic(*whole)[0])
    if weights.shape[1] < 2:
        return Estimate(value, np.nan, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = statistic(*(w - s for w, s in zip(whole, sums, strict=True)))
        alone = statistic(*sums)
    if not np.isfinite(without).all():
        return Estimate(value, np.nan, np.nan)
    influence = (len(without) - 1) * (without.mean() - without)
    half = margin(influence, studentised(influence, weights))
    low = max(value - half, min(value, 0)) if nonnegative else value - half
    return Estimate(value, low, value + half, Groups(influence, alone))


def standard_error(influence: np.ndarray) -> float:
    """Of the jackknife over groups: sqrt(sum of influence^2 / (G (G - 1))) for influence [G]."""
    n = len(influence)
    return float(np.sqrt(np.sum(influence**2) / (n * (n - 1))))


def studentised(influence: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """|mean| / standard error of the influence [G] under each draw [R, G]: [R]; infinite where a draw has no spread."""
    n = len(influence)
    mean = weights @ influence / n
    error = np.sqrt(np.maximum(weights @ influence**2 / n - mean**2, 0) / (n - 1))
    return np.divide(np.abs(mean), error, out=np.full(len(weights), np.inf), where=error > 0)


def margin(influence: np.ndarray, drawn: np.ndarray) -> float:
    """Half of the symmetric bootstrap-t interval (Hall, Annals of Statistics 16, 1988), of the value's linear form: its
    standard error times the quantile of `studentised`. NaN where that is infinite, as it is for two or three groups."""
    error = standard_error(influence)
    if error == 0:
        return 0.0
    quantile = np.quantile(drawn, LEVEL / 100, method="higher")
    return error * float(quantile) if np.isfinite(quantile) else np.nan


def over_halves(statistic: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, half: np.ndarray) -> Estimate:
    """statistic(half of a, other half of b) for sums a, b [G, ...] and `halves` [S, G]: mean, and the spread of single
    halves.

    NaN for fewer than two groups."""
    if half.shape[1] < 2:
        return Estimate(np.nan, np.nan, np.nan)
    values = statistic(weigh(half, a), weigh(1 - half, b))
    return Estimate(float(values.mean()), *spread(values))
