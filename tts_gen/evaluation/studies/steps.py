"""How many solver steps are enough: quality against solver and network evaluations, of runs trained once.

A number of steps is enough where its figure lies inside the interval of the longest solve of the same solver.
"""

import argparse
import logging
import typing
from dataclasses import replace

from tts_gen import runs
from tts_gen.command import SOLVERS
from tts_gen.config import UserError
from tts_gen.evaluation import plots
from tts_gen.evaluation.compare import rows_at
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.runs import Run

log = logging.getLogger(__name__)

SHOWN = {
    "prosody": {"log-f0 std ratio": ("log_f0", "std_ratio"), "log-f0 JS": ("log_f0", "js"),
                "log-f0 CRPS": ("log_f0", "crps"), "duration CRPS": ("duration", "crps")},
    "acoustic": {"std ratio": ("mel", "std_ratio"), "Δ time": ("mel", "d_time_std_ratio"),
                 "Δ frequency": ("mel", "d_frequency_std_ratio"), "JS": ("mel", "js")},
}  # fmt: skip
DETERMINISTIC = ("euler", "midpoint", "heun", "dpm++2m")


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError where no run has a solver."""
    solved = [run for run in c.runs if isinstance(run, Run) and hasattr(run.config.decoder, "solver")]
    if not solved:
        raise UserError("no run among these has a solver: give runs of diffusion or flow matching")
    split, found, answer, sections = Split.read(c.store, c.split), [], [], []
    for run in solved:
        task, tables = run.config.task, []
        columns = SHOWN[task]
        lines: dict[str, list[dict]] = {}
        for solver in _solvers(run, options.solvers):
            for steps in options.grid:
                other = runs.load(run.path, {"solver": solver, "solver_steps": steps}, run.guidance or 0.0)
                out = c.out / "solvers" / f"{solver}-{steps}"
                at = rows_at(replace(c, out=out, runs=[other]), other, split, options.temperature)
                found += at
                log.info("%s: %s, %d steps", run.path.name, solver, steps)
                wanted = {name: _row(at, *of) for name, of in columns.items()}
                lines.setdefault(solver, []).append({"nfe": other.config.decoder.evaluations, **wanted})
        for solver, line in lines.items():
            cells = [[solver, str(r["nfe"]), *(figure(r[name]) for name in columns)] for r in line]
            tables.append((f"{run.path.name}: {solver}", ["solver", "network evaluations", *columns], cells))
            answer.append(_enough(run, solver, line, columns))
        panels = {name: {s: [(r["nfe"], r[name]) for r in line] for s, line in lines.items()} for name in columns}
        image = plots.lines_with_intervals(panels, "network evaluations")
        sections.append(Section(f"{run.label}: {run.path.name}", images=[("", image)], tables=tables))
    return Study("How many solver steps are enough?", answer, found, sections)


def _solvers(run: Run, asked: tuple[str, ...]) -> list[str]:
    known = typing.get_args(typing.get_type_hints(type(run.config.decoder))["solver"])
    if wrong := [solver for solver in asked if solver not in SOLVERS]:
        raise UserError(f"--solvers: no {', '.join(wrong)}; there are {', '.join(SOLVERS)}")
    if asked and not set(asked) & set(known):
        raise UserError(f"--solvers {','.join(asked)}: {run.path} ({run.label}) has {', '.join(known)}")
    return [solver for solver in asked or DETERMINISTIC if solver in known]


def _row(found: list[dict], feature: str, metric: str) -> dict:
    return next(r for r in found if (r["feature"], r["metric"], r["scope"]) == (feature, metric, "overall"))


def _enough(run: Run, solver: str, line: list[dict], columns: dict) -> str:
    last = line[-1]
    if any(last[n]["low"] is None for n in columns):
        return f"{run.path.name}, {solver}: cannot be said, for want of intervals of the longest solve."
    at = last
    for before in reversed(line):
        values = [(before[n]["value"], last[n]["low"], last[n]["high"]) for n in columns]
        if any(value is None or not low <= value <= high for value, low, high in values):
            break
        at = before
    return (
        f"{run.path.name}, {solver}: from {at['nfe']} network evaluations on, every figure shown lies within the "
        f"interval of the longest solve ({last['nfe']})."
    )
