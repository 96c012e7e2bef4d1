"""Control sample sets that keep the metrics honest: what a metric says of them, it would say of a poor model.

Predictions are in the model's space, [n, 2]: normalised log-f0 and normalised log-duration, over the flat positions of
the oracle's `Prosody`. `frames` turns normalised log-durations [n] into whole frames [n] exactly as synthesis does.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tts_gen.evaluation.prosody import Prosody

Frames = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Calibration:
    """What the controls know of the L2 model; from the validation split only. Each is [2]: log-f0, log-duration."""

    residual_std: np.ndarray
    """root mean square of oracle - prediction"""
    mean: np.ndarray
    """of the prediction"""
    scale: np.ndarray
    """std(oracle) / std(prediction)"""


def calibrate(prediction: np.ndarray, target: np.ndarray, voiced: np.ndarray, pause: np.ndarray) -> Calibration:
    """From prediction and target [n, 2] of the validation split; log-f0 over voiced, non-pause phonemes, log-duration
    over non-pause ones. Raises ValueError when there are none, or when the prediction is constant."""
    found = []
    for channel, valid in enumerate((voiced & ~pause, ~pause)):
        p, t = prediction[valid, channel].astype(float), target[valid, channel].astype(float)
        if not p.size or p.std() == 0:
            raise ValueError(f"channel {channel}: {p.size} validation positions, prediction constant or missing")
        found.append((np.sqrt(np.mean((t - p) ** 2)), p.mean(), t.std() / p.std()))
    return Calibration(*np.array(found).T)


def l2_plus_noise(
    oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames, samples: int = 8, seed: int = 0
) -> Prosody:
    """The prediction plus independent Gaussian noise of the validation residual's size, K draws.

    Its marginal std and histogram are nearly the oracle's although it knows nothing that L2 does not: only metrics on
    which it loses (best-of-K, differences, bits per dimension) tell a model from noise."""
    noise = np.random.default_rng(seed).standard_normal((samples, *prediction.shape)) * calibration.residual_std
    return _prosody(oracle, prediction + noise, frames)


def l2_rescaled(oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames) -> Prosody:
    """The prediction stretched about its mean to the oracle's standard deviation; one deterministic set."""
    return _prosody(oracle, calibration.mean + (prediction - calibration.mean) * calibration.scale, frames)


def shuffled(oracle: Prosody, samples: int = 8, seed: int = 0) -> Prosody:
    """The oracle's (log-f0, duration) pairs shuffled among phonemes of one class and voicing, K draws: the right
    marginals per class, no melody."""
    rng = np.random.default_rng(seed)
    stratum = np.unique(np.stack((oracle.phone_class, oracle.voiced.astype(str))), axis=1, return_inverse=True)[
        1
    ].ravel()
    order = np.empty((samples, len(stratum)), int)
    for value in np.unique(stratum):
        at = np.flatnonzero(stratum == value)
        order[:, at] = rng.permuted(np.tile(at, (samples, 1)), axis=1)
    return dataclasses.replace(oracle, log_f0=oracle.log_f0[order], duration=oracle.duration[order])


def controls(
    oracle: Prosody, prediction: np.ndarray, calibration: Calibration, frames: Frames, samples: int = 8, seed: int = 0
) -> dict[str, Prosody]:
    """All control sets by their family label."""
    return {
        "control:l2+noise": l2_plus_noise(oracle, prediction, calibration, frames, samples, seed),
        "control:l2_rescaled": l2_rescaled(oracle, prediction, calibration, frames),
        "control:shuffled": shuffled(oracle, samples, seed),
    }


def _prosody(oracle: Prosody, y: np.ndarray, frames: Frames) -> Prosody:
    """y [n, 2] or [K, n, 2] in the model's space."""
    duration = frames(y[..., 1]) if y.ndim == 2 else np.stack([frames(d) for d in y[..., 1]])
    return dataclasses.replace(oracle, log_f0=y[..., 0], duration=duration)
