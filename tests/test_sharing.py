"""Samples of an evaluation: the same on one device and on several, in one process and in two; kept part by part."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import make_store, small_config, small_decoder, write_untrained
from processes import ROOT, finish, joined

from tts_gen import command, doors
from tts_gen.evaluation import stored
from tts_gen.evaluation.generate import make_samples, mel_samples, prosody_samples
from tts_gen.evaluation.split import Split
from tts_gen.runs import load

RUNS = {
    "prosody_diffusion": ("prosody", "diffusion", {"solver": "sde", "solver_steps": 2}),
    "acoustic_l1": ("acoustic", "regression", {"loss": "l1"}),
}
ROUNDING = {"atol": 2e-3, "rtol": 2e-3}
"""of float16 mels, and of convolutions over other numbers of rows"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"), held_out=stored.PART + 4)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, (task, family, changes) in RUNS.items():
        config = replace(small_config(task, family, store.root), decoder=small_decoder(family, **changes))
        write_untrained(config, store, folder / name)
    return [folder / name for name in RUNS]


def samples(out: Path) -> dict[str, dict[str, np.ndarray]]:
    return {str(f.relative_to(out)): stored.read(f) for f in sorted(out.glob("samples/*/*.npz"))}


def test_two_processes_share_the_samples_that_one_makes(runs, store, tmp_path):
    """Two processes of a device each; and this one, of several devices."""
    options = ["--temperatures", "1", "--samples", "2", "--split", "test"]
    assert jax.local_device_count() > 1
    pair = joined([ROOT / "eval.py", *runs, "--out", tmp_path / "two", *options])
    codes, messages = finish(pair)
    assert codes == [0, 0], messages
    assert all(f"process {i} of 2: its samples took" in message for i, message in enumerate(messages))
    assert "evaluated 2 runs" in messages[0] and "evaluated" not in messages[1]
    assert (tmp_path / "two" / "report.html").exists()
    assert doors.evaluate([*map(str, runs), "--out", str(tmp_path / "one"), *options]) == command.DONE
    one, two = (samples(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys() and len(one) == 2 * 2 * len(RUNS)
    for name, arrays in one.items():
        for kind, values in arrays.items():
            np.testing.assert_allclose(two[name][kind], values, err_msg=name, **ROUNDING)


def test_an_interrupted_evaluation_goes_on_with_the_parts_that_are_missing(runs, store, tmp_path):
    run, split = load(runs[0]), Split.read(store, "test")
    first, second = make_samples(run, split, 1.0, 2, 0, tmp_path)
    whole, untouched = prosody_samples(run, split, 1.0, 2, 0, tmp_path), first.stat().st_mtime_ns
    second.unlink()
    np.testing.assert_array_equal(prosody_samples(run, split, 1.0, 2, 0, tmp_path), whole)
    assert first.stat().st_mtime_ns == untouched
    n = sum(e.n_phonemes for e in split.entries)
    assert whole.shape == (2, n, 2)
    other = prosody_samples(run, split, 1.0, 2, 1, tmp_path)
    assert first.stat().st_mtime_ns > untouched, "of another seed"
    assert np.abs(other - whole).max() > 0.1


def test_each_process_makes_its_share_alone(runs, store, tmp_path):
    run, split = load(runs[0]), Split.read(store, "val")
    files = make_samples(run, split, 1.0, 1, 0, tmp_path, process=1, processes=2)
    assert [file.exists() for file in files] == [False, True]
    files = make_samples(run, split, 1.0, 1, 0, tmp_path, process=0, processes=2)
    assert all(file.exists() for file in files)


def test_an_utterance_draws_by_its_place_alone(runs, store, tmp_path):
    """Whatever it is batched with."""
    run, split = load(runs[0]), Split.read(store, "test")
    lengths = [e.n_phonemes for e in split.entries]
    whole = prosody_samples(run, split, 1.0, 1, 0, tmp_path / "whole")
    fewer = prosody_samples(run, split.only(slice(5)), 1.0, 1, 0, tmp_path / "fewer")
    np.testing.assert_allclose(fewer, whole[:, : sum(lengths[:5])], atol=1e-4)


def test_mels_are_read_one_by_one(runs, store, tmp_path):
    run, split = load(runs[1]), Split.read(store, "test")
    mels = mel_samples(run, split, None, 0, tmp_path)
    assert [len(mel) for mel in mels] == [e.n_frames for e in split.entries]
    np.testing.assert_array_equal(mels[len(mels) - 1], list(mels)[-1])
    with pytest.raises(IndexError):
        mels[len(mels)]
