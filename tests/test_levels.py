"""Log-f0 of phonemes against log-f0 of frames: the contour task, and the part of `eval.py joint` that compares both."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import small_config, small_decoder, write_untrained

from tts_gen import command, doors, draws, fit, tasks
from tts_gen.batches import TrainingBatches, crop_frames, whole
from tts_gen.config import UserError
from tts_gen.decoders import DECODERS
from tts_gen.evaluation import levels
from tts_gen.evaluation.monitor import Monitor
from tts_gen.features.pooling import log_contour, pool_contour, pool_log_f0
from tts_gen.features.store import FeatureStore


@given(st.integers(0, 2**32 - 1))
def test_frames_are_pooled_as_recordings_are(seed):
    rng = np.random.default_rng(seed)
    duration = rng.integers(1, 9, 12)
    f0 = np.where(rng.random(duration.sum()) < 0.6, rng.uniform(80, 300, duration.sum()), 0)
    pooled = pool_log_f0(f0, duration, rng.random(12) < 0.1)
    contour = np.stack([log_contour(f0)] * 2)
    again = pool_contour(contour, f0 > 0, duration, np.isfinite(pooled))
    np.testing.assert_allclose(again, np.stack([pooled] * 2), rtol=1e-5)
    if np.isfinite(pooled).any():
        of = np.repeat(np.arange(12), duration)
        broken = np.flatnonzero((f0 > 0) & np.isfinite(pooled)[of])[0]
        contour[0, broken] = np.nan
        lost = np.isnan(pool_contour(contour, f0 > 0, duration, np.isfinite(pooled))) & np.isfinite(pooled)
        assert lost[0, of[broken]] and lost.sum() == 1


@pytest.mark.parametrize("family", DECODERS)
def test_unvoiced_frames_and_log_f0_of_phonemes_change_nothing(family, store):
    config = small_config("contour", family, store.root)
    task, batch = tasks.build(config, store.inventory, store.stats), TrainingBatches(store, config)[0]
    key = jax.random.key(0)
    params = jax.jit(lambda: task.init(key, batch, key, False, method="loss"))()
    loss = jax.jit(lambda b: tasks.loss_sums(task, params, b, key, False)[0].sum())
    junk = np.where(batch["contour_voiced"], batch["contour"], 99.0).astype(np.float32)
    assert 0 < np.mean(batch["contour_voiced"]) < 1
    assert loss(batch) == loss(batch | {"contour": junk, "log_f0": batch["log_f0"] + 5})
    moved = np.where(batch["contour_voiced"], batch["contour"] + 1, 0).astype(np.float32)
    assert loss(batch) != loss(batch | {"contour": moved})
    y = task.apply(params, batch, key, 1.0, method="sample")
    assert y.shape == (*batch["mel"].shape[:2], 1) and np.isfinite(y).all()


def test_the_density_is_that_of_hertz_on_a_logarithmic_scale(store):
    """A model of N(0, 1) in normalised units, whatever the input: log-f0 has its speaker's mean and spread."""
    config = small_config("contour", "regression", store.root)
    config = replace(config, decoder=small_decoder("regression", loss="gaussian"))
    task, batch = tasks.build(config, store.inventory, store.stats), TrainingBatches(store, config)[0]
    mask = np.arange(batch["mel"].shape[1]) < batch["frames"][:, None] // 4 * 4
    voiced = batch["contour_voiced"] & mask
    change, dimensions = task.change_of_variables(batch, mask.astype(np.float32))
    np.testing.assert_array_equal(dimensions, voiced.sum(1))
    y = np.asarray(task.target(batch, draws.split(jax.random.key(0), 2)[0]))[..., 0]
    std = store.stats.log_f0_std[batch["speaker"]][:, None]
    unit = lambda x: -0.5 * (x**2 + np.log(2 * np.pi))  # noqa: E731
    expected = (voiced * (unit(y) - np.log(std))).sum(1)
    stand_ins = (mask & ~voiced).sum(1)
    found = (mask * unit(y)).sum(1) + change
    # The stand-ins' own density differs from their entropy by chance.
    chance = ((mask & ~voiced) * (unit(y) + 0.5 * np.log(2 * np.pi * np.e))).sum(1)
    assert stand_ins.max() > 0
    np.testing.assert_allclose(found - chance, expected, rtol=1e-4)


