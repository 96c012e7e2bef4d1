"""Energy of phonemes: pooled from the mel, a channel of prosody, a condition of mels, carried by speech."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from evaluated import IDENTITY, pick, to_frames, world
from hypothesis import given
from hypothesis import strategies as st
from models import AUDIO, away_from_start, make_store, mean_loss, small_config, write_untrained

from tts_gen import runs, tasks
from tts_gen.batches import acoustic_batch, crop_frames, prosody_batch, whole
from tts_gen.config import Data, UserError
from tts_gen.decoders import DECODERS
from tts_gen.evaluation import controls
from tts_gen.evaluation.likelihood import feature_of
from tts_gen.evaluation.prosody import floor_rows, prosody_rows
from tts_gen.features.files import read_json, write_json
from tts_gen.features.pooling import pool_energy
from tts_gen.features.stats import Stats
from tts_gen.features.store import STATS, FeatureStore
from tts_gen.features.writer import finish
from tts_gen.speech import prosody_file
from tts_gen.synthesis import Controls, add_prosody, check_runs, joined, mels_of, voice

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def loaded(store, tmp_path_factory):
    """(task, with energy) -> a run."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for task in ("prosody", "acoustic"):
        for energy in (False, True):
            config = replace(small_config(task, "regression", store.root), energy=energy)
            write_untrained(config, store, root / f"{task}{energy}")
            found[task, energy] = runs.load(root / f"{task}{energy}")
    return found


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.floats(-3, 3))
def test_energy_is_the_mean_of_frames_and_moves_with_the_level(duration, gain):
    duration = np.array(duration)
    mel = np.random.default_rng(len(duration)).normal(-3, 2, (duration.sum(), 8)).astype(np.float32)
    found = pool_energy(mel, duration)
    frames = np.log(np.linalg.norm(np.exp(mel.astype(float)), axis=1))
    parts = np.split(frames, np.cumsum(duration)[:-1])
    np.testing.assert_allclose(found, [part.mean() for part in parts], atol=1e-4)
    np.testing.assert_allclose(pool_energy(mel + np.float32(gain), duration), found + gain, atol=1e-4)


def test_statistics_are_those_of_training_phonemes(store):
    values = np.concatenate([u.energy for u in store.read(store.split("train"))])
    assert store.stats.energy_mean == pytest.approx(values.mean(), abs=1e-4)
    assert store.stats.energy_std == pytest.approx(values.std(), abs=1e-4)


def test_an_older_store_works_without_energy_and_gets_its_statistics(tmp_path):
    store = make_store(tmp_path, 12, 3)
    before = read_json(tmp_path / STATS)
    write_json(tmp_path / STATS, {name: x for name, x in before.items() if "energy" not in name})
    old, batch = FeatureStore(tmp_path), prosody_batch(store.read([0, 1]), Stats.load(tmp_path / STATS), 16)
    assert "energy" not in batch and old.stats.to_dict() == read_json(tmp_path / STATS)
    tasks.build(small_config("prosody"), old.inventory, old.stats)
    with pytest.raises(UserError, match="no statistics of it; give the same tts-gen prepare command again"):
        tasks.build(replace(small_config("prosody"), energy=True), old.inventory, old.stats)
    assert finish(tmp_path, store.audio, list(old.index)) and read_json(tmp_path / STATS) == before
    assert not finish(tmp_path, store.audio, list(old.index)), "once is enough"
    runs.check_features(tmp_path, old.audio, old.inventory, old.stats, store)  # a run of before fits the store of now
    runs.check_features(tmp_path, old.audio, old.inventory, store.stats, old)  # and the other way round
    other = replace(store.stats, energy_mean=store.stats.energy_mean + 1)
    with pytest.raises(UserError, match="other means and standard deviations"):
        runs.check_features(tmp_path, old.audio, old.inventory, other, store)


