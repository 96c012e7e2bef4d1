"""ONNX models: what they give in a process that has neither JAX nor this package; what is refused."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import small_config, small_decoder, write_untrained
from test_export import SEED, TEMPERATURE, VOCODERS, command, sentence

from tts_gen import draws, runs
from tts_gen.batches import acoustic_batch, prosody_batch, whole
from tts_gen.config import UserError
from tts_gen.export import load, onnx_check
from tts_gen.features.durations import whole_frames

PACKAGES = ("jax2onnx", "onnxruntime")
installed = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="jax2onnx and onnxruntime (extra onnx) are not installed"
)
MODELS = {
    "l2": ("prosody", "regression", {}),
    "mdn": ("acoustic", "regression", {"loss": "mdn"}),
    "flow": ("prosody", "flow", {}),
    "sde": ("prosody", "diffusion", {"solver": "sde", "solver_steps": 3}),
    "flow_matching": ("acoustic", "flow_matching", {}),
}
OTHER_PROCESS = """
import importlib.util, json, sys
import numpy as np
sys.modules["jax"] = sys.modules["flatbuffers"] = None  # whoever imports them fails
assert importlib.util.find_spec("tts_gen") is None
folder, asked, out = sys.argv[1:]
sys.path.insert(0, folder)
from load import load
found = {}
for path, arguments in json.load(open(asked)).items():
    result = load(path)(**arguments)
    found |= {f"{path} {k}": v for k, v in (result if isinstance(result, dict) else {"out": result}).items()}
np.savez(out, **found)
"""


@pytest.fixture(scope="module")
def made(store, tmp_path_factory):
    """Name -> run."""
    root = tmp_path_factory.mktemp("runs")
    for name, (task, family, changes) in MODELS.items():
        config = replace(small_config(task, family, store.root), decoder=small_decoder(family, **changes))
        write_untrained(config, store, root / name)
    return {name: runs.load(root / name) for name in MODELS}


def batch_of(run, utterance) -> dict[str, np.ndarray]:
    """As `load` pads it."""
    if run.config.task == "prosody":
        return prosody_batch([utterance], run.stats, load.SHORTEST_TEXT)
    return acoustic_batch([whole(utterance, run.stats)], run.stats, load.SHORTEST_TEXT, load.SHORTEST_MEL)


def with_noise(run, batch, sources) -> np.ndarray:
    """The original's sample of one row, with the noise that `load` draws for it."""
    read = {name: value for name, value in batch.items() if name in ("phoneme", "frame_phoneme")}
    arrays = [jax.numpy.asarray(array) for array in load.noise(sources, read, SEED).values()]

    def source(kind, path, shape):
        array = arrays[path[0] if path else 0]
        return (array[path[1]] if len(path) > 1 else array).reshape(shape)

    sample = jax.jit(lambda b: run.task.apply(run.variables, b, draws.Given(source), TEMPERATURE, method="sample"))
    return np.asarray(sample(batch))[0]


@pytest.mark.parametrize("name", ["mdn", "flow", "sde"])
def test_given_noise_is_that_of_the_key(made, store, name):
    run, key = made[name], jax.random.key(SEED)
    batch = batch_of(run, sentence(3, store)[1])

    def source(kind, path, shape):
        """What the key of this path draws: the first number is a place in a split into two, the others are folded."""
        rng = key
        for depth, part in enumerate(path):
            rng = draws.fold_in(rng, part) if depth else draws.split(rng, 2)[part]
        return getattr(draws, kind)(rng, shape)

    found = jax.jit(lambda b: run.task.apply(run.variables, b, draws.Given(source), TEMPERATURE, method="sample"))(
        batch
    )
    np.testing.assert_allclose(found, run.sample(run.variables, batch, key, TEMPERATURE), rtol=0, atol=1e-5)


def test_noise_of_a_position_does_not_depend_on_the_length():
    sources = [
        {"kind": "normal", "steps": 3, "merged": 2, "width": 5},
        {"kind": "gumbel", "steps": 0, "merged": 2, "width": 1},
    ]
    short, long = (load.noise(sources, {"phoneme": np.zeros((2, n))}, SEED) for n in (6, 16))
    assert short["noise_0"].shape == (3, 2, 3, 2, 5) and long["noise_1"].shape == (2, 8, 2, 1)
    for name in short:
        np.testing.assert_array_equal(short[name], long[name][..., :3, :, :])
    flat = long["noise_0"].reshape(6, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(6)).max() < 0.5  # steps and rows draw for themselves
    other = load.noise(sources, {"phoneme": np.zeros((2, 6))}, SEED + 1)
    assert not np.any(other["noise_0"] == short["noise_0"])


