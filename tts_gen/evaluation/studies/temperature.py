"""Which temperature is best: chosen on the validation split by one criterion, then reported on the test split, beside
what temperature 1 and the other criteria would have given.

Distribution: the criterion of `eval.py RUN...` (headline.choose_temperatures). Accuracy: the least CRPS (prosody) or L1
(mels) on validation. The two may want different temperatures: L1 pays for every step away from the median.
"""

import argparse
import math
from pathlib import Path

from tts_gen.config import UserError
from tts_gen.evaluation import plots, rows
from tts_gen.evaluation.compare import compare
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import FEATURES, choose_temperatures, features_of, figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.studies.outputs import Study

CURVES = {
    "prosody": {"std ratio": "std_ratio", "JS": "js", "CRPS": "crps", "best of K": "best_of_k"},
    "acoustic": {"std ratio": "std_ratio", "Δ time": "d_time_std_ratio", "JS": "js", "L1": "mel_l1"},
    "joint": {"std ratio": "std_ratio", "Δ time": "d_time_std_ratio", "JS": "js"},
}
ACCURACY = {"prosody": "crps", "acoustic": "mel_l1"}


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError where no run is generative."""
    if not any(run.config.decoder.generative for run in c.runs):
        raise UserError("no run among these draws samples: regression by L1 or L2 has no temperature")
    found, _ = compare(c)
    sections, answer = [], []
    for task in CURVES:
        generative = [run for run in c.of_task(task) if run.config.decoder.generative]
        if not generative:
            continue
        of_task = [r for r in found if r["task"] == task and r["scope"] == "overall" and rows.RUN_COUNT not in r]
        val = [r for r in of_task if r["split"] == "val"]
        chosen = {"distribution": {Path(run).name: t for (_, run), t in choose_temperatures(val, task).items()}}
        if task in ACCURACY:
            chosen["accuracy"] = {run.path.name: _least(val, str(run.path), ACCURACY[task]) for run in generative}
        features, images = features_of(of_task, task), []
        tables = [_table(c, of_task, generative, chosen, feature, CURVES[task]) for feature in features]
        for feature in features:
            columns = {name: (feature, metric) for name, metric in CURVES[task].items()}
            images.append((feature, plots.temperature_curves(of_task, columns, c.split, {"std_ratio": 1.0})))
        sections.append(Section(task.capitalize(), __doc__.split("\n\n")[1], images=images, tables=tables))
        for run in generative:
            of = ", ".join(f"{at[run.path.name]:g} by {criterion}" for criterion, at in chosen.items())
            answer.append(f"{run.path.name}: {of} (chosen on val).")
    return Study("Which temperature?", answer, found, sections)


def _least(val: list[dict], run: str, metric: str) -> float:
    """Temperature with the least sum over features, each in units of its value at the lowest temperature."""
    costs: dict[float, float] = {}
    shown = {feature for of in FEATURES.values() for feature in of}
    for feature in shown & {r["feature"] for r in val if r["metric"] == metric}:
        known = [r for r in val if (r["run"], r["metric"], r["feature"]) == (run, metric, feature)]
        of = {r["temperature"]: r["value"] for r in known if r["value"] is not None}
        for t in {r["temperature"] for r in known} if of else ():
            costs[t] = costs.get(t, 0.0) + (of[t] / of[min(of)] if t in of else math.inf)
    if not costs:
        raise UserError(f"{run}: no finite {metric} on val to choose a temperature by")
    return min(sorted(costs), key=costs.get)


def _table(c: Comparison, found: list[dict], generative, chosen: dict, feature: str, curves: dict) -> tuple:
    found = [r for r in found if (r["feature"], r["split"]) == (feature, c.split)]
    at = {(r["run"], r["temperature"], r["metric"]): r for r in found}
    cells = []
    for run in generative:
        asked = {f"{t:g} ({criterion})": t for criterion, of in chosen.items() for t in [of[run.path.name]]}
        asked |= {"1": 1.0} if 1.0 in c.grid(run) else {}
        for label, t in asked.items():
            figures = (figure(at.get((str(run.path), t, metric))) for metric in curves.values())
            cells.append([run.path.name, label, *figures])
    return f"{feature} on {c.split}", ["run", "τ", *curves], cells
