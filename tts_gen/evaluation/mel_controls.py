"""Controls of mels, as controls.py has them of prosody: made of a regression's predictions and of the oracle.

Mels are log-mels [T, M], one an utterance, of the oracle's timing; one draw each, made when it is asked for.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tts_gen.evaluation import metrics
from tts_gen.evaluation.mel import Mels
from tts_gen.evaluation.split import Lazy

BLOCK = 128
"""utterances in the order of the split among which frames are shuffled: so many are in memory at once"""


@dataclass(frozen=True)
class MelCalibration:
    """What the controls know of the regression, from the validation split only; [M] each."""

    residual_std: np.ndarray
    """root mean square of oracle - prediction"""
    mean: np.ndarray
    """of the prediction"""
    scale: np.ndarray
    """std(oracle) / std(prediction); 1 where the prediction is constant"""
    autocorrelation: np.ndarray
    """of oracle - prediction from frame to frame, about 0"""


def calibrate(prediction: Mels, oracle: Mels) -> MelCalibration:
    """From the validation split's predictions and oracle."""
    sums = sum(_sums(np.asarray(p, float), np.asarray(o, float)) for p, o in zip(prediction, oracle, strict=True))
    count, p, pp, o, oo, rr, product, power = sums
    spread = metrics.std_of(count, p, pp)
    scale = np.divide(metrics.std_of(count, o, oo), spread, out=np.ones(len(p)), where=spread > 0)
    lag = np.divide(product, power, out=np.zeros(len(p)), where=power > 0)
    return MelCalibration(np.sqrt(rr / count), p / count, scale, lag)


def _sums(p: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Over the frames of one utterance, [8, M]: count, p, p^2, o, o^2 and r^2, r = o - p; r_t r_t+1, and the mean of
    the sums of r_t^2 and r_t+1^2."""
    r = o - p
    terms = (np.ones_like(p), p, p**2, o, o**2, r**2, r[:-1] * r[1:], (r[:-1] ** 2 + r[1:] ** 2) / 2)
    return np.array([term.sum(axis=0) for term in terms])


def plus_noise(prediction: Mels, calibration: MelCalibration, lag: np.ndarray, seed: int = 0) -> Mels:
    """The prediction plus Gaussian noise of the validation residual's size, bins independent; along time a stationary
    AR(1) process of autocorrelation `lag` [M], 0 for independent frames."""

    def noisy(i: int) -> np.ndarray:
        mel = prediction[i]
        noise = np.random.default_rng((seed, i)).standard_normal(mel.shape)
        noise[1:] *= np.sqrt(1 - lag**2)
        for t in range(1, len(noise)):
            noise[t] += lag * noise[t - 1]
        return mel + noise * calibration.residual_std

    return Lazy(len(prediction), noisy)


def rescaled(prediction: Mels, calibration: MelCalibration) -> Mels:
    """The prediction stretched about its mean to the oracle's standard deviation, bin by bin."""
    stretch = lambda mel: calibration.mean + (mel - calibration.mean) * calibration.scale  # noqa: E731
    return Lazy(len(prediction), lambda i: stretch(prediction[i]))


def shuffled(oracle: Mels, phone_class: Sequence[np.ndarray], seed: int = 0) -> Mels:
    """The oracle's frames shuffled among those of one phoneme class (labels [T] for each utterance) in BLOCK
    utterances: the right frames, in no order."""

    @functools.lru_cache(maxsize=1)
    def block(first: int) -> list[np.ndarray]:
        places = range(first, min(first + BLOCK, len(oracle)))
        mels = [oracle[i] for i in places]
        frames, labels = np.concatenate(mels), np.concatenate([phone_class[i] for i in places])
        rng, order = np.random.default_rng((seed, first)), np.arange(len(labels))
        for value in np.unique(labels):
            at = np.flatnonzero(labels == value)
            order[at] = rng.permutation(at)
        return np.split(frames[order], np.cumsum([len(mel) for mel in mels])[:-1])

    return Lazy(len(oracle), lambda i: block(i // BLOCK * BLOCK)[i % BLOCK])


def other_utterance(oracle: Mels, groups: np.ndarray) -> Mels:
    """The oracle of another utterance, the one of nearest length in another group (in this one, where there is no
    other): its m frames in order of time on the n of the target, frame (2 i + 1) m // 2 n on the i-th. Raises
    ValueError for a single utterance."""
    lengths, donors = np.array([len(mel) for mel in oracle]), []
    for u, n in enumerate(lengths):
        others = np.arange(len(oracle)) != u
        elsewhere = others & (groups != groups[u])
        possible = np.flatnonzero(elsewhere if elsewhere.any() else others)
        if not len(possible):
            raise ValueError("no other utterance")
        donors.append(possible[np.abs(lengths[possible] - n).argmin()])

    def laid(i: int) -> np.ndarray:
        donor, n = oracle[donors[i]], lengths[i]
        return donor[(2 * np.arange(n) + 1) * len(donor) // (2 * n)]

    return Lazy(len(oracle), laid)


def mel_controls(
    regression: str, prediction: Mels, oracle: Mels, groups: np.ndarray, phone_class: Sequence[np.ndarray],
    calibration: MelCalibration, seed: int = 0,
) -> dict[str, Mels]:  # fmt: skip
    """All control sets by their family label, `regression` being the label of the predictions' family; of a single
    utterance without control:other_utterance."""
    no_lag = np.zeros_like(calibration.autocorrelation)
    found = {
        f"control:{regression}+noise": plus_noise(prediction, calibration, no_lag, seed),
        f"control:{regression}+ar_noise": plus_noise(prediction, calibration, calibration.autocorrelation, seed),
        f"control:{regression}_rescaled": rescaled(prediction, calibration),
        "control:shuffled": shuffled(oracle, phone_class, seed),
    }
    if len(oracle) > 1:
        found["control:other_utterance"] = other_utterance(oracle, groups)
    return found
