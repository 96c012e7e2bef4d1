"""Statistics of utterances, differences, and the dependence of f0 and duration, against brute force."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from tts_gen.evaluation import dependence, utterance_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_statistics_by_brute_force(rng):
    utterance = np.repeat([7, 3, 5], (9, 4, 12))
    x, position = rng.standard_normal((2, 25)), np.sort(rng.choice(40, 25, replace=False))
    found = {f: utterance_metrics.statistic(f, x, position, utterance) for f in utterance_metrics.MEANING}
    for k in range(2):
        for u, name in enumerate((7, 3, 5)):
            v, p = x[k, utterance == name], position[utterance == name]
            expected = {
                "utt_mean_log_f0": v.mean(),
                "utt_range_log_f0": v.max() - v.min(),
                "utt_slope_log_f0": np.polyfit(p, v, 1)[0],
                "utt_final_log_f0": v[-1] - v[-4:-1].mean(),
            }
            assert {f: found[f][k, u] for f in expected} == pytest.approx(expected)
    seconds = np.abs(x) + 0.01
    rate = utterance_metrics.statistic("utt_rate", seconds, position, utterance)
    assert rate[1] == pytest.approx([(utterance == u).sum() / seconds[1, utterance == u].sum() for u in (7, 3, 5)])


def test_shift_moves_the_mean_and_nothing_else(rng):
    utterance, position = np.arange(40) // 8, np.arange(40)
    x = rng.standard_normal(40)
    for feature in list(utterance_metrics.MEANING)[:4]:
        before, after = (utterance_metrics.statistic(feature, v, position, utterance) for v in (x, x + 3))
        assert after - before == pytest.approx(3 if feature == "utt_mean_log_f0" else 0)


def test_short_utterances_are_left_out():
    utterance = np.repeat([0, 1, 2], (5, 3, 6))
    valid = np.array([True] * 5 + [True] * 3 + [True] * 3 + [False] * 3)
    assert utterance_metrics.long_enough(utterance, valid).tolist() == [True] * 5 + [False] * 9
    assert len(utterance_metrics.starts(np.zeros(0, int))) == 0


def cells(a, b):
    return np.bincount(dependence.rank_cells(a, b), minlength=16).astype(float)


def test_mutual_information_against_scikit_learn(rng):
    a = rng.standard_normal(1000)
    b = a**2 + 0.3 * rng.standard_normal(1000)  # no correlation to speak of
    quartile = lambda x: np.digitize(x, np.quantile(x, (0.25, 0.5, 0.75)))  # noqa: E731
    bias = 9 / (2 * 1000 * np.log(2))
    expected = mutual_info_score(quartile(a), quartile(b)) / np.log(2) - bias
    assert dependence.mutual_information(cells(a, b)) == pytest.approx(expected, abs=0.01)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.15 < dependence.mutual_information(cells(a, b))
    assert dependence.mutual_information(cells(a, a)) == pytest.approx(2 - bias)


def test_mutual_information_of_independent_features_is_nought_at_any_size(rng):
    for n in (100, 1000):
        drawn = [dependence.mutual_information(cells(*rng.standard_normal((2, n)))) for _ in range(300)]
        assert np.mean(drawn) == pytest.approx(0, abs=0.15 * 9 / (2 * n * np.log(2)))


def test_copula_js_sees_the_sign_and_no_marginal(rng):
    a, e = rng.standard_normal((2, 4000))
    same, other = cells(a, a + e), cells(a, -a + e)
    assert dependence.mutual_information(same) == pytest.approx(dependence.mutual_information(other), abs=0.03)
    assert dependence.copula_js(same, other) > 0.1
    assert dependence.copula_js(same, cells(np.exp(a), (a + e) ** 3)) == 0


def test_ties_of_whole_frames_carry_no_information(rng):
    frames, a = rng.integers(2, 5, 3000), rng.standard_normal(3000)
    found = dependence.mutual_information(cells(a, dependence.dequantised(frames)))
    assert abs(found) < 0.006
    assert (np.floor(dependence.dequantised(frames)) == frames).all()
