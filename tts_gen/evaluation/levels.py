"""Log-f0 of phonemes against log-f0 of frames: what a value a phoneme leaves out of the contour, and which level is
modelled better.

Samples of frames are pooled to phonemes as recordings are, so both levels answer to the same figures; samples of
phonemes are drawn through the frames in straight lines from the middle of one voiced phoneme to the next, in the
recording's durations. Contour runs are given those durations, prosody runs make their own: only the latter can have f0
and duration depend on one another beyond the text.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tts_gen.evaluation.compare import generated_prosody
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import prosody_samples, samples_path
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.joint_prosody import joint_rows
from tts_gen.evaluation.pool import Pool
from tts_gen.evaluation.prosody import Prosody, prosody_rows
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.significance import bootstrap_test, told
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.utterance_metrics import starts
from tts_gen.features.pooling import pool_contour

CONTOUR = "contour"
COLUMNS = {"std ratio": ("log_f0", "std_ratio"), "JS": ("log_f0", "js"), "JS of Δ": ("d_log_f0", "js"),
           "CRPS": ("log_f0", "crps"), "energy score": ("log_f0", "energy_score"),
           "mutual information": ("log_f0+duration", "mutual_information"),
           "CRPS of frames": (CONTOUR, "crps"), "RMSE of frames, cents": (CONTOUR, "rmse_cents")}  # fmt: skip


def levels(c: Comparison, split: Split, oracle: Prosody, temperature: float) -> tuple[list[dict], Section, list[str]]:
    """Rows, a section and sentences on the prosody and contour runs of `c`. Raises UserError where the store has no f0
    of frames."""
    contour = _contours(split, c)
    found, cells, of_run = [], [], {}
    identity = c.identity(None, CONTOUR, c.split, None, 1) | {"family": "oracle"}
    frames = _interpolated(oracle, oracle.log_f0)
    pooled = _frame_rows(frames, contour, oracle, identity, c.seed)
    cells.append(["recordings", "phonemes", *_cells(pooled)])
    for run in [*c.of_task("prosody"), *c.of_task(CONTOUR)]:
        tau = temperature if run.config.decoder.generative else None
        identity = c.identity(run, CONTOUR, c.split, tau, c.count(run, tau))
        if run.config.task == "prosody":
            generated = generated_prosody(c, run, split, oracle, tau)
            frames = _interpolated(oracle, generated.log_f0)
        else:
            path = samples_path(c.out, run, split.name, tau)
            frames = prosody_samples(run, split, tau, c.count(run, tau), c.seed, path)[..., 0]
            frames = frames[0] if tau is None else frames
            log_f0 = pool_contour(frames, np.isfinite(contour), _whole(oracle), oracle.voiced)
            generated = replace(oracle, log_f0=log_f0, duration=np.broadcast_to(oracle.duration, log_f0.shape))
        rows = [r for r in prosody_rows(generated, oracle, identity, seed=c.seed) if "f0" in r["feature"]]
        rows += joint_rows(generated, oracle, identity, seed=c.seed)
        rows += _frame_rows(frames, contour, oracle, identity, c.seed)
        level = "phonemes" if run.config.task == "prosody" else "frames"
        at = {(r["feature"], r["metric"]): r for r in rows if r["scope"] == "overall"}
        of_run.setdefault((run.label, level), {})[run.path.name] = at[COLUMNS["energy score"]]
        cells.append([run.path.name, level, *_cells(rows)])
        found += [r | {"scope": f"level:{level}"} for r in rows if r["scope"] == "overall"]
    found += [r | {"scope": "level:phonemes"} for r in pooled]
    table = ("Log-f0 of phonemes and of frames", ["run", "level", *COLUMNS], cells)
    text = " ".join(__doc__.split("\n\n")[1].split())
    return found, Section("Phonemes or frames", text, tables=[table]), _sentences(oracle, contour, pooled, of_run)


def _contours(split: Split, c: Comparison) -> np.ndarray:
    """[T of all utterances] normalised by speaker, NaN where unvoiced."""
    found = []
    for u in split.utterances:
        c.store.check_contour(u)
        found.append(c.store.stats.normalise_log_f0(u.contour, np.asarray(u.speaker)))
    return np.concatenate(found)


def _whole(oracle: Prosody) -> np.ndarray:
    return oracle.duration.astype(int)


def _interpolated(oracle: Prosody, log_f0: np.ndarray) -> np.ndarray:
    """log_f0 [K, n] or [n] of voiced phonemes drawn through all frames: [K, T] or [T]."""
    duration, found = _whole(oracle), []
    bounds = [*starts(oracle.utterance), len(duration)]
    for first, last in zip(bounds, bounds[1:]):
        d, values, known = duration[first:last], np.atleast_2d(log_f0)[:, first:last], oracle.voiced[first:last]
        middle = (np.cumsum(d) - d / 2)[known]
        time = np.arange(d.sum()) + 0.5
        drawn = [np.interp(time, middle, row[known]) if known.any() else np.zeros(len(time)) for row in values]
        found.append(np.stack(drawn))
    return np.concatenate(found, 1).reshape(*log_f0.shape[:-1], -1)


def _frame_rows(frames: np.ndarray, contour: np.ndarray, oracle: Prosody, identity: dict, seed: int) -> list[dict]:
    """Over the voiced frames of voiced phonemes."""
    of = np.repeat(np.arange(len(oracle.duration)), _whole(oracle))
    at = np.flatnonzero(np.isfinite(contour) & oracle.voiced[of])
    of = of[at]
    pool = Pool(CONTOUR, frames[..., at], contour[at], oracle.utterance[of], oracle.group[of], seed=seed)
    cents = oracle.log_f0_std[of] * 1200 / np.log(2)
    why = f"{np.count_nonzero(~np.isfinite(frames[..., at]))} generated values are not finite"
    found = {"crps": pool.crps(), "rmse_cents": pool.rmse(cents)}
    return [make_row(identity, CONTOUR, metric, *estimate, n=len(at), why=why) for metric, estimate in found.items()]


def _cells(rows: Sequence[dict]) -> list[str]:
    at = {(r["feature"], r["metric"]): r for r in rows if r["scope"] == "overall"}
    return [figure(at.get(column)) for column in COLUMNS.values()]


def _sentences(oracle: Prosody, contour: np.ndarray, pooled: list[dict], of_run: dict) -> list[str]:
    left_out = next(r["value"] for r in pooled if r["metric"] == "rmse_cents")
    of = np.repeat(oracle.log_f0_std, _whole(oracle))
    spread = np.nanstd(contour * of) * 1200 / np.log(2)
    frames = len(contour) / len(oracle.duration)
    sentences = [f"A value a phoneme leaves out {left_out:.0f} cents (RMSE) of contours that spread by {spread:.0f}; "
                 f"frames are {frames:.1f} times as many positions."]  # fmt: skip
    for label in dict.fromkeys(label for label, _ in of_run):
        of = [of_run.get((label, level), {}) for level in ("frames", "phonemes")]
        for (a, of_frames), (b, of_phonemes) in itertools.product(*(runs.items() for runs in of)):
            test = bootstrap_test(of_frames, of_phonemes)
            if test["difference"] is None:
                sentences.append(f"{a} and {b} cannot be compared: {test['why']}.")
                continue
            sentences.append(f"Energy score of log-f0 {of_frames['value']:.3f} from frames ({a}), "
                             f"{of_phonemes['value']:.3f} from phonemes ({b}): {told(test)}.")  # fmt: skip
    return sentences
