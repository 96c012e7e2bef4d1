"""Which family serves which style: spread and nearness by style label, or, in a corpus without labels, by type of
utterance; and whether a classifier trained on recorded prosody hears the style in generated prosody.

Types, by the text: a question ends in "?", an exclamation in "!", a list has two commas or more, the rest are
statements.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.bootstrap import DRAWS, Estimate, draws, group_sums, interval
from tts_gen.evaluation.compare import generated_prosody
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import oracle_prosody
from tts_gen.evaluation.grouping import grouped
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.joint_prosody import JOINT
from tts_gen.evaluation.prosody import Prosody, prosody_rows
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.evaluation.utterance_metrics import MEANING, long_enough, starts, statistic

log = logging.getLogger(__name__)
COLUMNS = {"log-f0 std ratio": ("log_f0", "std_ratio"), "log-f0 JS": ("log_f0", "js"),
           "log-f0 best of K": ("log_f0", "best_of_k"), "duration std ratio": ("duration", "std_ratio"),
           "duration JS": ("duration", "js")}  # fmt: skip
LEAST = 10
"""training utterances of a style that the classifier needs"""


def kind(text: str) -> str:
    text = text.strip().rstrip("\"')")
    if text.endswith("?"):
        return "question"
    if text.endswith("!"):
        return "exclamation"
    return "list" if text.count(",") >= 2 else "statement"


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError without a prosody run, or where all utterances have one style."""
    runs = c.of_task("prosody")
    if not runs:
        raise UserError("the styles study needs prosody runs")
    test, train = Split.read(c.store, c.split), Split.read(c.store, "train")
    labelled = len({c.store.index[p].style for p in test.positions} - {"unknown"}) > 1
    oracle, known = (_with_styles(c, split, labelled) for split in (test, train))
    if len(set(oracle.style)) < 2:
        raise UserError(f"{c.store.root}: all {c.split} utterances are of one style or type, '{oracle.style[0]}'")
    heard, usable = _classifier(known)
    found, of_run, recognised = [], {}, {}
    deaf = f"fewer than two styles have {LEAST} training utterances"
    if len(usable) >= 2:
        deaf = f"none of the {c.split} utterances is of a style that it knows, or values are not finite"
    for run in runs:
        tau = options.temperature if run.config.decoder.generative else None
        generated = replace(generated_prosody(c, run, test, oracle, tau), style=oracle.style)
        identity = c.identity(run, "prosody", c.split, tau, 1 if tau is None else c.samples)
        rows = [r for r in prosody_rows(generated, oracle, identity, seed=c.seed) if r["scope"].startswith("style:")]
        found += rows
        of_run[run.path.name] = {(r["scope"][6:], r["feature"], r["metric"]): r for r in rows}
        recognised[run.path.name] = make_row(identity, JOINT, "style_accuracy", *heard(generated, c.seed),
                                             n=len(test.positions), why=deaf)  # fmt: skip
        log.info("%s", run.path.name)
    identity = c.identity(None, "prosody", c.split, None, 1) | {"family": "oracle"}
    own = make_row(identity, JOINT, "style_accuracy", *heard(oracle, c.seed), n=len(test.positions), why=deaf)
    found += [*recognised.values(), own]
    styles = sorted(set(oracle.style))
    tables = []
    for style in styles:
        n = len(np.unique(oracle.utterance[oracle.style == style]))
        columns = [(style, *column) for column in COLUMNS.values()]
        cells = [[name, *(figure(of.get(column)) for column in columns)] for name, of in of_run.items()]
        tables.append((f"{style} ({n} utterances)", ["run", *COLUMNS], cells))
    by = f"By {'label' if labelled else 'type of utterance'}."
    if own["value"] is None:
        answer = [f"No classifier: {deaf}; the figures of each style stand alone."]
        section = Section("Styles", by, tables=tables)
        return Study("Which family serves which style?", answer, found, [section])
    chance = 1 / len(np.intersect1d(usable, styles))
    cells = [[name, figure(row)] for name, row in {"recordings": own, **recognised}.items()]
    tables.append(("Balanced accuracy of the classifier", ["prosody of", "accuracy"], cells))
    text = (
        f"{by} The classifier (logistic regression on statistics of the "
        f"utterance, trained on the recordings of the training split; chance is {chance:.2f}) hears the style of the "
        "recordings as well as its figure says; a family whose figure is lower has less of it. Styles with few "
        "utterances have no figures."
    )
    near = min((r for r in recognised.values() if r["value"] is not None), default=None,
               key=lambda r: abs(r["value"] - own["value"]))  # fmt: skip
    answer = [f"Heard in the recordings with an accuracy of {own['value']:.2f} (chance {chance:.2f})"]
    if own["low"] is None or own["low"] <= chance:
        answer[0] += ", which may be chance: too few utterances of a style to compare families by it."
    elif near:
        answer[0] += f"; nearest: {Path(near['run']).name}, {near['value']:.2f}."
    return Study("Which family serves which style?", answer, found, [Section("Styles", text, tables=tables)])