@installed
def test_models_elsewhere(made, store, tmp_path, capsys):
    symbols, u = sentence(5, store)
    assert command("export", VOCODERS["hifigan"], tmp_path / "hifigan", "--onnx") == 0
    golden = np.load(VOCODERS["hifigan"].parent / "io.npz")
    asked = {str(tmp_path / "hifigan"): {"mel": golden["mel"][0].T.tolist()}}
    for name, run in made.items():
        assert command("export", run.path, tmp_path / name, "--onnx") == 0
        assert f"{tmp_path / name / 'model.onnx'}: at most " in capsys.readouterr().out
        given = {"phonemes": symbols, "speaker": "bob", "seed": SEED, "temperature": TEMPERATURE}
        prosody = {"log_f0": u.log_f0.tolist(), "duration": u.duration.tolist()}
        asked[str(tmp_path / name)] = given | (prosody if run.config.task == "acoustic" else {})
    found = elsewhere(asked, tmp_path)
    np.testing.assert_allclose(found[f"{tmp_path / 'hifigan'} out"], golden["wav"][0, 0], rtol=0, atol=5e-5)
    for name, run in made.items():
        about = json.loads((tmp_path / name / "model.json").read_text())
        assert about["largest_difference"] <= onnx_check.TOLERANCE
        y, stats = with_noise(run, batch_of(run, u), about["noise"]), run.stats
        if run.config.task == "acoustic":
            mel = stats.denormalise_mel(y[: len(u.mel)])
            np.testing.assert_allclose(found[f"{tmp_path / name} out"], mel, rtol=1e-6, atol=1e-4)
            continue
        y = y[: len(u.phoneme)].astype(np.float64)
        log_f0 = np.where(u.voiced, stats.denormalise_log_f0(y[:, 0], np.asarray(u.speaker)), np.nan)
        np.testing.assert_allclose(found[f"{tmp_path / name} log_f0"], log_f0, rtol=0, atol=1e-4)
        duration = whole_frames(stats.denormalise_log_duration(y[:, 1]))
        np.testing.assert_array_equal(found[f"{tmp_path / name} duration"], duration)


def elsewhere(asked: dict[str, dict], tmp_path: Path) -> dict[str, np.ndarray]:
    """What the models of folders answer to one call each, where there is neither jax nor this package."""
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    packages = {str(Path(importlib.util.find_spec(name).origin).parents[1]) for name in ("numpy", "onnxruntime")}
    arguments = [sys.executable, "-S", "-c", OTHER_PROCESS, next(iter(asked)), tmp_path / "asked.json"]
    subprocess.run(
        [*map(str, arguments), str(tmp_path / "found.npz")],
        check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(packages)}, cwd=tmp_path,
    )  # fmt: skip
    return dict(np.load(tmp_path / "found.npz"))


@installed
def test_what_jax2onnx_cannot_convert_is_named(store, tmp_path, capsys):
    cumsum = jax.numpy.cumsum
    decoder = small_decoder("flow", conditioner="dds")
    write_untrained(replace(small_config("prosody", "flow", store.root), decoder=decoder), store, tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "out", "--onnx") == 1
    assert "cannot convert the primitive pad" in capsys.readouterr().err
    assert command("export", VOCODERS["vocos"], tmp_path / "out", "--onnx") == 1
    assert "cannot convert the primitive fft" in capsys.readouterr().err
    assert jax.numpy.cumsum is cumsum
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_the_packages(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command("export", made["l2"].path, tmp_path / "out", "--onnx") == 1
    assert "pip install --no-deps jax2onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_that_differs_is_refused():
    examples = [(np.ones(3),), (np.full(3, 10.0),)]
    assert onnx_check.check(lambda x: x, lambda x: x + 1e-5, examples) == pytest.approx(1e-5, rel=1e-2)
    for wrong in (1.001, np.nan):
        with pytest.raises(UserError, match="differs from the original"):
            onnx_check.check(lambda x: x * np.float64(wrong), lambda x: x, examples)  # noqa: B023
