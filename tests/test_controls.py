"""Controls have what is planted in them, and nothing else."""

import dataclasses

import numpy as np
import pytest
from evaluated import to_frames, world
from scipy import signal

from tts_gen.evaluation import controls, utterance_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def lag_one(x, oracle, valid):
    left, right = utterance_metrics.pairs(oracle.utterance, valid)
    return np.mean(x[..., left] * x[..., right]) / np.mean(x[..., valid] ** 2)


def test_ar_noise_has_the_residuals_size_and_autocorrelation(rng):
    """Planted: AR(1) residuals of lag 0.7 in log-f0 (along voiced phonemes) and -0.4 in log-duration."""
    oracle, mean, _ = world(rng, utterances=400)
    voiced = oracle.voiced
    noise = np.zeros_like(mean)
    for channel, (lag, valid) in enumerate(((0.7, voiced), (-0.4, ~oracle.pause))):
        at = np.flatnonzero(valid)
        noise[at, channel] = signal.lfilter([1], [1, -lag], rng.standard_normal(len(at)))
    calibration = controls.calibrate(mean, mean + noise, oracle)
    assert calibration.autocorrelation == pytest.approx([0.7, -0.4], abs=0.04)
    generated = controls.l2_plus_ar_noise(oracle, mean, calibration, lambda d: d, samples=4)
    for channel, (x, valid) in enumerate(((generated.log_f0, voiced), (generated.duration, ~oracle.pause))):
        added = x - mean[:, channel]
        assert added[:, valid].std() == pytest.approx(calibration.residual_std[channel], rel=0.03)
        assert lag_one(added, oracle, valid) == pytest.approx(calibration.autocorrelation[channel], abs=0.03)
        first = np.flatnonzero(valid)[utterance_metrics.starts(oracle.utterance[valid])]
        assert added[:, first].std() == pytest.approx(calibration.residual_std[channel], rel=0.08), "stationary"
    ends = np.flatnonzero(np.diff(oracle.utterance))
    assert np.corrcoef(added[0, ends], added[0, ends + 2])[0, 1] == pytest.approx(0, abs=0.12), "not across utterances"
    white = controls.l2_plus_noise(oracle, mean, calibration, lambda d: d, samples=4)
    assert lag_one(white.log_f0 - mean[:, 0], oracle, voiced) == pytest.approx(0, abs=0.03)


def test_other_utterance_lays_one_donor_on_each_target_in_order(rng):
    oracle, *_ = world(rng, utterances=12)
    n = len(oracle.voiced)
    named = dataclasses.replace(
        oracle, log_f0=np.where(oracle.voiced, np.arange(n), np.nan), duration=np.arange(n) + 1.0
    )
    found = controls.other_utterance(named, samples=3)
    for k in range(3):
        for u in range(12):
            at, donors = oracle.utterance == u, set()
            for x, valid in ((found.log_f0, oracle.voiced), (found.duration - 1, ~oracle.pause)):
                source = x[k, at & valid].astype(int)
                assert np.all(np.diff(source) >= 0), "in order of time"
                donors |= set(oracle.utterance[source])
            (donor,) = donors  # f0 and durations of one
            assert oracle.group[at][0] != oracle.group[oracle.utterance == donor][0]
    assert np.array_equal(np.isfinite(found.log_f0), np.tile(oracle.voiced, (3, 1)))
    assert (found.duration[:, oracle.pause] == named.duration[oracle.pause]).all()
    assert not np.array_equal(found.duration[0], found.duration[1])


def test_donors_are_of_like_length_and_resampled_when_not():
    utterance = np.repeat([0, 1, 2], (4, 8, 9))
    oracle, *_ = world(np.random.default_rng(0), utterances=1, length=21)
    flags = {"voiced": np.ones(21, bool), "pause": np.zeros(21, bool), "utterance": utterance, "group": utterance}
    made = dataclasses.replace(oracle, log_f0=np.arange(21.0), duration=np.arange(21) + 1.0, **flags)
    (found,) = controls.other_utterance(made, samples=1).log_f0
    assert found[4:12].astype(int).tolist() == [12, 13, 14, 15, 17, 18, 19, 20], "9 on 8: one is left out"
    assert found[:4].tolist() == [4, 6, 8, 10] or found[:4].tolist() == [5, 7, 9, 11], "8 on 4: every other one"


def test_a_single_utterance_has_no_other(rng):
    oracle, mean, noise = world(rng, utterances=1)
    with pytest.raises(ValueError, match="no other utterance"):
        controls.other_utterance(oracle)
    sets = dict(controls.controls(oracle, mean, controls.calibrate(mean, mean + noise, oracle), to_frames))
    assert "control:other_utterance" not in sets and "control:l2+ar_noise" in sets
