"""Rows for mels: how near, how sharp and how varied; per mel bin over the pool of all frames, then mean over the bins.

A spectrogram can match the oracle's histogram and still be smeared (L1) or grainy (diffusion at few steps); the std
ratios of frame-to-frame and bin-to-bin differences tell: below 1 is smear, far above 1 grain. Where a mel bin of the
oracle is constant (nothing above a telephone band), std ratios leave that bin out.
"""

from collections.abc import Sequence

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation import mel_metrics, metrics
from tts_gen.evaluation.bootstrap import DRAWS, Estimate, draws, halves, interval, over_halves
from tts_gen.evaluation.grouping import grouped
from tts_gen.evaluation.pool import SPLITS
from tts_gen.evaluation.rows import make_row

Mels = Sequence[np.ndarray]
"""One log-mel (natural log) for each utterance: [T, M], or [K, T, M] for K samples."""

AXES = {"std_ratio": None, "d_time_std_ratio": -2, "d_frequency_std_ratio": -1}
"""The axis of a mel along which differences are taken; None is the mel itself."""

NAMES = (*AXES, "gv_ratio", "modulation_distance", "js", "js_half")
"""Metrics of any mels; those of aligned frames, or of a warping, come beside them."""

UNALIGNED = "the model speaks with durations of its own: its frames do not stand for the recording's"


def mel_l1(generated: Mels, oracle: Mels) -> float:
    """Mean over all frames, bins and samples of |generated - oracle|, nats."""
    total = sum(np.abs(_samples(g) - o).mean(axis=0).sum() for g, o in zip(generated, oracle, strict=True))
    return float(total / sum(o.size for o in oracle))


def bin_std_ratio(generated: Mels, oracle: Mels, axis: int | None = None) -> np.ndarray:
    """std(generated) / std(oracle) of each bin over all frames, mean over samples, [M]; NaN for a constant oracle.

    axis -2: std of the differences from frame to frame; -1: from bin to bin, [M - 1]; None: of the values."""
    return _ratios(*(sum(_moments(m, axis) for m in mels)[None] for mels in (generated, oracle)))[0].mean(axis=0)


def bin_edges(oracle: Mels) -> np.ndarray:
    """Histogram edges of every bin [M, 53] from the oracle alone, as metrics.edges_for makes them."""
    return np.array([metrics.equal_bins(low, high, metrics.BINS) for low, high in zip(*_range(oracle), strict=True)])


def bin_js(generated: Mels, oracle: Mels, edges: np.ndarray) -> np.ndarray:
    """JS divergence of each bin's histogram over all frames, mean over samples, [M]; bits, `edges` from `bin_edges`."""
    p, q = (sum(_histograms(m, edges) for m in mels) for mels in (generated, oracle))
    return metrics.js_counts(p, q).mean(axis=0)


def mel_rows(
    generated: Mels, oracle: Mels, groups: Sequence, identity: dict, n_boot: int = DRAWS, seed: int = 0,
    aligned: bool = True,
) -> list[dict]:  # fmt: skip
    """Rows of feature "mel" for one family at one temperature; 95 % intervals over `groups`, one label an utterance.

    `aligned` False: the mels have durations of their own, so only distributions are compared, and the rows of what is
    measured frame by frame are null. Raises UserError when a mel's shape differs from the oracle's where it must not. A
    value that is not finite gives null rows that say why."""
    edges, n, near = bin_edges(oracle), sum(len(o) for o in oracle), "mcd" if aligned else "mcd_dtw"
    group, n_groups = grouped(list(groups))
    sums, lost, values = GroupSums(n_groups), 0, 0
    for i, (g, o) in enumerate(zip(generated, oracle, strict=True)):
        if np.shape(g)[-2:] != np.shape(o) and (aligned or np.shape(g)[-1] != np.shape(o)[-1]):
            raise UserError(
                f"utterance {i}: generated mel {np.shape(g)}, oracle {np.shape(o)}; sample with oracle durations"
            )
        lost, values = lost + np.count_nonzero(~np.isfinite(g)), values + np.size(g)
        if lost:
            continue
        sums.add(group[i], "generated", _terms(g, edges))
        sums.add(group[i], "oracle", _terms(o, edges))
        if aligned:
            sums.add(group[i], "error", {"mel_l1": np.array([mel_l1([g], [o]) * o.size, o.size]), near: _mcd(g, o)})
        else:
            sums.add(group[i], "error", {near: sum(np.array(mel_metrics.mcd_dtw(x, o)) for x in _samples(g))})
    if lost:
        why = f"{lost} of {values} generated values are not finite"
        return [make_row(identity, "mel", m, None, n=n, why=why) for m in ("mel_l1", *NAMES, near)]

    weights, found = draws(n_groups, n_boot, seed), {}
    for name, of_group in sums.of["error"].items():
        found[name] = interval(lambda s: s[:, 0] / s[:, 1], [of_group], weights)
    for name, statistic in STATISTICS.items():
        both = [sums.of[kind][name] for kind in ("generated", "oracle")]
        found[name] = interval(statistic, both, weights, nonnegative=name in DIVERGENCES)
    both = [sums.of[kind]["js"] for kind in ("generated", "oracle")]
    found["js_half"] = over_halves(_mean_js, *both, halves(n_groups, SPLITS, seed))
    rows = _rows(identity, found, n, n_groups)
    return rows if aligned else [make_row(identity, "mel", "mel_l1", None, n=n, why=UNALIGNED), *rows]


