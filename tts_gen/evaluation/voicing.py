"""Errors of voicing and pitch between two tracks of f0, frame by frame: Hz [T], 0 where unvoiced, frames aligned.

Counts, so that utterances add up. Sources: GPE and VDE of Nakatani et al. 2008, FFE of Chu and Alwan 2009.
"""

from typing import NamedTuple

import numpy as np

GROSS = 0.2
"""share of the oracle's f0 beyond which an error is gross"""


class Errors(NamedTuple):
    frames: int
    both_voiced: int
    gross: int
    """frames voiced in both where |generated / oracle - 1| > GROSS"""
    voicing: int
    """frames voiced in one of the two only"""
    squared_cents: float
    """sum over frames voiced in both of (1200 log2(generated / oracle))^2"""


def errors(generated: np.ndarray, oracle: np.ndarray) -> Errors:
    """Of two tracks [T]. Raises ValueError for tracks that differ in length or hold what is not finite or below 0."""
    generated, oracle = np.asarray(generated, float), np.asarray(oracle, float)
    if generated.shape != oracle.shape or oracle.ndim != 1:
        raise ValueError(f"f0 tracks {generated.shape} and {oracle.shape}: expected two [T] of aligned frames")
    if not all(np.isfinite(x).all() and (x >= 0).all() for x in (generated, oracle)):
        raise ValueError("f0 tracks hold values that are below 0 or not finite; unvoiced frames are 0")
    voiced = (generated > 0) & (oracle > 0)
    quotient = generated[voiced] / oracle[voiced]
    return Errors(
        len(oracle),
        int(voiced.sum()),
        int((np.abs(quotient - 1) > GROSS).sum()),
        int(((generated > 0) != (oracle > 0)).sum()),
        float(((1200 * np.log2(quotient)) ** 2).sum()),
    )


def gpe(e: np.ndarray) -> np.ndarray:
    """Gross pitch error of summed Errors [..., 5]: gross / voiced in both; NaN where none is."""
    return _share(e[..., 2], e[..., 1])


def vde(e: np.ndarray) -> np.ndarray:
    """Voicing decision error: voiced in one only / all frames."""
    return _share(e[..., 3], e[..., 0])


def ffe(e: np.ndarray) -> np.ndarray:
    """F0 frame error: (gross + voiced in one only) / all frames."""
    return _share(e[..., 2] + e[..., 3], e[..., 0])


def rmse_cents(e: np.ndarray) -> np.ndarray:
    """Root mean squared error of log-f0 over frames voiced in both, cents."""
    return np.sqrt(_share(e[..., 4], e[..., 1]))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
