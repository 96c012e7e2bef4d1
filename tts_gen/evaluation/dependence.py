"""How log-f0 and duration depend on each other, by ranks: marginals play no part, and dependence need not be monotone,
as it must for a correlation.

Both are cut at their own quartiles (of the pool, per sample), which makes CELLS x CELLS cells; of independent features
every cell holds alike. Ties (durations are whole frames) are broken by what the caller adds to them, see `dequantised`.
"""

import numpy as np

from tts_gen.evaluation.metrics import js_counts

CELLS = 4


def dequantised(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """Whole frames [..., n] plus U(0, 1), as the models' likelihood takes them; one draw a position for all samples."""
    return np.asarray(frames, float) + np.random.default_rng(seed).random(np.shape(frames)[-1])


def rank_cells(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cell (quartile of a) * CELLS + (quartile of b) of every position, [..., n] for a and b [..., n]."""

    def quartile(x):
        rank = np.argsort(np.argsort(x, axis=-1, kind="stable"), axis=-1, kind="stable")
        return rank * CELLS // x.shape[-1]

    return quartile(a) * CELLS + quartile(b)


def mutual_information(cells: np.ndarray) -> np.ndarray:
    """From counts of the cells [..., CELLS * CELLS], bits: sum p log2(p / (p_a p_b)) - (CELLS - 1)^2 / (2 n ln 2).

    The last term is the bias of the first at n independent positions (Miller 1955), so independent features give 0 on
    average and a little below it at times. At most 2 bits."""
    n = cells.sum(axis=-1)
    p = (cells / n[..., None]).reshape(*cells.shape[:-1], CELLS, CELLS)
    independent = p.sum(axis=-1, keepdims=True) * p.sum(axis=-2, keepdims=True)
    terms = p * np.log2(np.divide(p, independent, out=np.ones_like(p), where=p > 0))
    return terms.sum(axis=(-2, -1)) - (CELLS - 1) ** 2 / (2 * n * np.log(2))


def copula_js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """JS divergence of two sets' counts of the cells, bits: unlike the difference of mutual informations it also sees
    dependence of another kind or sign. Biased upwards by 9 (1/n + 1/m) / (8 ln 2) at small samples."""
    return js_counts(p, q)