def mel_floor_rows(oracle: Mels, groups: Sequence, identity: dict, seed: int = 0) -> list[dict]:
    """Rows of family "floor": a random half of the oracle's groups against the other half, as prosody.floor_rows."""
    group, n_groups = grouped(list(groups))
    half, edges, sums, n = halves(n_groups, SPLITS, seed), bin_edges(oracle), GroupSums(n_groups), 0
    for g, mel in zip(group, oracle, strict=True):
        sums.add(g, "oracle", _terms(mel, edges))
        n += len(mel)
    of = sums.of["oracle"]
    found = {name: over_halves(statistic, of[name], of[name], half) for name, statistic in STATISTICS.items()}
    found["js_half"] = found["js"]
    return _rows(identity | {"family": "floor", "temperature": None}, found, n, n_groups)


class GroupSums:
    """Sums over the utterances of each group of what is added utterance by utterance, [G, ...] by kind and name."""

    def __init__(self, n_groups: int):
        self.n_groups = n_groups
        self.of: dict[str, dict[str, np.ndarray]] = {}

    def add(self, group: int, kind: str, terms: dict[str, np.ndarray]) -> None:
        of = self.of.setdefault(kind, {})
        for name, term in terms.items():
            if name not in of:
                of[name] = np.zeros((self.n_groups, *term.shape))
            of[name][group] += term


def _rows(identity: dict, found: dict[str, Estimate], n: int, n_groups: int) -> list[dict]:
    halved = "fewer than two groups: no halves can be made"
    undefined = halved if n_groups < 2 else "the oracle is constant in every mel bin"
    short = f"no utterance has {mel_metrics.SEGMENT} frames, or the oracle is constant in every mel bin"
    why = {name: short if name == "modulation_distance" and n_groups > 1 else undefined for name in found}
    return [make_row(identity, "mel", name, *estimate, n=n, why=why[name]) for name, estimate in found.items()]


def _range(oracle: Mels) -> tuple[np.ndarray, np.ndarray]:
    """The percentiles of every bin between which its histogram's bins lie, [M] each, as np.percentile interpolates.

    Only the frames beyond them are kept, so that not all need be in memory."""
    rank, part = divmod((sum(len(mel) for mel in oracle) - 1) * metrics.TAIL / 100, 1)
    rank = int(rank)
    kept, frames, waiting = rank + 2, 0, []
    for i, mel in enumerate(oracle, 1):
        waiting.append(mel)
        frames += len(mel)
        if frames > 8 * kept or i == len(oracle):
            values = np.concatenate(waiting)
            if len(values) > 2 * kept:
                values = np.partition(values, (kept - 1, len(values) - kept), axis=0)
                values = np.concatenate((values[:kept], values[-kept:]))
            waiting, frames = [values], len(values)
    ordered = np.sort(waiting[0].astype(float), axis=0)
    low, high = ordered[rank : rank + 2], ordered[::-1][rank : rank + 2]
    return tuple(x[0] + part * (x[-1] - x[0]) for x in (low, high))


