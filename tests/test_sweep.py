"""Sweeps: what a grid's runs are called, what is refused before the first starts, and what becomes of them."""

import csv
import json
import shutil
import signal
import statistics
import sys
from pathlib import Path

import pytest
from models import small_config, with_train, write_config

from tts_gen import cli, command, runs, sweep
from tts_gen.config import Stopped, UserError

STARTED = """import os, sys
from pathlib import Path
run = Path(sys.argv[sys.argv.index("--workdir") + 1])
with (run.parent / "started").open("a") as file:
    file.write(run.name + "\\n")
"""
"""stands for train.py where it matters only which runs are started"""

SIGNALLED = """
import signal, time
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: got.append(number))
os.kill(os.getppid(), signal.{name})
for _ in range(500):
    time.sleep(0.01 if not got else 0.3)
    if got:
        break
(run.parent / "got").write_text(f"{{len(got)}} {{os.getpgid(0) == os.getpgid(os.getppid())}}")
sys.exit({code})
"""
"""asks the sweep to end, and waits for what it is told"""

SEEDS = ["train.seed=0,1", "decoder.dropout=0.1,0.2"]
SWEPT = ["train.seed=0,1", "decoder.dropout=0.1"]


@pytest.fixture(scope="module")
def config_file(store, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("config") / "prosody.py"
    return str(write_config(path, features=store.root, buckets=(16,), steps=3, save_every=1))


@pytest.fixture(scope="module")
def swept(config_file, tmp_path_factory) -> Path:
    """Two seeds, each trained for three steps."""
    directory = tmp_path_factory.mktemp("swept")
    points = sweep.read_grid(config_file, directory, SWEPT, [])
    sweep.run(points, points, directory)
    return directory


def main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["tts-gen", *map(str, arguments)])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return cli.main()


def names(config_file: str, *over: str) -> list[str]:
    return [point.run.name for point in sweep.read_grid(config_file, Path("d"), over, [])]


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def started(directory: Path) -> list[str]:
    path = directory / "started"
    return path.read_text().split() if path.exists() else []


def test_a_run_is_named_after_what_is_swept(config_file):
    assert names(config_file, *SEEDS) == [
        "seed=0,dropout=0.1", "seed=0,dropout=0.2", "seed=1,dropout=0.1", "seed=1,dropout=0.2",
    ]  # fmt: skip
    both = names(config_file, "encoder.dropout=0.1", "decoder.dropout=0.2", "train.log-every=7")
    assert both == ["encoder.dropout=0.1,decoder.dropout=0.2,log_every=7"]
    assert names(config_file, "data.buckets=8,16;32") == ["buckets=8+16", "buckets=32"]
    assert names(config_file, "data.buckets=8,16") == ["buckets=8", "buckets=16"]
    (path,) = names(config_file, "data.features=/a b/c=d+e")
    assert path == "features=%2Fa%20b%2Fc%3Dd%2Be"


def test_a_point_is_what_train_py_would_train(config_file, store):
    given = ["--train.steps", "7", "--data.buckets", "8,16"]
    over = ["train.learning_rate=1e-3,0.01", "decoder.loss=l1"]
    first, second = sweep.read_grid(config_file, Path("d"), over, given)
    expected = with_train(small_config(features=store.root), steps=7, save_every=1)
    assert second.config.train == expected.train and second.config.data == expected.data
    assert (first.config.train.learning_rate, first.config.decoder.loss) == (1e-3, "l1")
    assert first.values == {"train.learning_rate": "0.001", "decoder.loss": "l1"}
    assert first.command == (
        f"python train.py {config_file} --workdir d/learning_rate=0.001,loss=l1 --train.steps 7 --data.buckets 8,16 "
        "--train.learning_rate 1e-3 --decoder.loss l1"
    )


def test_checkpoints_elsewhere_are_each_runs_own(config_file):
    points = sweep.read_grid(config_file, Path("d"), ["train.seed=0,1"], ["--train.checkpoints", "gs://bucket/a/"])
    assert [p.config.train.checkpoints for p in points] == ["gs://bucket/a/seed=0", "gs://bucket/a/seed=1"]
    assert points[1].command.endswith("--train.checkpoints gs://bucket/a/seed=1")


def test_what_is_true_or_false_is_swept_too(config_file, tmp_path):
    flow = tmp_path / "flow.py"
    flow.write_text(Path(config_file).read_text().replace("small_config(", "small_config('prosody', 'flow', "))
    points = sweep.read_grid(str(flow), Path("d"), ["decoder.sigmoid_scale=True,False"], [])
    assert [point.config.decoder.sigmoid_scale for point in points] == [True, False]


