"""Training of vocoders: stretches of recordings, and whole trainings of tiny networks."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from models import AUDIO, make_store, simulated, small_config, sung, write_untrained
from processes import finish, joined

from tts_gen import cli, command, runs, vocoders
from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance
from tts_gen.features.mel import log_mel
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.vocoder_training.segments import SILENCE, Segments
from tts_gen.vocoder_training.train import Settings, starting, train
from tts_gen.vocoders import hifigan

NARROW = 8
GENERATOR = hifigan.Generator(16, (16, 16), (32, 32), (3,), ((1, 3),))
FRAMES = 2
"""512 samples"""
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """Of recordings that are there; the last of val is shorter than a stretch."""
    root, rng, items = tmp_path_factory.mktemp("store"), np.random.default_rng(0), []
    for split, count in (("train", 6), ("val", 3), ("test", 1)):
        for i in range(count):
            record = simulated(3 if (split, i) == ("val", 2) else 9, "ann", rng)
            path = root / f"{split}{i}.wav"
            soundfile.write(path, sung(len(record.mel), rng), AUDIO.sample_rate)
            record = replace(record, mel=log_mel(soundfile.read(path, dtype="float32")[0], AUDIO))
            items.append((Utterance(f"{split}{i}", path, "Text.", "ann", "calm", split), record))
    write_store(root, AUDIO, items)
    return FeatureStore(root)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The file of a generator that was never trained."""
    mel = np.zeros((1, 4, AUDIO.n_mels), np.float32)
    params = GENERATOR.init(KEY, mel, np.ones((1, 4), bool))["params"]
    path = tmp_path_factory.mktemp("start") / "generator.npz"
    hifigan.save(path, GENERATOR, params, AUDIO)
    return path


@pytest.fixture(scope="module")
def run(store, start, tmp_path_factory):
    """Two steps."""
    path = tmp_path_factory.mktemp("run") / "run"
    train(store, path, settings(start, 2))
    return path


def settings(start, steps: int, **changes) -> Settings:
    s = Settings(str(start), batch=4, frames=FRAMES, narrow=NARROW)
    return replace(s, train=replace(s.train, steps=steps, log_every=1, save_every=1), **changes)


# Stretches


def test_stretches_are_functions_of_their_step(store):
    whole = Segments(store, "train", 4, FRAMES, 0)
    for step in (0, 3):
        batch = whole[step]
        parts = [Segments(store, "train", 4, FRAMES, 0, None, i, 2)[step] for i in range(2)]
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([p[name] for p in parts]))
        assert batch["wave"].shape == (4, FRAMES * AUDIO.hop) and batch["mel"].shape == (4, FRAMES, AUDIO.n_mels)
    first = [name for step in range(3) for name in whole.ids(step)]
    assert sorted(first[:6]) == sorted(first[6:]) == [f"train{i}" for i in range(6)] and first[:6] != first[6:]
    assert not np.array_equal(whole[0]["mel"], Segments(store, "train", 4, FRAMES, 1)[0]["mel"])


def test_the_mel_is_of_the_wave(store):
    batch = Segments(store, "train", 6, FRAMES, 0)[0]
    for wave, mel in zip(batch["wave"], batch["mel"]):
        inside = slice(2, -2)  # the stretch's own mel reflects at its ends
        np.testing.assert_allclose(log_mel(wave, AUDIO)[inside], mel[inside], atol=1e-4)


def test_what_is_held_out_is_filled_up(store):
    (batch,) = Segments(store, "val", 4, 12, 0).held_out()
    assert batch["weight"].tolist() == [1, 1, 1, 0] and (batch["mel"][2, -1] == np.float32(SILENCE)).all()
    parts = [next(Segments(store, "val", 4, 12, 0, None, i, 2).held_out()) for i in range(2)]
    for name in batch:
        np.testing.assert_array_equal(batch[name], np.concatenate([p[name] for p in parts]))


def test_a_recording_that_is_gone_is_told_once(store, caplog):
    segments, path = Segments(store, "train", 6, FRAMES, 0), store.root / "train2.wav"
    path.rename(store.root / "away.wav")
    try:
        with caplog.at_level(logging.WARNING, "tts_gen"):
            assert np.isfinite(segments[0]["wave"]).all() and np.isfinite(segments[1]["mel"]).all()
        assert caplog.text.count("train2.wav) is left out: missing audio") == 1
    finally:
        (store.root / "away.wav").rename(path)


# Trainings


def figures(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_stop_changes_nothing(run, store, start, tmp_path):
    train(store, tmp_path / "run", settings(start, 1))
    train(store, tmp_path / "run", settings(start, 2))
    whole, parts = (dict(np.load(of / "generator.npz")) for of in (run, tmp_path / "run"))
    assert whole.keys() == parts.keys() == dict(np.load(start)).keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])
    assert [row["loss"] for row in figures(run)] == [row["loss"] for row in figures(tmp_path / "run")]


def test_the_result_is_a_vocoder(run, store, start):
    assert {"val_loss", "val_discriminators", "val_features", "val_adversarial"} <= figures(run)[-1].keys()
    mel = Segments(store, "val", 1, FRAMES, 0).read(0)[1]
    loaded, before = (vocoders.load(str(path), AUDIO) for path in (run / "generator.npz", start))
    assert loaded.network == GENERATOR and loaded(mel).shape == (len(mel) * AUDIO.hop,)
    assert not np.array_equal(loaded(mel), before(mel))


