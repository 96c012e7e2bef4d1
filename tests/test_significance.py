"""Paired tests: against scipy, an exhaustive bootstrap, permutations, and the laws that they must obey."""

import io
import itertools

import numpy as np
import pytest
from evaluated import IDENTITY, world
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from tts_gen.evaluation import bootstrap, rows, significance
from tts_gen.evaluation.bootstrap import Groups
from tts_gen.evaluation.headline import STARRED, headline, print_tables
from tts_gen.evaluation.metrics import ratio
from tts_gen.evaluation.prosody import prosody_rows

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=7)


def row(family, values, metric="rmse", count=None, n=None):
    """Sum of the values of each group over sum of their counts, 1 by default."""
    values = np.asarray(values, float)
    sums = [values, np.ones(len(values)) if count is None else count]
    estimate = bootstrap.interval(ratio, sums, bootstrap.draws(len(values), 200, 0))
    identity = IDENTITY | {"family": family, "run": family}
    return rows.make_row(identity, "log_f0", metric, **estimate._asdict(), n=n or len(values))


def only(found, test):
    (of,) = [t for t in found if t["test"] == test]
    return of


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@given(P_VALUES)
def test_holm_never_lowers_p_keeps_their_order_and_stays_below_bonferroni(p):
    adjusted = significance.holm(p)
    assert all(a >= b for a, b in zip(adjusted, p)) and all(a <= min(1, b * len(p)) for a, b in zip(adjusted, p))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
    higher = significance.holm([min(1, x + 0.1) for x in p])
    assert all(a >= b for a, b in zip(higher, adjusted))


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_swapping_a_pair_flips_the_sign_and_nothing_else(pairs):
    a, b = np.array(pairs).T
    there, back = significance.paired(a, b), significance.paired(b, a)
    assert there["difference"] == pytest.approx(-back["difference"])
    for name in ("wilcoxon_p", "t_p"):
        assert (there[name] is None) == (back[name] is None)
        assert there[name] is None or there[name] == pytest.approx(back[name])


@pytest.mark.parametrize("metric", ["rmse", "std_ratio"])
def test_swapping_systems_flips_difference_and_interval(metric, rng):
    a, b = (row(name, rng.standard_normal(20), metric) for name in ("flow", "l2"))
    for there, back in zip(significance.differences([a, b]), significance.differences([b, a]), strict=True):
        assert (there["a"], there["b"]) == (back["b"], back["a"]) == ("flow", "l2")
        assert there["difference"] == -back["difference"] and there["p"] == pytest.approx(back["p"])
        assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-9, 9), min_size=4, max_size=30))
def test_identical_systems_are_never_different(values):
    for metric in ("rmse", "js"):
        found = significance.differences([row("flow", values, metric), row("l2", values, metric)])
        assert not any(map(significance.significant, found)) and all(t["difference"] == 0 for t in found)
        assert all(t["p"] == 1 if t["test"] == "bootstrap" else "all differences are equal" in t["why"] for t in found)


