"""Rows of prosody, controls and floor, on a simulated corpus whose truth is known."""

import dataclasses

import numpy as np
import pytest
from evaluated import IDENTITY, pick, to_frames, world

from tts_gen.evaluation import controls, rows
from tts_gen.evaluation.pool import FLOORED
from tts_gen.evaluation.prosody import FEATURES, UTTERANCE_FEATURES, floor_rows, length_class, prosody_rows


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_rows_of_the_oracle_itself_are_perfect(rng):
    oracle, *_ = world(rng)
    found = prosody_rows(oracle, oracle, IDENTITY)
    for feature in FEATURES:
        assert pick(found, feature, "std_ratio")["value"] == pytest.approx(1)
        for metric in ("js", "rmse", "best_of_k", "crps", "wasserstein", "diversity"):
            assert pick(found, feature, metric)["value"] == pytest.approx(0, abs=1e-9)
    scopes = [r["scope"] for r in found]
    assert scopes == sorted(scopes, key=lambda s: s != "overall"), "overall first"
    assert {"speaker:ann", "speaker:bob", "style:calm", "style:glad", "class:stop", "class:vowel"} <= set(scopes)
    assert list(found[0])[: len(rows.FIELDS)] == list(rows.FIELDS)


def test_pool_excludes_pauses_and_unvoiced(rng):
    oracle, *_ = world(rng)
    wild = dataclasses.replace(
        oracle,
        log_f0=np.where(oracle.voiced, oracle.log_f0, 1e6),
        duration=np.where(oracle.pause, 1e6, oracle.duration),
    )
    found = prosody_rows(wild, oracle, IDENTITY)
    assert pick(found, "log_f0", "rmse")["value"] == pick(found, "duration", "rmse")["value"] == 0
    assert pick(found, "log_f0", "rmse")["n"] == oracle.voiced.sum()
    assert pick(found, "duration", "rmse")["n"] == (~oracle.pause).sum()


def test_readable_units(rng):
    oracle, *_ = world(rng)
    octave = np.log(2) / 0.2  # in standard deviations of the speaker
    moved = dataclasses.replace(oracle, log_f0=oracle.log_f0 + octave, duration=oracle.duration + 10)
    found = prosody_rows(moved, oracle, IDENTITY)
    assert pick(found, "log_f0", "rmse_cents")["value"] == pytest.approx(1200)
    assert pick(found, "log_f0", "mae_cents")["value"] == pytest.approx(1200)
    assert pick(found, "duration", "rmse_ms")["value"] == pytest.approx(10 * 256 / 22.05)


def test_no_voiced_phonemes_and_broken_samples_are_null_with_a_reason(rng, tmp_path):
    oracle, *_ = world(rng)
    mute = dataclasses.replace(oracle, voiced=np.zeros_like(oracle.voiced))
    found = prosody_rows(mute, mute, IDENTITY)
    assert pick(found, "log_f0", "js")["value"] is None and "no voiced" in pick(found, "log_f0", "js")["why"]
    assert pick(found, "duration", "js")["value"] == 0

    broken = dataclasses.replace(oracle, duration=np.where(np.arange(len(oracle.voiced)) == 5, np.nan, oracle.duration))
    found = prosody_rows(broken, oracle, IDENTITY) + floor_rows(mute, {"task": "prosody"})
    assert "1 of" in pick([r for r in found if r["family"] == "flow"], "duration", "std")["why"]
    rows.write(found, tmp_path / "summary.json")
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_one_group_has_values_but_no_interval(rng):
    oracle, *_ = world(rng, utterances=1, length=30)
    generated = dataclasses.replace(oracle, log_f0=rng.standard_normal((1, 30)))
    found = prosody_rows(generated, oracle, IDENTITY)
    row = pick(found, "log_f0", "rmse")
    assert row["value"] > 0 and row["low"] is None and row["high"] is None
    assert "halves" in pick(found, "log_f0", "js_half")["why"]
    assert "one random sample" in pick(found, "log_f0", "crps")["why"]


