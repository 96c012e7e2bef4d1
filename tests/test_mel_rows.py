"""Rows of mel metrics against direct computation."""

import weakref

import numpy as np
import pytest
from evaluated import IDENTITY
from hypothesis import given
from hypothesis import strategies as st

from tts_gen.config import UserError
from tts_gen.evaluation import mel, mel_controls, metrics
from tts_gen.evaluation.split import Lazy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_mel_metrics_against_direct_computation(rng):
    oracle = [rng.standard_normal((t, 5)) * [1, 2, 3, 4, 5] for t in (40, 60, 50) * 2]
    generated = [o * 0.5 + rng.standard_normal(o.shape) for o in oracle]
    a, b = np.concatenate(generated), np.concatenate(oracle)
    assert mel.mel_l1(generated, oracle) == pytest.approx(np.abs(a - b).mean())
    assert mel.bin_std_ratio(generated, oracle) == pytest.approx(a.std(axis=0) / b.std(axis=0))
    d = [np.concatenate([np.diff(m, axis=0) for m in mels]).std(axis=0) for mels in (generated, oracle)]
    assert mel.bin_std_ratio(generated, oracle, axis=-2) == pytest.approx(d[0] / d[1])
    edges = mel.bin_edges(oracle)
    assert mel.bin_js(generated, oracle, edges)[3] == pytest.approx(metrics.js(a[:, 3], b[:, 3], edges[3]))
    found = {r["metric"]: r for r in mel.mel_rows(generated, oracle, list("abcdef"), IDENTITY)}
    assert found["mel_l1"]["value"] == pytest.approx(np.abs(a - b).mean())
    assert found["js"]["value"] == pytest.approx(mel.bin_js(generated, oracle, edges).mean())
    assert found["std_ratio"]["low"] <= found["std_ratio"]["value"] <= found["std_ratio"]["high"]
    twice = {
        r["metric"]: r["value"] for r in mel.mel_rows([np.stack((g, g)) for g in generated], oracle, "abcdef", IDENTITY)
    }
    assert twice == pytest.approx({k: r["value"] for k, r in found.items()})


def test_mel_differences_tell_smear_and_grain(rng):
    oracle = [np.cumsum(rng.standard_normal((80, 8)), axis=0) * 0.3 for _ in range(6)]
    smear = [np.stack([np.convolve(m[:, i], np.ones(5) / 5, "same") for i in range(8)], axis=1) for m in oracle]
    grain = [m + rng.standard_normal(m.shape) * 0.6 for m in oracle]
    value = {}
    for name, mels in (("smear", smear), ("grain", grain)):
        value |= {(name, r["metric"]): r["value"] for r in mel.mel_rows(mels, oracle, range(6), IDENTITY)}
    assert value["grain", "d_time_std_ratio"] > 2 > 1.3 > value["grain", "std_ratio"]
    assert value["smear", "d_time_std_ratio"] < 0.8 < value["smear", "std_ratio"]


def test_mel_edge_cases(rng):
    oracle = [np.concatenate((rng.standard_normal((30, 3)), np.full((30, 1), np.log(1e-5))), axis=1) for _ in range(4)]
    found = {r["metric"]: r for r in mel.mel_rows(oracle, oracle, "abcd", IDENTITY)}
    assert found["std_ratio"]["value"] == pytest.approx(1), "a bin that is constant in the oracle is left out"
    with pytest.raises(UserError, match="utterance 1: generated mel"):
        mel.mel_rows([oracle[0], oracle[1][:-1], *oracle[2:]], oracle, "abcd", IDENTITY)
    broken = [oracle[0] * np.inf, *oracle[1:]]
    assert all(r["value"] is None and "not finite" in r["why"] for r in mel.mel_rows(broken, oracle, "abcd", IDENTITY))
    floor = {r["metric"]: r for r in mel.mel_floor_rows(oracle, "abcd", IDENTITY)}
    assert floor["js"]["family"] == "floor" and floor["js"]["temperature"] is None
    assert floor["std_ratio"]["value"] == pytest.approx(1, abs=0.2)


