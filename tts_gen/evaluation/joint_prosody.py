"""Rows of log-f0 and duration together: their dependence, and whether a classifier tells sequences from the
oracle's."""

import numpy as np

from tts_gen.evaluation import dependence, two_sample
from tts_gen.evaluation.bootstrap import (
    DRAWS,
    draws,
    group_histograms,
    group_sums,
    halves,
    interval,
    over_halves,
    spread,
)
from tts_gen.evaluation.grouping import grouped
from tts_gen.evaluation.metrics import ratio
from tts_gen.evaluation.pool import SPLITS
from tts_gen.evaluation.prosody import Prosody, of_floor
from tts_gen.evaluation.rows import make_row

JOINT = "log_f0+duration"
"""The feature's name, as in bits per dimension."""
DEPENDENCE = ("mutual_information", "mutual_information_difference", "copula_js")
TWO_SAMPLE_SPLITS = 8
"""Random halves of the two-sample test's floor: each trains its own classifiers."""


def joint_rows(generated: Prosody, oracle: Prosody, identity: dict, n_boot: int = DRAWS, seed: int = 0) -> list[dict]:
    """Rows of DEPENDENCE, over voiced, non-pause phonemes; null where there are none or a value is not finite."""
    at = _pool(oracle)
    if why := _problem(generated, oracle, at):
        return [make_row(identity, JOINT, metric, None, n=len(at), why=why) for metric in DEPENDENCE]
    p, q = _cells(generated, oracle, at), _cells(oracle, oracle, at)
    weights = draws(p.shape[0], n_boot, seed)
    information = dependence.mutual_information
    found = (
        interval(lambda p: information(p).mean(axis=-1), [p], weights, nonnegative=True),
        interval(lambda p, q: (information(p) - information(q)).mean(axis=-1), [p, q], weights),
        interval(lambda p, q: dependence.copula_js(p, q).mean(axis=-1), [p, q], weights, nonnegative=True),
    )
    return [make_row(identity, JOINT, metric, *of, n=len(at)) for metric, of in zip(DEPENDENCE, found, strict=True)]


def joint_floor_rows(oracle: Prosody, identity: dict, seed: int = 0) -> list[dict]:
    """Of a random half of the oracle's groups against the other, as prosody.floor_rows."""
    identity, at = of_floor(identity), _pool(oracle)
    why = "fewer than two groups: the oracle cannot be halved" if len(np.unique(oracle.group[at])) < 2 else ""
    if why := why or _problem(oracle, oracle, at):
        return [make_row(identity, JOINT, metric, None, n=len(at), why=why) for metric in DEPENDENCE[1:]]
    q = _cells(oracle, oracle, at)
    half = halves(len(q), SPLITS, seed)
    information = dependence.mutual_information
    found = (
        over_halves(lambda a, b: (information(a) - information(b)).mean(axis=-1), q, q, half),
        over_halves(lambda a, b: dependence.copula_js(a, b).mean(axis=-1), q, q, half),
    )
    return [make_row(identity, JOINT, m, *of, n=len(at)) for m, of in zip(DEPENDENCE[1:], found, strict=True)]


