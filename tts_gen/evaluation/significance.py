"""Which differences are more than chance: paired tests, and what several tests at once do to p-values.

Families are measured on the same utterances, so they are compared group by group (bootstrap.Groups): what makes an
utterance hard is common to all and cancels. The listening tests' ratings are compared by `paired` too.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from tts_gen.evaluation.bootstrap import Groups, draws, margin, standard_error, studentised
from tts_gen.evaluation.rows import GROUPS

ALPHA = 0.05
STAR = "*"
"""marks what differs with a p, corrected, below ALPHA"""
DRAWS = 1999
"""of the groups, for a test: p-values are multiples of 1 / 2,000"""
SEED = 0
OF_UTTERANCES = "rmse best_of_k energy_score crps mel_l1 mcd mcd_dtw".split()
"""Errors and scores that a group has by itself, compared by Wilcoxon's signed-rank and Student's paired t test."""
OF_SETS = "std_ratio js wasserstein two_sample_accuracy bits_per_dim".split()
OF_SETS += "d_time_std_ratio d_frequency_std_ratio modulation_distance".split()
"""What is a distribution's or a ratio of sums, compared by the paired bootstrap over groups."""


def differences(rows: Sequence[dict]) -> list[dict]:
    """Every pair of rows of equal feature and metric, tested: a, b (their names), feature, metric, difference (a - b),
    low, high, test ("wilcoxon", "t" or "bootstrap"), p, p_holm, n (groups); `why` in place of what cannot be said.

    rows: as make_row made them, each run at one temperature; only `models` are compared. The interval is that of the
    paired bootstrap. Holm's correction is over the pairs of one metric and test."""
    rows, found = [r for r in models(rows) if not r["feature"].startswith("utt_")], []
    for metric in (*OF_UTTERANCES, *OF_SETS):
        for feature in dict.fromkeys(r["feature"] for r in rows if r["metric"] == metric):
            of = [r for r in rows if (r["feature"], r["metric"]) == (feature, metric)]
            tested = [
                {"feature": feature, "metric": metric, "a": system(a, rows), "b": system(b, rows)} | test
                for a, b in combinations(of, 2)
                if a["run"] != b["run"]
                for test in _tests(a, b)
            ]
            for name in ("wilcoxon", "t", "bootstrap"):
                adjust([test for test in tested if test["test"] == name], "p")
            found += tested
    return found


def models(rows: Sequence[dict]) -> list[dict]:
    """The overall rows of runs: no floor, no controls, no means over seeds."""
    no_model = ("floor", "control:")
    return [r for r in rows if r["run"] and r["scope"] == "overall" and not r["family"].startswith(no_model)]


def system(row: dict, rows: Sequence[dict]) -> str:
    """What a row's system is called among `rows`."""
    several = len({r["run"] for r in rows if r["family"] == row["family"]}) > 1
    return Path(row["run"]).name if several else row["family"]


def _tests(a: dict, b: dict) -> list[dict]:
    found = bootstrap_test(a, b)
    if a["metric"] not in OF_UTTERANCES:
        return [found]
    test = {} if "why" in found else paired(a[GROUPS].alone, b[GROUPS].alone)
    why = {"why": test["why"]} if "why" in test else {}
    return [found | {"test": name, "p": test.get(f"{name}_p")} | why for name in ("wilcoxon", "t")]


def bootstrap_test(a: dict, b: dict) -> dict:
    """difference (a - b), low, high, test, p and n (groups) of two rows of the same utterances, by the paired bootstrap
    over groups; where that cannot be done, None and `why`."""
    row = dict.fromkeys(("difference", "low", "high", "p")) | {"n": 0, "test": "bootstrap"}
    groups = [r.get(GROUPS) for r in (a, b)]
    if why := _why_not(a, b, *groups):
        return row | {"why": why}
    difference, influence = a["value"] - b["value"], groups[0].influence - groups[1].influence
    drawn = studentised(influence, draws(len(influence), DRAWS, SEED))
    half = margin(influence, drawn)
    row |= {"difference": difference, "n": len(influence), "p": bootstrap_p(difference, influence, drawn)}
    return row | ({"low": difference - half, "high": difference + half} if math.isfinite(half) else {})


def told(test: dict) -> str:
    """How sure a difference is, for people."""
    return f"a difference of {test['difference']:+.3f}, {'more' if test['p'] < ALPHA else 'no more'} than chance"


