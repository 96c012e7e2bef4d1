"""Exported models, reloaded by a process that has neither this package nor flax, give what the originals give."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import flatbuffers
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import UNVOICED, VOICED, small_config, small_decoder, write_untrained

from tts_gen import cli, runs, text, vocoders
from tts_gen.batches import acoustic_batch, prosody_batch, whole
from tts_gen.config import UserError
from tts_gen.draws import Rows
from tts_gen.export import load, write
from tts_gen.features.durations import whole_frames
from tts_gen.features.store import Features

MODELS = {
    "regression": ("acoustic", {"loss": "mdn"}),
    "flow": ("acoustic", {}),
    "diffusion": ("prosody", {}),
    "flow_matching": ("prosody", {}),
}
ENERGY = ("flow", "flow_matching")
"""those with energy"""
POSITIONS = ("regression", "flow_matching")
"""those that are told where phonemes stand"""
GOLDEN = Path(__file__).parent / "golden"
VOCODERS = {"hifigan": GOLDEN / "hifigan" / "g_00000001", "vocos": GOLDEN / "vocos" / "pytorch_model.bin"}
SEED, TEMPERATURE = 3, 0.7
OTHER_PROCESS = """
import importlib.util, json, sys
import numpy as np
sys.modules["flax"] = None  # whoever imports it fails
assert importlib.util.find_spec("tts_gen") is None
folder, asked, out = sys.argv[1:]
sys.path.insert(0, folder)
from load import load
assert importlib.util.find_spec("load").origin.startswith(folder)
asked, found = json.load(open(asked)), {}
for path, calls in asked.items():
    model = load(path)
    for i, arguments in enumerate(calls):
        result = model(**arguments)
        found |= {f"{path} {i} {k}": v for k, v in (result if isinstance(result, dict) else {"out": result}).items()}
np.savez(out, **found)
"""


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    """Family -> its run and the folder that the command made of it."""
    made, folder = {}, tmp_path_factory.mktemp("exported")
    for family, (task, changes) in MODELS.items():
        config = replace(small_config(task, family, store.root), decoder=small_decoder(family, **changes))
        encoder = replace(config.encoder, positions=family in POSITIONS)
        config = replace(config, energy=family in ENERGY, encoder=encoder)
        write_untrained(config, store, folder / f"run_{family}")
        assert command("export", folder / f"run_{family}", folder / family) == 0
        made[family] = runs.load(folder / f"run_{family}"), folder / family
    return made


def command(*arguments) -> int:
    before, sys.argv = sys.argv, ["tts-gen", *map(str, arguments)]
    try:
        return cli.main()
    finally:
        sys.argv = before


def sentence(words: int, store) -> tuple[list[str], Features]:
    """Phones in a manifest's notation, and with drawn prosody."""
    rng = np.random.default_rng(words)
    symbols = ["pau"]
    for _ in range(words):
        symbols += [f"AH{rng.integers(3)}", *rng.choice([*VOICED[2:], *UNVOICED], 2), rng.choice(["|", ",", "?"])]
    encoded = store.inventory.encode(text.parse([*symbols, "pau"]))
    voiced = store.inventory.phone_voiced(encoded["phoneme"])
    duration = rng.integers(4, 12, len(voiced)).astype(np.int32)
    log_f0 = np.where(voiced, rng.normal(5, 0.3, len(voiced)), np.nan).astype(np.float32)
    mel, energy = np.zeros((duration.sum(), len(store.stats.mel_mean)), np.float32), rng.normal(-1, 2, len(voiced))
    speaker = store.inventory.speaker_id("bob")
    return [*symbols, "pau"], Features(**encoded, duration=duration, log_f0=log_f0, voiced=voiced, mel=mel,
                                       speaker=speaker, style=0, energy=energy.astype(np.float32))  # fmt: skip