@pytest.mark.parametrize(
    "over, options, message",
    [
        (["train.stepz=1"], [], "prosody.py has no field 'train.stepz'; valid names are train.steps, train"),
        (["steps=1"], [], "no field 'steps'; valid names are task, data.features"),
        (["decoder=flow"], [], "no field 'decoder'; valid names are decoder.loss, decoder.width"),
        (["train.seed"], [], "--over train.seed: give a field once, with its values, such as --over train.seed=0,1,2"),
        (["train.seed=0,,1"], [], "--over train.seed=0,,1: give a field once, with its values"),
        (["train.seed=0", "train.seed=1"], [], "--over train.seed=1: give a field once"),
        (["decoder.dropout=0.1,0.10"], [], "--over gives dropout=0.1 2 times; give each value once"),
        (["decoder.dropout=0.1,1.5"], [], "decoder.dropout is 1.5; give 0 to 0.99"),
        (["train.log_every=1,2"], ["--train.log-every=3"], "--train.log_every is set by the sweep for each run"),
        (["train.seed=0,1"], ["--workdir", "x"], "--workdir is set by the sweep for each run; leave it out"),
        (["train.seed=0,1"], ["--data.features", ""], "data.features is empty"),
    ],
)
def test_grids_that_cannot_be_are_refused(config_file, over, options, message):
    with pytest.raises(UserError, match=message):
        sweep.read_grid(config_file, Path("d"), over, options)


