"""Does the evaluation recover a truth that is known? Nothing is trained: samplers and densities are written down.

    python scripts/simulated_truth.py [--evaluations 200]

A corpus is drawn anew for each evaluation: 60 groups of one to three utterances, 4 to 120 phonemes each, most of them
short; the first is a pause, 70 % of the others are voiced. Log-f0 and log-duration of a phoneme are

    y = m + s M + v A e,  e ~ N(0, I)

m is known (text), with a part that a whole group shares; the mode s = +-1 is the utterance's, P(s = 1) = p known; v,
the group's scale, is known; A correlates the two. So log-f0 has two modes, positions of an utterance and utterances of
a group are not independent, and E[y | known] = m + (2 p - 1) M, which is what L2 regression predicts.

Checked, and exit code 1 if one fails:
1. 95 % intervals cover the truth in 92 to 98 % of the evaluations, within two standard errors of that share: the value
   of an endless corpus; of divergences, whose small-sample bias is part of them, the mean over evaluations. Stated
   apart: divergences of the true sampler, which are near 0, and third and fourth moments of durations, too skewed
   themselves for any such interval.
2. Paired tests tell two draws of the true sampler apart in no more than 8 % of the evaluations.
3. L2's std ratio equals theory's, sqrt(Var E[y | known] / Var y).
4. The right density has the fewest bits per dimension, by paired tests, and wrong ones come in their order.
5. Diagnosis names a sampler that drops a mode, and finds nothing in the true one.
About two minutes on 2 CPU cores.
"""

import argparse
import dataclasses
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from tts_gen.evaluation import bootstrap, diagnosis, failure_rows, significance
from tts_gen.evaluation.joint_prosody import JOINT
from tts_gen.evaluation.pool import Pool
from tts_gen.evaluation.prosody import Prosody, floor_rows, of_floor, prosody_rows
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.utterance_metrics import differences, pairs

GROUPS, SAMPLES = 60, 8
M = np.array([0.8, 0.3])
A = np.array([[0.4, 0.0], [0.25, 0.5]])
LEVEL, TEXT, SCALE = np.array([0.3, 0.15]), np.array([0.4, 0.5]), 0.25
"""standard deviations: of m between groups and between phonemes, and of log v"""
P = 1 / (1 + np.exp(-np.random.default_rng(0).standard_normal(10**6)))
MODES_APART = np.mean(4 * P * (1 - P))
"""of M^2, the variance that not knowing the mode leaves, mean over utterances"""
RESIDUAL = MODES_APART * np.outer(M, M) + np.exp(2 * SCALE**2) * A @ A.T
"""covariance of y - E[y | known]"""

DIVERGENCES = ("js", "js_debiased", "wasserstein", "energy_distance")
METRICS = "std std_ratio js js_debiased wasserstein energy_distance skewness_difference kurtosis_difference".split()
METRICS += "rmse mae correlation best_of_k energy_score crps diversity".split()
COVERED, MISTAKEN = (0.92, 0.98), 0.08


class Known(NamedTuple):
    """What a perfect model knows, by position [n] or utterance [U]."""

    mean: np.ndarray
    p: np.ndarray
    scale: np.ndarray
    utterance: np.ndarray


def corpus(rng: np.random.Generator, groups: int = GROUPS) -> tuple[Prosody, np.ndarray, Known]:
    """The recordings, their y [n, 2] (prosody has whole frames), and what is known of them."""
    of = np.repeat(np.arange(groups), rng.integers(1, 4, groups))
    length = np.clip(np.rint(np.exp(2.8 + 0.7 * rng.standard_normal(len(of)))), 4, 120).astype(int)
    utterance = np.repeat(np.arange(len(of)), length)
    group, n = of[utterance], len(utterance)
    mean = (rng.standard_normal((groups, 2)) * LEVEL)[group] + rng.standard_normal((n, 2)) * TEXT
    scale = np.exp(SCALE * rng.standard_normal(groups))[group]
    known = Known(mean, 1 / (1 + np.exp(-rng.standard_normal(len(of)))), scale, utterance)
    pause = np.r_[True, utterance[1:] != utterance[:-1]]
    voiced = (rng.random(n) < 0.7) & ~pause
    (y,) = true(rng, known, 1)
    one = np.full(n, "one")
    oracle = Prosody(
        np.where(voiced, y[:, 0], np.nan), frames(y), voiced, pause, utterance, group, one, one,
        np.where(pause, "pause", "vowel"), np.full(n, 0.2), 256 / 22050,
    )  # fmt: skip
    return oracle, y, known


