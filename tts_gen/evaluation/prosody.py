"""Rows for prosody: every metric of every feature, overall and by corpus of a mixture, speaker, style, length and
phoneme class, with intervals over groups; of statistics of utterances overall. joint_prosody.py has those of f0 and
duration together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tts_gen.evaluation import utterance_metrics
from tts_gen.evaluation.bootstrap import DRAWS
from tts_gen.evaluation.pool import FLOORED, Pool
from tts_gen.evaluation.rows import make_row

FEATURES = ("log_f0", "duration", "energy", "d_log_f0", "d_duration", "d_energy")
"""those of energy where both sets have it"""
UTTERANCE_FEATURES = tuple(utterance_metrics.MEANING)
OVERALL = [*"std skewness kurtosis".split(), *FLOORED]
OVERALL += "rmse mae correlation best_of_k energy_score diversity crps".split()
OF_UTTERANCES = "std std_ratio js js_half js_debiased wasserstein rmse correlation crps".split()
"""Metrics of UTTERANCE_FEATURES, which have one value for each utterance."""
SCOPED = ("std", "std_ratio", "js", "rmse", "best_of_k", "energy_score")
"""Metrics that are also reported by speaker, style, length and phoneme class, for log_f0, duration and energy."""
OF_UTTERANCE_ERRORS = ("best_of_k", "energy_score")
"""Metrics whose `n` counts utterances."""
LENGTHS = ("short", "middle", "long")
READABLE = {"log_f0": "cents", "duration": "ms", "energy": "db"}
"""Units in which std, rmse and mae are given too."""
LEAST_POSITIONS, LEAST_GROUPS = 200, 5
"""Data that a speaker or class needs to be reported."""


@dataclass(frozen=True)
class Prosody:
    """A flat set of phonemes, n positions, each utterance contiguous and in order of time.

    Generated sets carry K samples in log_f0, duration and energy; one deterministic prediction is [n]. Voicing, pauses
    and labels are the oracle's in every set. Raises ValueError when lengths differ."""

    log_f0: np.ndarray
    """[K, n] or [n], per-speaker-normalised; the oracle's is NaN where unvoiced"""
    duration: np.ndarray
    """[K, n] or [n], whole frames"""
    voiced: np.ndarray
    """[n] bool"""
    pause: np.ndarray
    """[n] bool"""
    utterance: np.ndarray
    """[n] integer ids"""
    group: np.ndarray
    """[n] what is resampled together, integers or strings"""
    speaker: np.ndarray
    """[n] strings"""
    style: np.ndarray
    """[n] strings"""
    phone_class: np.ndarray
    """[n] strings, "pause" for pauses"""
    log_f0_std: np.ndarray
    """[n] standard deviation of natural log-f0 of the position's speaker: what one normalised unit is"""
    frame_seconds: float
    energy: np.ndarray | None = None
    """[K, n] or [n], in standard deviations over all phonemes; None where it is not modelled"""
    energy_db: float = np.nan
    """what one of them is"""
    corpus: np.ndarray | None = None
    """[n] strings, of a mixture"""

    def __post_init__(self):
        for name, value in vars(self).items():
            if np.ndim(value) and np.shape(value)[-1:] != self.voiced.shape:
                raise ValueError(f"Prosody.{name} has shape {np.shape(value)}, voiced {self.voiced.shape}")


def prosody_rows(generated: Prosody, oracle: Prosody, identity: dict, n_boot: int = DRAWS, seed: int = 0) -> list[dict]:
    """Rows of one family at one temperature, overall first; intervals are 95 % bootstrap over groups.

    A feature with no positions, or with a generated value that is not finite, gives null rows that say why."""
    rows = []
    for scope, keep in _scopes(oracle):
        for feature in _features(generated, oracle):
            if scope != "overall" and feature not in READABLE:
                continue
            valid = _valid(oracle, feature, keep)
            if scope != "overall" and not _enough(oracle, valid):
                continue
            rows += _feature_rows(generated, oracle, feature, valid, scope, identity, n_boot, seed)
    return rows


def floor_rows(oracle: Prosody, identity: dict, seed: int = 0) -> list[dict]:
    """Rows of family "floor": a random half of the oracle's groups against the other half.

    The value is the mean over random halves; low and high hold 95 % of single halves, which is what chance alone gives.
    `js_half` of a family is like for like with it; `js` of the floor is the same figure."""
    rows, identity = [], of_floor(identity)
    for feature in _features(oracle, oracle):
        values, at = _values(oracle, oracle, feature, _valid(oracle, feature, np.ones(len(oracle.voiced), bool)))
        few = len(np.unique(oracle.group[at])) < 2
        pool = None if few else Pool(feature, *values, oracle.utterance[at], oracle.group[at], n_boot=1, seed=seed)
        for metric in FLOORED if feature in FEATURES else [m for m in OF_UTTERANCES if m in FLOORED]:
            row = {"feature": feature, "metric": metric, "n": len(at)}
            if pool is None:
                why = "fewer than two groups: the oracle cannot be halved"
                rows.append(make_row(identity, value=None, why=why, **row))
            else:
                why = "the oracle is constant" if np.ptp(values[1]) == 0 else "fewer than four groups"
                rows.append(make_row(identity, **pool.floor(metric)._asdict(), why=why, **row))
    return rows


def of_floor(identity: dict) -> dict:
    return identity | {"family": "floor", "temperature": None}