def two_sample_row(generated: Prosody, oracle: Prosody, identity: dict, n_boot: int = DRAWS, seed: int = 0) -> dict:
    """The row of `two_sample_accuracy`, of the first of the K samples. Its interval holds what other groups of
    utterances would change in the classifiers' answers, not what they would change in their training."""
    keep = _drawn_utterances(oracle, seed)
    known = keep & ~oracle.pause
    n, group = int(known.sum()), oracle.group[known]
    log_f0, duration = (np.atleast_2d(getattr(generated, name))[0] for name in ("log_f0", "duration"))
    valid = known & oracle.voiced & np.isfinite(oracle.log_f0)
    lost = np.count_nonzero(~np.isfinite(log_f0[valid])) + np.count_nonzero(~np.isfinite(duration[known]))
    why = "no phonemes in the pool" if not n else f"{lost} generated values are not finite" if lost else ""
    if len(np.unique(group)) < 2:
        why = why or "one group: a classifier can neither be trained nor asked without the other"
    if why:
        return make_row(identity, JOINT, "two_sample_accuracy", None, n=n, why=why)
    both = [_described(oracle, x, d, keep) for x, d in ((log_f0, duration), (oracle.log_f0, oracle.duration))]
    right = two_sample.right_answers(np.concatenate(both), np.repeat([True, False], n), np.tile(group, 2))
    names, index = np.unique(group, return_inverse=True)
    sums = [group_sums(x, index, len(names)) for x in (right.reshape(2, n).mean(axis=0), np.ones(n))]
    estimate = interval(ratio, sums, draws(len(names), n_boot, seed))
    return make_row(identity, JOINT, "two_sample_accuracy", *estimate, n=n)


def two_sample_floor_row(oracle: Prosody, identity: dict, seed: int = 0) -> dict:
    """One random half of the oracle's groups told from the other: mean and range over TWO_SAMPLE_SPLITS halves."""
    keep = _drawn_utterances(oracle, seed)
    known = keep & ~oracle.pause
    names, index = np.unique(oracle.group[known], return_inverse=True)
    row = {"feature": JOINT, "metric": "two_sample_accuracy", "n": known.sum()}
    if len(names) < 4:
        return make_row(of_floor(identity), value=None, why="fewer than four groups: no halves to train on", **row)
    examples = _described(oracle, oracle.log_f0, oracle.duration, keep)
    drawn = halves(len(names), TWO_SAMPLE_SPLITS, seed).astype(bool)
    values = np.array([two_sample.right_answers(examples, half[index], index).mean() for half in drawn])
    low, high = spread(values)
    return make_row(of_floor(identity), value=values.mean(), low=low, high=high, **row)


def _pool(oracle: Prosody) -> np.ndarray:
    return np.flatnonzero(oracle.voiced & ~oracle.pause & np.isfinite(oracle.log_f0))


def _problem(generated: Prosody, oracle: Prosody, at: np.ndarray) -> str:
    if not len(at):
        return "no voiced phonemes in the pool"
    for name in ("log_f0", "duration"):
        x = np.atleast_2d(getattr(generated, name))[:, at]
        if bad := np.count_nonzero(~np.isfinite(x)):
            return f"{bad} of {x.size} generated values of {name} are not finite"
        if (np.ptp(x, axis=1) == 0).any() or np.ptp(getattr(oracle, name)[at]) == 0:
            return f"{name} is constant: it has no ranks"
    return ""


def _cells(of: Prosody, oracle: Prosody, at: np.ndarray) -> np.ndarray:
    """Counts of the rank cells by group, [G, K, CELLS * CELLS]."""
    log_f0 = np.atleast_2d(of.log_f0)[:, at]
    cells = dependence.rank_cells(log_f0, dependence.dequantised(np.atleast_2d(of.duration)[:, at]))
    return group_histograms(cells.T, dependence.CELLS**2, *grouped(oracle.group[at]))


def _drawn_utterances(oracle: Prosody, seed: int) -> np.ndarray:
    """[n] bool: the positions of all utterances, or of two_sample.MOST_UTTERANCES of them."""
    ids = np.unique(oracle.utterance)
    if len(ids) <= two_sample.MOST_UTTERANCES:
        return np.ones(len(oracle.utterance), bool)
    return np.isin(oracle.utterance, np.random.default_rng(seed).choice(ids, two_sample.MOST_UTTERANCES, replace=False))


def _described(oracle: Prosody, log_f0: np.ndarray, duration: np.ndarray, keep: np.ndarray) -> np.ndarray:
    voiced = oracle.voiced & np.isfinite(oracle.log_f0)
    labels = (voiced, oracle.pause, oracle.utterance, oracle.phone_class)
    return two_sample.describe(*(x[keep] for x in (log_f0, duration, *labels)))
