"""Control sample sets that keep the metrics honest: what a metric says of them, it would say of a poor model.

Predictions are in the model's space, [n, C]: normalised log-f0, log-duration and maybe energy, over the flat positions
of the oracle's `Prosody`. `frames` turns normalised log-durations [n] into whole frames [n] exactly as synthesis does.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import signal

from tts_gen.evaluation import utterance_metrics
from tts_gen.evaluation.prosody import Prosody

Frames = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Calibration:
    """What the controls know of the L2 model; from the validation split only. Each is [C], as the predictions."""

    residual_std: np.ndarray
    """root mean square of oracle - prediction"""
    mean: np.ndarray
    """of the prediction"""
    scale: np.ndarray
    """std(oracle) / std(prediction)"""
    autocorrelation: np.ndarray
    """of oracle - prediction at neighbours of the pool within an utterance, about 0: sum e_t e_t+1 / the mean of the
    sums of e_t^2 and e_t+1^2; 0 where no utterance has two"""


def calibrate(prediction: np.ndarray, target: np.ndarray, val: Prosody) -> Calibration:
    """From prediction and target [n, C] of the validation split, whose oracle `val` is; log-f0 over voiced, non-pause
    phonemes, all else over non-pause ones. Raises ValueError when there are none, or when the prediction is
    constant."""
    found = []
    for channel, valid in enumerate(_pools(val)[: prediction.shape[1]]):
        p, t = prediction[valid, channel].astype(float), target[valid, channel].astype(float)
        if not p.size or p.std() == 0:
            raise ValueError(f"channel {channel}: {p.size} validation positions, prediction constant or missing")
        left, right = utterance_metrics.pairs(val.utterance, valid)
        a, b = ((target[at, channel] - prediction[at, channel]).astype(float) for at in (left, right))
        power = (np.sum(a**2) + np.sum(b**2)) / 2
        lag = np.sum(a * b) / power if power > 0 else 0.0
        found.append((np.sqrt(np.mean((t - p) ** 2)), p.mean(), t.std() / p.std(), lag))
    return Calibration(*np.array(found).T)


def _pools(oracle: Prosody) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [n] bool that have a log-f0, and a duration and an energy that count."""
    return oracle.voiced & ~oracle.pause & np.isfinite(oracle.log_f0), ~oracle.pause, ~oracle.pause


def l2_plus_noise(
    oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames, samples: int = 8, seed: int = 0
) -> Prosody:
    """The prediction plus independent Gaussian noise of the validation residual's size, K draws.

    Its marginal std and histogram are nearly the oracle's although it knows nothing that L2 does not: only metrics on
    which it loses (best-of-K, differences, bits per dimension) tell a model from noise."""
    noise = np.random.default_rng(seed).standard_normal((samples, *prediction.shape))
    noise *= calibration.residual_std  # in place: of many utterances these are the largest arrays
    noise += prediction
    return _prosody(oracle, noise, frames)


def l2_plus_ar_noise(
    oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames, samples: int = 8, seed: int = 0
) -> Prosody:
    """The prediction plus Gaussian noise of the validation residual's size and autocorrelation, K draws.

    A stationary AR(1) process for each channel along the pool's phonemes of each utterance (log-f0: the voiced ones,
    as differences are taken), independent between channels and utterances. Smoother than independent noise, so that
    differences between neighbours come out right; it still knows no text, nor what lasts a whole utterance."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((samples, *prediction.shape))
    for channel, valid in enumerate(_pools(oracle)[: prediction.shape[1]]):
        at, lag = np.flatnonzero(valid), calibration.autocorrelation[channel]
        for positions in np.split(at, utterance_metrics.starts(oracle.utterance[at])[1:]):
            innovation = noise[:, positions, channel]
            innovation[:, 1:] *= np.sqrt(1 - lag**2)  # the first is stationary already
            noise[:, positions, channel] = signal.lfilter([1], [1, -lag], innovation, axis=1)
    noise *= calibration.residual_std
    noise += prediction
    return _prosody(oracle, noise, frames)


def l2_rescaled(oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames) -> Prosody:
    """The prediction stretched about its mean to the oracle's standard deviation; one deterministic set."""
    return _prosody(oracle, calibration.mean + (prediction - calibration.mean) * calibration.scale, frames)