def frames(y: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(np.exp(2 + 0.5 * y[..., 1])), 1)


def true(rng: np.random.Generator, known: Known, samples: int = SAMPLES) -> np.ndarray:
    mode = np.where(rng.random((samples, len(known.p))) < known.p, 1.0, -1.0)
    return _about(rng, known, mode)


def one_mode(rng: np.random.Generator, known: Known, samples: int = SAMPLES) -> np.ndarray:
    return _about(rng, known, np.ones((samples, len(known.p))))


def _about(rng: np.random.Generator, known: Known, mode: np.ndarray) -> np.ndarray:
    noise = rng.standard_normal((len(mode), *known.mean.shape)) @ A.T
    return known.mean + mode[:, known.utterance, None] * M + known.scale[:, None] * noise


def l2(rng: np.random.Generator, known: Known) -> np.ndarray:
    return known.mean + (2 * known.p - 1)[known.utterance, None] * M


def gaussian(rng: np.random.Generator, known: Known) -> np.ndarray:
    """L2 and independent noise, of less than the residual's size: its divergences are not near 0."""
    noise = rng.standard_normal((SAMPLES, *known.mean.shape))
    return l2(rng, known) + 0.85 * noise * np.sqrt(np.diag(RESIDUAL))


SAMPLERS = {"l2": l2, "gaussian": gaussian, "true": true}


def generated(y: np.ndarray, oracle: Prosody) -> Prosody:
    return dataclasses.replace(oracle, log_f0=y[..., 0], duration=frames(y))


def log_densities(y: np.ndarray, known: Known) -> dict[str, np.ndarray]:
    """log p(y | known) of every utterance [U], nats, of the truth and of models that know less and less."""
    starts = np.flatnonzero(np.r_[True, known.utterance[1:] != known.utterance[:-1]])
    p, scale = known.p[known.utterance], known.scale[:, None, None]
    modes = [_normal(y - known.mean - s * M, scale**2 * (A @ A.T)) for s in (1, -1)]
    whole = [np.add.reduceat(x, starts) for x in modes]
    positions = np.logaddexp(np.log(p) + modes[0], np.log1p(-p) + modes[1])
    residual = y - l2(None, known)
    own = scale**2 * (A @ A.T) + (4 * p * (1 - p))[:, None, None] * np.outer(M, M)
    found = {
        "a mode for each phoneme": positions,
        "Gaussian": _normal(residual, own),
        "L2, one scale a channel": _normal(residual, np.diag(np.diag(RESIDUAL))),
    }
    truth = np.logaddexp(np.log(known.p) + whole[0], np.log1p(-known.p) + whole[1])
    return {"the truth": truth} | {name: np.add.reduceat(x, starts) for name, x in found.items()}


