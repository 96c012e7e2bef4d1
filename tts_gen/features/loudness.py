"""Loudness as ITU-R BS.1770-4 measures it, and waves brought to one."""

import numpy as np
from scipy import signal

PEAK = -1.0
"""dB of full scale that no sample of a wave brought to a loudness passes"""


def k_weighting(rate: int) -> np.ndarray:
    """ITU-R BS.1770-4's shelf and high-pass as two biquads [2, 6] at any rate.

    The recommendation tabulates 48 kHz alone; these are its analogue prototypes (as in libebur128), bilinear, which
    give the table at 48 kHz."""
    k = np.tan(np.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    shelf = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k,
             1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]  # fmt: skip
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    high_pass = [1, -2, 1, 1, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]
    return np.array([np.array(shelf) / shelf[3], high_pass])


def loudness(wave: np.ndarray, rate: int) -> float:
    """Integrated loudness of wave[n] in LKFS, mono: BS.1770-4 with both gates (400 ms blocks every 100 ms, above
    -70 LKFS and above 10 LU below the mean of those). A wave below 400 ms is one block; -inf for silence."""
    squares = signal.sosfilt(k_weighting(rate), wave) ** 2
    block = min(round(0.4 * rate), len(squares))
    total = np.concatenate(([0.0], np.cumsum(squares)))
    starts = np.arange(0, len(squares) - block + 1, round(0.1 * rate))
    power = (total[starts + block] - total[starts]) / block

    def level(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return -0.691 + 10 * np.log10(x)

    loud = power[level(power) > -70]
    if not len(loud):
        return -np.inf
    return float(level(loud[level(loud) > level(loud.mean()) - 10].mean()))


def gain(own: float, target: float) -> float:
    """Factor from one loudness to another, both in LKFS."""
    return 10 ** ((target - own) / 20)


def levelled(wave: np.ndarray, rate: int, target: float) -> np.ndarray:
    """wave[n] at `target` LKFS, or less where its peak would pass PEAK; silence as it is."""
    own = loudness(wave, rate)
    if not np.isfinite(own):
        return wave
    room = 10 ** (PEAK / 20) / np.abs(wave).max()
    return wave * np.float32(min(gain(own, target), room))