def test_two_processes_are_one(run, store, start, tmp_path):
    """To the end, where both close what they share; losses and weights differ by rounding alone."""
    sizes = ["--batch", 4, "--frames", FRAMES, "--narrow", NARROW]
    arguments = ["vocoder", "train", store.root, tmp_path / "run", "--from", start, *sizes]
    pair = joined(["-m", "tts_gen.cli", *arguments, "--steps", 2, "--save-every", 1, "--log-every", 1])
    codes, messages = finish(pair)
    assert codes == [0, 0], messages
    of_two, of_one = ([row["loss"] for row in figures(folder)] for folder in (tmp_path / "run", run))
    np.testing.assert_allclose(of_two, of_one, rtol=1e-5)
    two, one = (np.load(folder / "generator.npz") for folder in (tmp_path / "run", run))
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], atol=1e-3)  # Adam's first steps have the gradient's sign


def test_mels_come_nearer(store, start, tmp_path):
    s = settings(start, 15)
    train(store, tmp_path / "run", replace(s, train=replace(s.train, save_every=5, ema=0.8, learning_rate=3e-3)))
    errors = [row["val_loss"] for row in figures(tmp_path / "run") if "val_loss" in row]
    assert errors[-1] < 0.8 * errors[0], errors


def test_models_mels_are_taken(store, start, tmp_path, monkeypatch):
    """From the command."""
    write_untrained(small_config("acoustic", features=store.root), store, tmp_path / "acoustic")
    given = [
        "--from",
        start,
        "--mels",
        tmp_path / "acoustic",
        "--batch",
        4,
        "--frames",
        FRAMES,
        "--steps",
        1,
        "--narrow",
        NARROW,
    ]
    arguments = ["vocoder", "train", store.root, tmp_path / "run", *given]
    monkeypatch.setattr(sys, "argv", ["tts-gen", *map(str, arguments)])
    assert cli.main() == command.DONE
    assert (tmp_path / "run" / "generator.npz").is_file() and list((tmp_path / "run" / "mels" / "val").iterdir())


def test_other_recordings_are_told(store, caplog):
    entries = [e for e in store.index if e.split == "train"]
    mels = [np.full((e.n_frames, AUDIO.n_mels), int(e.id.removeprefix("train")), np.float32) for e in entries]
    segments, path = Segments(store, "train", 6, FRAMES, 0, mels), store.root / "train1.wav"
    assert [f"train{mel.max():.0f}" for mel in segments[0]["mel"]] == segments.ids(0)
    kept = path.read_bytes()
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave / 2, rate)
    try:
        segments[0]
        assert "train1" in caplog.text and "its mel is not the one in the store" in caplog.text
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("name, audio, message", [
    ("v9", Audio(), "--from v9: neither a checkpoint file nor one of hifigan, v1, v2, v3"),
    ("text", Audio(), "text: "), ("cut.npz", Audio(), "cut.npz: cannot be read as .npz"),
    ("other.npz", Audio(), "other.npz: not a HiFi-GAN generator"), ("start", Audio(), "n_mels is 80 .* 8"),
    ("v1", replace(Audio(), hop=300), "--from v1: it makes 256 samples a frame, .* hop is 300"),
])  # fmt: skip
def test_what_cannot_be_started_from(name, audio, message, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "cut.npz").write_bytes(start.read_bytes()[:500])
    np.savez("other.npz", a=np.ones(3))
    with pytest.raises(UserError, match=message):
        starting(str(start) if name == "start" else name, audio)


def test_nothing_is_made_of_a_wrong_start(store, tmp_path):
    with pytest.raises(UserError, match="v9"):
        train(store, tmp_path / "run", settings("v9", 1))
    assert not (tmp_path / "run").exists()


def test_mels_are_of_a_fitting_acoustic_run(store, start, tmp_path):
    other = make_store(tmp_path / "other")
    for name, of in (("prosody", store), ("acoustic", other)):
        write_untrained(small_config(name, features=of.root), of, tmp_path / name)
    for name, message in (("prosody", "is a prosody run; give an acoustic one"), ("acoustic", "has other phonemes")):
        with pytest.raises(UserError, match=message):
            train(store, tmp_path / "run", settings(start, 1, mels=str(tmp_path / name)))
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(store, start, run, tmp_path):
    write_untrained(small_config("acoustic", features=store.root), store, tmp_path / "acoustic")
    with pytest.raises(UserError, match="holds something else"):
        train(store, tmp_path / "acoustic", settings(start, 1))
    with pytest.raises(UserError, match="holds a vocoder: give it as --vocoder .*generator.npz"):
        runs.load(run)


def test_samples_are_of_what_can_be_read(store, tmp_path):
    segments, path = Segments(store, "val", 1, FRAMES, 0), store.root / "val0.wav"
    path.rename(store.root / "away.wav")
    try:
        assert [name for name, _ in segments.whole()] == ["val1", "val2"]
    finally:
        (store.root / "away.wav").rename(path)


@pytest.mark.parametrize("name", ["hifigan/g_00000001", "hifigan_v3/g_v3"])
def test_what_is_saved_is_what_was_read(name, tmp_path):
    before = hifigan.load(Path(__file__).parent / "golden" / name)
    hifigan.save(tmp_path / "generator.npz", before.network, before.params["params"], before.audio)
    after = vocoders.load(str(tmp_path / "generator.npz"))
    assert after.network == before.network and after.audio == before.audio
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)


def test_other_settings_and_corpora_do_not_go_on(run, store, start, tmp_path):
    with pytest.raises(UserError, match="batch changed from 4 to 8 since"):
        train(store, run, settings(start, 3, batch=8))
    with pytest.raises(UserError, match="the corpus changed since"):
        train(make_store(tmp_path / "other"), run, settings(start, 3))