def _normal(r: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """log N(r; 0, covariance) for r [n, 2] and covariance [2, 2] or [n, 2, 2]."""
    solved = np.linalg.solve(covariance, r[..., None])[..., 0]
    return -0.5 * np.sum(r * solved, axis=-1) - 0.5 * np.log(np.linalg.det(covariance)) - np.log(2 * np.pi)


def estimates(seed: int, groups: int = GROUPS, n_boot: int = bootstrap.DRAWS) -> dict[tuple, bootstrap.Estimate]:
    """Of one evaluation, by sampler, feature and metric."""
    rng = np.random.default_rng(seed)
    oracle, y, known = corpus(rng, groups)
    sets = {name: generated(draw(rng, known), oracle) for name, draw in SAMPLERS.items()}
    sets["again"] = generated(true(rng, known), oracle)
    valid = {"log_f0": oracle.voiced, "duration": ~oracle.pause}
    found = {}
    for name, of in sets.items():
        for feature, at in valid.items():
            values = [getattr(p, feature) for p in (of, oracle)]
            left, _ = pairs(oracle.utterance, at)
            steps = [differences(x, oracle.utterance, at) for x in values]
            of_steps = ("std_ratio", "js") if name in ("l2", "gaussian") else ()
            for key, (x, y_), where, metrics in (
                (feature, [v[..., at] for v in values], np.flatnonzero(at), METRICS),
                (f"d_{feature}", steps, left, of_steps),
            ):
                pool = Pool(key, x, y_, oracle.utterance[where], oracle.group[where], n_boot) if metrics else None
                for metric in metrics:
                    if name != "again" or metric in significance.OF_SETS + significance.OF_UTTERANCES:
                        found[name, key, metric] = getattr(pool, metric)()
    for name, row in bits(y, known, oracle).items():
        found[name, JOINT, "bits_per_dim"] = bootstrap.Estimate(row["value"], row["low"], row["high"])
    return found


def bits(y: np.ndarray, known: Known, oracle: Prosody) -> dict[str, dict]:
    """Rows of bits per dimension, by model."""
    starts = np.flatnonzero(np.r_[True, known.utterance[1:] != known.utterance[:-1]])
    group, count = oracle.group[starts], 2 * np.diff(np.r_[starts, len(y)])
    n_groups = group.max() + 1
    found = {}
    for name, nats in log_densities(y, known).items():
        sums = [bootstrap.group_sums(x[:, None], group, n_groups) for x in (-nats / np.log(2), count)]
        weights = bootstrap.draws(n_groups, bootstrap.DRAWS, 0)
        estimate = bootstrap.interval(lambda b, d: (b / d)[:, 0], sums, weights)
        found[name] = make_row({"family": name, "run": name}, JOINT, "bits_per_dim", *estimate, n=count.sum())
    return found


def coverage(found: list[dict], truth: dict[tuple, float]) -> bool:
    """Prints how often intervals hold the truth; whether all do that count."""
    good = True
    print(f"\n1. Intervals that cover the truth, of {len(found)} evaluations (expected 92 to 98 %)")
    for key in found[0]:
        if key[0] == "again" or (key[0] == "l2" and key[2] == "diversity"):
            continue
        values = np.array([of[key][:3] for of in found])
        of = values[:, 0].mean() if key[2] in DIVERGENCES else truth[key]
        share = np.mean((values[:, 1] <= of) & (of <= values[:, 2]))
        counts = not apart(*key)
        inside = COVERED[0] <= share <= COVERED[1]
        slack = 2 * np.sqrt(share * (1 - share) / len(found))
        good &= COVERED[0] - slack <= share <= COVERED[1] + slack or not counts
        note = f"  (endless corpus {truth[key]:.4f})" if key[2] in DIVERGENCES else ""
        note += "  <- outside" if counts and not inside else "" if counts else "  stated apart"
        print(f"  {key[0]:24s} {key[1]:16s} {key[2]:22s} truth {of:8.4f}  covered {share:6.1%}{note}")
    return bool(good)


def apart(sampler: str, feature: str, metric: str) -> bool:
    """Whether an interval need not cover: what is near 0, and moments whose own distribution is too skewed."""
    skewed = feature == "duration" and metric in ("skewness_difference", "kurtosis_difference")
    return skewed or (sampler == "true" and metric in DIVERGENCES)


def mistakes(found: list[dict]) -> bool:
    """Prints how often two draws of one sampler are told apart."""
    good = True
    print("\n2. Paired tests that tell two draws of the true sampler apart (expected at most 8 %)")
    for _, feature, metric in [key for key in found[0] if key[0] == "again"]:
        p: dict[str, list[float]] = {}
        for of in found:
            rows = [
                make_row({"family": name, "run": name}, feature, metric, *of[name, feature, metric])
                for name in ("true", "again")
            ]
            for test in significance.differences(rows):
                p.setdefault(test["test"], []).append(test["p"])
        for name, values in p.items():
            share = np.mean(np.array(values) < significance.ALPHA)
            good &= share <= MISTAKEN
            print(f"  {feature:10s} {metric:14s} {name:10s} {share:6.1%}")
    return bool(good)


def theory(found: list[dict], truth: dict[tuple, float]) -> bool:
    known = np.mean((2 * P - 1) ** 2) * M**2 + LEVEL**2 + TEXT**2
    ratio = np.sqrt(known / (known + np.diag(RESIDUAL)))[0]
    value = truth["l2", "log_f0", "std_ratio"]
    print(f"\n3. L2's std ratio of log-f0: {value:.4f}, theory {ratio:.4f}")
    return abs(value - ratio) < 0.01


def right_family(seed: int) -> bool:
    oracle, y, known = corpus(np.random.default_rng(seed))
    rows = list(bits(y, known, oracle).values())
    tests = significance.differences(rows)
    print("\n4. Bits per dimension: " + ", ".join(f"{r['family']} {r['value']:.3f}" for r in rows))
    for t in tests:
        print(f"  {t['a']} - {t['b']}: {t['difference']:+.3f} ({t['low']:+.3f} to {t['high']:+.3f}), "
              f"p {t['p_holm']:.4f}")  # fmt: skip
    return all(t["difference"] < 0 and significance.significant(t) for t in tests)


def signs(seeds: range) -> bool:
    flagged = {"true": [], "one_mode": []}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        oracle, y, known = corpus(rng)
        identity = {"task": "prosody", "split": "test"}
        drawn = [true(rng, _of_utterance(known, i), 1)[0] for i in range(60)]
        training = [np.column_stack((t[:, 0], np.log(frames(t)))) for t in drawn]
        rows = floor_rows(oracle, of_floor(identity))
        rows += failure_rows.prosody_failures(oracle, oracle, training, of_floor(identity), 0)
        for name, draw in (("true", true), ("one_mode", one_mode)):
            of = identity | {"family": name, "run": name, "temperature": 1.0}
            samples = generated(draw(rng, known), oracle)
            rows += prosody_rows(samples, oracle, of)
            rows += failure_rows.prosody_failures(samples, oracle, training, of, 0)
        rows = [r for r in rows if r["scope"] == "overall"]
        found = [f for f in diagnosis.findings(rows, rows) if f.found]
        for name, of in flagged.items():
            of.append({f.sign for f in found if f.system == name})
    dropped = sum("mode dropping" in of for of in flagged["one_mode"])
    accused = sum(bool(of) for of in flagged["true"])
    print(f"\n5. Diagnosis: a dropped mode is named in {dropped} of {len(seeds)} corpora, "
          f"the true sampler accused in {accused}")  # fmt: skip
    return dropped == len(seeds) and accused == 0


def _of_utterance(known: Known, i: int) -> Known:
    at = known.utterance == i
    return Known(known.mean[at], known.p[[i]], known.scale[at], np.zeros(at.sum(), int))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=200)
    options, began = parser.parse_args(), time.monotonic()
    with ProcessPoolExecutor() as workers:
        large = list(workers.map(estimates, range(10_000, 10_008), [1500] * 8, [1] * 8))
        found = list(workers.map(estimates, range(options.evaluations), chunksize=5))
    truth = {key: float(np.mean([of[key].value for of in large])) for key in large[0]}
    passed = [coverage(found, truth), mistakes(found), theory(found, truth), right_family(0), signs(range(10))]
    failed = [str(i) for i, good in enumerate(passed, 1) if not good]
    print(f"\n{'failed: ' + ', '.join(failed) if failed else 'all as expected'}  ({time.monotonic() - began:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
