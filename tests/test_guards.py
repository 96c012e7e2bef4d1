"""What must not be lost or mixed: checkpoints of other runs, damaged files, a full disk, options that differ."""

import json
import logging
import shutil
import types

import numpy as np
import pytest
from models import make_store, small_config, with_train

from tts_gen import fit, parallel, runs, writer
from tts_gen.checkpoint import Checkpoints, folder_of
from tts_gen.config import Data, Train, UserError, read_config_file
from tts_gen.features.files import locked
from tts_gen.writer import Writer, read_lines


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("store"))
    return small_config(features=store.root, buckets=(16,), save_every=2, steps=4, keep_latest=9)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    fit.train(config, run)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def test_checkpoints_of_another_run_are_not_gone_on_from(config, trained, tmp_path):
    theirs = with_train(config, checkpoints=str(trained / "checkpoints"), seed=5, steps=6)
    with pytest.raises(UserError, match="holds checkpoints 2, 4, which are not of .*mine"):
        fit.train(theirs, tmp_path / "mine")


def test_a_run_does_not_start_over_elsewhere(config, run, tmp_path):
    before = (run / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match="train.checkpoints is  in this run but .*elsewhere now"):
        fit.train(with_train(config, checkpoints=str(tmp_path / "elsewhere"), steps=6), run)
    assert (run / "metrics.jsonl").read_text() == before


def test_checkpoints_elsewhere_are_found_again(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = with_train(config, checkpoints="there/ck")
    fit.train(there, tmp_path / "run")
    fit.train(with_train(there, steps=6), tmp_path / "run")
    assert (tmp_path / "there/ck/6").is_dir() and not (tmp_path / "run/checkpoints").exists()
    assert runs.load(tmp_path / "run").step in (2, 4, 6)
    assert str(folder_of("r", "gs://b/c")) == "gs://b/c"


def test_the_source_of_a_finetuned_run_may_be_gone(config, trained, tmp_path):
    source = shutil.copytree(trained, tmp_path / "source")
    tuned = with_train(config, init_from=str(source))
    fit.train(tuned, tmp_path / "tuned")
    shutil.rmtree(source)
    fit.train(with_train(tuned, steps=6), tmp_path / "tuned")
    assert read_lines(tmp_path / "tuned/metrics.jsonl")[-1]["step"] == 6


def test_reading_a_run_changes_nothing_in_it(run):
    half = run / "checkpoints/25.orbax-checkpoint-tmp"
    half.mkdir()
    runs.load(run)
    assert half.is_dir()


def test_the_next_best_is_evaluated_where_the_best_is_damaged(run, caplog):
    with Checkpoints(run, reading=True) as checkpoints:
        best, second, *_ = checkpoints.best_steps()
    notes = run / f"checkpoints/{best}/notes/metadata"
    values = json.loads(notes.read_text())
    values["layout"][0], values["layout"][1] = values["layout"][1], values["layout"][0]  # names exchanged
    notes.write_text(json.dumps(values))
    with caplog.at_level(logging.WARNING):
        assert runs.load(run).step == second
    assert "layout differ from their hashes; using the next best" in caplog.text


@pytest.mark.parametrize("content", ["garbage", "[1]", '{"val_loss": "x"}'])
def test_a_damaged_metrics_file_costs_its_step_the_rank(config, run, caplog, content):
    (run / "checkpoints/4/metrics/metrics").write_text(content)
    with caplog.at_level(logging.WARNING):
        fit.train(with_train(config, steps=6), run)
    assert ("is damaged and is deleted" in caplog.text) == (content != '{"val_loss": "x"}')
    assert read_lines(run / "metrics.jsonl")[-1]["step"] == 6


def test_garbled_lines_are_dropped(config, run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo{"step": 10, "loss": 1}\n[1]\n{"step": 99, "loss": 1.0}\n')
    (run / "spikes.jsonl").write_text('{"step": 3}\n{"step": 5}\n')
    fit.train(with_train(config, steps=6), run)
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert read_lines(run / "spikes.jsonl") == [{"step": 3}]


def test_a_full_disk_stops_the_log_and_not_the_training(tmp_path, monkeypatch, caplog):
    free = {"bytes": 10**9}
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free["bytes"]))
    w = Writer(tmp_path, 0, 4)
    for step, left in ((1, 10**9), (2, 0), (3, 0), (4, 10**9)):
        free["bytes"] = left
        with caplog.at_level(logging.WARNING):
            w.write(step, {"loss": 1.0})
            w.spike(step, 9.0, 1.0, ["a"])
    w.close()
    assert [r["step"] for r in read_lines(tmp_path / "metrics.jsonl")] == [1, 4]
    assert caplog.text.count("left on its disk; nothing is logged there") == 1


