"""Bootstrap intervals against the definitions, recomputation without groups, Student's, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from tts_gen.evaluation import bootstrap, metrics, scores
from tts_gen.evaluation.pool import Pool


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_estimates_equal_the_definitions(rng):
    x, y, utterance = rng.standard_normal((8, 300)), rng.standard_normal(300), np.arange(300) // 10
    pool = Pool("log_f0", x, y, utterance, utterance // 3)
    edges = metrics.edges_for("log_f0", y)
    expected = {name: getattr(metrics, name)(x, y) for name in ("std_ratio", "wasserstein", "energy_distance")}
    expected |= {name: getattr(scores, name)(x, y) for name in ("rmse", "mae", "correlation", "crps")}
    expected |= {name: getattr(scores, name)(x, y, utterance) for name in ("best_of_k", "energy_score")}
    expected |= {name: getattr(metrics, name)(x) for name in ("std", "skewness", "kurtosis")}
    expected |= {f"{m}_difference": expected[m] - getattr(metrics, m)(y) for m in ("skewness", "kurtosis")}
    expected |= {"diversity": scores.diversity(x), "js": metrics.js(x, y, edges)}
    expected["js_debiased"] = metrics.js_debiased(x, y, edges, utterance // 3)
    for name, value in expected.items():
        found = getattr(pool, name)()
        assert found.value == pytest.approx(value, rel=1e-9), name
        assert found.low < found.value < found.high, name


def test_influences_equal_recomputation_without_each_group(rng):
    x, y, group = rng.standard_normal((3, 60)), rng.standard_normal(60), np.arange(60) // 10
    found = Pool("log_f0", x, y, np.arange(60), group).std_ratio()
    without = np.array([metrics.std_ratio(x[:, group != g], y[group != g]) for g in range(6)])
    np.testing.assert_allclose(found.groups.influence, 5 * (without.mean() - without), atol=1e-12)
    alone = [metrics.std_ratio(x[:, group == g], y[group == g]) for g in range(6)]
    np.testing.assert_allclose(found.groups.alone, alone)


def test_a_mean_has_students_error_and_nearly_his_interval(rng):
    values = rng.standard_normal(40)
    weights = bootstrap.draws(40, 20_000, 0)
    found = bootstrap.interval(metrics.ratio, [values, np.ones(40)], weights)
    assert bootstrap.standard_error(found.groups.influence) == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_draws_resample_groups():
    drawn = bootstrap.draws(7, 500, 0)
    assert drawn.shape == (500, 7) and (drawn.sum(axis=1) == 7).all() and drawn is bootstrap.draws(7, 500, 0)
    assert (drawn != bootstrap.draws(7, 500, 1)).any()


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_few_groups_have_no_interval(groups, rng):
    x, y = rng.standard_normal((2, 12)), rng.standard_normal(12)
    found = Pool("log_f0", x, y, np.arange(12), np.arange(12) % groups).rmse()
    assert found.value > 0 and np.isnan(found.low) and np.isnan(found.high)


def test_constants_have_an_interval_of_no_width():
    found = Pool("log_f0", np.ones(60), np.zeros(60), np.arange(60), np.arange(60) // 6).rmse()
    assert found[:3] == (1, 1, 1)


def test_a_value_that_one_group_carries_has_no_interval():
    y = np.where(np.arange(60) < 10, np.arange(60), 0.0)
    found = Pool("log_f0", y * 2, y, np.arange(60), np.arange(60) // 10).std_ratio()
    assert found.value == pytest.approx(2) and np.isnan(found.low) and found.groups is None


def test_interval_of_a_mean_covers_the_truth():
    """Group means vary, so positions are not independent: an interval over positions would cover far less."""
    covered = 0
    for trial in range(300):
        rng = np.random.default_rng(trial)
        group = np.arange(400) // 10
        error = np.repeat(rng.standard_normal(40), 10) + 0.3 * rng.standard_normal(400)
        pool = Pool("log_f0", 10 + error, np.zeros(400), np.arange(400), group, n_boot=300, seed=trial)
        found = pool.mae()
        covered += found.low <= 10 <= found.high
    assert 0.92 <= covered / 300 <= 0.98


def test_js_interval_is_not_moved_by_its_own_bias(rng):
    x, y = rng.standard_normal((1, 600)), rng.standard_normal(600)
    found = Pool("log_f0", x, y, np.arange(600), np.arange(600)).js()
    assert 0 <= found.low < found.value < found.high


def test_halves_of_equal_distributions_match_the_floor(rng):
    x, y = rng.standard_normal((8, 2000)), rng.standard_normal(2000)
    pool = Pool("log_f0", x, y, np.arange(2000), np.arange(2000) // 10)
    assert pool.js_half().value == pytest.approx(pool.floor("js").value, rel=0.15)
    assert pool.js().value < 0.7 * pool.js_half().value, "half the data, twice the bias"