@pytest.mark.parametrize(
    "over, options, message",
    [
        (["train.seed=0,one"], [], "one"),
        (["decoder.loss=l2,l7"], [], "l1"),
        (["train.seed=0"], ["--train.stepz", "3"], "--train.steps"),
    ],
)
def test_values_and_options_are_refused_as_by_train_py(config_file, over, options, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        sweep.read_grid(config_file, Path("d"), over, options)
    assert message in capsys.readouterr().err


def test_features_that_are_not_there_are_named_before_a_run_starts(config_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "TRAIN", STARTED)
    points = sweep.read_grid(config_file, tmp_path, ["train.seed=0,1"], ["--data.features", str(tmp_path)])
    with pytest.raises(UserError, match="not a feature store"):
        sweep.run(points, points, tmp_path)
    assert not started(tmp_path)


def test_results_are_those_of_the_runs(swept):
    rows = list(csv.DictReader((swept / "results.csv").open()))
    assert len(rows) == 2 and list(rows[0]) == [
        "train.seed", "decoder.dropout", "state", "best val_loss", "best step", "last loss",
    ]  # fmt: skip
    for row in rows:
        run = swept / f"seed={row['train.seed']},dropout={row['decoder.dropout']}"
        of = {line["val_loss"]: line["step"] for line in metrics(run)}
        assert row["state"] == "done" and float(row["last loss"]) == metrics(run)[-1]["loss"]
        assert float(row["best val_loss"]) == min(of) and int(row["best step"]) == of[min(of)]
        assert runs.load(run).config.decoder.dropout == float(row["decoder.dropout"])
    assert len({row["best val_loss"] for row in rows}) == 2
    points, seeds = (swept / "results.md").read_text().split("\nbest val_loss over finished seeds\n\n")
    assert points.count("\n") == 4
    (line,) = seeds.splitlines()[2:]
    of = [float(row["best val_loss"]) for row in rows]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["0.1", f"{statistics.mean(of):.4f}", f"{statistics.stdev(of):.4f}", "2"]


def test_finished_runs_are_not_started_again(swept, config_file, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "TRAIN", STARTED)
    over = [word for text in SWEPT for word in ("--over", text)]
    assert main(monkeypatch, "sweep", config_file, swept, *over) == command.DONE
    shown = capsys.readouterr().out
    assert not started(swept) and "[2 of 2] seed=1,dropout=0.1: done before" in shown
    assert (swept / "results.md").read_text() in shown


def test_finished_runs_of_other_settings_are_not_taken_for_these(swept, config_file, monkeypatch):
    for other in (["--train.learning-rate", "0.1"], ["--train.steps", "4"]):
        points = sweep.read_grid(config_file, swept, SWEPT, other)
        assert "done" not in sweep.write_tables(points, swept)


def test_a_killed_run_stands_in_the_table_and_is_started_again(swept, config_file, tmp_path, monkeypatch):
    """That it goes on exactly is training's promise."""
    (point,) = sweep.read_grid(config_file, tmp_path, ["train.seed=1"], ["--train.steps", "1000000"])
    shutil.copytree(swept / "seed=1,dropout=0.1", point.run)
    assert "at step 3 of 1000000" in sweep.write_tables([point], tmp_path)
    monkeypatch.setattr(sweep, "TRAIN", STARTED)
    sweep.run([point], [point], tmp_path)
    assert started(tmp_path) == ["seed=1"]


def test_a_failed_run_is_named_and_the_rest_goes_on(config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "TRAIN", STARTED + "sys.exit('seed=1' in run.name)")
    arguments = ["sweep", config_file, tmp_path, "--over", "train.seed=0,1,2", "--train.steps", "4"]
    assert main(monkeypatch, *arguments) == command.FAILED
    shown = capsys.readouterr()
    assert started(tmp_path) == ["seed=0", "seed=1", "seed=2"]
    assert "error: 1 of 3 runs failed; to look at one, run it:\nseed=1 (code 1): python train.py" in shown.err
    assert "| 1          | failed " in shown.out
    assert main(monkeypatch, *arguments, "--table") == command.DONE
    assert "| 1          | failed " in capsys.readouterr().out and len(started(tmp_path)) == 3
    monkeypatch.setattr(sweep, "TRAIN", STARTED)
    assert main(monkeypatch, *arguments, "--index", "1") == command.DONE
    assert "failed" not in (tmp_path / "results.md").read_text() and started(tmp_path)[3:] == ["seed=1"]


def test_a_run_that_was_stopped_stops_the_sweep(config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "TRAIN", STARTED + "sys.exit(75)")
    assert main(monkeypatch, "sweep", config_file, tmp_path, "--over", "train.seed=0,1") == command.STOPPED
    assert started(tmp_path) == ["seed=0"] and "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("name, code", [("SIGTERM", 75), ("SIGINT", 75), ("SIGTERM", 1), ("SIGTERM", 0)])
def test_a_signal_reaches_the_run_once_and_ends_the_sweep(config_file, tmp_path, monkeypatch, name, code):
    """Whatever becomes of the run in progress; the process group is another, which a terminal does not signal."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sweep, "TRAIN", STARTED + SIGNALLED.format(name=name, code=code))
    points = sweep.read_grid(config_file, tmp_path, ["train.seed=0,1"], [])
    with pytest.raises(Stopped):
        sweep.run(points, points, tmp_path)
    assert (tmp_path / "got").read_text() == "1 False" and started(tmp_path) == ["seed=0"]
    assert (tmp_path / "results.md").exists() and signal.getsignal(signal.SIGTERM) == before


def test_an_index_is_one_point(config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "TRAIN", STARTED)
    arguments = ["sweep", config_file, tmp_path, *(word for text in SEEDS for word in ("--over", text))]
    assert main(monkeypatch, *arguments, "--index", "2") == command.DONE
    assert started(tmp_path) == ["seed=1,dropout=0.1"]
    for index in ("4", "-1"):
        assert main(monkeypatch, *arguments, "--index", index) == command.FAILED
        assert f"--index {index}: the grid has 4 points, 0 to 3" in capsys.readouterr().err


def test_the_list_holds_a_line_a_point(config_file, tmp_path, monkeypatch, capsys):
    directory = tmp_path / "d"
    arguments = ["sweep", config_file, directory, "--over", "train.seed=5,6", "--train.steps", "4", "--list"]
    assert main(monkeypatch, *arguments) == command.DONE
    start = f"1  seed=6  python train.py {config_file} --workdir {directory}/seed=6 --train.steps 4 --train.seed 6"
    assert capsys.readouterr().out.splitlines()[1] == start and not directory.exists()


def test_half_a_line_and_losses_that_are_not_finite(config_file, tmp_path):
    (point,) = sweep.read_grid(config_file, tmp_path, ["decoder.dropout=0.1"], [])
    assert "| not started | – " in sweep.write_tables([point], tmp_path)
    point.run.mkdir()
    (point.run / "config.json").write_text("{}")
    assert "| at step 0 of 3 | – " in sweep.write_tables([point], tmp_path)
    lines = [{"step": 1, "loss": 2.0, "val_loss": 1.5}, {"step": 2, "loss": None, "val_loss": None}]
    (point.run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo')
    assert "| at step 2 of 3 | 1.5000        | 1         | – " in sweep.write_tables([point], tmp_path)


def test_other_commands_still_refuse_unknown_options(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(monkeypatch, "demo", "--train.steps", "3")
    assert "unrecognized arguments: --train.steps 3" in capsys.readouterr().err
