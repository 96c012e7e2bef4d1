"""A grid of runs over fields of a config, seeds included. Each point is the ordinary train.py in a process of its own,
in a directory named after its values: it goes on where it stopped, and the failure of one does not end the others."""

import csv
import io
import itertools
import json
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tts_gen import doors, runs
from tts_gen.checkpoint import folder_of, saved_steps
from tts_gen.command import STOPPED
from tts_gen.config import Config, Stopped, UserError, read_config_file
from tts_gen.features.files import write_text
from tts_gen.features.store import FeatureStore
from tts_gen.writer import read_lines

TRAIN = "import sys; from tts_gen.doors import train; sys.exit(train(sys.argv[1:]))"
"""train.py, wherever it lies"""
FAILED = "failed"
"""state of a run, and the file in its directory that tells, until it is started again"""
SEED = "train.seed"


@dataclass(frozen=True)
class Point:
    """One run of the grid: swept field -> value as text, directory, train.py's arguments and what they ask for."""

    values: dict[str, str]
    run: Path
    arguments: list[str]
    config: Config

    @property
    def command(self) -> str:
        return shlex.join(["python", "train.py", *self.arguments])


def read_grid(config_file: str, directory: Path, over: Sequence[str], options: Sequence[str]) -> list[Point]:
    """All combinations of what `over` lists (FIELD=VALUE,VALUE,...), the last field varying fastest; `options`, of
    train.py, hold for all. Raises UserError, and what `doors.read_training` raises, where a run would be refused."""
    known, grid = _fields(read_config_file(config_file)), {}
    for text in over:
        field, _, listed = text.partition("=")
        field, values = field.replace("-", "_"), listed.split(";" if ";" in listed else ",")
        if field not in known:
            near = [name for name in known if name.startswith(field.partition(".")[0] + ".")] or known
            raise UserError(f"--over {text}: {config_file} has no field {field!r}; valid names are {', '.join(near)}")
        if field in grid or not all(values):
            raise UserError(f"--over {text}: give a field once, with its values, such as --over train.seed=0,1,2")
        grid[field] = values
    given = {option.partition("=")[0].strip("-").replace("-", "_") for option in options if option.startswith("--")}
    for name in given & {*grid, "workdir"}:
        raise UserError(f"--{name} is set by the sweep for each run; leave it out")
    points = []
    for combination in itertools.product(*grid.values()):
        swept = [*options, *(part for item in zip(grid, combination) for part in _option(*item))]
        config = doors.read_training([config_file, "--workdir", str(directory), *swept]).config
        values = {field: _fields(config)[field] for field in grid}
        run = directory / _name(values)
        if address := config.train.checkpoints:  # as it is, all runs would share it
            swept += ["--train.checkpoints", str(folder_of(run, address) / run.name)]
        arguments = [config_file, "--workdir", str(run), *swept]
        points.append(Point(values, run, arguments, doors.read_training(arguments).config))
    run, count = Counter(point.run for point in points).most_common(1)[0]
    if count > 1:
        raise UserError(f"--over gives {run.name} {count} times; give each value once")
    return points


def _fields(settings: Any, prefix: str = "") -> dict[str, str]:
    """Dotted name -> value as text, which is the same for all spellings of a value."""
    found = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        found |= _fields(value, f"{prefix}{f.name}.") if is_dataclass(value) else {prefix + f.name: text}
    return found


def _option(field: str, value: str) -> list[str]:
    """As train.py takes it: what is true or false is two options there."""
    group, dot, name = field.rpartition(".")
    flags = {"True": [f"--{field}"], "False": [f"--{group}{dot}no_{name}"]}
    return flags.get(value, [f"--{field}", value])


def _name(values: dict[str, str]) -> str:
    """File name of a point; a field is shortened to its last word where no other ends in it."""
    words = Counter(field.rpartition(".")[2] for field in values)
    short = {field: word if words[word := field.rpartition(".")[2]] == 1 else field for field in values}
    # No value keeps an = , or + of its own, so that different ones cannot make one name.
    return ",".join(f"{short[field]}={quote(value, safe=',').replace(',', '+')}" for field, value in values.items())


