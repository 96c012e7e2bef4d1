"""Measures of prosody and of mels: numpy and scipy only, usable on anyone's outputs.

Shapes: K samples per utterance, n pooled positions (phonemes), T mel frames, M mel bins. `generated` is [K, n], or [n]
for one sample. The pool is the caller's: voiced, non-pause phonemes for log-f0, non-pause phonemes for durations. Where
a measure is taken per sample, the result is the mean over the K samples. Values are in the unit of the input unless the
docstring says otherwise. What compares generated with oracle raises ValueError for an empty pool and returns NaN, never
an error, where the formula divides by zero.
"""

import numpy as np
from scipy import special, stats

METRICS = {
    "std": "standard deviation over the pool",
    "std_ratio": "std of generated / std of oracle; 1 is as expressive as the oracle, below 1 is flat",
    "js": "Jensen-Shannon divergence of the histograms, bits, 0 to 1; lower is nearer, compare with the floor",
    "js_half": "JS of half of the generated against the other half of the oracle: like for like with the floor",
    "wasserstein": "Wasserstein-1 distance of the distributions, in the feature's unit",
    "rmse": "root mean squared error against the oracle, mean over samples",
    "mae": "mean absolute error against the oracle, mean over samples",
    "correlation": "Pearson correlation with the oracle, mean over samples",
    "best_of_k": "smallest RMSE among the K samples of an utterance, mean over utterances",
    "diversity": "standard deviation over the K samples of one position, mean over positions",
    "crps": "continuous ranked probability score, fair over K samples; lower is better",
    "bits_per_dim": "bits per dimension of the original features under the model; lower is better",
    "std_cents": "std of log-f0 in cents",
    "rmse_cents": "RMSE of log-f0 in cents",
    "mae_cents": "MAE of log-f0 in cents",
    "std_ms": "std of durations in milliseconds",
    "rmse_ms": "RMSE of durations in milliseconds",
    "mae_ms": "MAE of durations in milliseconds",
    "mel_l1": "mean absolute difference of log-mels, nats",
    "d_time_std_ratio": "std ratio of frame-to-frame mel differences, mean over bins; above 1 grain, below 1 smear",
    "d_frequency_std_ratio": "std ratio of bin-to-bin mel differences, mean over bins; above 1 grain, below 1 smear",
    "distillmos": "speech quality as DistillMOS predicts it, 1 to 5; higher is better, compare with vocoded recordings",
    "dnsmos": "overall quality of ITU-T P.835 as DNSMOS predicts it, 1 to 5; higher is better",
    "wer": "word error rate of Whisper tiny.en, errors / words over the corpus; may exceed 1, lower is better",
    "speaker_similarity": "cosine of the GE2E speaker embeddings of a wave and the reference's; 1 is the same voice",
}
"""The one list of names that rows may carry, each with its meaning."""

BINS = 50


def _pair(generated: np.ndarray, oracle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """generated as [K, n] and oracle [n], float64. Raises ValueError for an empty pool or lengths that differ."""
    generated, oracle = np.atleast_2d(np.asarray(generated, float)), np.asarray(oracle, float)
    if not oracle.size or generated.shape[1:] != oracle.shape:
        raise ValueError(f"generated {generated.shape} and oracle {oracle.shape}: expected [K, n] and [n] with n >= 1")
    return generated, oracle


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)


def std(x: np.ndarray) -> float:
    """Population standard deviation over the pool, sqrt(mean((x - mean)^2)); [K, n]: mean over samples.

    The paper's measure of expressiveness (arXiv 2307.16679)."""
    x = np.atleast_2d(np.asarray(x, float))
    if not x.size:
        raise ValueError("std of an empty pool")
    return float(x.std(axis=1).mean())


