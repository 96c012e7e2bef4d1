"""The metrics of one pool of values with intervals; metrics.py and scores.py define them, here they are functions of
group sums."""

from functools import cached_property

import numpy as np

from tts_gen.evaluation import metrics, scores
from tts_gen.evaluation.bootstrap import (
    DRAWS,
    Estimate,
    draws,
    group_histograms,
    group_sums,
    halves,
    interval,
    over_halves,
    spread,
)
from tts_gen.evaluation.grouping import grouped

SPLITS = 40
"""Random halves averaged for the floor."""
GRID = 256
"""Cells on which intervals of Wasserstein-1 and energy distance are computed; their values are exact."""
FLOORED = "std_ratio skewness_difference kurtosis_difference js js_half js_debiased wasserstein energy_distance".split()
"""Metrics that have a floor."""


class Pool:
    """Generated values of one feature against the oracle's; the method named after a metric estimates it.

    generated [K, n], or [n] for one deterministic prediction; oracle [n]; utterance [n] ids; group [n] what is
    resampled together. Raises ValueError when there are no positions."""

    def __init__(
        self,
        feature: str,
        generated: np.ndarray,
        oracle: np.ndarray,
        utterance: np.ndarray,
        group: np.ndarray,
        n_boot: int = DRAWS,
        seed: int = 0,
    ):
        self.feature, self.generated, self.oracle, self.utterance = feature, generated, oracle, utterance
        self.x, self.y = np.atleast_2d(generated).T.astype(float), oracle[:, None].astype(float)  # [n, K], [n, 1]
        if not self.y.size or len(self.x) != len(self.y):
            raise ValueError(
                f"generated {np.shape(generated)} and oracle {np.shape(oracle)}: expected [K, n] and [n], n >= 1"
            )
        self.group, self.n_groups = grouped(group)
        self.seed = seed
        self.weights = draws(self.n_groups, n_boot, seed)

    def std(self, scale: np.ndarray | float = 1.0) -> Estimate:
        return self._mean_over_samples(metrics.std_of, *self._moments((self.x.T * scale).T))

    def std_ratio(self) -> Estimate:
        count, *x = self._moments(self.x)
        _, *y = self._moments(self.y)
        return self._mean_over_samples(
            lambda c, x, xx, y, yy: metrics.ratio(metrics.std_of(c, x, xx), metrics.std_of(c, y, yy)), count, *x, *y
        )

    def correlation(self) -> Estimate:
        def pearson(c, x, xx, y, yy, xy):
            return metrics.ratio(xy / c - x * y / c**2, metrics.std_of(c, x, xx) * metrics.std_of(c, y, yy))

        count, *x = self._moments(self.x)
        _, *y = self._moments(self.y)
        return self._mean_over_samples(pearson, count, *x, *y, self._sums(self.x * self.y))

    def rmse(self, scale: np.ndarray | float = 1.0) -> Estimate:
        error = ((self.x - self.y).T * scale).T
        return self._mean_over_samples(
            lambda c, e: np.sqrt(e / c), self._sums(np.ones_like(self.y)), self._sums(error**2)
        )

    def mae(self, scale: np.ndarray | float = 1.0) -> Estimate:
        return self._mean(np.abs(self.x - self.y).mean(axis=1) * scale)

    def crps(self) -> Estimate:
        return self._mean(scores.crps_terms(self.generated, self.oracle))

    def diversity(self) -> Estimate:
        return self._mean(scores.sample_spread(self.generated))

    def best_of_k(self) -> Estimate:
        errors, first = scores.best_errors(self.generated, self.oracle, self.utterance)
        return self._mean(errors, self.group[first])

    def energy_score(self) -> Estimate:
        errors, first = scores.energy_scores(self.generated, self.oracle, self.utterance)
        return self._mean(errors, self.group[first])

    def skewness(self) -> Estimate:
        return self._mean_over_samples(lambda *sums: metrics.moments(*sums)[0], *self._powers[0])

    def kurtosis(self) -> Estimate:
        return self._mean_over_samples(lambda *sums: metrics.moments(*sums)[1], *self._powers[0])

    def skewness_difference(self) -> Estimate:
        return self._mean_over_samples(_difference(0), *self._powers[0], *self._powers[1])

    def kurtosis_difference(self) -> Estimate:
        return self._mean_over_samples(_difference(1), *self._powers[0], *self._powers[1])

    def js(self) -> Estimate:
        return self._js_with_interval

    def js_half(self) -> Estimate:
        return self._over_halves(_js, *self._histograms)

    def js_debiased(self) -> Estimate:
        """The interval is that of `js`, moved."""
        *ends, groups = self.js()
        moved = float(metrics.js_jackknife(*self._histograms).mean()) - ends[0]
        return Estimate(*(x + moved for x in ends), groups)

    def wasserstein(self) -> Estimate:
        return self._between_distributions(metrics.wasserstein, _area)

    def energy_distance(self) -> Estimate:
        return self._between_distributions(metrics.energy_distance, _squared_area)

    def floor(self, metric: str) -> Estimate:
        """One of FLOORED, of one random half of the oracle's groups against the other half: mean over halves, and the
        range of single halves."""
        if metric in ("js", "js_half"):
            return self._over_halves(_js, self._histograms[1], self._histograms[1])
        if metric == "js_debiased":
            return self._debiased_floor()
        if metric in ("wasserstein", "energy_distance"):
            _, q, width = self._grid
            area = _area if metric == "wasserstein" else _squared_area
            return self._over_halves(lambda p, q: area(p, q) * width, q, q)
        sums = np.concatenate(self._powers[1], axis=1)
        if metric == "std_ratio":
            return self._over_halves(
                lambda a, b: metrics.ratio(metrics.std_of(*a.T[:3]), metrics.std_of(*b.T[:3])), sums, sums
            )
        order = ("skewness_difference", "kurtosis_difference").index(metric)
        return self._over_halves(lambda a, b: _difference(order)(*a.T, *b.T), sums, sums)

    def _debiased_floor(self) -> Estimate:
        q = self._histograms[1]
        if self.n_groups < 4:  # a half needs two groups, for one to be left out
            return Estimate(np.nan, np.nan, np.nan)
        drawn = halves(self.n_groups, SPLITS, self.seed)[:, :, None, None]
        values = np.array([metrics.js_jackknife(half * q, (1 - half) * q)[0] for half in drawn])
        return Estimate(float(values.mean()), *spread(values))

    def _between_distributions(self, exact, area) -> Estimate:
        """The exact distance, with an interval from the grid."""
        p, q, width = self._grid
        found = interval(lambda p, q: area(p, q) * width, (p, q), self.weights, nonnegative=True)
        value = exact(self.generated, self.oracle)
        return Estimate(value, *(max(x + value - found.value, 0) for x in (found.low, found.high)), found.groups)

    def _mean(self, terms: np.ndarray, group: np.ndarray | None = None) -> Estimate:
        """Of terms over positions, or over what `group` gives the groups of."""
        group = self.group if group is None else group
        sums = [group_sums(t, group, self.n_groups) for t in (terms, np.ones(len(terms)))]
        return interval(metrics.ratio, sums, self.weights)

    def _mean_over_samples(self, statistic, *sums: np.ndarray) -> Estimate:
        return interval(lambda *a: statistic(*a).mean(axis=-1), sums, self.weights)

    def _over_halves(self, statistic, p: np.ndarray, q: np.ndarray) -> Estimate:
        return over_halves(statistic, p, q, halves(self.n_groups, SPLITS, self.seed))

    def _sums(self, terms: np.ndarray) -> np.ndarray:
        return group_sums(terms, self.group, self.n_groups)

    def _moments(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count [G, 1] and sums of x and x^2 [G, K]."""
        return self._sums(np.ones_like(self.y)), self._sums(x), self._sums(x**2)

    @cached_property
    def _powers(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Count [G, 1] and sums of x to x^4 [G, K] of generated and oracle, less the oracle's mean."""
        centred = [v - self.y.mean() for v in (self.x, self.y)]
        return tuple([self._sums(np.ones_like(self.y)), *(self._sums(v**p) for p in (1, 2, 3, 4))] for v in centred)

    @cached_property
    def _js_with_interval(self) -> Estimate:
        return interval(_js, self._histograms, self.weights, nonnegative=True)

    @cached_property
    def _histograms(self) -> tuple[np.ndarray, np.ndarray]:
        """Generated [G, K, bins] and oracle [G, 1, bins] on the shared edges."""
        edges = metrics.edges_for(self.feature, self.oracle)
        return tuple(
            group_histograms(metrics.bin_of(v, edges), len(edges) - 1, self.group, self.n_groups)
            for v in (self.x, self.y)
        )

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Generated [G, K, GRID] and oracle [G, 1, GRID] over the range of both, and the width of a cell."""
        low, high = min(self.x.min(), self.y.min()), max(self.x.max(), self.y.max())
        width = max(high - low, 1e-12) / (GRID - 1)
        cells = (np.rint((v - low) / width).astype(int) for v in (self.x, self.y))
        return *(group_histograms(c, GRID, self.group, self.n_groups) for c in cells), width


def _js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return metrics.js_counts(p, q).mean(axis=-1)


def _difference(order: int):
    """Of skewness (0) or kurtosis (1), from counts and sums of four powers of generated, then of oracle."""
    return lambda *sums: metrics.moments(*sums[:5])[order] - metrics.moments(*sums[5:])[order]


def _area(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Area between the distribution functions of histograms p [R, K, cells], q [R, 1, cells], in cells, mean over K."""
    return np.abs(_gap(p, q)).sum(axis=-1).mean(axis=-1)


def _squared_area(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Twice the integral of the squared difference, likewise."""
    return 2 * (_gap(p, q) ** 2).sum(axis=-1).mean(axis=-1)


def _gap(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    p, q = (h.cumsum(axis=-1) / h.sum(axis=-1, keepdims=True) for h in (p, q))
    return p - q