def _with_styles(c: Comparison, split: Split, labelled: bool) -> Prosody:
    entries = [c.store.index[p] for p in split.positions]
    oracle = oracle_prosody(split, c.store)
    lengths = np.unique(oracle.utterance, return_counts=True)[1]
    return replace(oracle, style=np.repeat([e.style if labelled else kind(e.text) for e in entries], lengths))


def _classifier(known: Prosody):
    """A function of a set of prosody and a seed: balanced accuracy with which styles are heard in it, mean over
    samples, with the interval of bootstrap.interval; and the styles that it knows. Where these are fewer than two, the
    function gives (None,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _features(known)[0], _styles(known)
    names, counts = np.unique(y, return_counts=True)
    usable = names[counts >= LEAST]
    if len(usable) < 2:
        return (lambda _, __: (None,)), usable
    keep = np.isin(y, usable)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    model.fit(x[keep], y[keep])

    def accuracy(prosody: Prosody, seed: int) -> Estimate:
        pools = (prosody.log_f0[..., prosody.voiced & ~prosody.pause], prosody.duration[..., ~prosody.pause])
        if not all(np.isfinite(x).all() for x in pools):
            return (None,)
        first = np.unique(prosody.utterance, return_index=True)[1]
        style, (group, n_groups) = prosody.style[first], grouped(prosody.group[first])
        right = np.mean([model.predict(x) == style for x in _features(prosody)], axis=0)
        of = style[:, None] == np.intersect1d(usable, style)
        if not of.size:
            return (None,)
        sums = [group_sums(x, group, n_groups) for x in (right[:, None] * of, of.astype(float))]
        return interval(lambda right, n: np.mean(right / n, axis=1), sums, draws(n_groups, DRAWS, seed))

    return accuracy, usable


def _styles(prosody: Prosody) -> np.ndarray:
    return prosody.style[np.unique(prosody.utterance, return_index=True)[1]]


def _features(prosody: Prosody) -> np.ndarray:
    """[K, utterances, statistics]: those of MEANING; 0 for an utterance that is too short for one."""
    ids = np.unique(prosody.utterance)
    log_f0, duration = np.atleast_2d(prosody.log_f0), np.atleast_2d(prosody.duration) * prosody.frame_seconds
    found = np.zeros((len(log_f0), len(ids), len(MEANING)))
    for i, name in enumerate(MEANING):
        x, pool = (duration, ~prosody.pause) if name == "utt_rate" else (log_f0, prosody.voiced & ~prosody.pause)
        at = np.flatnonzero(long_enough(prosody.utterance, pool))
        of = prosody.utterance[at]
        found[:, np.searchsorted(ids, of[starts(of)]), i] = statistic(name, x[:, at], at, of)
    return np.nan_to_num(found)