def test_per_utterance_tests_are_scipys_on_groups(rng):
    a, b = rng.standard_normal((2, 25))
    found = significance.differences([row("flow", a), row("l2", b)])
    assert only(found, "wilcoxon")["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert only(found, "t")["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert all(t["difference"] == pytest.approx(a.mean() - b.mean()) and t["n"] == 25 for t in found)


def test_bootstrap_p_is_that_of_all_resamples():
    """Five groups have 5^5 equally likely resamples: the exact p, of which draws are a sample."""
    d = np.array([0.9, 1.4, -0.1, 0.8, 1.1])
    influence, n = d - d.mean(), len(d)
    counts = np.array([np.bincount(c, minlength=n) for c in itertools.product(range(n), repeat=n)], float)
    observed = stats.ttest_1samp(d, 0).statistic
    drawn = np.array([np.repeat(influence, c.astype(int)) for c in counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.mean(np.abs(drawn.mean(axis=1)) / stats.sem(drawn, axis=1) >= observed)
    drawn = bootstrap.studentised(influence, bootstrap.draws(n, 50_000, 0))
    found = significance.bootstrap_p(d.mean(), influence, drawn)
    # Weights give a variance over n, scipy's over n - 1: the same by the definition of the standard error.
    assert found == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("size, low, high", [(0.0, 0.02, 0.09), (1.0, 0.9, 1.0)])
def test_bootstrap_errs_as_often_as_it_should(size, low, high):
    """Skewed differences of 30 groups that are 0 on average, and such of one standard deviation."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(300):
        d = rng.exponential(size=30) - 1 + size
        influence = d - d.mean()
        drawn = bootstrap.studentised(influence, bootstrap.draws(30, 499, 0))
        found += significance.bootstrap_p(d.mean(), influence, drawn) < 0.05
    assert low <= found / 300 <= high


@pytest.mark.parametrize("groups", [5, 8, 30])
def test_equal_models_are_rarely_told_apart(groups):
    """However few the groups: 400 times no difference, at the 5 % level."""
    rng, found, count = np.random.default_rng(0), 0, np.full(groups, 20.0)
    for _ in range(400):
        a, b = (row(name, rng.standard_normal(groups), "bits_per_dim", count) for name in "ab")
        found += significance.differences([a, b])[0]["p"] < 0.05
    assert found / 400 < 0.085


def test_a_constant_difference_is_sure_however_much_utterances_vary(rng):
    count = rng.integers(20, 60, 30).astype(float)
    bits = rng.normal(0, 50, 30)
    equal = bits + rng.permutation(np.repeat((-1.0, 1.0), 15))
    of = {"a": bits, "better": bits - 0.05 * count, "equal": equal}
    found = significance.differences([row(name, x, "bits_per_dim", count) for name, x in of.items()])
    by = {(d["a"], d["b"]): d for d in found}
    assert by["a", "better"]["difference"] == pytest.approx(0.05)
    assert by["a", "better"]["p_holm"] < 0.01 < 0.05 < by["a", "equal"]["p_holm"]
    assert by["a", "equal"]["low"] < 0 < by["a", "equal"]["high"]


def test_what_is_common_to_all_cancels(rng):
    """Utterances differ by far more than systems do; the difference is sure nevertheless."""
    hard = rng.normal(0, 10, 30)
    a, b = (row(name, hard + shift + 0.1 * rng.standard_normal(30)) for name, shift in (("flow", 0), ("l2", 0.3)))
    assert a["high"] > b["low"], "their own intervals overlap"
    assert all(significance.significant(t) and t["high"] < 0 for t in significance.differences([a, b]))


def test_holm_is_over_the_pairs_of_one_metric_and_test(rng):
    of = [row(name, rng.standard_normal(15) + i, m) for m in ("rmse", "js") for i, name in enumerate("abc")]
    found = significance.differences(of)
    assert len(found) == 3 * 2 + 3
    for test, metric in (("wilcoxon", "rmse"), ("t", "rmse"), ("bootstrap", "js")):
        mine = [t for t in found if (t["test"], t["metric"]) == (test, metric)]
        assert [t["p_holm"] for t in mine] == significance.holm([t["p"] for t in mine])


def test_controls_floor_means_over_seeds_and_parts_are_not_compared(rng):
    of = [row("flow", rng.standard_normal(9)), row("control:shuffled", rng.standard_normal(9))]
    of += [row("floor", rng.standard_normal(9)) | {"run": None}, row("flow", rng.standard_normal(9)) | {"run": None}]
    of += [row("l2", rng.standard_normal(9)) | {"scope": "class:vowel"}]
    assert significance.differences(of) == []


def test_runs_of_one_family_are_told_apart_by_their_folders(rng):
    of = [row(*x) for x in (("flow", rng.standard_normal(9)), ("flow", rng.standard_normal(9)), ("l2", np.ones(9)))]
    of[0]["run"], of[1]["run"] = "runs/x", "runs/y"
    assert {t["a"] + t["b"] for t in significance.differences(of)} == {"xy", "xl2", "yl2"}


def test_what_cannot_be_compared_says_why(rng):
    a, one = row("flow", rng.standard_normal(9)), row("l2", [1.0])
    (test, _) = significance.differences([a, one])
    assert test["p"] is test["p_holm"] is None and "fewer than two groups" in test["why"]
    for other in (row("l2", rng.standard_normal(8)), row("l2", rng.standard_normal(9), n=11)):
        assert "not of the same utterances" in significance.differences([a, other])[0]["why"]
    null = rows.make_row(IDENTITY | {"family": "l2", "run": "l2"}, "log_f0", "rmse", None, why="3 values are lost")
    assert significance.differences([a, null])[0]["why"] == "3 values are lost"
    header, cells = significance.table(significance.differences([a, null]))
    assert all(len(line) == len(header) for line in cells) and cells[0][-1] == "3 values are lost"


def test_constants_never_make_nan(rng):
    oracle, *_ = world(rng, utterances=12)
    flat = Groups(np.zeros(5), np.ones(5))
    of = [row("flow", np.ones(5)) | {"groups": flat, "value": v, "run": str(v)} for v in (1.0, 2.0)]
    assert all(t["difference"] == -1 and t["low"] == t["high"] == -1 for t in significance.differences(of))


def test_the_headline_stars_what_is_behind_the_best(rng):
    oracle, mean, noise = world(rng)
    scaled = {"flow": 1.0, "l2": 0.5, "diffusion": 1.0}
    found = []
    for family, scale in scaled.items():
        of = IDENTITY | {"family": family, "run": family, "temperature": None if family == "l2" else 1.0}
        y = oracle.log_f0 * scale + 0.3 * rng.standard_normal((1 if family == "l2" else 8, len(oracle.log_f0)))
        found += prosody_rows(type(oracle)(**(vars(oracle) | {"log_f0": y})), oracle, of)
    tables = headline(found, "prosody")
    _, header, cells = tables[0]
    std = {line[0]: line[header.index("std ratio")] for line in cells}
    assert std["L2 regression"].split("\n")[0].endswith("*") and "*" not in std["Flow"] + std["Diffusion"]
    out = io.StringIO()
    print_tables(tables, Console(file=out))
    assert "±" in out.getvalue() and STARRED.split(",")[0] in out.getvalue()


def test_groups_are_never_written(tmp_path, rng):
    rows.write([row("flow", rng.standard_normal(9))], tmp_path / "summary.json")
    assert "groups" not in rows.read(tmp_path / "summary.json")[0]
