"""Vocos against the reference implementation, exact windows, and checkpoints that do not fit."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from tts_gen import torch_file, vocoders
from tts_gen.config import Audio, UserError
from tts_gen.vocoders.vocos import Vocos
from tts_gen.vocoders.windows import Windowed

GOLDEN = Path(__file__).parent / "golden" / "vocos"
CHECKPOINT = GOLDEN / "pytorch_model.bin"


@pytest.fixture(scope="module")
def vocoder():
    return vocoders.load(str(CHECKPOINT), Audio())


def test_vocos_equals_the_reference(vocoder):
    golden = np.load(GOLDEN / "io.npz")
    wave = vocoder(golden["mel"][0].T)
    assert vocoder.name == "vocos" and np.abs(golden["same"]).max() > 0.1
    np.testing.assert_allclose(wave, golden["same"][0], rtol=0, atol=2e-5)
    # A head that centres its frames gives the same wave, half a hop later and without the ends.
    np.testing.assert_allclose(wave[128:-128], golden["center"][0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("n_frames", [1, 60])
def test_windows_equal_the_whole(vocoder, n_frames):
    mel = np.random.default_rng(n_frames).normal(-5, 2, (n_frames, 80)).astype(np.float32)
    wave = Windowed("vocos", vocoder.network, vocoder.params, Audio(), window=40)(mel)
    whole = jax.jit(vocoder.network.apply)(vocoder.params, mel[None], np.ones((1, n_frames), bool))[0]
    assert wave.shape == (n_frames * 256,)
    np.testing.assert_allclose(wave, whole, rtol=0, atol=2e-6)


def test_reach_is_all_that_matters(vocoder):
    mel, mask = np.random.default_rng(0).normal(-5, 2, (2, 41, 80)).astype(np.float32), np.ones((2, 41), bool)
    mel[1] = mel[0]
    mel[1, 20] += 1
    a, b = np.asarray(jax.jit(vocoder.network.apply)(vocoder.params, mel, mask)).reshape(2, 41, 256)
    reached = np.flatnonzero((a != b).any(1)) - 20
    assert np.abs(reached).max() == vocoder.network.reach
    assert Vocos().reach == 29


@pytest.mark.parametrize(
    "part, changes, message",
    [
        ("feature_extractor", {"mel_scale": "htk"}, "mels of mel_scale htk, but all mels here are of slaney's"),
        ("feature_extractor", {"norm": None}, "mels of norm None"),
        ("feature_extractor", {"f_max": None}, "fmax is 8000.0 in the features but 11025.0"),
        ("backbone", {"dim": 24}, r"backbone.embed.weight has shape \(16, 80, 7\), but Vocos's has \(24, 80, 7\)"),
        ("backbone", {"num_layers": 3}, "backbone.convnext.2.dwconv.weight is missing"),
    ],
)
def test_config_that_does_not_fit(tmp_path, part, changes, message):
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    config[part]["init_args"] |= changes
    shutil.copy(CHECKPOINT, tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=message):
        vocoders.load(str(tmp_path / CHECKPOINT.name), Audio())


def test_config_of_something_else(tmp_path):
    shutil.copy(CHECKPOINT, tmp_path)
    path = str(tmp_path / CHECKPOINT.name)
    with pytest.raises(UserError, match="config.yaml is missing"):
        vocoders.load(path)
    encodec = (GOLDEN / "config.yaml").read_text().replace("MelSpectrogramFeatures", "EncodecFeatures")
    for text, message in [
        ("a: [", "ParserError"),
        ("a: 1", "KeyError: 'feature_extractor'"),
        (encodec, "EncodecFeatures"),
    ]:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            vocoders.load(path)


def test_what_a_trainer_saves(tmp_path, monkeypatch, vocoder):
    """Tensors below state_dict, beside the discriminators', and a config that wraps the model's."""
    state = torch_file.read(CHECKPOINT)
    monkeypatch.setattr(torch_file, "read", lambda path: {"epoch": 3, "state_dict": state | {"melspec_loss.x": state}})
    config = {"trainer": {}, "model": {"init_args": yaml.safe_load((GOLDEN / "config.yaml").read_text())}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "last.ckpt").touch()
    mel = np.random.default_rng(0).normal(-5, 2, (9, 80)).astype(np.float32)
    np.testing.assert_array_equal(vocoders.load(str(tmp_path / "last.ckpt"))(mel), vocoder(mel))
