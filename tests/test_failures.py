"""Signs of failure: planted ones are found, a perfect sampler has none; and what cannot be judged says so."""

import dataclasses

import numpy as np
import pytest
from evaluated import IDENTITY, pick, world
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from tts_gen.evaluation import diagnosis, failures, rows
from tts_gen.evaluation.failure_rows import FLOORED, NAMES, mel_failures, prosody_failures
from tts_gen.evaluation.joint_prosody import JOINT
from tts_gen.evaluation.prosody import floor_rows, of_floor, prosody_rows

K = 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def model(rng, oracle, mean, log_f0_noise=0.8, white=0.2, samples=K):
    """Samples of `world`'s own process: noise common to an utterance, and a little of each phoneme's own."""
    utterances, length = oracle.utterance[-1] + 1, len(mean) // (oracle.utterance[-1] + 1)
    common = np.repeat(rng.standard_normal((samples, utterances, 2)), length, axis=1) * [log_f0_noise, 0.5]
    y = mean + common + rng.standard_normal((samples, *mean.shape)) * white
    return dataclasses.replace(oracle, log_f0=y[..., 0], duration=np.maximum(np.rint(np.exp(2 + 0.5 * y[..., 1])), 1))


def sequences(oracle) -> list[np.ndarray]:
    at = oracle.voiced
    both = np.stack((oracle.log_f0[at], np.log(oracle.duration[at])), axis=1)
    return [both[oracle.utterance[at] == u] for u in np.unique(oracle.utterance[at])]


def found_in(sets: dict, oracle, training) -> set[str]:
    """Signs found in sets {temperature: prosody}, judged at temperature 1."""
    made = floor_rows(oracle, IDENTITY) + prosody_failures(oracle, oracle, training, of_floor(IDENTITY), 0)
    for temperature, of in sets.items():
        identity = IDENTITY | {"temperature": temperature}
        made += prosody_rows(of, oracle, identity, n_boot=200)
        made += prosody_failures(of, oracle, training, identity, 0)
    made = [r for r in made if r["scope"] == "overall"]
    shown = [r for r in made if r["temperature"] in (None, 1.0)]
    judged = diagnosis.findings(shown, made)
    header, cells = diagnosis.table(judged)
    assert len(cells) == len(judged) and all(len(line) == len(header) for line in cells)
    assert all(f.sentence.startswith("Flow ") and "{" not in f.sentence for f in judged)
    return {f.sign for f in judged if f.found}


