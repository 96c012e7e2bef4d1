"""Measures of log-mels as signals: cepstral distance with and without warping, global variance, modulation spectrum.

Shapes: T frames, M mel bins, K samples; log-mels are natural logarithms of magnitudes. mel.py holds what is taken bin
by bin over the pool of frames, and the rows.
"""

from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.spatial.distance import cdist

CEPSTRA = 13
"""coefficients c_1 to c_13, as MCD_13 of Skerry-Ryan et al. 2018"""
SEGMENT = 64
"""frames of a modulation spectrum (0.74 s at the default hop): modulations from 1.3 Hz on"""
ROUNDING = 1e-12
"""variance, as a share of the mean square, below which a bin is constant"""
TO_DB = 10 / np.log(10)


def cepstra(mel: np.ndarray) -> np.ndarray:
    """Mel cepstrum c_1 .. c_13 [..., T, 13] of log-mels [..., T, M]: c_d = (2 / M) sum_m mel_m cos(pi d (m + 1/2) / M).

    Scaled so that mel_m = c_0 / 2 + sum_d c_d cos(...), as a mel cepstrum of speech coding is; c_0, loudness, is left
    out."""
    mel = np.asarray(mel, float)
    return fft.dct(mel, type=2, axis=-1)[..., 1 : CEPSTRA + 1] / mel.shape[-1]


def mcd_frames(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Mel-cepstral distortion of every frame, dB, [..., T]: (10 / ln 10) sqrt(2 sum_d (c_d - c'_d)^2) (Kubichek 1993).

    generated [..., T, M], oracle [T, M], frame by frame. It is the RMS difference in dB of the two smoothed mel
    spectra."""
    return TO_DB * np.sqrt(2 * ((cepstra(generated) - cepstra(oracle)) ** 2).sum(axis=-1))


def mcd_dtw(generated: np.ndarray, oracle: np.ndarray) -> tuple[float, int]:
    """(sum of the frames' MCD along the best warping path, steps of the path) of log-mels [T', M] and [T, M]; the
    measure is their quotient, dB."""
    left, right = warping(cepstra(generated), cepstra(oracle))
    return float(mcd_frames(np.asarray(generated)[left], np.asarray(oracle)[right]).sum()), len(left)


def warping(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (of a [T, D], of b [T', D]) along the path from both starts to both ends that sums up the least Euclidean
    distance (dynamic time warping): steps (1, 1), (1, 0), (0, 1), all weighed alike, the first preferred."""
    cost = cdist(a, b)
    rows, columns = cost.shape
    # By anti-diagonals: skewed[i + j, i] is cell (i, j), so that its predecessors lie in the two lines above.
    total = np.full((rows + columns + 1, rows + 1), np.inf)
    total[0, 0] = 0
    step = np.zeros((rows + columns + 1, rows + 1), np.int8)
    for d in range(2, rows + columns + 1):
        i = np.arange(max(1, d - columns), min(rows, d - 1) + 1)
        before = np.stack((total[d - 2, i - 1], total[d - 1, i - 1], total[d - 1, i]))
        step[d, i] = before.argmin(axis=0)
        total[d, i] = before.min(axis=0) + cost[i - 1, d - i - 1]
    path, i, j = [], rows, columns
    while i and j:
        path.append((i - 1, j - 1))
        how = step[i + j, i]
        i, j = i - (how < 2), j - (how != 1)
    left, right = np.array(path[::-1]).T
    return left, right


def global_variance(mel: np.ndarray) -> np.ndarray:
    """Variance over the frames of one utterance, [..., M] of [..., T, M] (Toda and Tokuda 2007, there of cepstra)."""
    mel = np.asarray(mel, float)
    variance = mel.var(axis=-2)
    return np.where(variance > ROUNDING * (mel**2).mean(axis=-2), variance, 0)


def modulation_power(mel: np.ndarray) -> tuple[np.ndarray, int]:
    """(sum over segments of the power spectrum over time [..., M, SEGMENT // 2], number of segments) of one utterance.

    Segments of SEGMENT frames, half overlapping, each bin's mean taken away, Hann window, 0 Hz left out (Takamichi et
    al. 2014, there of parameters over whole utterances). Shorter utterances have none."""
    mel = np.asarray(mel, float)
    if mel.shape[-2] < SEGMENT:
        return np.zeros((*mel.shape[:-2], mel.shape[-1], SEGMENT // 2)), 0
    frames = np.lib.stride_tricks.sliding_window_view(mel, SEGMENT, axis=-2)[..., :: SEGMENT // 2, :, :]
    centred = frames - frames.mean(axis=-1, keepdims=True)
    varies = (centred**2).mean(axis=-1) > ROUNDING * (frames**2).mean(axis=-1)
    power = np.abs(fft.rfft(centred * _window(), axis=-1)[..., 1:]) ** 2 * varies[..., None]
    return power.sum(axis=-3), frames.shape[-3]


def modulation_distance(generated: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """RMS difference of mean modulation spectra [..., M, F], dB, over the bins and modulation frequencies where both
    have power; [...]. NaN where there are none.

    Smear lacks power at quick modulations, grain has too much."""
    known = (generated > 0) & (oracle > 0)
    level = np.log(np.where(known, generated, 1)) - np.log(np.where(known, oracle, 1))
    count = known.sum(axis=(-2, -1))
    square = np.divide((level**2).sum(axis=(-2, -1)), count, out=np.full(count.shape, np.nan), where=count > 0)
    return TO_DB * np.sqrt(square)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(SEGMENT + 1)[:-1]
