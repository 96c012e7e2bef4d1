"""What more data and longer training bring: learning curves of all runs of a task, read at equal steps and at equal
seconds, and figures of their samples beside the number of training utterances.

Runs on parts of the data: `tts-gen sweep CONFIG DIR --over data.utterances=50,100,200,0`. Seconds are those that the
runs' own steps took, as logged; compare runs of one machine.
"""

import argparse
from typing import NamedTuple

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation import plots
from tts_gen.evaluation.compare import rows_at
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.plan import training_positions
from tts_gen.runs import Run
from tts_gen.writer import read_lines

FIGURES = {
    "prosody": {"log-f0 JS": ("log_f0", "js"), "log-f0 CRPS": ("log_f0", "crps"), "duration JS": ("duration", "js"),
                "duration CRPS": ("duration", "crps")},
    "acoustic": {"std ratio": ("mel", "std_ratio"), "Δ frequency": ("mel", "d_frequency_std_ratio"),
                 "JS": ("mel", "js")},
}  # fmt: skip


class Curve(NamedTuple):
    """Of one run: validation losses [V] at steps [V] and after seconds [V] of training."""

    steps: np.ndarray
    seconds: np.ndarray
    losses: np.ndarray

    def best(self, along: np.ndarray, limit: float) -> float | None:
        """The lowest loss up to a limit of steps or seconds; None where there is none yet."""
        known = self.losses[along <= limit]
        return float(known.min()) if known.size else None


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError where no run's metrics.jsonl holds a validation."""
    split, found, sections, answer = Split.read(c.store, c.split), [], [], []
    for task, columns in FIGURES.items():
        runs = [run for run in c.of_task(task) if isinstance(run, Run)]
        curves = {run.path.name: curve(run) for run in runs}
        if not runs:
            continue
        steps, seconds = (min(getattr(of, unit)[-1] for of in curves.values()) for unit in ("steps", "seconds"))
        cells = []
        for run in runs:
            rows, of = rows_at(c, run, split, options.temperature), curves[run.path.name]
            found += rows
            at = {(r["feature"], r["metric"]): r for r in rows if r["scope"] == "overall"}
            known = len(training_positions(c.store, run.config))
            cells.append([
                run.path.name, str(known), str(of.steps[-1]), f"{of.seconds[-1]:.0f}",
                _loss(of.best(of.steps, steps)), _loss(of.best(of.seconds, seconds)),
                *(figure(at.get(column)) for column in columns.values()),
            ])  # fmt: skip
        equal = [f"val loss at {steps} steps", f"at {seconds:.0f} s"]
        header = ["run", "utterances", "steps", "seconds", *equal, *columns]
        panels = {
            "by steps": {name: (of.steps, of.losses) for name, of in curves.items()},
            "by seconds": {name: (of.seconds, of.losses) for name, of in curves.items()},
        }
        image = plots.curves(panels, "validation loss")
        text = (
            f"Equal steps: {steps}; equal seconds: {seconds:.0f}, those of the shortest run. Losses of different "
            "families have different units: read them within a family, and the figures of samples across."
        )
        tables = [(f"{task.capitalize()}: data and compute", header, cells)]
        sections.append(Section(task.capitalize(), text, images=[("Learning curves", image)], tables=tables))
        answer += _trend(task, runs, c, found)
    if not sections:
        raise UserError("no prosody or acoustic run among these")
    return Study("What do more data and longer training bring?", answer, found, sections)


def curve(run: Run) -> Curve:
    lines = read_lines(run.path / "metrics.jsonl")
    step = np.array([line["step"] for line in lines], int)
    each = np.array([line.get("step_seconds") for line in lines], float)  # None is NaN
    seconds = np.cumsum(np.nan_to_num(each) * np.diff(step, prepend=0))
    at = [i for i, line in enumerate(lines) if line.get("val_loss") is not None]
    if not at:
        raise UserError(f"{run.path / 'metrics.jsonl'} holds no validation; train on to the next train.save_every")
    return Curve(step[at], seconds[at], np.array([lines[i]["val_loss"] for i in at]))


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _trend(task: str, runs: list[Run], c: Comparison, found: list[dict]) -> list[str]:
    """Where runs of one family differ in their data: the first and the last figure."""
    sentences = []
    for label in dict.fromkeys(run.label for run in runs):
        of = sorted((len(training_positions(c.store, r.config)), str(r.path)) for r in runs if r.label == label)
        if of[0][0] == of[-1][0]:
            continue
        feature = "log_f0" if task == "prosody" else "mel"
        overall = [r for r in found if (r["feature"], r["metric"], r["scope"]) == (feature, "js", "overall")]
        by_run = {r["run"]: r["value"] for r in overall}
        (few, first), (many, last) = ((n, by_run[path]) for n, path in (of[0], of[-1]))
        if first is not None and last is not None:
            change = f"JS of {feature} goes from {first:.3f} to {last:.3f}"
            sentences.append(f"{label}: from {few} to {many} utterances, {change}.")
    return sentences
