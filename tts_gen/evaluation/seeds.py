"""One figure for several trainings of one family: the mean over seeds, with an interval that holds both what other
utterances and what other seeds would change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from tts_gen.evaluation.bootstrap import LEVEL
from tts_gen.evaluation.rows import GROUPS, RUN_COUNT, RUNS, mean_of
from tts_gen.runs import AnyRun, JointRun

FAMILY = ("task", "family", "corpus", "split", "solver", "steps", "samples")
FIGURE = ("feature", "metric", "scope")


def pooled(rows: Sequence[dict], chosen: Mapping[str, float], settings: Mapping[str, str] = {}) -> list[dict]:
    """Rows of every family that has several runs of equal `settings` (run -> all that they were trained with but the
    seed): run null, seed null, `run_count` how many, `runs` which.

    Each run counts at its temperature of `chosen` (run -> temperature; others: at the one they have). The value is the
    mean. All runs are measured on the same utterances, whose part of the variance therefore does not shrink with their
    number, while that of the seeds does:

        variance = mean((half interval / 1.96)^2) + var(values) / runs

    and the interval is symmetric, Student's with the Welch-Satterthwaite degrees of freedom (those of the seeds' part
    being runs - 1, those of the other infinite). A figure that one run lacks is null."""
    by_family: dict[tuple, dict[tuple, list[dict]]] = {}
    for row in rows:
        tuned = chosen.get(row["run"], row["temperature"])
        if row["run"] is None or row["temperature"] not in (None, tuned) or row["family"].startswith("control:"):
            continue
        key = (*(row[f] for f in FAMILY), settings.get(row["run"]))
        of = by_family.setdefault(key, {})
        of.setdefault(tuple(row[f] for f in FIGURE), []).append(row)
    found = []
    for of in by_family.values():
        runs = {row["run"] for group in of.values() for row in group}
        if len(runs) > 1:
            found += [_mean(group, runs) for group in of.values()]
    return found


def but_the_seed(run: AnyRun) -> str:
    """All settings that must be equal where runs count as seeds of one another."""
    if isinstance(run, JointRun):
        return f"{run.path} {run.config}"
    train = replace(run.config.train, seed=0, checkpoints="")
    return repr(replace(run.config, train=train, data=replace(run.config.data, features="")))


def _mean(group: list[dict], runs: set[str]) -> dict:
    n_runs = len(runs)
    temperatures = {row["temperature"] for row in group}
    row = {name: x for name, x in group[0].items() if name != GROUPS}
    of = {RUN_COUNT: n_runs, RUNS: mean_of(Path(r).name for r in runs)}
    row |= {"run": None, "seed": None, "low": None, "high": None, **of}
    row["temperature"] = temperatures.pop() if len(temperatures) == 1 else None
    values = [r["value"] for r in group]
    if len(group) != n_runs or None in values:
        return row | {"value": None, "why": f"only {sum(v is not None for v in values)} of {n_runs} runs have it"}
    row["value"] = float(np.mean(values))
    if any(r["low"] is None for r in group):
        return row
    z = stats.norm.ppf(0.5 + LEVEL / 200)
    within = np.mean([((r["high"] - r["low"]) / (2 * z)) ** 2 for r in group])
    between = np.var(values, ddof=1) / n_runs
    total = within + between
    freedom = (n_runs - 1) * (total / between) ** 2 if between > 0 else np.inf
    half = stats.t.ppf(0.5 + LEVEL / 200, freedom) * math.sqrt(total)
    lowest = 0.0 if min(r["low"] for r in group) >= 0 else -math.inf  # what is never negative stays so
    return row | {"low": max(row["value"] - half, lowest), "high": row["value"] + half}
