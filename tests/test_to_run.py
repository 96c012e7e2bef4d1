"""Official checkpoints made into joint runs: dimensions from shapes, settings, symbol tables, files that do not fit."""

import json
import pickle

import numpy as np
import pytest
from joints import ARGS, BINS, random_state, write_checkpoint
from test_torch_file import literal, write_zip

from tts_gen import cli, command, runs
from tts_gen.config import UserError
from tts_gen.convert import dimensions
from tts_gen.convert.symbols import ARPABET, IPA
from tts_gen.convert.to_run import convert


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "G_1.pth", random_state("glow_tts"))


def flat(values: dict, prefix: str = "") -> dict:
    items = [flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v} for k, v in values.items()]
    return {k: v for item in items for k, v in item.items()}


@pytest.mark.parametrize("name", ARGS)
def test_shapes_tell_the_dimensions(name):
    told, published, true = (
        flat(x) for x in (dimensions.of(name, random_state(name), {}), dimensions.PUBLISHED[name], ARGS[name])
    )
    assert {k: v for k, v in true.items() if told.get(k, v) != v} == {}
    assert set(true) <= set(told) | set(published)


@pytest.mark.parametrize("changes", [dict(n_speakers=4, gin_channels=5), dict(window_size=None, prenet=False)])
def test_shapes_tell_what_a_glow_tts_has(changes):
    args = ARGS["glow_tts"] | changes
    told = dimensions.of("glow_tts", random_state("glow_tts", **changes), {})
    assert {k: told[k] for k in changes} == changes and args.items() >= told.items()


@pytest.mark.parametrize("name", ARGS)
def test_a_run_holds_the_checkpoint(name, tmp_path, caplog):
    state = random_state(name)
    path = write_checkpoint(tmp_path / "file", state, name)
    with caplog.at_level("INFO"):
        convert(name, path, tmp_path / "run")
    assert "assumed" in caplog.text and "sample_rate 22050" in caplog.text
    run = runs.load(tmp_path / "run")
    assert run.config.task == "joint" and run.audio.n_mels == BINS
    assert run.label == {"glow_tts": "flow", "grad_tts": "diffusion", "matcha_tts": "flow_matching"}[name]
    embedding = run.variables["params"]["encoder"]["embedding"]["embedding"]
    np.testing.assert_array_equal(embedding, state["encoder.emb.weight"])
    front_end = run.front_end
    table, blank = (IPA, 0) if name == "matcha_tts" else (ARPABET, len(ARPABET))
    assert (front_end.symbols, front_end.blank) == (table, blank)
    assert front_end.speakers == (("0", "1", "2") if name == "grad_tts" else ())
    assert not getattr(run.config.decoder, "reference_masking", False)
    if name == "matcha_tts":
        assert (run.config.mel_mean, run.config.mel_std) == (state["mel_mean"], state["mel_std"])
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == [
        "audio.json", "checkpoints", "config.json", "symbols.json",
    ]  # fmt: skip
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "run"]


def test_a_glow_tts_config_in_its_own_format(tmp_path):
    path = write_checkpoint(tmp_path / "G.pth", random_state("glow_tts", dilation_rate=2, n_vocab=148))
    data = dict(sampling_rate=16000, filter_length=512, hop_length=128, win_length=512, n_mel_channels=BINS,
                mel_fmin=20, mel_fmax=None, training_files="x")  # fmt: skip
    model = {"dilation_rate": 2, "n_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({"train": {"seed": 1}, "data": data, "model": model}))
    convert("glow_tts", path, tmp_path / "run", tmp_path / "config.json")
    run = runs.load(tmp_path / "run")
    audio = run.audio
    assert (audio.sample_rate, audio.n_fft, audio.hop, audio.fmin, audio.fmax) == (16000, 512, 128, 20.0, 8000.0)
    assert run.config.decoder.dilation == 2 and run.front_end.blank is None
    assert run.front_end.kind == "letters"  # its config names no dictionary


def test_a_config_of_arguments(tmp_path, checkpoint):
    for values in ({"args": ARGS["glow_tts"] | {"dilation_rate": 2}}, {"dilation_rate": 2, "n_fft": 2048}):
        (tmp_path / "c.json").write_text(json.dumps(values))
        run = tmp_path / f"run{len(values)}"
        convert("glow_tts", checkpoint, run, tmp_path / "c.json")
        assert runs.load(run).config.decoder.dilation == 2


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"dilation": 2}', r"c\.json: glow_tts has no dilation; valid names are .*dilation_rate"),
        ('{"n_layers_enc": 3}', r"missing: encoder\.encoder\.attn_layers\.2"),
        ('{"filter_channels": 11}', r"of another shape: encoder\.encoder\.ffn_layers\.0\.conv_1\.weight \[10, 8, 3\]"),
        ('{"n_heads": "two"}', r"c\.json: n_heads is 'two', where something like 2 is expected"),
        ('{"n_fft": "long"}', r"c\.json: n_fft: expected int, found 'long'"),
        ('{"win_length": 800}', r"c\.json: win_length is 800, but n_fft 1024"),
        ('{"hop_length": -1}', "audio.hop is -1; give at least 1"),
        ('{"args": [1, 2]}', r"c\.json: args is not an object"),
        ('{"model": 5, "data": {}}', r"c\.json: model is not an object"),
        ("[1]", r"c\.json: expected an object"),
        ("{", r"c\.json: cannot be read as JSON"),
    ],
)
def test_configs_that_do_not_fit(tmp_path, checkpoint, content, message):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UserError, match=message):
        convert("glow_tts", checkpoint, tmp_path / "run", tmp_path / "c.json")
    assert not (tmp_path / "run").exists()


