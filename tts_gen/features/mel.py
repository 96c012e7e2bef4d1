"""The log-mel spectrogram of HiFi-GAN (`meldataset.mel_spectrogram`, jik876/hifi-gan), in numpy."""

from functools import lru_cache

import numpy as np

from tts_gen.config import Audio

LEAST, FLOOR = np.float32(1e-9), np.float32(1e-5)
"""added to powers; below which no mel magnitude goes"""


def log_mel(wave: np.ndarray, audio: Audio) -> np.ndarray:
    """wave[n] in -1..1 at audio.sample_rate -> [T, M] float32, T = n // hop.

    Reflect-padded by (n_fft - hop) / 2 on both sides, periodic Hann window, magnitude sqrt(re^2 + im^2 + 1e-9), Slaney
    filters, natural log of max(., 1e-5). Frame t covers the hop that begins at sample t * hop. Raises ValueError when
    the wave is no longer than the padding.
    """
    pad = (audio.n_fft - audio.hop) // 2
    if len(wave) <= max(pad, audio.hop - 1):
        raise ValueError(f"{len(wave)} samples are too few for a mel frame: more than {pad} are needed")
    padded = np.pad(np.asarray(wave, np.float32), pad, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, audio.n_fft)[:: audio.hop][: len(wave) // audio.hop]
    window, filters = constants(audio)
    spectrum = np.fft.rfft(frames * window)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + LEAST)
    return np.log(np.maximum(magnitude @ filters.T, FLOOR))


@lru_cache(maxsize=4)
def constants(audio: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Window [n_fft] and mel filters [M, n_fft // 2 + 1]."""
    import librosa

    window = np.hanning(audio.n_fft + 1)[:-1].astype(np.float32)
    filters = librosa.filters.mel(
        sr=audio.sample_rate, n_fft=audio.n_fft, n_mels=audio.n_mels, fmin=audio.fmin, fmax=audio.fmax
    )
    return window, filters.astype(np.float32)
