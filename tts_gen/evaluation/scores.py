"""Measures against the oracle, value by value, and of the K samples among themselves; conventions as in metrics.py."""

import numpy as np

from tts_gen.evaluation.metrics import checked, ratio


def rmse(generated: np.ndarray, oracle: np.ndarray) -> float:
    """sqrt(mean over the pool of (generated_k - oracle)^2), mean over samples."""
    generated, oracle = checked(generated, oracle)
    return float(np.sqrt(((generated - oracle) ** 2).mean(axis=1)).mean())


def mae(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Mean over the pool of |generated_k - oracle|, mean over samples."""
    generated, oracle = checked(generated, oracle)
    return float(np.abs(generated - oracle).mean())


def correlation(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Pearson correlation over the pool, mean over samples; NaN where either side is constant."""
    generated, oracle = checked(generated, oracle)
    a, b = generated - generated.mean(axis=1, keepdims=True), oracle - oracle.mean()
    return float(ratio((a * b).mean(axis=1), a.std(axis=1) * b.std()).mean())


def best_errors(generated: np.ndarray, oracle: np.ndarray, utterance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest RMSE among the K samples of every utterance [U], and the first position of each utterance [U]."""
    generated, oracle = checked(generated, oracle)
    _, first, index, count = np.unique(utterance, return_index=True, return_inverse=True, return_counts=True)
    squared = [np.bincount(index, (x - oracle) ** 2) / count for x in generated]
    return np.sqrt(np.min(squared, axis=0)), first


def best_of_k(generated: np.ndarray, oracle: np.ndarray, utterance: np.ndarray) -> float:
    """min over k of the utterance's RMSE, mean over utterances (ids `utterance` [n]); comparable at equal K only.

    White noise of the right size has a good std and JS but lands far from the oracle here."""
    return float(best_errors(generated, oracle, utterance)[0].mean())


def diversity(generated: np.ndarray) -> float:
    """Standard deviation (K - 1 in the denominator) over the samples of one position, mean over positions.

    0 for one deterministic prediction [n]; NaN for K = 1, of which nothing can be said."""
    return float(sample_spread(generated).mean())


def sample_spread(generated: np.ndarray) -> np.ndarray:
    """Standard deviation over the samples at every position [n]; 0 for one deterministic prediction."""
    generated = np.asarray(generated, float)
    if generated.ndim == 1:
        return np.zeros(generated.shape)
    if len(generated) == 1:
        return np.full(generated.shape[1], np.nan)
    return generated.std(axis=0, ddof=1)


def crps(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Continuous ranked probability score, mean over the pool of E|x - y| - E|x - x'| / 2; a proper score.

    The fair estimator (Ferro 2014) over K samples: the second mean is over pairs of different samples, so the
    expectation does not depend on K. One deterministic prediction [n] is a point mass: its score is the MAE. NaN for K
    = 1."""
    return float(crps_terms(generated, oracle).mean())


def crps_terms(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """The fair CRPS at every position [n]."""
    deterministic = np.ndim(generated) == 1
    generated, oracle = checked(generated, oracle)
    error, k = np.abs(generated - oracle).mean(axis=0), len(generated)
    if deterministic:
        return error
    if k == 1:
        return np.full(oracle.shape, np.nan)
    # With samples in order, the sum of |x_i - x_j| over pairs weighs the i-th smallest by 2i - k + 1.
    gini = (np.arange(k) * 2 - k + 1) @ np.sort(generated, axis=0)
    return error - gini / (k * (k - 1))


def energy_scores(generated: np.ndarray, oracle: np.ndarray, utterance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy score of every utterance [U], and the first position of each utterance [U].

    mean over k of |x_k - y| - mean over pairs k != l of |x_k - x_l| / 2, where |.| is the Euclidean norm over the
    utterance's n_u positions / sqrt(n_u): the unit is the feature's, and long utterances weigh no more than short ones.
    A proper score of the joint distribution (Gneiting and Raftery 2007), in the fair form of `crps_terms`. One
    deterministic prediction [n] is a point mass: its score is the RMSE of the utterance. NaN for K = 1."""
    deterministic = np.ndim(generated) == 1
    generated, oracle = checked(generated, oracle)
    _, first, index, count = np.unique(utterance, return_index=True, return_inverse=True, return_counts=True)

    def distance(x):
        return np.sqrt(np.bincount(index, x**2) / count)

    error, k = np.mean([distance(x - oracle) for x in generated], axis=0), len(generated)
    if deterministic:
        return error, first
    if k == 1:
        return np.full(len(first), np.nan), first
    apart = [distance(generated[i] - generated[j]) for i in range(k) for j in range(i)]
    return error - np.mean(apart, axis=0) / 2, first


def energy_score(generated: np.ndarray, oracle: np.ndarray, utterance: np.ndarray) -> float:
    """`energy_scores`, mean over utterances (ids `utterance` [n]); lower is better."""
    return float(energy_scores(generated, oracle, utterance)[0].mean())
