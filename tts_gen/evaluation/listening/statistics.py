"""Post-screening, means and paired tests of ratings [L listeners, U utterances, S signals], NaN where there is none."""

from itertools import combinations

import numpy as np
from scipy import stats

from tts_gen.evaluation.significance import adjust, paired

HIDDEN_BELOW = ANCHOR_ABOVE = 90
"""rating (BS.1534-3, 4.1.2)"""
SHARE = 0.15
"""of a listener's items, above which the listener is excluded"""
DEGRADED = 0.25
"""of the listeners: where more rate an item's mid anchor above ANCHOR_ABOVE, the anchor hardly degraded it"""
SCREENING = (
    "Post-screening by ITU-R BS.1534-3, 4.1.2: a listener is excluded who rates the hidden reference below "
    f"{HIDDEN_BELOW} in more than {SHARE:.0%} of the items, or the mid anchor above {ANCHOR_ABOVE} in more than "
    f"{SHARE:.0%} of the items; items whose mid anchor more than {DEGRADED:.0%} of all listeners rate above "
    f"{ANCHOR_ABOVE} exclude nobody by the second rule."
)


def screen(hidden: np.ndarray, mid: np.ndarray | None) -> list[str | None]:
    """Why each listener is excluded, or None. hidden, mid: ratings [L, U] of hidden reference and mid anchor."""
    why: list[str | None] = [None] * len(hidden)
    if mid is not None:
        rated, high = np.isfinite(mid), mid > ANCHOR_ABOVE
        counts = high.sum(axis=0) <= DEGRADED * rated.sum(axis=0)
        for i, (bad, n) in enumerate(zip((high & counts).sum(axis=1), rated.sum(axis=1), strict=True)):
            if bad > SHARE * n:
                why[i] = f"mid anchor above {ANCHOR_ABOVE} in {bad} of {n} items"
    low, rated = (hidden < HIDDEN_BELOW).sum(axis=1), np.isfinite(hidden).sum(axis=1)
    for i, (bad, n) in enumerate(zip(low, rated, strict=True)):
        if bad > SHARE * n:
            why[i] = f"hidden reference below {HIDDEN_BELOW} in {bad} of {n} items"
    return why


def listener_means(ratings: np.ndarray) -> np.ndarray:
    """[L, U, S] -> [L, S], over the utterances that the listener rated; NaN where none."""
    n = np.isfinite(ratings).sum(axis=1)
    return np.nansum(ratings, axis=1) / np.where(n, n, np.nan)


def mean_interval(values: np.ndarray) -> dict:
    """Mean of the listeners' means, and its 95 % t interval over listeners: they are the sample from a population."""
    values = values[np.isfinite(values)]
    row = {"mean": None, "low": None, "high": None, "listeners": len(values)}
    if not len(values):
        return row | {"why": "no listener is left"}
    mean = float(values.mean())
    if len(values) < 2:
        return row | {"mean": mean, "why": "one listener gives no interval"}
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return row | {"mean": mean, "low": mean - half, "high": mean + half}


def paired_rows(ratings: np.ndarray, names: list[str]) -> list[dict]:
    """Every pair of signals, tested on single ratings (a pair is one listener's ratings of one utterance) and on
    listeners' means. Holm-Bonferroni over the pairs, for each test and unit by itself."""
    flat = {"ratings": ratings.reshape(-1, len(names)), "listeners": listener_means(ratings)}
    rows = [
        {"a": names[a], "b": names[b], "unit": unit} | paired(values[:, a], values[:, b])
        for unit, values in flat.items()
        for a, b in combinations(range(len(names)), 2)
    ]
    for unit in flat:
        for test in ("wilcoxon", "t"):
            adjust([row for row in rows if row["unit"] == unit], f"{test}_p")
    return rows


def preference_rows(preferred: dict[tuple[str, str], np.ndarray]) -> list[dict]:
    """Sign tests: (a, b) -> answers [L, U], 1 where a was preferred, 0 where b, 0.5 where neither, NaN where none.

    Answers without a preference are counted and left out of share and test (the sign test's usual way). Unit
    `listeners`: each listener once, by the side preferred more often. Interval of the share: Wilson."""
    rows = []
    for (a, b), answers in preferred.items():
        for unit, values in (("ratings", answers.ravel()), ("listeners", _sides(answers))):
            wins, ties, losses = (int((values == x).sum()) for x in (1, 0.5, 0))
            row = {"a": a, "b": b, "unit": unit, "prefer_a": wins, "no_preference": ties, "prefer_b": losses}
            if not wins + losses:
                rows.append(row | dict.fromkeys(("share", "low", "high", "p")) | {"why": "nobody had a preference"})
                continue
            test = stats.binomtest(wins, wins + losses)
            low, high = test.proportion_ci(0.95, "wilson")
            rows.append(
                row | {"share": wins / (wins + losses), "low": float(low), "high": float(high), "p": float(test.pvalue)}
            )
    for unit in ("ratings", "listeners"):
        adjust([row for row in rows if row["unit"] == unit], "p")
    return rows


def _sides(answers: np.ndarray) -> np.ndarray:
    net = np.nansum(answers - 0.5, axis=1)
    return np.where(np.isfinite(answers).any(axis=1), (np.sign(net) + 1) / 2, np.nan)
