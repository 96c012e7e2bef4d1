"""Run directories through train.py: signals, resumption, what may and may not change, and loading."""

import json
import os
import signal
import subprocess
import sys
import time
import typing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import (
    AUDIO,
    losses,
    make_store,
    small_config,
    small_decoder,
    with_train,
    write_config,
    write_untrained,
    xla_flags,
)

from tts_gen import command, doors, fit, runs
from tts_gen.batches import TrainingBatches, validation_batches
from tts_gen.config import Config, UserError
from tts_gen.features.store import FeatureStore

ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def config(store):
    return small_config(features=store.root)


@pytest.fixture(scope="module")
def config_file(store, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config") / "prosody.py", features=store.root)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("trained")
    fit.train(config, run)
    return run


def start(config_file: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """train.py with the settings of conftest."""
    command = [sys.executable, ROOT / "train.py", config_file, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def saved(run: Path) -> list[int]:
    return [int(f.name) for f in (run / "checkpoints").glob("*") if f.name.isdigit()]


def ema(run: Path) -> list[np.ndarray]:
    return jax.tree.leaves(runs.load(run).variables)


def test_a_killed_and_a_stopped_process_go_on_exactly(config, config_file, tmp_path):
    """SIGKILL, then SIGTERM, then to the end: the same losses and parameters as without an interruption."""
    run, reference = tmp_path / "run", tmp_path / "reference"
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = max(saved(run), default=0)
        process = start(config_file, "--workdir", run, "--train.steps", "1000000")
        wait_for(lambda: any(step > before + 5 for step in saved(run)), process)  # noqa: B023
        process.send_signal(number)
        _, message = process.communicate()
    assert process.returncode == 75, message
    assert f"is saved in {run}" in message and "SIGTERM" in message
    longer = with_train(config, steps=max(saved(run)) + 5, save_every=1000)
    fit.train(longer, run)
    fit.train(longer, reference)
    assert losses(run) == losses(reference) and max(losses(run)) == longer.train.steps
    for a, b in zip(ema(run), ema(reference), strict=True):
        np.testing.assert_array_equal(a, b)


def test_four_devices_give_the_losses_of_one(trained, config_file, tmp_path):
    """This process, which may have either number, against one that has the other."""
    count = 1 if jax.device_count() == 4 else 4
    process = start(config_file, "--workdir", tmp_path, "--train.steps", "5", XLA_FLAGS=xla_flags(count))
    _, message = process.communicate()
    assert process.returncode == 0, message
    assert f"{8 // count} per device on {count} device(s)" in message
    here, there = losses(trained), losses(tmp_path)
    np.testing.assert_allclose([there[s] for s in range(1, 6)], [here[s] for s in range(1, 6)], rtol=1e-5)
    assert runs.load(tmp_path).step == 5  # and its checkpoint opens on another number of devices


def test_unknown_options_are_refused_with_the_right_ones(config_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        doors.train([str(config_file), "--workdir", str(tmp_path), "--train.stepz", "5"])
    message = capsys.readouterr().err
    assert end.value.code == 2 and "--train.stepz" in message and "--train.steps" in message
    assert not list(tmp_path.iterdir())


def test_a_changed_model_is_not_resumed(config, trained):
    wider = replace(config, encoder=replace(config.encoder, width=24))
    with pytest.raises(UserError, match=r"config.json: encoder.width is 16 in this run but 24 now"):
        fit.train(wider, trained)
    with pytest.raises(UserError, match="decoder.family is regression in this run but flow now"):
        fit.train(replace(config, decoder=small_decoder("flow")), trained)
    with pytest.raises(UserError, match="train.learning_rate is 0.01 in this run but 0.1 now"):
        fit.train(with_train(config, learning_rate=0.1), trained)


def test_a_workdir_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--workdir {tmp_path}/file cannot be written: .*; give a folder that can"):
        fit.train(config, tmp_path / "file")


def test_more_steps_may_be_asked_for(config, tmp_path):
    fit.train(with_train(config, steps=2), tmp_path)
    fit.train(with_train(config, steps=4, log_every=2, save_every=1), tmp_path)
    assert max(saved(tmp_path)) == 4 and list(losses(tmp_path)) == [1, 2, 3, 4]


def test_other_features_are_refused(config, trained, tmp_path):
    other = make_store(tmp_path, audio=replace(AUDIO, fmax=7000.0))
    with pytest.raises(UserError, match=f"fmax is 7000.0 in {tmp_path} but 8000.0 in {trained}"):
        fit.train(replace(config, data=replace(config.data, features=str(other.root))), trained)
    one_voice = json.loads((tmp_path / "inventory.json").read_text()) | {"speakers": ["unknown", "zoe"]}
    (tmp_path / "audio.json").write_text((trained / "audio.json").read_text())
    (tmp_path / "inventory.json").write_text(json.dumps(one_voice))
    with pytest.raises(UserError):
        fit.train(replace(config, data=replace(config.data, features=str(other.root))), trained)


def test_a_misspelt_key_in_a_runs_config(trained, tmp_path):
    values = json.loads((trained / "config.json").read_text())
    for at, message in ((values["train"], "Train has no stepz; valid names are steps"),
                        (values["decoder"], "Regression has no stepz; valid names are loss, width")):  # fmt: skip
        at["stepz"] = 1
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(UserError, match=message):
            runs.load(tmp_path)
        del at["stepz"]
    values["decoder"]["family"] = "gan"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="decoder.family 'gan' is not one of regression, flow, diffusion"):
        runs.load(tmp_path)


def test_loading_what_is_no_run(tmp_path, trained):
    with pytest.raises(UserError, match=rf"{tmp_path} is not a run directory \(config.json is missing\)"):
        runs.load(tmp_path)
    for name in ("config", "audio", "stats", "inventory"):
        (tmp_path / f"{name}.json").write_text((trained / f"{name}.json").read_text())
    with pytest.raises(UserError, match=f"{tmp_path} holds no checkpoint"):
        runs.load(tmp_path)


@pytest.mark.parametrize("change", [lambda p: {"dense": p}, lambda p: jax.tree.map(lambda x: x[:-1], p)])
def test_parameters_of_another_version_are_told(trained, change, capsys):
    loaded = runs.load(trained)
    decoder = change(loaded.variables["params"]["decoder"])
    other = {"params": loaded.variables["params"] | {"decoder": decoder}}
    batch = TrainingBatches(FeatureStore(loaded.config.data.features), loaded.config)[0]
    assert command.guarded(lambda _: loaded.sample(other, batch, KEY, 1.0))(()) == command.FAILED
    assert "error: a run is of another version of tts_gen" in capsys.readouterr().err


def test_configs_survive_json(config):
    for family in runs.DECODERS:
        c = small_config("acoustic", family)
        assert runs.config_from_dict(json.loads(json.dumps(runs.config_to_dict(c))), "w") == c


def test_a_loaded_run_is_what_was_trained(config, trained, store):
    run = runs.load(trained)
    assert run.config == config and run.audio == AUDIO and run.inventory == store.inventory
    assert run.label == "l2" and run.step in (5, 10) and not (trained / "checkpoints/3").exists()
    np.testing.assert_array_equal(run.stats.mel_mean, store.stats.mel_mean)
    assert run.parameters["encoder"] + run.parameters["decoder"] == sum(x.size for x in ema(trained))
    with pytest.raises(UserError, match="Regression has no solver; valid names are loss, width"):
        runs.load(trained, {"solver": "sde"})


def test_a_run_trains_towards_what_was_planted(config, store, tmp_path):
    """Of the simulated phones AH is high and IY low in pitch, and M is long."""
    fit.train(with_train(config, steps=150, save_every=150, log_every=50, warmup=20), tmp_path)
    run = runs.load(tmp_path)
    found = []
    for batch in validation_batches(store, config, "test"):
        sample = run.sample(run.variables, batch, KEY, 1.0)
        valid = np.arange(batch["phoneme"].shape[1]) < batch["length"][:, None]
        found += zip(batch["phoneme"][valid], np.asarray(sample)[valid], strict=True)
    of = {s: np.array([y for p, y in found if store.inventory.phonemes[p] == s]) for s in ("AH", "IY", "M")}
    assert (of["AH"][:, 0].mean() - of["IY"][:, 0].mean()) > 1.0  # planted: 0.4 of a standard deviation of about 0.2
    assert of["M"][:, 1].mean() - of["AH"][:, 1].mean() > 0.8


def test_a_diffusion_run_is_sampled_with_any_solver(store, tmp_path):
    config = small_config("prosody", "diffusion", store.root)
    batch = TrainingBatches(store, config)[0]
    write_untrained(config, store, tmp_path)
    chosen = runs.load(tmp_path, {"solver": "euler", "solver_steps": 2})
    assert (chosen.config.decoder.solver, chosen.config.decoder.solver_steps, chosen.label) == ("euler", 2, "diffusion")
    samples = [chosen.sample(chosen.variables, batch, KEY, t) for t in (0.0, 1.0)]
    assert np.isfinite(samples).all() and not np.array_equal(*samples)
    assert chosen.sample._cache_size() == 1  # temperature compiles nothing anew
    with pytest.raises(UserError, match=r"\(diffusion\) with solver rk45: decoder: solver: 'rk45' is not one of eu"):
        runs.load(tmp_path, {"solver": "rk45"})


def test_the_command_takes_the_solvers_of_all_families():
    hints = [typing.get_type_hints(cls).get("solver") for cls in runs.DECODERS.values()]
    assert set(command.SOLVERS) == {solver for hint in hints if hint for solver in typing.get_args(hint)}


def test_a_decoder_of_no_family_is_refused():
    with pytest.raises(UserError, match="Decoder is no family; give settings of regression, flow, diffusion"):
        runs.config_to_dict(Config())


@pytest.mark.parametrize("temperature", [-0.5, np.inf, np.nan])
def test_temperatures_that_mean_nothing_are_refused(temperature):
    with pytest.raises(UserError, match=r"temperature .*: give 0 \(no noise\), 1"):
        runs.check_temperature(temperature)