@pytest.mark.parametrize("family", DECODERS)
def test_every_family_models_three_channels(store, family):
    """It trains, what is padded changes nothing, and samples have a third channel of their own."""
    task = tasks.build(replace(small_config("prosody", family), energy=True), store.inventory, store.stats)
    batch = prosody_batch(store.read(store.split("train")[:4]), store.stats, 16)
    variables = away_from_start(lambda: task.init(KEY, batch, KEY, False, method="loss"))
    junk = np.arange(16) >= batch["length"][:, None]
    noisy = batch | {"energy": np.where(junk, 9, batch["energy"]).astype(np.float32)}
    step = jax.jit(jax.value_and_grad(lambda v, b: mean_loss(task, v, b, KEY, False)))
    loss, gradient = step(variables, batch)
    np.testing.assert_allclose(step(variables, noisy)[0], loss, rtol=1e-5)
    louder = batch | {"energy": batch["energy"] + 3}
    assert abs(step(variables, louder)[0] - loss) > 1e-2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    smaller = jax.tree.map(lambda p, g: p - 0.01 * g / (1 + np.abs(g)), variables, gradient)
    assert step(smaller, batch)[0] < loss
    y = np.asarray(jax.jit(lambda v: task.apply(v, batch, KEY, 1.0, method="sample"))(variables))
    assert y.shape == (4, 16, 3) and np.isfinite(y).all() and y[..., 2].std() > 0
    assert not np.allclose(y[..., 2], y[..., 1]) and not np.allclose(y[..., 2], y[..., 0])


def test_bits_count_the_third_dimension(store):
    """The density of what was normalised by a standard deviation is that many times higher."""
    batch, mask = prosody_batch(store.read([0, 1]), store.stats, 16), np.ones((2, 16), np.float32)
    mask[1, 6:] = 0
    (change, dimensions), (of_three, more) = (
        task.change_of_variables(batch, mask) for task in (prosody_task(store, energy) for energy in (False, True))
    )
    np.testing.assert_allclose(of_three - change, -np.array([16, 6]) * np.log(store.stats.energy_std), rtol=1e-4)
    np.testing.assert_array_equal(more - dimensions, [16, 6])


def prosody_task(store, energy: bool) -> tasks.Task:
    return tasks.build(replace(small_config("prosody"), energy=energy), store.inventory, store.stats)


def test_the_switch_changes_no_other_parameter_or_draw(store):
    batch = prosody_batch(store.read(store.split("train")[:4]), store.stats, 16)
    two, three = prosody_task(store, False), prosody_task(store, True)
    np.testing.assert_array_equal(two.target(batch, KEY), three.target(batch, KEY)[..., :2])
    shapes = lambda task: jax.eval_shape(lambda: task.init(KEY, batch, KEY, False, method="loss"))  # noqa: E731
    assert jax.tree.structure(shapes(two)) == jax.tree.structure(shapes(three))


def test_energy_of_a_crop_is_that_of_whole_phonemes(store):
    u = max(store.read(store.split("train")), key=lambda u: len(u.mel))
    crop = crop_frames(whole(u, store.stats), 32, Data(max_phonemes=16, context=1), 0.5)
    assert 0 < len(crop.features.energy) == len(crop.features.phoneme) < len(u.phoneme)
    assert set(crop.features.energy) <= set(u.energy)


def test_mels_hear_energy_where_they_should(store, loaded):
    for energy in (False, True):
        run = loaded["acoustic", energy]
        batch = acoustic_batch([whole(u, store.stats) for u in store.read([0, 1])], store.stats, 16, 128)
        louder = batch | {"energy": batch["energy"] + 1}
        a, b = (run.sample(run.variables, x, KEY, 1.0) for x in (batch, louder))
        assert (np.abs(a - b).max() > 1e-3) == energy


def test_speech_carries_energy(store, loaded):
    prosody, acoustic = loaded["prosody", True], loaded["acoustic", True]
    check_runs({"prosody": prosody, "acoustic": acoustic})
    blank = [replace(u, energy=None) for u in store.read([0, 1])]
    spoken = voice(add_prosody(blank, prosody, KEY, 1.0), acoustic, Controls())
    y = np.asarray(prosody.sample(prosody.variables, prosody_batch(blank, store.stats, 32), KEY, 1.0))
    for row in range(2):
        u = spoken[row].features
        truth = store.stats.denormalise_energy(y[row, : len(u.phoneme), 2])
        np.testing.assert_allclose(u.energy, truth, atol=1e-4)
    whole_text = joined(spoken).features
    assert len(whole_text.energy) == len(whole_text.phoneme)
    assert joined(voice(add_prosody(blank, loaded["prosody", False], KEY, 1.0), loaded["acoustic", False],
                        Controls())).features.energy is None  # fmt: skip


