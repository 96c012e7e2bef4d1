"""Every metric against an independent reference: scipy, a closed form, or brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tts_gen.evaluation import metrics, scores, utterance_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_js_is_scipys_distance_squared(rng):
    x, y = rng.standard_normal(2000), rng.standard_normal(2000) * 1.3 + 0.2
    edges = metrics.edges_for("log_f0", y)
    clipped = np.clip(edges, -1e9, 1e9)
    expected = jensenshannon(np.histogram(x, clipped)[0], np.histogram(y, clipped)[0], base=2) ** 2
    assert metrics.js(x, y, edges) == pytest.approx(expected, rel=1e-12)
    assert metrics.js(x, x, edges) == 0


def test_js_of_distributions_without_overlap_is_one_bit():
    edges = np.array([-np.inf, 0, 1, 2, np.inf])
    assert metrics.js(np.full(100, 5.0), np.linspace(0, 1.9, 100), edges) == pytest.approx(1)


def test_stated_small_sample_bias_of_js(rng):
    y = rng.random((60, 1000))  # uniform: all 50 inner bins alike
    edges = metrics.edges_for("log_f0", y)
    measured = np.mean([metrics.js(a, b, edges) for a, b in zip(y[::2], y[1::2])])
    assert measured == pytest.approx(49 * (2 / 1000) / (8 * np.log(2)), rel=0.08)


@pytest.mark.parametrize("clustered", [False, True])
def test_jackknife_takes_the_bias_of_js_away(clustered):
    """With clusters, groups are independent and positions are not: the stated bias is too small then."""
    rng = np.random.default_rng(3)
    group = np.arange(600) // (10 if clustered else 1)
    plain, debiased = [], []
    for _ in range(60):
        a, b = (rng.standard_normal(600) + (2 * rng.standard_normal(60)[group] if clustered else 0) for _ in range(2))
        edges = metrics.edges_for("utt_rate", b)
        plain.append(metrics.js(a, b, edges))
        debiased.append(metrics.js_debiased(a, b, edges, group))
    stated = (len(edges) - 3) * (2 / 600) / (8 * np.log(2))
    assert np.mean(plain) == pytest.approx(stated, rel=0.15) if not clustered else np.mean(plain) > 3 * stated
    assert abs(np.mean(debiased)) < 0.2 * np.mean(plain)


def test_js_debiased_of_distributions_that_differ(rng):
    """The truth from many values; at 500 of them js is too high by far more than what the jackknife leaves."""

    def sets(n):
        return rng.standard_normal(n), rng.standard_normal(n) * 1.5

    edges = metrics.edges_for("log_f0", sets(10_000)[1])
    truth = metrics.js(*sets(2_000_000), edges)
    drawn = [sets(500) for _ in range(100)]
    found = np.mean(
        [[metrics.js(*s, edges), metrics.js_debiased(*s, edges, np.arange(500) // 5)] for s in drawn], axis=0
    )
    assert found[0] - truth > 0.01 and abs(found[1] - truth) < 0.2 * (found[0] - truth)


def test_energy_distance_by_brute_force_and_for_gaussians(rng):
    x, y = rng.standard_normal((3, 60)), rng.standard_normal(40) + 0.5
    apart = lambda a, b: np.abs(a[:, None] - b[None]).mean()  # noqa: E731
    brute = [2 * apart(a, y) - apart(a, a) - apart(y, y) for a in x[:, :40]]
    assert metrics.energy_distance(x[:, :40], y) == pytest.approx(np.mean(brute))
    x, y = rng.standard_normal(100_000), 2 * rng.standard_normal(100_000)
    closed = 2 * np.sqrt(2 * 5 / np.pi) - np.sqrt(4 / np.pi) - np.sqrt(4 * 4 / np.pi)
    assert metrics.energy_distance(x, y) == pytest.approx(closed, rel=0.03)


def test_moments_are_scipys(rng):
    x = rng.gamma(2.0, size=(3, 500))
    assert metrics.skewness(x) == pytest.approx(stats.skew(x, axis=1).mean())
    assert metrics.kurtosis(x) == pytest.approx(stats.kurtosis(x, axis=1).mean())
    assert math.isnan(metrics.skewness(np.ones(5))) and math.isnan(metrics.kurtosis(np.ones(5)))


def test_edges():
    frames = np.repeat(np.arange(1, 21), 100)
    assert metrics.edges_for("duration", frames)[1:-1] == pytest.approx(np.arange(0.5, 21))
    assert metrics.edges_for("log_f0", np.arange(1001.0))[[1, -2]] == pytest.approx([1, 999])
    assert len(metrics.edges_for("log_f0", np.ones(9))) == metrics.BINS + 3, "a constant oracle still has bins"


def test_gaussian_closed_forms(rng):
    oracle, noise = rng.standard_normal(200_000), rng.standard_normal((2, 200_000))
    generated = 0.5 * oracle + 0.5 * noise
    assert metrics.std(generated) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert metrics.std_ratio(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert scores.rmse(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert scores.mae(generated, oracle) == pytest.approx(np.sqrt(0.5) * np.sqrt(2 / np.pi), rel=0.01)
    assert scores.correlation(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_fair_crps_of_a_gaussian(rng):
    y = np.linspace(-2, 2, 9)
    closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert scores.crps_terms(rng.standard_normal((40_000, 9)), y) == pytest.approx(closed, abs=0.012)
    few = [scores.crps(rng.standard_normal((3, 9)), y) for _ in range(4000)]
    assert np.mean(few) == pytest.approx(closed.mean(), abs=0.012), "no bias at K = 3"


def test_crps_by_brute_force_and_of_a_point(rng):
    x, y = rng.standard_normal((5, 30)), rng.standard_normal(30)
    gaps = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (5 * 4)
    assert scores.crps_terms(x, y) == pytest.approx(np.abs(x - y).mean(axis=0) - gaps / 2)
    assert scores.crps(x[0], y) == pytest.approx(scores.mae(x[0], y))


def test_best_of_k_by_brute_force(rng):
    x, y, utterance = rng.standard_normal((8, 50)), rng.standard_normal(50), np.sort(rng.integers(0, 7, 50))
    best = [
        min(np.sqrt(np.mean((s[utterance == u] - y[utterance == u]) ** 2)) for s in x) for u in np.unique(utterance)
    ]
    assert scores.best_of_k(x, y, utterance) == pytest.approx(np.mean(best))


def test_energy_score_by_brute_force_and_in_one_dimension(rng):
    x, y, utterance = rng.standard_normal((4, 30)), rng.standard_normal(30), np.arange(30) // 6
    brute = []
    for u in range(5):
        at = utterance == u
        norm = lambda v, at=at: np.sqrt(np.mean(v[..., at] ** 2, axis=-1))  # noqa: E731
        brute.append(norm(x - y).mean() - norm(x[:, None] - x[None]).sum() / (4 * 3) / 2)
    assert scores.energy_scores(x, y, utterance)[0] == pytest.approx(brute)
    assert scores.energy_score(x, y, np.arange(30)) == pytest.approx(scores.crps(x, y)), (
        "of one position it is the CRPS"
    )
    assert scores.energy_score(x[0], y, utterance) == pytest.approx(scores.best_of_k(x[:1], y, utterance))
    assert math.isnan(scores.energy_score(x[:1], y, utterance))


def test_energy_score_does_not_depend_on_k_and_sees_what_moves_together(rng):
    """Samples that share their noise over an utterance, as the oracle does, beat independent noise of the same size."""
    utterance = np.arange(4000) // 10
    together = lambda k: np.repeat(rng.standard_normal((k, 400)), 10, axis=1)  # noqa: E731
    y = together(1)[0]
    alike = [
        np.mean([scores.energy_score(together(k), y, utterance) for _ in range(n)]) for k, n in ((2, 40), (16, 10))
    ]
    assert alike[0] == pytest.approx(alike[1], rel=0.03)
    assert alike[1] < 0.95 * scores.energy_score(rng.standard_normal((16, 4000)), y, utterance)


def test_diversity(rng):
    assert scores.diversity(rng.standard_normal((400, 500)) * 0.7) == pytest.approx(0.7, rel=0.01)
    assert scores.diversity(rng.standard_normal(5)) == 0
    assert math.isnan(scores.diversity(rng.standard_normal((1, 5))))


def test_differences_stay_within_utterances_and_skip_what_is_not_valid():
    x = np.array([[1.0, 2, 9, 4, 10, 20], [0, 1, 9, 5, 0, -1]])
    valid = np.array([True, True, False, True, True, True])
    found = utterance_metrics.differences(x, np.array([0, 0, 0, 0, 1, 1]), valid)
    assert found.tolist() == [[1, 2, 10], [1, 4, -1]]


def test_empty_pool_is_refused():
    for call in (scores.rmse, metrics.std_ratio, metrics.wasserstein, metrics.energy_distance):
        with pytest.raises(ValueError, match="n >= 1"):
            call(np.zeros((8, 0)), np.zeros(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.1, 4))
def test_shift_scale_and_order(seed, shift, scale):
    rng = np.random.default_rng(seed)
    x, y, utterance = rng.standard_normal((4, 40)), rng.standard_normal(40), np.arange(40) // 8
    moved, order = (x * scale + shift, y * scale + shift), rng.permutation(40)
    for metric in (scores.rmse, scores.mae, scores.crps, metrics.wasserstein):
        assert metric(*moved) == pytest.approx(metric(x, y) * scale)
        assert metric(x[:, order], y[order]) == pytest.approx(metric(x, y))
    assert metrics.energy_distance(x, y) >= 0
    assert metrics.energy_distance(*moved) == pytest.approx(metrics.energy_distance(x, y) * scale)
    assert metrics.skewness(moved[0]) == pytest.approx(metrics.skewness(x), abs=1e-6)
    assert metrics.kurtosis(moved[0]) == pytest.approx(metrics.kurtosis(x), abs=1e-6)
    of = [scores.energy_score(*pair, utterance) for pair in (moved, (x, y))]
    assert of[0] == pytest.approx(of[1] * scale)
    blocks = np.arange(40).reshape(5, 8)[rng.permutation(5)].ravel()  # utterances in another order
    assert scores.energy_score(x[:, blocks], y[blocks], utterance[blocks]) == pytest.approx(of[1])
    assert metrics.std_ratio(*moved) == pytest.approx(metrics.std_ratio(x, y))
    assert scores.correlation(*moved) == pytest.approx(scores.correlation(x, y))
    assert scores.best_of_k(x[::-1], y, utterance) == pytest.approx(scores.best_of_k(x, y, utterance))
    assert scores.best_of_k(x, y, utterance) <= scores.best_of_k(x[:1], y, utterance)
