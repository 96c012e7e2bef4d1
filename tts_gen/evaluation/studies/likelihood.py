"""Held-out bits per dimension of all families in one table, and which differences are more than chance.

Exact for flow, Gaussian and mixture regression; with a scale fitted on validation for L1 and L2; by the
probability-flow ODE for diffusion and flow matching (hundreds of network evaluations an utterance).
"""

import argparse
import itertools
import logging
import time

import numpy as np
from scipy import stats

from tts_gen.config import UserError
from tts_gen.evaluation import likelihood, plots
from tts_gen.evaluation.bootstrap import group_sums
from tts_gen.evaluation.compare import Comparison, groups_of
from tts_gen.evaluation.headline import CAPTIONS, figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.significance import holm
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.stored import cached
from tts_gen.evaluation.studies.outputs import Study

log = logging.getLogger(__name__)


def study(c: Comparison, options: argparse.Namespace) -> Study:
    val, test = (Split.read(c.store, name) for name in ("val", c.split))
    groups, found, sections, answer = groups_of(c, test), [], [], []
    for task in ("prosody", "acoustic"):
        of, of_rows = {}, []
        for run in c.of_task(task):
            began = time.monotonic()
            values = cached(
                c.out / "likelihoods" / f"{run.path.name}_{c.split}.npz", likelihood.identity(run, val, test, c.seed),
                lambda run=run: dict(zip(("nats", "error", "dimensions"), likelihood.log_prob(run, val, test, c.seed))),
            )  # fmt: skip
            values = tuple(values[name] for name in ("nats", "error", "dimensions"))
            identity = c.identity(run, task, c.split, None, 1)
            identity.pop("guidance", None)  # of samples; the density is the model's own
            of_rows.append(likelihood.row_of(run, *values, groups, identity, c.seed))
            of[run.path.name] = values
            log.info("%s: %.1f s", run.path.name, time.monotonic() - began)
        if not of:
            continue
        found += of_rows
        cells = [[r.path.name, r.label, figure(row)] for r, row in zip(c.of_task(task), of_rows, strict=True)]
        tables = [(f"Bits per dimension: {task}", ["run", "family", "bits/dim"], cells)]
        if len(of) > 1:
            differences = pairs(of, groups)
            tables.append((f"Differences: {task} (paired t over groups, Holm-Bonferroni over the pairs)",
                           ["a - b", "bits/dim", "p (Holm)"], [_cells(d) for d in differences]))  # fmt: skip
            sure = [d for d in differences if d["p_holm"] < 0.05]
            answer.append(f"{task}: {len(sure)} of {len(differences)} differences are more than chance at 5 %.")
        best = min((r for r in of_rows if r["value"] is not None), key=lambda r: r["value"], default=None)
        if best:
            answer.insert(0, f"{task}: {best['family']} gives the held-out data the most probability, "
                             f"{best['value']:.3f} bits per dimension.")  # fmt: skip
        sections.append(Section(f"{CAPTIONS.get('mel') if task == 'acoustic' else 'Prosody'}", tables=tables,
                                images=[("", plots.bars(of_rows, "bits per dimension"))]))  # fmt: skip
    if not found:
        raise UserError("no prosody or acoustic run among these: joint runs have no likelihood of their own")
    return Study("Who gives held-out speech the most probability?", answer, found, sections)


def pairs(of: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], groups: np.ndarray) -> list[dict]:
    """Differences of bits per dimension between all pairs of runs, with interval and two-sided p.

    Student's t over groups, of the ratio sum(bits) / sum(dimensions) (linearised: a group's influence is its bits less
    the ratio times its dimensions); dimensions are the same for all runs, utterance by utterance. Nothing can be said
    of fewer than two groups."""
    names, group = np.unique(groups, return_inverse=True)
    n, found = len(names), []
    for a, b in itertools.combinations(of, 2):
        bits, dimensions = (of[b][0] - of[a][0]) / np.log(2), of[a][2]
        if n < 2 or not np.isfinite(bits).all():
            continue
        x, d = (group_sums(values[:, None], group, n)[:, 0] for values in (bits, dimensions))
        ratio = x.sum() / d.sum()
        error = np.sqrt(n / (n - 1) * np.sum((x - ratio * d) ** 2)) / d.sum()
        half = stats.t.ppf(0.975, n - 1) * error
        p = 2 * stats.t.sf(abs(ratio) / error, n - 1) if error > 0 else float(ratio == 0)
        found.append({"a": a, "b": b, "difference": ratio, "low": ratio - half, "high": ratio + half, "p": float(p)})
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
    return found


def _cells(d: dict) -> list[str]:
    return [f"{d['a']} - {d['b']}", f"{d['difference']:+.3f}\n{d['low']:+.3f}–{d['high']:+.3f}", f"{d['p_holm']:.3g}"]