def _why_not(a: dict, b: dict, of_a: Groups | None, of_b: Groups | None) -> str | None:
    for row, of in ((a, of_a), (b, of_b)):
        if of is None:
            return row.get("why") or "fewer than two groups, or the value is not defined without one of them"
    if a["n"] != b["n"] or len(of_a.influence) != len(of_b.influence):
        return f"not of the same utterances: {a['n']} and {b['n']} values"
    return None


def bootstrap_p(difference: float, influence: np.ndarray, drawn: np.ndarray) -> float:
    """Two-sided p of a difference whose groups have these influences [G]: the share of draws, the data's own among
    them, whose studentised mean [R] is as large (Hall and Wilson, Biometrics 47, 1991). 1 for no difference."""
    error = standard_error(influence)
    if difference == 0 or error == 0:
        return float(difference == 0)
    return float((1 + np.sum(drawn >= abs(difference) / error)) / (1 + len(drawn)))


def behind(rows: Sequence[dict], tests: Sequence[dict]) -> list[dict]:
    """The rows of models that differ from the best of their metric by all `tests` of the pair. The best is nearest to 1
    for ratios, else the least."""
    rows, found = models(rows), []
    pairs: dict[tuple, list[bool]] = {}
    for t in tests:
        key = (t["feature"], t["metric"], frozenset((t["a"], t["b"])))
        pairs.setdefault(key, []).append(significant(t))
    for feature, metric in {key[:2]: None for key in pairs}:
        of = [r for r in rows if (r["feature"], r["metric"]) == (feature, metric) and r["value"] is not None]
        of.sort(key=lambda r: abs(r["value"] - 1) if r["metric"].endswith("ratio") else r["value"])
        for row in of[1:]:
            pair = frozenset((system(row, rows), system(of[0], rows)))
            found += [row] * all(pairs.get((feature, metric, pair), [False]))
    return found


def significant(test: dict) -> bool:
    return test["p_holm"] is not None and test["p_holm"] < ALPHA


def table(tests: Sequence[dict], digits: int | None = 3) -> tuple[list[str], list[list[str]]]:
    """Header and cells; numbers to so many significant digits (None: all), STAR where p_holm is below ALPHA."""

    def number(x: float | None) -> str:
        return "" if x is None else repr(x) if digits is None else f"{x:.{digits}g}"

    header = ["feature", "metric", "a", "b", "a - b", "low", "high", "n", "test", "p", "p (Holm)", "", "why"]
    cells = [
        [t["feature"], t["metric"], t["a"], t["b"], *map(number, (t["difference"], t["low"], t["high"])), str(t["n"]),
         t["test"], number(t["p"]), number(t["p_holm"]), STAR * significant(t),
         t.get("why", "")]
        for t in tests
    ]  # fmt: skip
    return header, cells


def paired(a: np.ndarray, b: np.ndarray) -> dict:
    """n, difference, and Wilcoxon's and Student's statistics with two-sided p-values of pairs [n]; those with a NaN are
    left out. None and `why` for fewer than two pairs, or differences that are all equal."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    row = {"n": len(a), "difference": float((a - b).mean()) if len(a) else None}
    row |= dict.fromkeys(("wilcoxon", "wilcoxon_p", "t", "t_p"))
    if len(a) < 2:
        return row | {"why": f"{len(a)} pairs are too few to test"}
    if np.ptp(a - b) == 0:
        return row | {"why": "all differences are equal"}
    rank, t = stats.wilcoxon(a, b), stats.ttest_rel(a, b)
    found = {"wilcoxon": rank.statistic, "wilcoxon_p": rank.pvalue, "t": t.statistic, "t_p": t.pvalue}
    return row | {name: float(x) for name, x in found.items() if math.isfinite(x)}


def adjust(rows: list[dict], p: str) -> None:
    """Adds `{p}_holm` to each row: `p` corrected for all rows that have one."""
    tested = [row for row in rows if row[p] is not None]
    for row in rows:
        row[f"{p}_holm"] = None
    for row, value in zip(tested, holm([row[p] for row in tested]), strict=True):
        row[f"{p}_holm"] = value


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-Bonferroni: p-values adjusted for their number (Holm, Scand. J. Stat. 6, 1979)."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()