def test_settings_that_no_shape_contradicts(tmp_path):
    path = write_checkpoint(tmp_path / "m.ckpt", random_state("matcha_tts"), "matcha_tts")
    for given, message in (
        ({"encoder": {"encoder_params": {"n_heads": 3}}}, r"c\.json: its settings and tensors do not make a model"),
        ({"encoder": 3}, r"c\.json: encoder is 3, where"),
        ({"decoder": 5}, r"c\.json: holds what is not of its kind"),
        ({"decoder": {"num_heads": 0}}, r"c\.json: holds what is not of its kind"),
    ):
        (tmp_path / "c.json").write_text(json.dumps(given))
        with pytest.raises(UserError, match=message):
            convert("matcha_tts", path, tmp_path / "run", tmp_path / "c.json")
    assert not (tmp_path / "run").exists()


def test_another_symbol_table(tmp_path, caplog):
    path = write_checkpoint(tmp_path / "G.pth", random_state("glow_tts", n_vocab=30))
    convert("glow_tts", path, tmp_path / "cut")
    assert "the embedding has rows for 30 symbols, the published table 148" in caplog.text
    assert runs.load(tmp_path / "cut").front_end.symbols == ARPABET[:30]
    (tmp_path / "table").write_text("_\n \n" + "\n".join("abcdefghijklmnopqrstuvwxyz") + "\n.\n")
    convert("glow_tts", path, tmp_path / "own", symbols_file=tmp_path / "table")
    front_end = runs.load(tmp_path / "own").front_end
    assert (front_end.kind, len(front_end.symbols), front_end.blank) == ("letters", 29, 29)
    assert front_end.encode("I am.").tolist() == [29, 10, 29, 1, 29, 2, 29, 14, 29, 28, 29]
    (tmp_path / "table").write_text("a\nb\n")
    with pytest.raises(UserError, match="table: 2 symbols, but the checkpoint's embedding has rows for 30"):
        convert("glow_tts", path, tmp_path / "none", symbols_file=tmp_path / "table")


def test_tensors_that_do_not_fit(tmp_path):
    state = random_state("glow_tts")
    bent = state | {"encoder.proj_s.bias": np.zeros(3, np.float32), "extra.weight": np.zeros(2, np.float32)}
    del bent["decoder.flows.4.weight"]
    path = write_checkpoint(tmp_path / "bent.pth", bent)
    message = (
        r"bent\.pth.* 1 missing: decoder\.flows\.4\.weight \[4, 4\]; 1 of another shape: "
        r"encoder\.proj_s\.bias \[3\], not \[8\]; 1 surplus: extra\.weight"
    )
    with pytest.raises(UserError, match=message):
        convert("glow_tts", path, tmp_path / "run")
    for name in ("grad_tts", "matcha_tts"):
        with pytest.raises(UserError, match=r"G\.pth: .*(no 'state_dict'|not a)"):
            convert(name, write_checkpoint(tmp_path / "G.pth", state), tmp_path / "run")
    with pytest.raises(UserError, match=r"G\.pth: not a checkpoint of glow_tts: .*encoder\.emb\.weight"):
        convert("glow_tts", write_checkpoint(tmp_path / "G.pth", {"x": np.zeros(1, np.float32)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_checkpoint(tmp_path, checkpoint):
    run = tmp_path / "run"
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:-500])
    attack = b"\x80\x02}" + literal("model") + b"cos\nsystem\n(" + literal(f"touch {tmp_path / 'ran'}") + b"tRs."
    plain = pickle.dumps({"model": {"encoder.emb.weight": 1.5}}, 2)
    for path, message in (
        (tmp_path / "absent.pth", r"absent\.pth: no such checkpoint"),
        (tmp_path / "cut.pth", r"cut\.pth: .*truncated"),
        (write_zip(tmp_path / "attack.pth", attack, {}), r"attack\.pth: asks for os\.system"),
        (write_zip(tmp_path / "plain.pth", plain, {}), r"plain\.pth: .*encoder\.emb\.weight"),
    ):
        with pytest.raises(UserError, match=message):
            convert("glow_tts", path, run)
    assert not run.exists() and not (tmp_path / "ran").exists()


def test_an_existing_run_is_kept(tmp_path, checkpoint):
    run = tmp_path / "run"
    run.mkdir()
    convert("glow_tts", checkpoint, run)  # empty: it may be filled
    before = (run / "config.json").read_bytes()
    with pytest.raises(UserError, match="run exists and is not an empty directory"):
        convert("glow_tts", checkpoint, run)
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize("name, what", [("hifigan", "--vocoder FILE"), ("vits_sdp", "a duration predictor")])
def test_ports_that_make_no_mels(name, what, tmp_path):
    with pytest.raises(UserError, match=f"{name} is .*{what}.*convert check FOLDER"):
        convert(name, tmp_path / "x", tmp_path / "run")


def test_the_command(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tts-gen", "convert", "glow_tts", str(checkpoint), str(tmp_path / "run")])
    assert cli.main() == command.DONE
    assert f"--joint {tmp_path / 'run'}" in capsys.readouterr().out
    assert cli.main() == command.FAILED
    assert "is not an empty directory" in capsys.readouterr().err