def test_mels_of_other_lengths_are_warped_and_their_distributions_compared(rng):
    oracle = [np.cumsum(rng.standard_normal((90, 20)), axis=0) for _ in range(3)]
    slow = [np.repeat(m, 2, axis=0) for m in oracle]
    found = {r["metric"]: r for r in mel.mel_rows(slow, oracle, "abc", IDENTITY, aligned=False)}
    assert found["mcd_dtw"]["value"] == pytest.approx(0, abs=1e-9) and "mcd" not in found
    assert found["gv_ratio"]["value"] == pytest.approx(1)
    assert found["modulation_distance"]["value"] > 3, "half as quick"
    near = {r["metric"]: r for r in mel.mel_rows([m + 1 for m in oracle], oracle, "abc", IDENTITY)}
    assert near["mcd"]["value"] == pytest.approx(0, abs=1e-9) and near["mel_l1"]["value"] == pytest.approx(1)
    short = mel.mel_rows([m[:40] for m in oracle], [m[:40] for m in oracle], "abc", IDENTITY)
    assert "64 frames" in next(r for r in short if r["metric"] == "modulation_distance")["why"]


def test_controls_of_mels_have_what_is_planted(rng):
    """AR(1) residuals of lag 0.8 about a smooth prediction of half the oracle's spread."""
    oracle, prediction = [], []
    for length in (400, 300, 500, 310):
        noise = np.zeros((length, 6))
        for t in range(1, length):
            noise[t] = 0.8 * noise[t - 1] + 0.6 * rng.standard_normal(6)
        prediction.append(np.sin(np.arange(length)[:, None] / (5 + np.arange(6))))
        oracle.append(2 * prediction[-1] + noise)
    calibration = mel_controls.calibrate(prediction, [p + o - 2 * p for p, o in zip(prediction, oracle)])
    assert calibration.autocorrelation == pytest.approx(0.8, abs=0.08)
    groups, classes = np.array(["a", "a", "b", "b"]), [np.arange(len(o)) % 2 for o in oracle]
    sets = mel_controls.mel_controls("l1", prediction, oracle, groups, classes, calibration)
    for name, lag in (("control:l1+noise", 0), ("control:l1+ar_noise", 0.8)):
        added = np.concatenate([g - p for g, p in zip(sets[name], prediction)])
        assert added.std(axis=0) == pytest.approx(calibration.residual_std, rel=0.12)
        assert np.mean(added[:-1] * added[1:]) / added.var() == pytest.approx(lag, abs=0.08)
    shuffled = np.concatenate(sets["control:shuffled"])
    for value in (0, 1):
        at = np.concatenate(classes) == value
        assert np.array_equal(np.sort(shuffled[at, 0]), np.sort(np.concatenate(oracle)[at, 0]))
    donors = (3, 3, 0, 1)  # of the other group, the nearest in length
    for found, target, donor in zip(sets["control:other_utterance"], oracle, donors):
        assert len(found) == len(target)
        where = [int(np.flatnonzero((oracle[donor] == frame).all(axis=1))[0]) for frame in found]
        assert np.all(np.diff(where) >= 0), "in order of time"
    spread = mel_controls.rescaled(prediction, mel_controls.calibrate(prediction, oracle))
    assert np.concatenate(spread).std(axis=0) == pytest.approx(np.concatenate(oracle).std(axis=0))
    with pytest.raises(ValueError, match="no other"):
        mel_controls.other_utterance(oracle[:1], groups[:1])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(0, 9))
def test_bins_lie_between_the_percentiles_of_all_frames(lengths, seed):
    rng = np.random.default_rng(seed)
    mels = [rng.standard_normal((n, 3)).astype(np.float32) for n in lengths]
    low, high = np.percentile(np.concatenate(mels).astype(float), (0.1, 99.9), axis=0)
    for found, expected in zip(mel._range(mels), (low, high), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_only_a_few_utterances_are_in_memory_at_once():
    """Of 60, whatever they are: rows, floor and all controls but the shuffled one, which takes a block."""
    alive, most = 0, 0

    def made(i: int) -> np.ndarray:
        nonlocal alive, most
        alive, values = alive + 1, np.random.default_rng(i).standard_normal((80 + i, 4))
        most = max(most, alive)
        weakref.finalize(values, died)
        return values

    def died() -> None:
        nonlocal alive
        alive -= 1

    oracle, groups = Lazy(60, made), np.arange(60)
    classes = [np.zeros(80 + i) for i in range(60)]
    sets = mel_controls.mel_controls("l1", oracle, oracle, groups, classes, mel_controls.calibrate(oracle, oracle))
    for name, generated in sets.items():
        if name != "control:shuffled":
            mel.mel_rows(generated, oracle, groups, IDENTITY, n_boot=10)
    mel.mel_floor_rows(oracle, groups, IDENTITY)
    assert 0 < most < 6