def test_runs_that_do_not_fit_are_refused(store, loaded):
    for has in ("prosody", "acoustic"):
        lacks = {"prosody": "acoustic", "acoustic": "prosody"}[has]
        with pytest.raises(UserError, match=f"{has}True was trained with --energy and .*{lacks}False without"):
            check_runs({has: loaded[has, True], lacks: loaded[lacks, False]})
    with pytest.raises(UserError, match="acousticTrue needs the energy of phonemes"):
        mels_of([replace(store.read([0])[0], energy=None)], loaded["acoustic", True], KEY, 1.0)


def test_the_file_holds_energy_in_decibels(store, tmp_path):
    u, path = store.read([0])[0], tmp_path / "x.json"
    prosody_file.write(path, u, store.inventory, AUDIO)
    np.testing.assert_allclose(prosody_file.read(path, store.inventory, AUDIO).energy, u.energy, atol=1e-3)
    told = json.loads(path.read_text())
    assert told["phonemes"][1]["db"] == pytest.approx(20 * np.log10(np.exp(u.energy[1])), abs=0.01)
    for change, message in (({"db": 999}, "db is 999, outside -200 to 200"), ({"db": None}, "db is None")):
        changed = told | {"phonemes": [told["phonemes"][0] | change, *told["phonemes"][1:]]}
        with pytest.raises(UserError, match=message):
            prosody_file.taken(changed, "x", store.inventory, AUDIO)
    del told["phonemes"][2]["db"]
    with pytest.raises(UserError, match="x: phoneme 3: must have the fields phone, ms, hz, after, db"):
        prosody_file.taken(told, "x", store.inventory, AUDIO)


def test_rows_and_controls_of_energy():
    rng = np.random.default_rng(0)
    oracle, mean, noise = world(rng)
    level = oracle.energy
    loud = replace(oracle, energy=level + 2)
    found = prosody_rows(loud, oracle, IDENTITY)
    assert pick(found, "energy", "rmse")["value"] == pytest.approx(2)
    assert pick(found, "energy", "rmse_db")["value"] == pytest.approx(20)
    assert pick(found, "d_energy", "rmse")["value"] == pytest.approx(0, abs=1e-9)
    assert pick(found, "energy", "std", "class:vowel")["value"] > 0
    for generated, truth in ((replace(oracle, energy=None), oracle), (oracle, replace(oracle, energy=None))):
        assert not [r for r in prosody_rows(generated, truth, IDENTITY) if "energy" in r["feature"].split("_")]
    assert pick(floor_rows(oracle, IDENTITY), "energy", "js")["value"] > 0

    prediction, target = np.column_stack([mean, 0.5 * level]), np.column_stack([mean + noise, level])
    calibration = controls.calibrate(prediction, target, oracle)
    assert calibration.scale[2] == pytest.approx(2)
    sets = dict(controls.controls(oracle, prediction, calibration, to_frames, samples=4))
    assert all(p.energy.shape[-1] == len(level) for p in sets.values())
    np.testing.assert_allclose(sets["control:l2_rescaled"].energy[~oracle.pause].std(), level[~oracle.pause].std())
    for name in ("control:shuffled", "control:other_utterance"):
        assert np.isin(sets[name].energy, level).all() and not np.array_equal(sets[name].energy[0], level)
    two = controls.controls(oracle, mean, controls.calibrate(mean, mean + noise, oracle), to_frames, samples=2)
    assert dict(two)["control:l2+noise"].energy is None


def test_densities_of_other_dimensions_have_other_names(loaded):
    names = [feature_of(loaded[key]) for key in (("prosody", False), ("prosody", True), ("acoustic", True))]
    assert names == ["log_f0+duration", "log_f0+duration+energy", "mel"]