def length_class(utterance: np.ndarray) -> np.ndarray:
    """One of LENGTHS for every position [n]: terciles of the utterances by their count of phonemes."""
    count = utterance_metrics.counts(utterance)
    # side "left": an utterance as long as the bound is below it, so that equal lengths stay together.
    tercile = np.searchsorted(np.quantile(count, (1 / 3, 2 / 3)), count, side="left")
    return np.repeat(np.array(LENGTHS)[tercile], count)


def _features(generated: Prosody, oracle: Prosody) -> list[str]:
    lacking = generated.energy is None or oracle.energy is None
    return [f for f in (*FEATURES, *UTTERANCE_FEATURES) if not (lacking and f.endswith("energy"))]


def _scopes(oracle: Prosody) -> Iterator[tuple[str, np.ndarray]]:
    """Names and masks [n]; corpora, speakers, styles, lengths and classes only where there are several."""
    yield "overall", np.ones(len(oracle.voiced), bool)
    by_length = length_class(oracle.utterance)
    every = {"speaker": oracle.speaker, "style": oracle.style, "length": by_length, "class": oracle.phone_class}
    if oracle.corpus is not None:
        every = {"corpus": oracle.corpus} | every
    for name, labels in every.items():
        values = np.unique(labels)
        for value in values if len(values) > 1 else ():
            yield f"{name}:{value}", labels == value


def _valid(oracle: Prosody, feature: str, keep: np.ndarray) -> np.ndarray:
    """The pool within `keep`, [n] bool. Pauses enter only where `keep` holds nothing else: they are reported apart."""
    pool = keep & (oracle.pause if oracle.pause[keep].all() else ~oracle.pause)
    return pool & oracle.voiced & np.isfinite(oracle.log_f0) if feature.endswith("log_f0") else pool


def _enough(oracle: Prosody, valid: np.ndarray) -> bool:
    return valid.sum() >= LEAST_POSITIONS and len(np.unique(oracle.group[valid])) >= LEAST_GROUPS


def _values(
    generated: Prosody, oracle: Prosody, feature: str, valid: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Generated and oracle values of the pool, and the positions [m] that carry their labels."""
    name = next((n for n in ("log_f0", "energy") if feature.endswith(n)), "duration")
    both = [np.asarray(getattr(p, name), float) for p in (generated, oracle)]
    if feature in UTTERANCE_FEATURES:
        at = np.flatnonzero(utterance_metrics.long_enough(oracle.utterance, valid))
        scale = oracle.frame_seconds if name == "duration" else 1.0
        of = [utterance_metrics.statistic(feature, v[..., at] * scale, at, oracle.utterance[at]) for v in both]
        return of, at[utterance_metrics.starts(oracle.utterance[at])]
    if feature == name:
        return [v[..., valid] for v in both], np.flatnonzero(valid)
    left, _ = utterance_metrics.pairs(oracle.utterance, valid)
    return [utterance_metrics.differences(v, oracle.utterance, valid) for v in both], left


def _feature_rows(generated, oracle, feature, valid, scope, identity, n_boot, seed) -> list[dict]:
    (x, y), at = _values(generated, oracle, feature, valid)
    names = SCOPED if scope != "overall" else OF_UTTERANCES if feature in UTTERANCE_FEATURES else OVERALL
    units = [f"{m}_{READABLE[feature]}" for m in ("std", "rmse", "mae")] if feature in READABLE else []
    if problem := _problem(x, y, feature):
        return [make_row(identity, feature, m, None, n=len(at), scope=scope, why=problem) for m in [*names, *units]]
    pool = Pool(feature, x, y, oracle.utterance[at], oracle.group[at], n_boot, seed)
    cents = np.asarray(oracle.log_f0_std)[at] * 1200 / np.log(2)  # the 1200 cents of an octave are ln 2
    scale = {"log_f0": cents, "energy": oracle.energy_db}.get(feature, oracle.frame_seconds * 1000)
    rows = []
    for metric in names:
        n = len(np.unique(pool.utterance)) if metric in OF_UTTERANCE_ERRORS else len(at)
        why = _why_undefined(metric, x, y, pool.n_groups)
        rows.append(make_row(identity, feature, metric, **getattr(pool, metric)()._asdict(), n=n, scope=scope, why=why))
    for metric in units:
        estimate = getattr(pool, metric.split("_")[0])(scale)
        why = f"what one normalised unit is in {READABLE[feature]} is not known"
        rows.append(make_row(identity, feature, metric, **estimate._asdict(), n=len(at), scope=scope, why=why))
    return rows


def _problem(x: np.ndarray, y: np.ndarray, feature: str) -> str | None:
    """Why nothing can be computed, or None."""
    if not y.size:
        if feature in UTTERANCE_FEATURES:
            return f"no utterance has {utterance_metrics.FEWEST} phonemes in the pool"
        return "no voiced phonemes in the pool" if feature.endswith("log_f0") else "no phonemes in the pool"
    if bad := np.count_nonzero(~np.isfinite(x)):
        return f"{bad} of {x.size} generated values are not finite"
    return None


def _why_undefined(metric: str, x: np.ndarray, y: np.ndarray, n_groups: int) -> str:
    """Said where the metric's value turns out not to be a number."""
    if metric in ("diversity", "crps", "energy_score"):
        return "one random sample: two or more are needed"
    if metric in ("js_half", "js_debiased"):
        return f"{n_groups} group: two or more are needed, to make halves or to leave one out"
    return "the oracle is constant" if np.ptp(y) == 0 else "the generated values are constant"
