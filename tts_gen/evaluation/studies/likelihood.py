"""Held-out bits per dimension of all families in one table, and which differences are more than chance.

Exact for flow, Gaussian and mixture regression; with a scale fitted on validation for L1 and L2; by the
probability-flow ODE for diffusion and flow matching (hundreds of network evaluations an utterance).
"""

import argparse
import itertools
import logging
import time

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation import likelihood, plots
from tts_gen.evaluation.bootstrap import draws, group_sums, weigh
from tts_gen.evaluation.compare import Comparison, groups_of
from tts_gen.evaluation.generate import Split, cached
from tts_gen.evaluation.headline import CAPTIONS, figure
from tts_gen.evaluation.listening.statistics import holm
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.studies.outputs import Study

log = logging.getLogger(__name__)
BOOTSTRAPS = 2000


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
            of_rows.append(likelihood.row_of(run, *values, groups, identity, c.seed))
            of[run.path.name] = values
            log.info("%s: %.1f s", run.path.name, time.monotonic() - began)
        if not of:
            continue
        found += of_rows
        cells = [[r.path.name, r.label, figure(row)] for r, row in zip(c.of_task(task), of_rows, strict=True)]
        tables = [(f"Bits per dimension: {task}", ["run", "family", "bits/dim"], cells)]
        if len(of) > 1:
            differences = pairs(of, groups, c.seed)
            tables.append((f"Differences: {task} (paired bootstrap over groups, Holm-Bonferroni over the pairs)",
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


def pairs(of: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], groups: np.ndarray, seed: int) -> list[dict]:
    """Differences of bits per dimension between all pairs of runs, with percentile interval and two-sided bootstrap p.

    Dimensions are the same for all runs, utterance by utterance, so a draw of groups weighs both alike."""
    names, group = np.unique(groups, return_inverse=True)
    weights, found = draws(len(names), BOOTSTRAPS, seed), []
    for a, b in itertools.combinations(of, 2):
        bits = (of[b][0] - of[a][0]) / np.log(2)
        if not np.isfinite(bits).all():
            continue
        sums = [group_sums(x[:, None], group, len(names)) for x in (bits, of[a][2])]
        drawn = np.divide(*(weigh(weights, s)[:, 0] for s in sums))
        low, high = np.percentile(drawn, (2.5, 97.5))
        tail = (1 + min(np.sum(drawn <= 0), np.sum(drawn >= 0))) / (1 + len(drawn))
        found.append({"a": a, "b": b, "difference": bits.sum() / of[a][2].sum(), "low": low, "high": high,
                      "p": min(1.0, 2 * tail)})  # fmt: skip
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
    return found


def _cells(d: dict) -> list[str]:
    return [f"{d['a']} - {d['b']}", f"{d['difference']:+.3f}\n{d['low']:+.3f}–{d['high']:+.3f}", f"{d['p_holm']:.3g}"]