def originals(run, utterances: list[Features]) -> np.ndarray:
    """The run's samples [B, L, C], in normalised units, each as the first row of a batch draws it."""
    n, t = (-(-max(x) // 4) * 4 for x in zip(*((len(u.phoneme), len(u.mel)) for u in utterances)))
    if run.config.task == "prosody":
        batch = prosody_batch(utterances, run.stats, n)
    else:
        batch = acoustic_batch([whole(u, run.stats) for u in utterances], run.stats, n, t)
    rng = Rows(jax.random.key(SEED), np.zeros(len(utterances), np.int32), 1)
    return np.asarray(run.sample(run.variables, batch, rng, TEMPERATURE))


def elsewhere(folder: Path, asked: dict[Path, list[dict]], tmp_path: Path) -> dict[str, np.ndarray]:
    """What the models of folders answer to calls, in a process without this package."""
    (tmp_path / "asked.json").write_text(json.dumps({str(path): calls for path, calls in asked.items()}))
    packages = {str(Path(module.__file__).parents[1]) for module in (jax, flatbuffers)}
    arguments = [sys.executable, "-S", "-c", OTHER_PROCESS, folder, tmp_path / "asked.json", tmp_path / "found.npz"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages)}
    subprocess.run(list(map(str, arguments)), check=True, env=environment, cwd=tmp_path)
    return dict(np.load(tmp_path / "found.npz"))


def test_exported_models_equal_the_originals_elsewhere(exported, store, tmp_path):
    sentences = [sentence(words, store) for words in (3, 9)]
    asked = {}
    for name, checkpoint in VOCODERS.items():
        assert command("export", checkpoint, tmp_path / name) == 0
        asked[tmp_path / name] = [{"mel": np.load(checkpoint.parent / "io.npz")["mel"][0].T.tolist()}]
    for run, folder in exported.values():
        common = {"speaker": "bob", "seed": SEED, "temperature": TEMPERATURE}
        prosody = [{"log_f0": u.log_f0.tolist(), "duration": u.duration.tolist()} for _, u in sentences]
        if run.config.energy:
            prosody = [p | {"energy": u.energy.tolist()} for p, (_, u) in zip(prosody, sentences, strict=True)]
        given = prosody if run.config.task == "acoustic" else [{}, {}]
        asked[folder] = [{"phonemes": symbols, **p, **common} for (symbols, _), p in zip(sentences, given, strict=True)]
    found = elsewhere(tmp_path / "vocos", asked, tmp_path)
    for name, checkpoint in VOCODERS.items():
        golden = np.load(checkpoint.parent / "io.npz")
        wave = golden["wav"][0, 0] if name == "hifigan" else golden["same"][0]
        np.testing.assert_allclose(found[f"{tmp_path / name} 0 out"], wave, rtol=0, atol=5e-5)
    for run, folder in exported.values():
        samples, stats = originals(run, [u for _, u in sentences]), run.stats
        for i, (_, u) in enumerate(sentences):
            if run.config.task == "acoustic":
                mel = stats.denormalise_mel(samples[i, : len(u.mel)])
                np.testing.assert_allclose(found[f"{folder} {i} out"], mel, rtol=1e-6, atol=1e-4)
                continue
            y = samples[i, : len(u.phoneme)].astype(np.float64)
            log_f0 = np.where(u.voiced, stats.denormalise_log_f0(y[:, 0], np.asarray(u.speaker)), np.nan)
            np.testing.assert_allclose(found[f"{folder} {i} log_f0"], log_f0, rtol=0, atol=1e-4)
            duration = whole_frames(stats.denormalise_log_duration(y[:, 1]))
            np.testing.assert_array_equal(found[f"{folder} {i} duration"], duration)
            assert (f"{folder} {i} energy" in found) == run.config.energy
            if run.config.energy:
                energy = stats.denormalise_energy(y[:, 2])
                np.testing.assert_allclose(found[f"{folder} {i} energy"], energy, rtol=0, atol=1e-4)


def test_batches_seeds_and_temperatures(exported, store):
    run, folder = exported["diffusion"]
    model, (_, u) = load.load(folder), sentence(3, store)
    assert model.about["decoder"]["solver_steps"] == run.config.decoder.solver_steps
    y, expected = sampled(model, run, prosody_batch([u] * 3, run.stats, 16), 1.0)
    n = len(u.phoneme)
    np.testing.assert_allclose(y[:, :n], expected[:, :n], rtol=0, atol=1e-4)
    assert np.ptp(y[:, :n], 0).max() > 0.1  # rows draw for themselves
    still, _ = sampled(model, run, prosody_batch([u] * 3, run.stats, 16), 0.0)
    assert np.ptp(still[:, :n], 0).max() < 1e-4
    other, _ = sampled(model, run, prosody_batch([u] * 3, run.stats, 16), 1.0, SEED + 1)
    assert np.abs(other[:, :n] - y[:, :n]).max() > 0.1


def test_other_lengths(exported, store):
    run, folder = exported["regression"]
    _, u = sentence(2, store)
    batch = acoustic_batch([whole(u, run.stats)] * 2, run.stats, 9, -(-len(u.mel) // 4) * 4)
    y, expected = sampled(load.load(folder), run, batch, TEMPERATURE)
    np.testing.assert_allclose(y[:, : len(u.mel)], expected[:, : len(u.mel)], rtol=0, atol=1e-4)


def sampled(model, run, batch, temperature: float, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """By the artefact and by the run."""
    unread = {"prosody": ("log_f0", "log_f0_std", "voiced", "duration", "energy"), "acoustic": ("mel", "energy")}
    unread = (*unread[run.config.task], *([] if run.config.encoder.positions else ["places"]))
    inputs = {name: value for name, value in batch.items() if name not in unread}
    y = model.sample(inputs, np.uint32(seed), np.float32(temperature))
    return y, run.sample(run.variables, batch, jax.random.key(seed), temperature)


@given(st.lists(st.floats(-5, 8), min_size=1, max_size=40))
def test_durations_are_rounded_as_in_synthesis(log_frames):
    frames = np.exp(np.clip(log_frames, np.log(1e-3), np.log(load.LONGEST)))
    np.testing.assert_array_equal(load.whole(frames), whole_frames(np.array(log_frames)))


def test_phonemes_are_read_as_in_manifests(exported):
    run, folder = exported["diffusion"]
    model = load.Speech.__new__(load.Speech)
    model.about = json.loads((folder / "model.json").read_text())
    for symbols in ("pau AH0 M | S ˈIY ? pau", "AH2 IY1 , T pau pau", "M ; ˌAH"):
        encoded = run.inventory.encode(text.parse(symbols.split()))
        np.testing.assert_array_equal(np.array(model._parse(symbols.split())).T, list(encoded.values()))


def test_wrong_inputs(exported, store):
    model, (symbols, u) = load.load(exported["flow"][1]), sentence(3, store)
    prosody = {"log_f0": u.log_f0, "duration": u.duration, "energy": u.energy}
    for changes, message in [
        ({"phonemes": "pau ZZ pau"}, "'ZZ' is none of the model's phonemes: pau, "),
        ({"phonemes": "pau pau"}, "no phone in 'pau pau'"),
        ({"speaker": "eve"}, "'eve' is none of the model's speakers: unknown, ann, bob"),
        ({"speaker": None}, "name a speaker of unknown, ann, bob"),
        ({"temperature": -1}, "temperature -1"),
        ({"duration": u.duration[:-1]}, f"the text has {len(u.phoneme)} phonemes"),
        ({"duration": u.duration * 0}, "at least 1 frame"),
        ({"energy": None}, f"the model needs the energy of {len(u.phoneme)} phonemes"),
        ({"energy": u.energy[:-1]}, f"the model needs the energy of {len(u.phoneme)} phonemes"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(**{"phonemes": symbols, "speaker": "ann", **prosody} | changes)


def test_what_cannot_be_exported(exported, tmp_path, capsys):
    run, folder = exported["regression"]
    assert command("export", run.path, folder) == 1 and f"{folder} exists" in capsys.readouterr().err
    assert command("export", tmp_path / "no", tmp_path / "out") == 1 and "not a run" in capsys.readouterr().err
    assert command("export", run.path, tmp_path / "out", "--solver", "sde") == 1  # a regression has none
    with pytest.raises(UserError, match="griffin_lim has no parameters"):
        write.export_vocoder(vocoders.load("griffin_lim"), tmp_path / "out")
    with pytest.raises(UserError, match="joint run"):
        write.export_run(runs.JointRun(tmp_path, None, None, None, None, {}, 0), tmp_path / "out")
    assert not list(tmp_path.iterdir())
