"""Random numbers by utterance: the same however a batch is split, and of the right distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tts_gen import draws
from tts_gen.draws import Rows

KEY = jax.random.key(0)
DRAWS = {
    "normal": lambda rng, n: draws.normal(rng, (n, 5, 2)),
    "uniform": lambda rng, n: draws.uniform(rng, (n, 3)),
    "stratified": draws.stratified,
    "dropout": lambda rng, n: jnp.stack(draws.dropout_masks(rng, 0.3, 3, (n, 4, 6)), 1),
    "split": lambda rng, n: draws.normal(draws.split(rng, 3)[1], (n, 2)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_row_draws_the_same_in_any_part_of_its_batch(draw):
    whole = draw(KEY, 8)
    for rows in ([0, 1, 2, 3], [5], [7, 2, 4]):
        part = draw(Rows(KEY, jnp.array(rows), 8), len(rows))
        np.testing.assert_array_equal(part, whole[jnp.array(rows)])
    assert len(np.unique(np.asarray(whole).reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("draw, distribution", [("normal", stats.norm), ("uniform", stats.uniform)])
def test_distributions(draw, distribution):
    found = np.asarray(getattr(draws, draw)(KEY, (1000, 20)))
    assert stats.kstest(found.ravel(), distribution.cdf).pvalue > 0.01
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.03


def test_stratified_draws_are_spread_evenly_and_uniform_for_each_row():
    found = np.array([draws.stratified(jax.random.key(i), 4) for i in range(500)])
    assert set(np.floor(4 * np.sort(found, 1)).astype(int).sum(1)) == {6}  # one in each quarter
    assert all(stats.kstest(row, "uniform").pvalue > 0.01 for row in found.T)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean(rate):
    masks = draws.dropout_masks(KEY, rate, 3, (50, 100))
    assert len(masks) == 3
    for mask in masks:
        kept = np.asarray(mask) > 0
        assert np.unique(np.asarray(mask)).size == 2
        assert abs(1 - kept.mean() - rate) < 0.02
        assert abs(mask.mean() - 1) < 0.05
    assert not np.array_equal(masks[0], masks[1])


def test_no_dropout_in_evaluation():
    assert draws.dropout_masks(None, 0.5, 2, (3,)) == [1.0, 1.0] == draws.dropout_masks(KEY, 0.0, 2, (3,))