def broken(kind, rng, oracle, mean, training):
    good = model(rng, oracle, mean)
    log_f0 = good.log_f0.copy()
    if kind == "over-smoothing":
        return model(rng, oracle, mean, log_f0_noise=0.2)
    if kind == "noise":
        return dataclasses.replace(good, log_f0=log_f0 + rng.standard_normal(log_f0.shape) * 0.8)
    if kind == "mode dropping":
        return dataclasses.replace(good, log_f0=-np.abs(log_f0))
    if kind == "outliers":
        wild = rng.random(log_f0.shape) < 0.03
        return dataclasses.replace(good, log_f0=np.where(wild, 4.5, log_f0))
    if kind == "instability":
        log_f0[0, np.flatnonzero(oracle.voiced)[:3]] = 1e6
        return dataclasses.replace(good, log_f0=log_f0)
    for u in np.unique(oracle.utterance)[:40]:  # every second utterance is one of the training data
        at = np.flatnonzero(oracle.voiced & (oracle.utterance == u))
        if len(at):
            copied = training[u][np.arange(len(at)) * len(training[u]) // len(at)]
            log_f0[:, at], good.duration[:, at] = copied[:, 0], np.rint(np.exp(copied[:, 1]))
    return dataclasses.replace(good, log_f0=log_f0)


@pytest.mark.parametrize(
    "kind", ["over-smoothing", "noise", "mode dropping", "outliers", "instability", "memorisation", None]
)
def test_planted_failures_are_named_and_a_perfect_sampler_is_not(kind, rng):
    oracle, mean, _ = world(rng)
    training = sequences(world(np.random.default_rng(9), utterances=200)[0])
    if kind is None:
        assert found_in({1.0: model(rng, oracle, mean)}, oracle, training) == set()
    else:
        assert kind in found_in({1.0: broken(kind, rng, oracle, mean, training)}, oracle, training)


def test_instability_against_temperature(rng):
    """At some temperature a twentieth of the utterances blows up, though by less than 10 standard deviations."""
    oracle, mean, _ = world(rng)
    sweep = {t: model(rng, oracle, mean, 0.8 * t, 0.2 * t + 0.1) for t in (0.333, 1.0)}
    assert "instability" not in found_in(sweep, oracle, [])
    hot = model(rng, oracle, mean)
    some = np.isin(oracle.utterance, np.unique(oracle.utterance)[::9])
    sweep[1.2] = dataclasses.replace(hot, log_f0=np.where(some, hot.log_f0 + 8, hot.log_f0))
    assert "instability" in found_in(sweep, oracle, [])


def mels(rng, lengths) -> list[np.ndarray]:
    """Smooth in time: what one frame is, the next nearly is."""
    return [signal.lfilter([0.6], [1, -0.8], rng.standard_normal((n, 20)), axis=0) for n in lengths]


def test_mels(rng):
    lengths, groups = rng.integers(30, 60, 40), np.arange(40) // 2
    oracle, training = mels(rng, lengths), mels(rng, np.tile(lengths, 2))
    made = mel_failures(oracle, oracle, groups, training, of_floor(IDENTITY), 0)
    assert {r["metric"] for r in made} == set(FLOORED)
    good = mel_failures([o + 0.1 * rng.standard_normal(o.shape) for o in oracle], oracle, groups, training, IDENTITY, 0)
    assert pick(good, "mel", "coverage")["value"] > pick(made, "mel", "coverage")["value"] - 0.1
    half = mel_failures([0.3 * o for o in oracle], oracle, groups, training, IDENTITY, 0)
    assert pick(half, "mel", "coverage")["value"] < pick(made, "mel", "coverage")["value"] - 0.3
    copies = mel_failures(training[:40], oracle, groups, training, IDENTITY, 0)
    assert pick(copies, "mel", "memorised_share")["value"] > 0.9
    assert pick(good, "mel", "memorised_share")["value"] < 0.05


@settings(deadline=None, max_examples=30)
@given(st.integers(6, 60), st.integers(1, 60), st.integers(1, 3), st.integers(0, 9))
def test_coverage_is_a_share_that_samples_only_add_to(n, m, channels, seed):
    rng = np.random.default_rng(seed)
    y, x = rng.standard_normal((n, channels)), rng.standard_normal((m, channels))
    few, more = failures.coverage(x[None], y), failures.coverage(np.concatenate((x, y[:3]))[None], y)
    assert 0 <= few <= more <= 1 and failures.coverage(y[None], y) == 1


def test_coverage_and_outliers_by_brute_force(rng):
    y, x = rng.standard_normal((60, 2)), rng.standard_normal((50, 2))
    apart = np.linalg.norm(y[:, None] - y, axis=-1)
    radius = np.sort(apart, axis=1)[:, failures.NEIGHBOURS]
    nearest = np.linalg.norm(y[:, None] - x, axis=-1).min(axis=1)
    assert failures.coverage(x[None], y) == np.mean(nearest <= radius)
    low, high = np.quantile(y, (0.001, 0.999), axis=0)
    assert failures.outlier_ratio(x[None], y) == pytest.approx(np.mean((x < low) | (x > high)) / 0.002)


def test_equal_distributions_are_covered_and_have_nominal_outliers(rng):
    y, x = rng.standard_normal((2, 20_000, 1))
    assert failures.outlier_ratio(x[None], y) == pytest.approx(1, abs=0.4)
    assert failures.coverage(x[None, :4000], y[:4000]) == pytest.approx(1 - 0.5**failures.NEIGHBOURS, abs=0.01)


def test_error_tail_by_hand():
    y, utterance = np.zeros((40, 1)), np.arange(40) // 2
    x = np.repeat(np.r_[np.ones(18), 5.0, 5.0], 2)[None, :, None]
    assert failures.error_tail(x, y, utterance) == 5
    assert np.isnan(failures.error_tail(x * 0, y, utterance))


def test_what_cannot_be_judged_is_null_with_a_reason(rng):
    oracle, mean, _ = world(rng, utterances=1, length=30)
    one = prosody_failures(model(rng, oracle, mean), oracle, [], IDENTITY, 0)
    assert (
        "two groups" in pick(one, JOINT, "coverage")["why"] and "too few" in pick(one, JOINT, "memorised_share")["why"]
    )
    mute = dataclasses.replace(oracle, voiced=np.zeros(30, bool))
    assert all("no positions" in r["why"] for r in prosody_failures(mute, mute, [], IDENTITY, 0))
    oracle, mean, _ = world(rng)
    flat = dataclasses.replace(oracle, log_f0=np.zeros(len(mean)), duration=np.ones(len(mean)))
    for name in NAMES:
        row = pick(prosody_failures(flat, flat, [], IDENTITY, 0), JOINT, name)
        assert row["value"] is None or np.isfinite(row["value"]), "constants"
    lost = model(rng, oracle, mean)
    lost.log_f0[0, np.flatnonzero(oracle.voiced)[0]] = np.nan
    made = prosody_failures(lost, oracle, [], IDENTITY, 0)
    assert pick(made, JOINT, "explosive_share")["value"] > 0 and "1 of" in pick(made, JOINT, "coverage")["why"]
    assert all(f.sign == "instability" and f.found for f in diagnosis.findings(made, made))


def test_nothing_is_judged_without_floor_or_interval():
    of = [rows.make_row(IDENTITY, "log_f0", "std_ratio", 0.1), rows.make_row(IDENTITY, JOINT, "coverage", 0.1)]
    assert diagnosis.findings(of, of) == []
