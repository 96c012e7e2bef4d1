"""Bootstrap intervals against the definitions, recomputation on resampled groups, and their coverage."""

import numpy as np
import pytest

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


def test_draws_equal_recomputation_on_resampled_groups(rng):
    x, y, group = rng.standard_normal((3, 60)), rng.standard_normal(60), np.arange(60) // 10
    pool = Pool("log_f0", x, y, np.arange(60), group, n_boot=30)
    values = []
    for w in pool.weights:
        at = np.concatenate([np.flatnonzero(group == g) for g in range(6) for _ in range(int(w[g]))])
        values.append(metrics.std_ratio(x[:, at], y[at]))
    assert (pool.std_ratio().low, pool.std_ratio().high) == pytest.approx(bootstrap.spread(np.array(values)))


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
    assert 0.89 <= covered / 300 <= 0.98


def test_js_interval_is_not_moved_by_its_own_bias(rng):
    x, y = rng.standard_normal((1, 600)), rng.standard_normal(600)
    found = Pool("log_f0", x, y, np.arange(600), np.arange(600)).js()
    assert 0 <= found.low < found.value < found.high


def test_halves_of_equal_distributions_match_the_floor(rng):
    x, y = rng.standard_normal((8, 2000)), rng.standard_normal(2000)
    pool = Pool("log_f0", x, y, np.arange(2000), np.arange(2000) // 10)
    assert pool.js_half().value == pytest.approx(pool.floor("js").value, rel=0.15)
    assert pool.js().value < 0.7 * pool.js_half().value, "half the data, twice the bias"
