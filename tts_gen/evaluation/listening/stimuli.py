"""What listeners hear: waves of one rate, one loudness, one length a trial; low-pass anchors."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import signal

from tts_gen.config import UserError
from tts_gen.features.loudness import PEAK, loudness
from tts_gen.features.sound import Unusable, load

log = logging.getLogger(__name__)

ANCHORS = {"low anchor": 3500.0, "mid anchor": 7000.0}
"""cut-off in Hz (BS.1534-3, 5.1)"""
STOP = 8 / 7
"""stop band over cut-off: BS.1534 asks of the 3.5 kHz filter 25 dB at 4 kHz and 50 dB at 4.5; this has 60 dB at 4"""
ATTENUATION = 60.0
"""dB"""
LOUDNESS = -23.0
"""LKFS of all stimuli (EBU R 128), or less where a peak would pass PEAK"""


def read_wave(path: Path, rate: int) -> np.ndarray:
    """Wave [n] at `rate` Hz, channels averaged, resampled by soxr. Raises UserError."""
    import soxr

    try:
        recording = load(path)
    except Unusable as error:
        raise UserError(f"{path}: {error.reason}: {error.detail}; replace or remove it") from error
    wave = recording.wave.astype(float)
    return soxr.resample(wave, recording.rate, rate) if recording.rate != rate else wave


def low_pass(wave: np.ndarray, rate: int, cutoff: float) -> np.ndarray:
    """wave[n] without what lies above `cutoff` Hz: linear-phase FIR (Kaiser), no delay; ripple below 0.02 dB up to
    the cut-off, -60 dB from STOP * cutoff on."""
    taps, beta = signal.kaiserord(ATTENUATION, (STOP - 1) * cutoff / (rate / 2))
    fir = signal.firwin(taps | 1, (1 + STOP) / 2 * cutoff, window=("kaiser", beta), fs=rate)
    return signal.fftconvolve(wave, fir, mode="same")


def anchors(rate: int) -> dict[str, float]:
    """The anchors that `rate` leaves room for: name -> cut-off in Hz. One whose stop band lies above half the rate
    would be the reference itself; a warning names it."""
    kept = {name: cutoff for name, cutoff in ANCHORS.items() if STOP * cutoff < rate / 2}
    for name in ANCHORS.keys() - kept.keys():
        log.warning(
            "no %s: at %d Hz nothing lies above %.0f Hz, a low-pass at %.0f Hz would be inaudible",
            name, rate, rate / 2, ANCHORS[name],
        )  # fmt: skip
    return kept


def common_loudness(waves: Iterable[tuple[str, np.ndarray]], rate: int) -> tuple[float, dict[str, float]]:
    """(target in LKFS, each wave's own loudness) for (name, wave [n]): LOUDNESS, or the most at which none of the waves
    passes PEAK, so that nothing is ever clipped or limited. Raises UserError naming a silent wave."""
    target, own = LOUDNESS, {}
    for name, wave in waves:
        own[name] = loudness(wave, rate)
        if not np.isfinite(own[name]):
            raise UserError(f"{name}: silent, so its level cannot be matched; replace it or leave its system out")
        target = min(target, own[name] + PEAK - 20 * np.log10(np.abs(wave).max()))
    return target, own


def equal_lengths(waves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All as long as the longest, with silence at the end."""
    longest = max(map(len, waves.values()))
    return {name: np.pad(wave, (0, longest - len(wave))) for name, wave in waves.items()}
