"""Fundamental frequency, frame by frame, aligned with the mel frames."""

from typing import Literal, get_args

import numpy as np

from tts_gen.config import Audio, UserError

Method = Literal["dio", "pyin"]
F0_MIN, F0_MAX = 60.0, 500.0
"""Hz. Speech of men, women and children lies within, acted speech included; a wider range buys mostly octave errors."""
VOICING_THRESHOLD = 0.85
"""WORLD's default"""
PYIN_WINDOW = 0.07
"""seconds; a little over four periods of F0_MIN"""


def f0(wave: np.ndarray, audio: Audio, method: Method = "dio") -> np.ndarray:
    """wave[n] at audio.sample_rate -> [T] float32 Hz, 0 where unvoiced, T = n // hop, at times (t + 0.5) * hop samples.

    "dio": DIO refined by StoneMask, voiced where D4C finds it so (all WORLD), the quicker; "pyin": probabilistic YIN
    (librosa). Raises UserError for
    another method.
    """
    if method not in get_args(Method):
        raise UserError(f"f0 method {method!r} is not one of {', '.join(get_args(Method))}")
    n_frames = len(wave) // audio.hop
    # Both methods put frame t at t * hop: with half a hop cut off the front, that is the centre of mel frame t.
    shifted = wave[audio.hop // 2 :]
    contour = _dio(shifted, audio) if method == "dio" else _pyin(shifted, audio)
    return contour[:n_frames].astype(np.float32)


def _dio(wave: np.ndarray, audio: Audio) -> np.ndarray:
    import pyworld

    wave = np.ascontiguousarray(wave, np.float64)
    period = 1000 * audio.frame_seconds
    rough, times = pyworld.dio(wave, audio.sample_rate, f0_floor=F0_MIN, f0_ceil=F0_MAX, frame_period=period)
    contour = pyworld.stonemask(wave, rough, times, audio.sample_rate)
    # DIO finds a period in half of all S and T; WORLD's own voicing decision (LoveTrain, in D4C) knows them for noise.
    aperiodicity = pyworld.d4c(wave, contour, times, audio.sample_rate, threshold=VOICING_THRESHOLD)
    return np.where(aperiodicity[:, 0] > 0.999, 0.0, contour)


def _pyin(wave: np.ndarray, audio: Audio) -> np.ndarray:
    import librosa

    window = 2 ** round(np.log2(PYIN_WINDOW * audio.sample_rate))
    contour, voiced, _ = librosa.pyin(
        wave, fmin=F0_MIN, fmax=F0_MAX, sr=audio.sample_rate, frame_length=window, hop_length=audio.hop
    )
    return np.where(voiced, contour, 0.0)