def test_a_crop_keeps_frames_and_mel_together(store):
    u = max(store.read(range(20)), key=lambda u: len(u.mel))
    data = small_config("contour", "regression", store.root).data
    crop = crop_frames(whole(u, store.stats), 32, data, 0.5).features
    start = next(i for i in range(len(u.mel)) if np.array_equal(u.mel[i : i + len(crop.mel)], crop.mel))
    np.testing.assert_array_equal(crop.contour, u.contour[start : start + len(crop.mel)])


def test_lines_from_phoneme_to_phoneme(world):
    oracle, line = world
    np.testing.assert_allclose(levels._interpolated(oracle, oracle.log_f0)[4:-5], line[4:-5], atol=1e-6)


@pytest.fixture
def world():
    """One utterance whose log-f0 falls in a straight line; its second phoneme is unvoiced."""
    from tts_gen.evaluation.prosody import Prosody

    duration = np.array([8, 6, 8, 10])
    line = 1 - 0.1 * (np.arange(32) + 0.5)
    middle = 1 - 0.1 * (np.cumsum(duration) - duration / 2)
    voiced = np.array([True, False, True, True])
    text = np.full(4, "a")
    oracle = Prosody(np.where(voiced, middle, np.nan), duration, voiced, ~voiced & False, np.zeros(4, int),
                     np.zeros(4, int), text, text, text, np.full(4, 0.2), 0.0116)  # fmt: skip
    return oracle, line


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    for task in ("prosody", "contour"):
        for family in ("regression", "flow"):
            config = replace(small_config(task, family, store.root), decoder=small_decoder(family))
            write_untrained(config, store, folder / f"{task}_{family}")
    return [str(p) for p in sorted(folder.iterdir(), reverse=True)]


def test_the_study_tells_levels_apart(runs, tmp_path, capsys):
    assert doors.evaluate(["joint", *runs, "--out", str(tmp_path), "--samples", "2"]) == command.DONE
    said = capsys.readouterr().out
    assert "cents (RMSE) of contours that spread by" in said and "from frames (contour_flow), " in said
    rows = [r for r in json.loads((tmp_path / "summary.json").read_text()) if r["task"] == "contour"]
    at = {(r["family"], r["scope"], r["feature"], r["metric"]): r["value"] for r in rows}
    # What one value a phoneme leaves out is little here, and less than untrained models err.
    left_out = at["oracle", "level:phonemes", "contour", "rmse_cents"]
    assert 0 < left_out < at["flow", "level:frames", "contour", "rmse_cents"]
    assert {k[:2] for k in at} == {("oracle", "level:phonemes"), ("l2", "level:phonemes"), ("l2", "level:frames"),
                                   ("flow", "level:phonemes"), ("flow", "level:frames")}  # fmt: skip
    assert all(r["value"] is not None for r in rows if r["metric"] in ("crps", "rmse_cents", "energy_score"))


@pytest.mark.parametrize("study", [(), ("likelihood",)])
def test_contour_runs_are_for_the_joint_study(study, runs, tmp_path, capsys):
    assert doors.evaluate([*study, *runs, "--out", str(tmp_path)]) == command.FAILED
    assert "is a contour run: it is compared by `eval.py joint`" in capsys.readouterr().err


def test_a_store_without_frames_is_told(store, tmp_path):
    from models import AUDIO, simulated

    from tts_gen.corpora import Utterance
    from tts_gen.features.writer import write_store

    rng = np.random.default_rng(0)
    items = [(Utterance(f"{s}{i}", tmp_path / "a.wav", "A.", "ann", None, s), simulated(9, "ann", rng))
             for s in ("train", "val", "test") for i in range(4)]  # fmt: skip
    write_store(tmp_path / "old", AUDIO, [(u, replace(r, contour=None)) for u, r in items])
    old = FeatureStore(tmp_path / "old")
    config = small_config("contour", "regression", old.root)
    for refused in (lambda: TrainingBatches(old, config)[0], lambda: fit.train(config, tmp_path / "run")):
        with pytest.raises(UserError, match="old was prepared before the f0 of frames was kept"):
            refused()


def test_training_shows_no_samples(store):
    config = small_config("contour", "regression", store.root)
    assert Monitor(config)(None, {}, 0, None) == {}
