"""The one list of metrics, and those of distributions; no order, no pairs. numpy and scipy only, usable on anyone's
outputs.

Beside this file: scores.py (against the oracle, value by value), utterance_metrics.py (melody of whole utterances),
dependence.py (f0 with duration), two_sample.py (a classifier), mel_metrics.py, voicing.py (frames of f0).

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
    "skewness": "third standardised moment of generated; 0 for a symmetric distribution",
    "kurtosis": "excess kurtosis of generated; 0 for a Gaussian",
    "skewness_difference": "skewness of generated - skewness of oracle; 0 is best",
    "kurtosis_difference": "excess kurtosis of generated - that of oracle; 0 is best",
    "js": "Jensen-Shannon divergence of the histograms, bits, 0 to 1; lower is nearer, compare with the floor",
    "js_half": "JS of half of the generated against the other half of the oracle: like for like with the floor",
    "js_debiased": "JS less its small-sample bias by the jackknife over groups; about 0 for equal distributions",
    "wasserstein": "Wasserstein-1 distance of the distributions, in the feature's unit",
    "energy_distance": "energy distance of the distributions, in the feature's unit",
    "rmse": "root mean squared error against the oracle, mean over samples",
    "mae": "mean absolute error against the oracle, mean over samples",
    "correlation": "Pearson correlation with the oracle, mean over samples",
    "best_of_k": "smallest RMSE among the K samples of an utterance, mean over utterances",
    "diversity": "standard deviation over the K samples of one position, mean over positions",
    "crps": "continuous ranked probability score, fair over K samples; lower is better",
    "energy_score": "energy score of an utterance's values as one vector, fair over K samples; lower is better",
    "mutual_information": "of log-f0 and duration, from ranks, bits; 0 is independent",
    "mutual_information_difference": "mutual information of generated - that of oracle, bits; 0 is best",
    "copula_js": "JS divergence of the joint ranks of log-f0 and duration, bits; marginals play no part",
    "two_sample_accuracy": "of a classifier that tells generated phoneme sequences from oracle ones; 0.5 is by chance",
    "explosive_share": "share of generated values that are not finite or 10 standard deviations off",
    "outlier_ratio": "share of generated values outside the recordings' 0.1 to 99.9 percentile / 0.002",
    "coverage": "share of the recordings' values that have a generated one among their 5 nearest; floor beside it",
    "error_tail": "95th percentile of the utterances' errors / their median",
    "memorised_share": "share of generated utterances that copy a training utterance; floor: recordings held out",
    "bits_per_dim": "bits per dimension of the original features under the model; lower is better",
    "std_cents": "std of log-f0 in cents",
    "rmse_cents": "RMSE of log-f0 in cents",
    "mae_cents": "MAE of log-f0 in cents",
    "std_db": "std of energy in dB",
    "rmse_db": "RMSE of energy in dB",
    "mae_db": "MAE of energy in dB",
    "std_ms": "std of durations in milliseconds",
    "rmse_ms": "RMSE of durations in milliseconds",
    "mae_ms": "MAE of durations in milliseconds",
    "mel_l1": "mean absolute difference of log-mels, nats",
    "d_time_std_ratio": "std ratio of frame-to-frame mel differences, mean over bins; above 1 grain, below 1 smear",
    "d_frequency_std_ratio": "std ratio of bin-to-bin mel differences, mean over bins; above 1 grain, below 1 smear",
    "gv_ratio": "global variance (over time, within utterances) of generated / that of oracle, mean over bins",
    "modulation_distance": "distance of the modulation spectra of mel bins, dB; compare with the floor",
    "mcd": "mel-cepstral distortion, dB, frame by frame",
    "mcd_dtw": "mel-cepstral distortion, dB, along the best warping of time",
    "gpe": "gross pitch error: share of frames voiced in both whose f0 is off by more than 20 %",
    "vde": "voicing decision error: share of frames voiced in one of the two only",
    "ffe": "f0 frame error: share of frames with either error",
    "style_accuracy": "balanced accuracy of a classifier, trained on recorded prosody, that hears the style",
    "parameters": "number of parameters",
    "network_evaluations": "of the network in one sample",
    "gflop": "1e9 floating-point operations to sample a second of speech, padding included",
    "compile_seconds": "seconds to compile the sampler for one batch shape",
    "real_time_factor": "seconds of computing a second of speech, compiling left out",
    "peak_share": "per cent of the rate of a float32 matrix product on the same machine",
    "memory_mb": "MB of arguments, results and temporaries of the compiled sampler",
    "training_positions": "phonemes or frames a second in training",
    "step_seconds": "seconds a training step",
    "distillmos": "speech quality as DistillMOS predicts it, 1 to 5; higher is better, compare with vocoded recordings",
    "dnsmos": "overall quality of ITU-T P.835 as DNSMOS predicts it, 1 to 5; higher is better",
    "wer": "word error rate of Whisper tiny.en, errors / words over the corpus; may exceed 1, lower is better",
    "speaker_similarity": "cosine of the GE2E speaker embeddings of a wave and the reference's; 1 is the same voice",
}
"""The one list of names that rows may carry, each with its meaning."""

TAIL = 0.1
"""per cent of the oracle on either side of a histogram's bins"""
UTTERANCE_BINS = 10
"""of an utterance's statistics, of which there are few"""
BINS = 50


