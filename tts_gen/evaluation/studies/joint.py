"""Are f0 and duration worth modelling together? A family's samples against the same samples decoupled.

Decoupled: the f0 of one sample with the durations of another of the same text. That keeps both marginals and what the
text tells about each, and takes away what either tells about the other: what a model of f0 and a model of durations,
trained apart on the same text, could at best do. Where decoupling changes no figure, this corpus or this model has
nothing to gain from modelling them together.

With contour runs among them (configs/contour_*.py), also: f0 of phonemes or of frames? (evaluation/levels.py)
"""

import argparse
from dataclasses import replace

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.compare import generated_prosody
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import oracle_prosody
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.joint_prosody import JOINT, joint_floor_rows, joint_rows, two_sample_floor_row, two_sample_row
from tts_gen.evaluation.levels import levels
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.significance import bootstrap_test, told
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import Study

COLUMNS = {"mutual information": "mutual_information", "minus the oracle's": "mutual_information_difference",
           "copula JS": "copula_js", "two-sample": "two_sample_accuracy"}  # fmt: skip


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError without a generative prosody run, or with one sample of each utterance."""
    runs = [run for run in c.of_task("prosody") if run.config.decoder.generative]
    if not runs or c.samples < 2:
        raise UserError("give prosody runs of a generative family, and --samples 2 or more")
    split = Split.read(c.store, c.split)
    oracle, found, cells, answer = oracle_prosody(split, c.store), [], [], []
    for run in runs:
        sampled = generated_prosody(c, run, split, oracle, options.temperature)
        decoupled = replace(sampled, duration=np.roll(sampled.duration, 1, axis=0))
        identity = c.identity(run, "prosody", c.split, options.temperature, c.samples)
        both = {}
        for name, generated in (("together", sampled), ("decoupled", decoupled)):
            rows = joint_rows(generated, oracle, identity, seed=c.seed)
            rows.append(two_sample_row(generated, oracle, identity, seed=c.seed))
            found += [row | {"scope": name} for row in rows]
            both[name] = {row["metric"]: row for row in rows}
            cells.append([run.path.name, name, *(figure(both[name][m]) for m in COLUMNS.values())])
        gain = {m: bootstrap_test(*(of[m] for of in both.values())) for m in COLUMNS.values()}
        cells.append([run.path.name, "difference", *map(_signed, gain.values())])
        found += [make_row(identity, JOINT, m, *(test[x] for x in ("difference", "low", "high")), n=test["n"],
                           scope="difference", why=test.get("why")) for m, test in gain.items()]  # fmt: skip
        if (of := gain["mutual_information"])["difference"] is not None:
            together, decoupled = (of["mutual_information"]["value"] for of in both.values())
            answer.append(f"{run.path.name}: {together:.3f} bits of mutual information between log-f0 and duration, "
                          f"{decoupled:.3f} when decoupled: {told(of)}.")  # fmt: skip
    identity = c.identity(None, "prosody", c.split, None, 1)
    floor = [*joint_floor_rows(oracle, identity, c.seed), two_sample_floor_row(oracle, identity, seed=c.seed)]
    by_metric = {row["metric"]: row for row in floor}
    cells.append(["floor", "", *(figure(by_metric.get(m)) for m in COLUMNS.values())])
    table = ("Samples together and decoupled", ["run", "", *COLUMNS], cells)
    section = Section("Together or apart", __doc__.split("\n\n")[1], tables=[table])
    found, sections = found + floor, [section]
    if c.of_task("contour"):
        rows, section, sentences = levels(c, split, oracle, options.temperature)
        found, sections, answer = found + rows, [*sections, section], answer + sentences
    return Study("Are f0 and duration worth modelling together?", answer, found, sections)


def _signed(test: dict) -> str:
    if test["difference"] is None:
        return "–"
    interval = "" if test["low"] is None else f"\n{test['low']:+.3f}–{test['high']:+.3f}"
    return f"{test['difference']:+.3f}{interval}"