def _terms(mel: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """What one utterance adds to the sums that STATISTICS are functions of, [K, ...] each."""
    of_axes = {name: _moments(mel, axis) for name, axis in AXES.items()}
    power = {"gv_ratio": _variances(mel), "modulation_distance": _modulations(mel)}
    return of_axes | power | {"js": _histograms(mel, edges)}


def _samples(mel: np.ndarray) -> np.ndarray:
    """[K, T, M]"""
    return np.asarray(mel, float).reshape(-1, *np.shape(mel)[-2:])


def _moments(mel: np.ndarray, axis: int | None) -> np.ndarray:
    """Count and sums of x and x^2 over frames, [K, 3, M], of the mel or of its differences."""
    x = _samples(mel) if axis is None else np.diff(_samples(mel), axis=axis)
    return np.stack((np.full_like(x.sum(axis=1), x.shape[1]), x.sum(axis=1), (x**2).sum(axis=1)), axis=1)


def _ratios(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Std ratio of every bin [R, K, M] from moments [R, K, 3, M] and [R, 1, 3, M]."""
    return metrics.ratio(*(metrics.std_of(*np.moveaxis(m, 2, 0)) for m in (generated, oracle)))


def _mean_ratio(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    return _mean_over_bins(_ratios(generated, oracle))


def _mean_over_bins(ratios: np.ndarray) -> np.ndarray:
    """Of ratios [R, K, M], over samples and the bins that have one; [R]."""
    known = np.isfinite(ratios)
    return metrics.ratio(np.where(known, ratios, 0).sum(axis=(1, 2)), known.sum(axis=(1, 2)))


def _mcd(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Sum of the frames' MCD over samples, and their count, [2]."""
    frames = mel_metrics.mcd_frames(_samples(generated), oracle)
    return np.array([frames.sum(), frames.size])


def _variances(mel: np.ndarray) -> np.ndarray:
    """Of one utterance: 1, to be counted, and its global variance, [K, 2, M]."""
    variance = mel_metrics.global_variance(_samples(mel))
    return np.stack((np.ones_like(variance), variance), axis=1)


def _mean_variance_ratio(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Mean over samples and bins of the ratio of the utterances' mean variances, from [R, K, 2, M] and [R, 1, 2, M]."""
    return _mean_over_bins(metrics.ratio(*(v[:, :, 1] / v[:, :, 0] for v in (generated, oracle))))


def _modulations(mel: np.ndarray) -> np.ndarray:
    """Summed modulation power, and in front of each bin's the count of segments, [K, M, 1 + F]."""
    power, segments = mel_metrics.modulation_power(_samples(mel))
    return np.concatenate((np.full((*power.shape[:-1], 1), float(segments)), power), axis=-1)


def _modulation_distance(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    means = [metrics.ratio(m[..., 1:], m[..., :1]) for m in (generated, oracle)]
    return mel_metrics.modulation_distance(*means).mean(axis=1)


def _histograms(mel: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts over frames in every bin's own edges [M, B + 1]: [K, M, B]."""
    x, n_bins = _samples(mel), edges.shape[1] - 1
    cell = np.stack([metrics.bin_of(x[..., m], edge) for m, edge in enumerate(edges)], axis=-1)
    cell += (np.arange(len(x))[:, None, None] * len(edges) + np.arange(len(edges))) * n_bins
    return (
        np.bincount(cell.ravel(), minlength=len(x) * len(edges) * n_bins)
        .reshape(len(x), len(edges), n_bins)
        .astype(float)
    )


def _mean_js(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    return metrics.js_counts(generated, oracle).mean(axis=(1, 2))


STATISTICS = {
    **dict.fromkeys(AXES, _mean_ratio),
    "gv_ratio": _mean_variance_ratio,
    "modulation_distance": _modulation_distance,
    "js": _mean_js,
}
"""Metric -> function of the weighted sums [R, K, ...] of generated and [R, 1, ...] of oracle"""
DIVERGENCES = ("modulation_distance", "js")
