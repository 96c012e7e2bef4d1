"""Signs of failure in samples, as numbers; failure_rows.py makes rows of them, diagnosis.py judges those.

Shapes: x [K, n, C] generated and y [n, C] the oracle's, standardised by the oracle's mean and standard deviation in
every channel; utterance [n] and group [n] ids, each utterance contiguous.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree, distance

from tts_gen.evaluation.bootstrap import Estimate, halves, spread

EXPLOSIVE = 10
"""standard deviations of the oracle: a Gaussian never gets there, nor does a phoneme or a frame of speech"""
RANGE = (0.1, 99.9)
"""percentiles of the oracle, outside which 0.2 % of it lie"""
NEIGHBOURS = 5
AXES = 8
"""principal axes of the oracle that coverage looks at, where there are more channels"""
MOST_POINTS = 1000
"""of a half, drawn at random, for coverage"""
SPLITS = 8
"""random halves"""
CONTOUR = 16
"""places of an utterance, evenly spread, at which it is compared with training utterances"""
NEAREST, CLOSE = 50, 1 / 3
"""A copy is nearer to one training utterance than CLOSE of its mean distance to the NEAREST (Carlini et al. 2023,
Extracting training data from diffusion models: 50 and a half; utterances of few phonemes come nearer by chance)."""


def explosive_share(x: np.ndarray) -> float:
    """Share of the values that are not finite or lie more than EXPLOSIVE from the oracle's mean."""
    return float(np.mean(~(np.abs(x) <= EXPLOSIVE)))


def over_halves(x: np.ndarray, y: np.ndarray, group: np.ndarray, seed: int = 0) -> tuple[Estimate, Estimate]:
    """`outlier_ratio` and `coverage` of the samples of one half of the groups by the oracle of the other half: means
    over SPLITS random halves, and the range of single ones. With y in the place of x it is the floor, like for like.
    NaN for fewer than two groups."""
    names, index = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return (Estimate(np.nan, np.nan, np.nan),) * 2
    rng, axes, found = np.random.default_rng(seed), principal_axes(y), []
    for half in halves(len(names), SPLITS, seed).astype(bool):
        here = half[index]
        real, sampled = (rng.permutation(np.flatnonzero(at))[:MOST_POINTS] for at in (here, ~here))
        found.append((outlier_ratio(x[:, ~here], y[here]), coverage(x[:, sampled] @ axes, y[real] @ axes)))
    return tuple(Estimate(float(values.mean()), *spread(values)) for values in np.array(found).T)


def outlier_ratio(x: np.ndarray, y: np.ndarray) -> float:
    """Share of x [K, n, C] outside the RANGE of y [m, C] in its channel / the share of y's own there, 0.002; so 1 for
    equal distributions and many values, more where y has so few that the range is that of all of them."""
    low, high = np.percentile(y, RANGE, axis=0)
    return float(np.mean((x < low) | (x > high)) / (1 - (RANGE[1] - RANGE[0]) / 100))


def coverage(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the points y [m, C] that have a point of x [K, n, C] as near as their NEIGHBOURS-th nearest of y, mean
    over samples.

    About 1 - 2^-NEIGHBOURS for equal distributions of as many points, less where x leaves out a part (Naeem et al.,
    Reliable fidelity and diversity metrics, 2020). 1 where y has no more than NEIGHBOURS points."""
    if len(y) <= NEIGHBOURS:
        return 1.0
    radius = KDTree(y).query(y, NEIGHBOURS + 1)[0][:, -1]
    return float(np.mean([KDTree(sample).query(y)[0] <= radius for sample in x]))


def principal_axes(y: np.ndarray) -> np.ndarray:
    """The AXES directions of y [n, C] that hold most of its variance, [C, min(C, AXES)]."""
    return np.linalg.eigh(np.cov(y.T) if len(y) > 1 else np.eye(y.shape[1]))[1][:, ::-1][:, :AXES]


def error_tail(x: np.ndarray, y: np.ndarray, utterance: np.ndarray) -> float:
    """95th percentile / median of the RMSE of the utterances, over all K samples; NaN where the median is 0."""
    starts = np.flatnonzero(np.r_[True, utterance[1:] != utterance[:-1]])
    squared = np.add.reduceat(((x - y) ** 2).mean(axis=-1), starts, axis=1)
    tail, median = np.percentile(np.sqrt(squared / np.diff(np.r_[starts, len(y)])), (95, 50))
    return float(tail / median) if median > 0 else np.nan


def memorised_share(x: np.ndarray, utterance: np.ndarray, training: Sequence[np.ndarray]) -> float:
    """Share of the utterances of x [K, n, C] that are copies of one of `training`, see CLOSE. Contours of CONTOUR
    places are compared, whatever the text: what is said again with the same melody is a copy too."""
    known = [contour(sequence).ravel() for sequence in training]
    parts = np.split(np.arange(x.shape[1]), np.flatnonzero(utterance[1:] != utterance[:-1]) + 1)
    apart = distance.cdist([contour(sample[part]).ravel() for sample in x for part in parts], known)
    near = np.sort(np.partition(apart, NEAREST, axis=1)[:, :NEAREST], axis=1)
    return float(np.mean(near[:, 0] < CLOSE * near.mean(axis=1)))


def contour(sequence: np.ndarray) -> np.ndarray:
    """[L, C] at its CONTOUR places, [CONTOUR, C]."""
    return sequence[(2 * np.arange(CONTOUR) + 1) * len(sequence) // (2 * CONTOUR)]
