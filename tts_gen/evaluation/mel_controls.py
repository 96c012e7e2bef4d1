"""Controls of mels, as controls.py has them of prosody: made of a regression's predictions and of the oracle.

Mels are log-mels [T, M], one an utterance, of the oracle's timing; one draw each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tts_gen.evaluation.mel import Mels


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
    p, o = (np.concatenate(mels).astype(float) for mels in (prediction, oracle))
    residuals = [np.asarray(b, float) - a for a, b in zip(prediction, oracle, strict=True)]
    product = sum((r[:-1] * r[1:]).sum(axis=0) for r in residuals)
    power = sum((r[:-1] ** 2 + r[1:] ** 2).sum(axis=0) for r in residuals) / 2
    scale = np.divide(o.std(axis=0), p.std(axis=0), out=np.ones(p.shape[1]), where=p.std(axis=0) > 0)
    lag = np.divide(product, power, out=np.zeros(p.shape[1]), where=power > 0)
    return MelCalibration(np.sqrt(((o - p) ** 2).mean(axis=0)), p.mean(axis=0), scale, lag)


def plus_noise(prediction: Mels, calibration: MelCalibration, lag: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """The prediction plus Gaussian noise of the validation residual's size, bins independent; along time a stationary
    AR(1) process of autocorrelation `lag` [M], 0 for independent frames."""
    rng = np.random.default_rng(seed)
    made = []
    for mel in prediction:
        noise = rng.standard_normal(mel.shape)
        noise[1:] *= np.sqrt(1 - lag**2)
        for t in range(1, len(noise)):
            noise[t] += lag * noise[t - 1]
        made.append(mel + noise * calibration.residual_std)
    return made


def rescaled(prediction: Mels, calibration: MelCalibration) -> list[np.ndarray]:
    """The prediction stretched about its mean to the oracle's standard deviation, bin by bin."""
    return [calibration.mean + (mel - calibration.mean) * calibration.scale for mel in prediction]


def shuffled(oracle: Mels, phone_class: Sequence[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """The oracle's frames shuffled among those of one phoneme class, `phone_class` [T] an utterance."""
    frames, labels = np.concatenate(oracle), np.concatenate(phone_class)
    rng, order = np.random.default_rng(seed), np.arange(len(labels))
    for value in np.unique(labels):
        at = np.flatnonzero(labels == value)
        order[at] = rng.permutation(at)
    return np.split(frames[order], np.cumsum([len(mel) for mel in oracle])[:-1])


def other_utterance(oracle: Mels, groups: np.ndarray) -> list[np.ndarray]:
    """The oracle of another utterance, the one of nearest length in another group (in this one, where there is no
    other): its m frames in order of time on the n of the target, frame (2 i + 1) m // 2 n on the i-th. Raises
    ValueError for a single utterance."""
    lengths, made = np.array([len(mel) for mel in oracle]), []
    for u, n in enumerate(lengths):
        others = np.arange(len(oracle)) != u
        elsewhere = others & (groups != groups[u])
        donors = np.flatnonzero(elsewhere if elsewhere.any() else others)
        if not len(donors):
            raise ValueError("no other utterance")
        donor = oracle[donors[np.abs(lengths[donors] - n).argmin()]]
        made.append(donor[(2 * np.arange(n) + 1) * len(donor) // (2 * n)])
    return made


def mel_controls(
    regression: str, prediction: Mels, oracle: Mels, groups: np.ndarray, phone_class: Sequence[np.ndarray],
    calibration: MelCalibration, seed: int = 0,
) -> dict[str, list[np.ndarray]]:  # fmt: skip
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
