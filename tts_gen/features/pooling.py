"""From a contour over frames to one value a phoneme, and values for the phonemes that have none."""

import numpy as np

MIN_VOICED_SHARE = 0.3
MIN_VOICED_FRAMES = 2
"""A phoneme is voiced when at least this share, and this many, of its frames are: single frames are often f0 errors."""

DECIBEL = 20 / np.log(10)
"""dB of a nat of magnitude"""


def pool_log_f0(f0: np.ndarray, duration: np.ndarray, is_pause: np.ndarray) -> np.ndarray:
    """Mean of log f0 over each phoneme's voiced frames.

    f0[T] Hz, 0 where unvoiced; duration[N] frames with sum T; is_pause[N] -> [N] float32 natural log of Hz, NaN where
    unvoiced (pauses always).
    """
    starts = np.cumsum(duration) - duration
    count = np.add.reduceat((f0 > 0).astype(int), starts)
    total = np.add.reduceat(np.log(np.where(f0 > 0, f0, 1.0)), starts)
    voiced = (count >= MIN_VOICED_FRAMES) & (count >= MIN_VOICED_SHARE * duration) & ~is_pause
    return np.where(voiced, total / np.maximum(count, 1), np.nan).astype(np.float32)


def log_contour(f0: np.ndarray) -> np.ndarray:
    """f0[T] Hz, 0 where unvoiced -> [T] float32 natural log of Hz, NaN there."""
    return np.log(f0, out=np.full(len(f0), np.nan, np.float32), where=f0 > 0)


def pool_contour(contour: np.ndarray, counts: np.ndarray, duration: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Mean of contour [..., T] over each phoneme's frames that count, counts [T] bool; duration [N] frames with sum T,
    voiced [N] bool -> [..., N], NaN where not voiced. A voiced phoneme must have a frame that counts; one such value
    that is not finite makes its phoneme's not finite."""
    starts = np.cumsum(duration) - duration
    total = np.add.reduceat(np.where(counts, contour, 0), starts, axis=-1)
    number = np.add.reduceat(counts.astype(int), starts)
    return np.where(voiced, total / np.maximum(number, 1), np.nan)


def pool_energy(mel: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """Energy of each phoneme: log-mel [T, M], duration [N] frames with sum T -> [N] float32, nats (1 nat: 8.69 dB).

        e_t = log || exp(mel_t) || = 1/2 log sum_m exp(2 mel_tm),    the mean of e_t over the phoneme's frames

    FastSpeech 2 (arXiv 2006.04558, section 2.3) takes the L2 norm of a frame's STFT magnitudes; here they are the mel's
    and the norm's logarithm is, so that any stored mel gives it and its differences are in dB.
    """
    frames = 0.5 * np.log(np.sum(np.exp(2 * mel), 1))
    return (np.add.reduceat(frames, np.cumsum(duration) - duration) / duration).astype(np.float32)


def interpolate_unvoiced(log_f0: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """log_f0[N] with unvoiced values replaced: linear by position between voiced neighbours, the nearest at the ends.

    Values are in normalised units: 0, the speaker's mean, where no phoneme is voiced. voiced[N] bool -> [N].
    """
    if not voiced.any():
        return np.zeros_like(log_f0)
    position = np.arange(len(log_f0))
    return np.interp(position, position[voiced], log_f0[voiced]).astype(log_f0.dtype)