def run(points: Sequence[Point], chosen: Sequence[Point], directory: Path) -> None:
    """Runs what is missing of the chosen points, then writes and prints the tables of all. Raises UserError naming the
    runs that failed, and Stopped when this process or a run was asked to end."""
    for features in {point.config.data.features for point in chosen}:
        FeatureStore(features)  # or none of the runs could start
    failed = []
    try:
        with _end_asked() as asked:
            for number, point in enumerate(chosen, 1):
                heading = f"[{number} of {len(chosen)}] {point.run.name}"
                if _result(point)["state"] == "done":
                    print(f"{heading}: done before", flush=True)
                    continue
                print(f"\n{heading}\n$ {point.command}", flush=True)
                code = STOPPED if asked else _call(point, asked)
                if code == STOPPED or (code and asked):
                    raise Stopped("stopped; the same command goes on from here")
                if code:
                    point.run.mkdir(parents=True, exist_ok=True)
                    write_text(point.run / FAILED, f"code {code}\n{point.command}\n")
                    failed.append(f"{point.run.name} (code {code}): {point.command}")
    finally:
        print(f"\n{write_tables(points, directory)}")
    if failed:
        raise UserError("\n".join([f"{len(failed)} of {len(chosen)} runs failed; to look at one, run it:", *failed]))


@contextmanager
def _end_asked() -> Iterator[list[int]]:
    """A list that gets the SIGINTs and SIGTERMs sent to this process, which does not die of them."""
    asked = []
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda number, _: asked.append(number)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def _call(point: Point, asked: list[int]) -> int:
    """Exit code of train.py, which is told when an end is asked for, once, and waited for."""
    (point.run / FAILED).unlink(missing_ok=True)
    # A process group of its own, or a terminal's Ctrl-C would reach it as well.
    with subprocess.Popen([sys.executable, "-c", TRAIN, *point.arguments], process_group=0) as process:
        while process.poll() is None and not asked:
            time.sleep(0.1)
        if asked:
            process.terminate()
        return process.wait()


def _result(point: Point) -> dict[str, Any]:
    """State and losses of a run from what lies in its directory; None for what is not there."""
    metrics, saved, steps = point.run / "metrics.jsonl", point.run / "config.json", point.config.train.steps
    rows = read_lines(metrics)
    step, last = (rows[-1]["step"], rows[-1].get("loss")) if rows else (0, None)
    validated = [row for row in rows if row.get("val_loss") is not None]
    best = min(validated, key=lambda row: row["val_loss"], default={})
    state = f"at step {step} of {steps}" if saved.is_file() else "not started"
    if (point.run / FAILED).is_file():
        state = FAILED
    kept = saved_steps(folder_of(point.run, point.config.train.checkpoints))
    if step == steps and _same(saved, point.config) and steps in kept:
        state = "done"
    return {"state": state, "best val_loss": best.get("val_loss"), "best step": best.get("step"), "last loss": last}


def _same(saved: Path, config: Config) -> bool:
    """Whether a run has these settings. Where it has not, train.py is started and says whether it may."""
    try:
        return json.loads(saved.read_text()) == json.loads(json.dumps(runs.config_to_dict(config)))
    except ValueError:  # cut short: train.py will say so
        return False


def write_tables(points: Sequence[Point], directory: Path) -> str:
    """Writes results.csv and results.md and returns the latter: one row a point; where seeds are swept, also the mean
    and standard deviation (n - 1) of the best val_loss over n finished seeds, for every setting of the rest."""
    results = [_result(point) for point in points]
    header = [*points[0].values, *results[0]]
    rows = [[*point.values.values(), *result.values()] for point, result in zip(points, results)]
    page = _markdown(header, rows)
    if SEED in points[0].values:
        losses: dict[tuple, list[float]] = {}
        for point, result in zip(points, results):
            of = losses.setdefault(tuple(value for field, value in point.values.items() if field != SEED), [])
            if result["state"] == "done" and result["best val_loss"] is not None:
                of.append(result["best val_loss"])
        others = [field for field in points[0].values if field != SEED]
        seeds = [
            [*other, statistics.mean(of) if of else None, statistics.stdev(of) if len(of) > 1 else None, len(of)]
            for other, of in losses.items()
        ]
        page += "\nbest val_loss over finished seeds\n\n"
        page += _markdown([*others, "mean", "standard deviation", "n"], seeds)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", text.getvalue())
    write_text(directory / "results.md", page)
    return page


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table whose columns are padded, to be read in a terminal too."""
    cells = [["–" if x is None else f"{x:.4f}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells)]
    lines = [header, ["-" * width for width in widths], *cells]
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)