def checked(generated: np.ndarray, oracle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    generated, oracle = checked(generated, oracle)
    return float(ratio(std(generated), std(oracle)))


def edges_for(feature: str, oracle: np.ndarray) -> np.ndarray:
    """Histogram edges that all families share, from the oracle [n] alone; the outermost are infinite (overflow bins).

    Durations and their differences (whole frames): one bin a frame, edges at half-integers, over the oracle's 0.1 to
    99.9 percentile. Everything else: 50 equal bins over the same range, 10 for statistics of utterances (`utt_...`)."""
    low, high = np.percentile(np.asarray(oracle, float), (TAIL, 100 - TAIL))
    if feature in ("duration", "d_duration"):
        return _with_overflow(np.arange(np.floor(low), np.ceil(high) + 2) - 0.5)
    return equal_bins(low, high, UTTERANCE_BINS if feature.startswith("utt_") else BINS)


def equal_bins(low: float, high: float, count: int) -> np.ndarray:
    """Edges of `count` equal bins between two values (about them, where they are equal), and two for overflow."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    return _with_overflow(np.linspace(low, high, count + 1))


def _with_overflow(edges: np.ndarray) -> np.ndarray:
    return np.concatenate(([-np.inf], edges, [np.inf]))


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
    generated, oracle = checked(generated, oracle)
    counts = [np.bincount(bin_of(x, edges), minlength=len(edges) - 1) for x in (*generated, oracle)]
    return float(js_counts(np.array(counts[:-1], float), counts[-1].astype(float)).mean())


def js_debiased(generated: np.ndarray, oracle: np.ndarray, edges: np.ndarray, group: np.ndarray) -> float:
    """`js` less its small-sample bias, bits: G js - (G - 1) mean over g of js without group g, per sample, then mean.

    The jackknife over groups [n] (Quenouille 1956) needs no independence within groups, nor between generated and
    oracle. What is left is of second order in 1/G; it may fall a little below 0. NaN for one group."""
    generated, oracle = checked(generated, oracle)
    names, index = np.unique(group, return_inverse=True)

    def counts(x):
        cell = index * (len(edges) - 1) + bin_of(x, edges)
        return np.bincount(cell, minlength=len(names) * (len(edges) - 1)).reshape(len(names), 1, -1).astype(float)

    p = np.concatenate([counts(x) for x in generated], axis=1)
    return float(js_jackknife(p, counts(oracle)).mean())


def js_jackknife(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Debiased JS of histograms by group, p [G, ..., bins] and q [G, ..., bins]: [...]; NaN for one group."""
    n_groups = len(p)
    if n_groups < 2:
        return np.full(np.broadcast_shapes(p.shape, q.shape)[1:-1], np.nan)
    whole = [h.sum(axis=0) for h in (p, q)]
    without = js_counts(*(all_ - h for all_, h in zip(whole, (p, q), strict=True)))
    return n_groups * js_counts(*whole) - (n_groups - 1) * without.mean(axis=0)


def wasserstein(generated: np.ndarray, oracle: np.ndarray) -> float:
    """Wasserstein-1 distance, the area between the distribution functions (scipy), per sample, then mean."""
    generated, oracle = checked(generated, oracle)
    return float(np.mean([stats.wasserstein_distance(x, oracle) for x in generated]))


def energy_distance(generated: np.ndarray, oracle: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| = 2 * integral of (F - G)^2, >= 0, per sample, then mean.

    The square of scipy's `energy_distance` (Szekely and Rizzo 2013 call this one the energy distance). Biased upwards
    by about E|y - y'| (1/n + 1/m) at small samples: compare with the floor."""
    generated, oracle = checked(generated, oracle)
    return float(np.mean([stats.energy_distance(x, oracle) ** 2 for x in generated]))


def moments(count: np.ndarray, *sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(skewness, excess kurtosis) from counts and sums of x, x^2, x^3, x^4; NaN for constant values.

    Population moments, E[(x - mean)^3] / std^3 and E[(x - mean)^4] / std^4 - 3, as scipy's `skew` and `kurtosis`
    (biased). Centre x roughly before taking the sums: high powers of large numbers lose digits."""
    m, m2, m3, m4 = (s / count for s in sums)
    std = std_of(count, *sums[:2])
    third = m3 - 3 * m * m2 + 2 * m**3
    fourth = m4 - 4 * m * m3 + 6 * m**2 * m2 - 3 * m**4
    return ratio(third, std**3), ratio(fourth, std**4) - 3


def skewness(x: np.ndarray) -> float:
    """`moments`' first, of [n] or mean over samples of [K, n]. FastSpeech 2 (arXiv 2006.04558) compares std, skewness
    and kurtosis of pitch."""
    return float(_moments_of(x)[0].mean())


def kurtosis(x: np.ndarray) -> float:
    """`moments`' second, of [n] or mean over samples of [K, n]."""
    return float(_moments_of(x)[1].mean())


def _moments_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.atleast_2d(np.asarray(x, float))
    x = x - x.mean(axis=1, keepdims=True)
    return moments(np.full(len(x), x.shape[1]), *((x**p).sum(axis=1) for p in (1, 2, 3, 4)))