def shuffled(oracle: Prosody, samples: int = 8, seed: int = 0) -> Prosody:
    """The oracle's (log-f0, duration, energy) shuffled among phonemes of one class and voicing, K draws: the right
    marginals per class, no melody."""
    rng = np.random.default_rng(seed)
    stratum = np.unique(np.stack((oracle.phone_class, oracle.voiced.astype(str))), axis=1, return_inverse=True)[
        1
    ].ravel()
    order = np.empty((samples, len(stratum)), int)
    for value in np.unique(stratum):
        at = np.flatnonzero(stratum == value)
        order[:, at] = rng.permuted(np.tile(at, (samples, 1)), axis=1)
    return dataclasses.replace(oracle, **{name: x[order] for name, x in _values(oracle).items()})


def other_utterance(oracle: Prosody, samples: int = 8, seed: int = 0) -> Prosody:
    """The oracle's prosody of another utterance laid on this one's phonemes, K draws: a real melody, to another text.

    Donors are the K utterances of other groups (of this one, where there is no other) whose counts of phonemes are
    nearest, equals in random order, taken again where there are fewer than K. A donor's values in order of time, of m
    phonemes of the pool, are laid on the n of the target: its phoneme (2 i + 1) m // 2 n on the i-th. So values are
    left out or repeated, never made up; log-f0 goes from voiced to voiced, all else from non-pause to non-pause, and
    pauses and voicing stay the target's. Raises ValueError where no other utterance has voiced phonemes."""
    rng = np.random.default_rng(seed)
    truth = {name: np.asarray(x, float) for name, x in _values(oracle).items()}
    pools = _pools(oracle)[: len(truth)]
    first = utterance_metrics.starts(oracle.utterance)
    split = [np.split(at, np.searchsorted(at, first[1:])) for at in map(np.flatnonzero, pools)]
    of = list(zip(*split, strict=True))
    count = np.array([len(duration) for _, duration, *_ in of])
    melodic = np.array([len(log_f0) > 0 for log_f0, *_ in of])
    laid = {name: np.tile(x, (samples, 1)) for name, x in truth.items()}
    for u in range(len(of)):
        others = melodic & (np.arange(len(of)) != u)
        elsewhere = others & (oracle.group[first] != oracle.group[first[u]])
        donors = rng.permutation(np.flatnonzero(elsewhere if elsewhere.any() else others))
        if not len(donors):
            raise ValueError("no other utterance has voiced phonemes")
        donors = donors[np.argsort(np.abs(count[donors] - count[u]), kind="stable")]
        for k in range(samples):
            donor = of[donors[k % len(donors)]]
            for values, true, own, given in zip(laid.values(), truth.values(), of[u], donor, strict=True):
                values[k, own] = true[given[(2 * np.arange(len(own)) + 1) * len(given) // max(2 * len(own), 1)]]
    return dataclasses.replace(oracle, **laid)


def _values(oracle: Prosody) -> dict[str, np.ndarray]:
    """What is there of log_f0, duration and energy, [n] each, in the order of the channels."""
    found = {name: getattr(oracle, name) for name in ("log_f0", "duration", "energy")}
    return {name: x for name, x in found.items() if x is not None}


def controls(
    oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames, samples: int = 8, seed: int = 0
) -> Iterator[tuple[str, Prosody]]:
    """All control sets with their family label, one after the other; of a single utterance without
    control:other_utterance."""
    yield "control:l2+noise", l2_plus_noise(oracle, prediction, calibration, frames, samples, seed)
    yield "control:l2+ar_noise", l2_plus_ar_noise(oracle, prediction, calibration, frames, samples, seed)
    yield "control:l2_rescaled", l2_rescaled(oracle, prediction, calibration, frames)
    yield "control:shuffled", shuffled(oracle, samples, seed)
    if len(np.unique(oracle.utterance[_pools(oracle)[0]])) > 1:
        yield "control:other_utterance", other_utterance(oracle, samples, seed)


def _prosody(oracle: Prosody, y: np.ndarray, frames: Frames) -> Prosody:
    """y [n, C] or [K, n, C] in the model's space."""
    energy = y[..., 2] if y.shape[-1] > 2 else None
    duration = frames(y[..., 1]) if y.ndim == 2 else np.stack([frames(d) for d in y[..., 1]])
    return dataclasses.replace(oracle, log_f0=y[..., 0], duration=duration, energy=energy)
