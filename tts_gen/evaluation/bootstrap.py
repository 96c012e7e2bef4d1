"""Intervals by the bootstrap over groups: utterances of one group (a dialogue file, a prompt group) are not
independent.

Everything reported is a function of sums over groups, so the sums are taken once and a draw only weighs them: 200 draws
are one matrix product. One seed gives every family the same draws, which makes differences between families paired.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

LEVEL = 95
"""per cent that an interval covers"""


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


def draws(n_groups: int, n_boot: int, seed: int) -> np.ndarray:
    """How often each group is drawn, [n_boot, n_groups]; every row sums to n_groups."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_boot).astype(float)


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
    statistic: Callable[..., np.ndarray], sums: Sequence[np.ndarray], weights: np.ndarray, divergence: bool = False
) -> Estimate:
    """The statistic and its percentile interval.

    statistic maps weighted sums [R, ...], one for each of `sums` [G, ...], to [R]. Fewer than two groups: no interval
    (NaN). A divergence is biased upwards by sampling noise, and resampling adds that bias a second time: its draws are
    moved so that their mean is the value, and cut at 0 (at the value, where a correction has taken that below 0)."""
    value = float(statistic(*(s.sum(axis=0, keepdims=True) for s in sums))[0])
    if weights.shape[1] < 2:
        return Estimate(value, np.nan, np.nan)
    drawn = statistic(*(weigh(weights, s) for s in sums))
    if divergence:
        drawn = np.maximum(drawn - drawn.mean() + value, min(value, 0))
    return Estimate(value, *spread(drawn))


def over_halves(statistic: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, half: np.ndarray) -> Estimate:
    """statistic(half of a, other half of b) for sums a, b [G, ...] and `halves` [S, G]: mean, and the spread of single
    halves.

    NaN for fewer than two groups."""
    if half.shape[1] < 2:
        return Estimate(np.nan, np.nan, np.nan)
    values = statistic(weigh(half, a), weigh(1 - half, b))
    return Estimate(float(values.mean()), *spread(values))