def test_there_may_be_nothing_to_do(config, run, caplog):
    with caplog.at_level(logging.INFO):
        fit.train(with_train(config, steps=2), run)
    assert "nothing to do: step 4 is saved, train.steps is 2" in caplog.text and "compiled" not in caplog.text


def test_two_runs_with_one_checkpoint_folder_are_refused(config, tmp_path):
    shared = with_train(config, checkpoints=str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    with locked(tmp_path / "shared"), pytest.raises(UserError, match="shared: another process is at work there"):
        fit.train(shared, tmp_path / "b")
    fit.train(shared, tmp_path / "a")
    with pytest.raises(UserError, match="holds checkpoints"):
        fit.train(shared, tmp_path / "b")


def test_a_line_that_cannot_be_written_does_not_end_the_training(tmp_path, caplog):
    w = Writer(tmp_path, 0, 4)
    (tmp_path / "metrics.jsonl").mkdir()
    with caplog.at_level(logging.WARNING):
        w.write(3, {"loss": 1.0})
    w.close()
    assert "metrics.jsonl: a line of step 3 is lost" in caplog.text


def test_another_model_is_named(config, run):
    (run / "config.json").unlink()
    with pytest.raises(UserError, match="holds checkpoints"):
        fit.train(config, run)
    abstract = types.SimpleNamespace(ema=np.zeros(2048, np.float32))
    with Checkpoints(run, reading=True) as checkpoints:
        with pytest.raises(UserError, match="is of another model: .* against 2,048; give its settings"):
            checkpoints.restore_newest({"ema": abstract.ema}, [])


def test_validation_data_must_be_there_before_the_first_step(config, tmp_path):
    store = make_store(tmp_path / "store")
    index = (store.root / "index.jsonl").read_text().replace('"split": "val"', '"split": "train"')
    (store.root / "index.jsonl").write_text(index)
    with pytest.raises(UserError, match="no split 'val'; it has test, train"):
        fit.train(small_config(features=store.root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_refused_before_anything_is_written(config, tmp_path):
    for change, message in (
        ({"best_metric": "val_bits_per_dim"}, "'val_bits_per_dim' is not one of val_loss"),
        ({"fsdp": 3}, "train.fsdp is 3"),
        ({"init_from": str(tmp_path / "nowhere")}, "nowhere is not a run directory"),
    ):
        with pytest.raises(UserError, match=message):
            fit.train(with_train(config, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make, message", [
    (lambda: Train(learning_rate=float("inf")), "train: learning_rate: expected float, found inf"),
    (lambda: Train(clip=float("inf")), "train.clip is inf"),
    (lambda: Train(decay_steps=-5), "train.decay_steps is -5; give at least 1"),
    (lambda: Data(row_multiple=0), "data.row_multiple is 0; give at least 1"),
    (lambda: Data(buckets=()), "data.buckets is empty"),
    (lambda: Data(max_phonemes=0), "data.max_phonemes is 0"),
])  # fmt: skip
def test_settings_out_of_range(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_processes_that_differ(monkeypatch):
    mine = {"train.steps": 4, "train.seed": 0, "--workdir": "a"}
    parallel.check_same(mine)
    other = json.dumps(mine | {"train.steps": 8})
    monkeypatch.setattr(parallel, "gather", lambda text: [text, other])
    with pytest.raises(parallel.Agreed, match="processes 0 and 1 were started with different train.steps; give all"):
        parallel.check_same(mine)
    with pytest.raises(UserError, match="--processes and --process need .*--coordinator HOST:PORT"):
        with parallel.processes("", 2, 0):
            pass


def test_an_address_that_cannot_be_reached(config, tmp_path):
    with pytest.raises(UserError, match="train.checkpoints gs://nope/x: .*gcsfs"):
        fit.train(with_train(config, checkpoints="gs://nope/x"), tmp_path / "run")


def test_a_config_file_may_hold_any_mistake(tmp_path):
    (tmp_path / "c.py").write_text("config = 3 / 0\n")
    with pytest.raises(UserError, match="c.py: ZeroDivisionError"):
        read_config_file(tmp_path / "c.py")
