"""Held-out bits per dimension of all families in one table, and which differences are more than chance.

Exact for flow, Gaussian and mixture regression; with a scale fitted on validation for L1 and L2; by the
probability-flow ODE for diffusion and flow matching (hundreds of network evaluations an utterance).
"""

import argparse
import logging
import time

from tts_gen.config import UserError
from tts_gen.evaluation import likelihood, plots
from tts_gen.evaluation.compare import groups_of
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import CAPTIONS, figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.significance import ALPHA, differences
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.stored import cached
from tts_gen.evaluation.studies.outputs import Study

log = logging.getLogger(__name__)


def study(c: Comparison, options: argparse.Namespace) -> Study:
    val, test = (Split.read(c.store, name) for name in ("val", c.split))
    groups, found, sections, answer = groups_of(c, test), [], [], []
    for task in ("prosody", "acoustic"):
        of_rows = []
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
            log.info("%s: %.1f s", run.path.name, time.monotonic() - began)
        if not of_rows:
            continue
        found += of_rows
        cells = [[r.path.name, r.label, row["feature"], figure(row)]
                 for r, row in zip(c.of_task(task), of_rows, strict=True)]  # fmt: skip
        tables = [(f"Bits per dimension: {task}", ["run", "family", "of", "bits/dim"], cells)]
        if tested := [d for d in differences(of_rows) if d["p"] is not None]:
            tables.append((f"Differences: {task} (paired bootstrap over groups, Holm-Bonferroni over the pairs)",
                           ["a - b", "bits/dim", "p (Holm)"], [_cells(d) for d in tested]))  # fmt: skip
            sure = [d for d in tested if d["p_holm"] < ALPHA]
            answer.append(f"{task}: {len(sure)} of {len(tested)} differences are more than chance at 5 %.")
        for feature in dict.fromkeys(r["feature"] for r in of_rows):
            known = [r for r in of_rows if r["value"] is not None and r["feature"] == feature]
            if best := min(known, key=lambda r: r["value"], default=None):
                answer.insert(0, f"{task}: {best['family']} gives the held-out data the most probability, "
                                 f"{best['value']:.3f} bits per dimension of {feature}.")  # fmt: skip
        sections.append(Section(f"{CAPTIONS.get('mel') if task == 'acoustic' else 'Prosody'}", tables=tables,
                                images=[("", plots.bars(of_rows, "bits per dimension"))]))  # fmt: skip
    if not found:
        raise UserError("no prosody or acoustic run among these: joint runs have no likelihood of their own")
    return Study("Who gives held-out speech the most probability?", answer, found, sections)


def _cells(d: dict) -> list[str]:
    interval = "" if d["low"] is None else f"\n{d['low']:+.3f}–{d['high']:+.3f}"
    return [f"{d['a']} - {d['b']}", f"{d['difference']:+.3f}{interval}", f"{d['p_holm']:.3g}"]
