"""Fundamental frequency, frame by frame, aligned with the mel frames."""

from typing import Literal, get_args

import numpy as np

from tts_gen.config import Audio, UserError

Method = Literal["dio", "pyin"]
F0_MIN, F0_MAX = 60.0, 500.0
"""Hz. Speech of men, women and children lies within, acted speech included; a wider range buys mostly octave errors."""
VOICING_THRESHOLD = 0.85
"""WORLD's default"""
LOVE_TRAIN_LOWEST = 40.0
"""Hz, of D4C LoveTrain"""
FRAMES = 256
"""worked on at once"""
PYIN_WINDOW = 0.07
"""seconds; a little over four periods of F0_MIN"""


def f0(wave: np.ndarray, audio: Audio, method: Method = "dio") -> np.ndarray:
    """wave[n] at audio.sample_rate -> [T] float32 Hz, 0 where unvoiced, T = n // hop, at times (t + 0.5) * hop samples.

    "dio": DIO refined by StoneMask, voiced where D4C LoveTrain finds it so (all WORLD), the quicker; "pyin":
    probabilistic YIN (librosa). Raises UserError for another method.
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
    # DIO finds a period in half of all S and T; WORLD's own voicing decision knows them for noise.
    voiced = np.flatnonzero(contour)
    noise = _low_share(wave, audio.sample_rate, contour[voiced], times[voiced]) <= VOICING_THRESHOLD
    contour[voiced[noise]] = 0.0
    return contour


def _low_share(wave: np.ndarray, rate: int, f0: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Share of a frame's energy between 100 Hz and 7.9 kHz that lies below 4 kHz, [n] for f0 [n] Hz at times [n] s.

    D4C LoveTrain of WORLD (d4c.cpp), whose package runs it with the rest of D4C alone, a hundred times as long: three
    periods in a Blackman window, less their weighted mean."""
    f0 = np.maximum(f0, LOVE_TRAIN_LOWEST)
    size = 2 ** (1 + int(np.log2(3 * rate / LOVE_TRAIN_LOWEST + 1)))
    low, middle, high = (int(np.ceil(hz * size / rate)) for hz in (100, 4000, 7900))
    half = _rounded(1.5 * rate / f0)
    found = np.empty(len(f0))
    for first in range(0, len(f0), FRAMES):
        part = slice(first, first + FRAMES)
        steps = np.arange(-half[part].max(initial=0), half[part].max(initial=0) + 1)
        phase = np.pi * (2 * steps / 3 / rate) * f0[part, None]
        window = np.where(np.abs(steps) <= half[part, None], 0.42 + 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase), 0)
        at = np.clip(_rounded(times[part] * rate + 0.001)[:, None] + steps, 0, len(wave) - 1)
        frames = wave[at] * window
        frames -= window * (frames.sum(1) / window.sum(1))[:, None]
        power = np.abs(np.fft.rfft(frames, size)) ** 2
        total = power[:, low + 1 : high + 1].sum(1)
        found[part] = power[:, low + 1 : middle + 1].sum(1) / np.where(total > 0, total, np.inf)
    return found


def _rounded(x: np.ndarray) -> np.ndarray:
    """Half away from zero, as WORLD's matlab_round; x >= 0."""
    return np.floor(x + 0.5).astype(int)


def _pyin(wave: np.ndarray, audio: Audio) -> np.ndarray:
    import librosa

    window = 2 ** round(np.log2(PYIN_WINDOW * audio.sample_rate))
    contour, voiced, _ = librosa.pyin(
        wave, fmin=F0_MIN, fmax=F0_MAX, sr=audio.sample_rate, frame_length=window, hop_length=audio.hop
    )
    return np.where(voiced, contour, 0.0)
