"""Rows of failures.py: of prosody, log-f0 and log-duration of voiced, non-pause phonemes, both together; of mels, their
frames. Of many utterances MOST are drawn at random, of the training data too."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tts_gen.batches import readable
from tts_gen.evaluation import failures
from tts_gen.evaluation.joint_prosody import JOINT
from tts_gen.evaluation.prosody import Prosody
from tts_gen.evaluation.rows import make_row
from tts_gen.features.store import Features, FeatureStore
from tts_gen.text import PAUSE

MOST = {"prosody": 1000, "acoustic": 100}
"""utterances"""
MOST_TRAINING = 500
"""utterances that samples are compared with"""
FLOORED = ("outlier_ratio", "coverage", "memorised_share")
NAMES = ("explosive_share", *FLOORED, "error_tail")


class Sequences(NamedTuple):
    """Flat, as failures.py takes them, and the standardised training utterances [L, C]."""

    x: np.ndarray
    y: np.ndarray
    utterance: np.ndarray
    group: np.ndarray
    training: list[np.ndarray]


def prosody_failures(
    generated: Prosody, oracle: Prosody, training: Sequence[np.ndarray], identity: dict, seed: int
) -> list[dict]:
    """Rows of one set beside training utterances [L, 2]; of family "floor", where `generated` is the oracle itself,
    FLOORED alone."""
    ids = np.unique(oracle.utterance)
    at = np.flatnonzero(
        oracle.voiced & ~oracle.pause & np.isfinite(oracle.log_f0)
        & np.isin(oracle.utterance, ids[_drawn(len(ids), MOST["prosody"], seed)])
    )  # fmt: skip
    x, y = (_both(np.atleast_2d(p.log_f0)[:, at], np.atleast_2d(p.duration)[:, at]) for p in (generated, oracle))
    of = standardised(x, y[0], oracle.utterance[at], oracle.group[at], training)
    return _rows(of, JOINT, identity, seed)


def mel_failures(
    generated: Sequence[np.ndarray], oracle: Sequence[np.ndarray], groups: Sequence, training: Sequence[np.ndarray],
    identity: dict, seed: int,
) -> list[dict]:  # fmt: skip
    """The same for log-mels [T, M] of equal lengths."""
    chosen = _drawn(len(oracle), MOST["acoustic"], seed)
    x, y = (np.concatenate([mels[i] for i in chosen]) for mels in (generated, oracle))
    utterance = np.repeat(chosen, [len(oracle[i]) for i in chosen])
    of = standardised(x[None], y, utterance, np.asarray(groups)[utterance], training)
    return _rows(of, "mel", identity, seed)


def standardised(
    x: np.ndarray, y: np.ndarray, utterance: np.ndarray, group: np.ndarray, training: Sequence[np.ndarray]
) -> Sequences:
    """By mean and standard deviation of y [n, C]; a constant channel keeps its scale."""
    if not len(y):
        return Sequences(x, y, utterance, group, list(training))
    mean, std = y.mean(axis=0), y.std(axis=0)
    std = np.where(std > 0, std, 1)
    x, y, *training = ((values - mean) / std for values in (x, y, *training))
    return Sequences(x, y, utterance, group, training)


@functools.lru_cache(maxsize=1)
def training_prosody(store: FeatureStore) -> list[np.ndarray]:
    """[L, 2] of the training utterances drawn that have voiced phonemes."""
    pauses = np.array([symbol == PAUSE for symbol in store.inventory.phonemes])
    found = []
    for u in _training(store):
        at = u.voiced & ~pauses[u.phoneme]
        log_f0 = store.stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker))
        found.append(_both(log_f0[at], u.duration[at]))
    return [sequence for sequence in found if len(sequence)]


@functools.lru_cache(maxsize=1)
def training_mels(store: FeatureStore) -> list[np.ndarray]:
    """[T, M] of the training utterances drawn, at failures.CONTOUR places each."""
    return [failures.contour(u.mel) for u in _training(store)]


def _training(store: FeatureStore) -> Iterator[Features]:
    positions = [i for i, entry in enumerate(store.index) if entry.split == "train"]
    for i in _drawn(len(positions), MOST_TRAINING, 0):
        if (u := readable(store, positions[i])) is not None:
            yield u


def _both(log_f0: np.ndarray, duration: np.ndarray) -> np.ndarray:
    return np.stack((log_f0, np.log(np.maximum(duration, 0.5))), axis=-1)


def _drawn(count: int, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _rows(of: Sequences, feature: str, identity: dict, seed: int) -> list[dict]:
    n, floor, found, why = len(of.y), identity["family"] == "floor", {}, {}
    if not n:
        why = dict.fromkeys(NAMES, "no positions in the pool")
    elif lost := np.count_nonzero(~np.isfinite(of.x)):
        why = dict.fromkeys(NAMES, f"{lost} of {of.x.size} generated values are not finite")
        found["explosive_share"] = (failures.explosive_share(of.x),)
    else:
        found["outlier_ratio"], found["coverage"] = failures.over_halves(of.x, of.y, of.group, seed)
        why = dict.fromkeys(("outlier_ratio", "coverage"), "fewer than two groups: no halves can be made")
        if len(of.training) > failures.NEAREST:
            found["memorised_share"] = (failures.memorised_share(of.x, of.utterance, of.training),)
        why["memorised_share"] = f"{len(of.training)} training utterances are too few to compare with"
        if not floor:
            found["explosive_share"] = (failures.explosive_share(of.x),)
            found["error_tail"] = (failures.error_tail(of.x, of.y, of.utterance),)
            why["error_tail"] = "half of the utterances have no error"
    return [
        make_row(identity, feature, name, *found.get(name, (None,)), n=n, why=why.get(name))
        for name in (FLOORED if floor else NAMES)
    ]