def test_statistics_of_utterances_have_rows_and_floors(rng):
    oracle, *_ = world(rng)
    flat = dataclasses.replace(oracle, log_f0=oracle.log_f0 / 2, duration=oracle.duration * 2)
    found, floor = prosody_rows(flat, oracle, IDENTITY), floor_rows(oracle, IDENTITY)
    for feature in UTTERANCE_FEATURES:
        row = pick(found, feature, "std_ratio")
        assert row["value"] == pytest.approx(0.5) and row["n"] <= 80, "a rate halves as durations double"
        assert pick(floor, feature, "js")["low"] < pick(found, feature, "js")["value"]
    for feature in FEATURES:
        for metric in FLOORED:
            row = pick(floor, feature, metric)
            assert row["low"] <= row["value"] <= row["high"]
    assert pick(floor, "log_f0", "js_debiased")["value"] == pytest.approx(0, abs=0.01)
    assert pick(floor, "log_f0", "js")["value"] > 0.01
    few = floor_rows(dataclasses.replace(oracle, group=oracle.group % 2), IDENTITY)
    assert "four groups" in pick(few, "log_f0", "js_debiased")["why"]
    mute = dataclasses.replace(oracle, voiced=oracle.voiced & (np.arange(len(oracle.voiced)) % 14 < 4))
    assert "no utterance has 4" in pick(prosody_rows(mute, mute, IDENTITY), "utt_slope_log_f0", "std")["why"]


def test_lengths_are_terciles_of_utterances(rng):
    sizes = [3, 9, 4, 10, 5, 20]
    found = length_class(np.repeat(np.arange(6), sizes))
    assert [found[s] for s in np.cumsum([0, *sizes[:-1]])] == ["short", "middle", "short", "long", "middle", "long"]
    assert set(length_class(np.repeat([1, 2, 3], 5))) == {"short"}, "equal lengths are one class, which is no scope"


def test_flat_prediction(rng):
    oracle, *_ = world(rng)
    flat = dataclasses.replace(oracle, log_f0=np.full(len(oracle.voiced), 0.3))
    found = prosody_rows(flat, oracle, IDENTITY)
    assert pick(found, "log_f0", "std_ratio")["value"] == 0
    assert pick(found, "log_f0", "correlation")["value"] is None
    assert "generated values are constant" in pick(found, "log_f0", "correlation")["why"]


def test_controls_look_good_on_marginals_and_lose_where_it_counts(rng):
    """The truth here is known: model samples share their noise within an utterance, as the oracle does."""
    oracle, mean, noise = world(rng, utterances=300)
    target = mean + noise
    calibration = controls.calibrate(mean, target, oracle)
    assert calibration.residual_std == pytest.approx([np.hypot(0.8, 0.2), np.hypot(0.5, 0.2)], rel=0.08)
    smooth = np.repeat(rng.standard_normal((8, 300, 2)), 14, axis=1) * [0.8, 0.5]
    y = mean + smooth + rng.standard_normal((8, *mean.shape)) * 0.2
    model = dataclasses.replace(oracle, log_f0=y[..., 0], duration=to_frames(y[..., 1]))
    sets = dict(controls.controls(oracle, mean, calibration, to_frames)) | {"model": model}
    sets["l2"] = dataclasses.replace(oracle, log_f0=mean[:, 0], duration=to_frames(mean[:, 1]))
    found = {name: prosody_rows(s, oracle, IDENTITY, n_boot=20) for name, s in sets.items()}

    def value(name, metric, feature="log_f0"):
        return pick(found[name], feature, metric)["value"]

    theory = 0.5 / np.sqrt(0.5**2 + 0.8**2 + 0.2**2)
    assert value("l2", "std_ratio") == pytest.approx(theory, rel=0.08)
    for name in ("model", "control:l2+noise", "control:l2_rescaled"):
        assert value(name, "std_ratio") == pytest.approx(1, abs=0.08)
        assert value(name, "js") < value("l2", "js") / 2
    assert value("control:shuffled", "std_ratio") == pytest.approx(1)
    for feature in ("log_f0", "duration"):
        noisy = value("control:l2+noise", "best_of_k", feature)
        assert value("model", "best_of_k", feature) < 0.8 * noisy
        assert value("model", "js", f"d_{feature}") < value("control:l2+noise", "js", f"d_{feature}") / 2


def test_shuffling_keeps_each_class(rng):
    oracle, *_ = world(rng)
    found = controls.shuffled(oracle, samples=2)
    for value in np.unique(oracle.phone_class):
        at = oracle.phone_class == value
        assert np.array_equal(np.sort(found.duration[1, at]), np.sort(oracle.duration[at]))
    assert np.isfinite(found.log_f0[:, oracle.voiced]).all()
    assert not np.array_equal(found.duration[0], found.duration[1])
