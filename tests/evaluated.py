"""A simulated corpus of prosody for the tests of evaluation."""

import numpy as np

from tts_gen.evaluation.prosody import Prosody

IDENTITY = {"task": "prosody", "family": "flow", "temperature": 1.0, "split": "test", "run": "a", "samples": 8}


def world(rng, utterances=80, length=14) -> tuple[Prosody, np.ndarray, np.ndarray]:
    """An oracle whose log-f0 and log-duration are a known mean plus smooth noise that the mean does not tell; the noise
    is common to neighbours, as intonation is; energy is noise. Returns oracle, conditional mean [n, 2], and the first
    noise [n, 2]."""
    n = utterances * length
    mean = rng.standard_normal((n, 2)) * [0.5, 0.6]
    noise = (
        np.repeat(rng.standard_normal((utterances, 2)), length, axis=0) * [0.8, 0.5] + rng.standard_normal((n, 2)) * 0.2
    )
    y = mean + noise
    pause = np.arange(n) % length == 0
    voiced = (rng.random(n) < 0.7) & ~pause
    utterance = np.arange(n) // length
    oracle = Prosody(
        log_f0=np.where(voiced, y[:, 0], np.nan),
        duration=to_frames(y[:, 1]),
        voiced=voiced,
        pause=pause,
        utterance=utterance,
        group=utterance // 2,
        speaker=np.where(utterance % 2, "ann", "bob"),
        style=np.where(utterance % 4 < 2, "calm", "glad"),
        phone_class=np.where(pause, "pause", np.where(voiced, "vowel", "stop")),
        log_f0_std=np.full(n, 0.2),
        frame_seconds=256 / 22050,
        energy=np.random.default_rng(n).standard_normal(n),
        energy_db=10.0,
    )
    return oracle, mean, noise


def to_frames(y):
    return np.maximum(np.rint(np.exp(2 + 0.5 * y)), 1)


def pick(found, feature, metric, scope="overall"):
    (row,) = [r for r in found if (r["feature"], r["metric"], r["scope"]) == (feature, metric, scope)]
    return row
