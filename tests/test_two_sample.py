"""The classifier two-sample test on a simulated corpus: what it cannot tell apart, and what it must."""

import dataclasses

import numpy as np
import pytest
from evaluated import IDENTITY, to_frames, world

from tts_gen.evaluation import controls, two_sample
from tts_gen.evaluation.joint_prosody import JOINT, joint_floor_rows, joint_rows, two_sample_floor_row, two_sample_row


@pytest.fixture(scope="module")
def corpus():
    return world(np.random.default_rng(0), utterances=120)


def accuracy(generated, oracle):
    return two_sample_row(generated, oracle, IDENTITY)


def test_equal_distributions_are_not_told_apart(corpus):
    """The model knows the truth: noise of its own, alike within an utterance."""
    oracle, mean, _ = corpus
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        y = (
            mean
            + np.repeat(rng.standard_normal((120, 2)) * [0.8, 0.5], 14, axis=0)
            + rng.standard_normal(mean.shape) * 0.2
        )
        row = accuracy(dataclasses.replace(oracle, log_f0=y[:, 0], duration=to_frames(y[:, 1])), oracle)
        assert row["low"] < row["value"] < row["high"]
        found.append(row["value"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)
    floor = two_sample_floor_row(oracle, IDENTITY)
    assert floor["low"] < 0.5 < floor["high"] and floor["family"] == "floor"


def test_noise_flatness_and_shuffling_are_told_from_the_oracle(corpus):
    oracle, mean, noise = corpus
    calibration = controls.calibrate(mean, mean + noise, oracle)
    flat = dataclasses.replace(oracle, log_f0=mean[:, 0], duration=to_frames(mean[:, 1]))
    sets = dict(controls.controls(oracle, mean, calibration, to_frames)) | {"l2": flat}
    floor = two_sample_floor_row(oracle, IDENTITY)
    for name in ("l2", "control:l2+noise", "control:l2_rescaled", "control:shuffled"):
        assert accuracy(sets[name], oracle)["low"] > max(floor["high"], 0.6), name


def test_examples_stay_within_their_utterance():
    utterance, n = np.repeat([4, 2], (3, 2)), 5
    log_f0, frames = np.array([1.0, np.nan, 3, 10, 20]), np.full(n, 4)
    voiced, pause = np.isfinite(log_f0), np.array([False] * 4 + [False])
    found = two_sample.describe(log_f0, frames, voiced, pause, utterance, np.full(n, "vowel"))
    assert found.shape == (5, 14) and np.isfinite(found).all()
    assert found[:, 2].tolist() == [2, 0, 0, 10, 0], "to the next voiced phoneme"
    assert found[:, 3].tolist() == [0, 0, -2, 0, -10], "to the one before"
    assert found[:, 4].tolist() == [0] * 5, "no phoneme after the next one"


def test_what_cannot_be_tested_says_why(corpus):
    oracle, *_ = corpus
    one = dataclasses.replace(oracle, group=np.zeros(len(oracle.group)))
    assert "one group" in accuracy(one, one)["why"] and "four groups" in two_sample_floor_row(one, IDENTITY)["why"]
    broken = dataclasses.replace(oracle, duration=np.where(oracle.pause, 3, np.nan))
    assert "not finite" in accuracy(broken, oracle)["why"]
    assert "not finite" in joint_rows(broken, oracle, IDENTITY)[0]["why"]
    mute = dataclasses.replace(oracle, voiced=oracle.pause)
    assert "no voiced" in joint_rows(mute, mute, IDENTITY)[0]["why"]
    assert (
        "no voiced" in joint_floor_rows(mute, IDENTITY)[0]["why"]
        or "halved" in joint_floor_rows(mute, IDENTITY)[0]["why"]
    )
    flat = dataclasses.replace(oracle, log_f0=np.ones(len(oracle.voiced)))
    assert "constant" in joint_rows(flat, oracle, IDENTITY)[0]["why"]


def test_dependence_of_f0_and_duration_is_found():
    """In the oracle long phonemes are high: independent draws of the two lose that, shuffled pairs keep it."""
    rng = np.random.default_rng(0)
    oracle, _, noise = world(rng, utterances=150)
    tied = dataclasses.replace(
        oracle, log_f0=np.where(oracle.voiced, noise[:, 0], np.nan), duration=to_frames(noise[:, 0] * 2)
    )
    loose = dataclasses.replace(tied, log_f0=noise[:, 0], duration=to_frames(rng.permutation(noise[:, 0]) * 2))
    value = {}
    for name, generated in (("tied", tied), ("loose", loose), ("shuffled", controls.shuffled(tied))):
        value |= {(name, r["metric"]): r for r in joint_rows(generated, tied, IDENTITY)}
    information = value["tied", "mutual_information"]
    assert information["feature"] == JOINT and information["low"] < information["value"] < information["high"]
    assert information["value"] > 0.7
    assert value["loose", "mutual_information"]["value"] == pytest.approx(0, abs=0.03)
    assert value["shuffled", "mutual_information_difference"]["value"] == pytest.approx(0, abs=0.02)
    floor = {r["metric"]: r for r in joint_floor_rows(tied, IDENTITY)}
    assert value["loose", "copula_js"]["low"] > floor["copula_js"]["high"]
    assert value["loose", "mutual_information_difference"]["high"] < floor["mutual_information_difference"]["low"]