def std_of(count: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Population standard deviation from counts and sums of x and x^2; what rounding leaves of a constant counts as
    0."""
    square = second / count
    variance = square - (first / count) ** 2
    return np.sqrt(np.where(variance > 1e-12 * square, variance, 0))


def std_ratio(generated: np.ndarray, oracle: np.ndarray) -> float:
    """std(generated_k) / std(oracle), mean over samples; no unit. NaN for a constant oracle."""
    generated, oracle = _pair(generated, oracle)
    return float(ratio(std(generated), std(oracle)))


def edges_for(feature: str, oracle: np.ndarray) -> np.ndarray:
    """Histogram edges that all families share, from the oracle [n] alone; the outermost are infinite (overflow bins).

    Durations and their differences (whole frames): one bin a frame, edges at half-integers, over the oracle's 0.1 to
    99.9 percentile. Everything else: 50 equal bins over the same range."""
    low, high = np.percentile(np.asarray(oracle, float), (0.1, 99.9))
    if feature in ("duration", "d_duration"):
        inner = np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    else:
        if low == high:
            low, high = low - 0.5, high + 0.5
        inner = np.linspace(low, high, BINS + 1)
    return np.concatenate(([-np.inf], inner, [np.inf]))


def bin_of(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the bin [edges[i], edges[i + 1]) of every x."""
    return np.searchsorted(edges[1:-1], x, side="right")


def js_counts(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """JS divergence of two histograms over the last axis (counts or weights, any leading axes), bits."""
    p, q = (h / h.sum(axis=-1, keepdims=True) for h in (p, q))
    middle = (p + q) / 2
    return (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2))


def js(generated: np.ndarray, oracle: np.ndarray, edges: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, in [0, 1]: (KL(P|M) + KL(Q|M)) / 2, M = (P + Q) / 2, per sample, then mean.

    P, Q are histograms on the shared `edges`. This is the divergence, not its root (scipy's `jensenshannon` is the
    root). Small samples bias it upwards: two independent samples of n and m positions from one distribution over B
    occupied bins give (B - 1) (1/n + 1/m) / (8 ln 2) on average, 0.018 at n = m = 1,000 and B = 52. Hence the floor
    beside it."""
    generated, oracle = _pair(generated, oracle)
    counts = [np.bincount(bin_of(x, edges), minlength=len(edges) - 1) for x in (*generated, oracle)]
    return float(js_counts(np.array(counts[:-1], float), counts[-1].astype(float)).mean())


def wasserstein(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Wasserstein-1 distance, the area between the distribution functions (scipy), per sample, then mean."""
    generated, oracle = _pair(generated, oracle)
    return float(np.mean([stats.wasserstein_distance(x, oracle) for x in generated]))


def rmse(generated: np.ndarray, oracle: np.ndarray) -> float:
    """sqrt(mean over the pool of (generated_k - oracle)^2), mean over samples."""
    generated, oracle = _pair(generated, oracle)
    return float(np.sqrt(((generated - oracle) ** 2).mean(axis=1)).mean())


def mae(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Mean over the pool of |generated_k - oracle|, mean over samples."""
    generated, oracle = _pair(generated, oracle)
    return float(np.abs(generated - oracle).mean())


def correlation(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Pearson correlation over the pool, mean over samples; NaN where either side is constant."""
    generated, oracle = _pair(generated, oracle)
    a, b = generated - generated.mean(axis=1, keepdims=True), oracle - oracle.mean()
    return float(ratio((a * b).mean(axis=1), a.std(axis=1) * b.std()).mean())


def best_errors(generated: np.ndarray, oracle: np.ndarray, utterance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest RMSE among the K samples of every utterance [U], and the first position of each utterance [U]."""
    generated, oracle = _pair(generated, oracle)
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
    generated, oracle = _pair(generated, oracle)
    error, k = np.abs(generated - oracle).mean(axis=0), len(generated)
    if deterministic:
        return error
    if k == 1:
        return np.full(oracle.shape, np.nan)
    # With samples in order, the sum of |x_i - x_j| over pairs weighs the i-th smallest by 2i - k + 1.
    gini = (np.arange(k) * 2 - k + 1) @ np.sort(generated, axis=0)
    return error - gini / (k * (k - 1))


def pairs(utterance: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (left, right) of neighbours within an utterance among the `valid` positions [n] bool.

    Positions of an utterance are contiguous and in order of time."""
    positions = np.flatnonzero(valid)
    left, right = positions[:-1], positions[1:]
    same = np.asarray(utterance)[left] == np.asarray(utterance)[right]
    return left[same], right[same]


def differences(x: np.ndarray, utterance: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """First differences of x [..., n] within an utterance, over the pool `valid` [n]; what lies outside the pool is
    skipped."""
    left, right = pairs(utterance, valid)
    x = np.asarray(x, float)
    return x[..., right] - x[..., left]
