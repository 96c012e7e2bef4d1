"""Many groups are put together so that intervals stay what they are."""

import numpy as np
import pytest

from tts_gen.evaluation.bootstrap import draws, group_sums, interval
from tts_gen.evaluation.grouping import MOST, grouped


def test_few_groups_are_numbered_in_the_order_of_their_names():
    index, count = grouped(["b", "a", "b", "c"])
    assert index.tolist() == [1, 0, 1, 2] and count == 3


def test_a_group_is_never_torn():
    labels = np.random.default_rng(0).integers(0, 3 * MOST, 20_000)
    index, count = grouped(labels)
    assert count == MOST == len(np.unique(index))
    assert all(len(np.unique(index[labels == label])) == 1 for label in range(0, 3 * MOST, 17))
    sizes = np.unique(index[np.unique(labels, return_index=True)[1]], return_counts=True)[1]
    assert np.ptp(sizes) <= 1, "alike in their number of groups"


def test_intervals_keep_their_width():
    """Of a mean over 5,000 groups of 3 values that have something in common: known in closed form."""
    rng, n = np.random.default_rng(0), 5000
    values = (rng.normal(0, 1, (n, 1)) + rng.normal(0, 1, (n, 3))).ravel()
    index, count = grouped(np.repeat(np.arange(n), 3))
    sums = [group_sums(x, index, count) for x in (values, np.ones(3 * n))]
    found = interval(lambda a, b: a / b, sums, draws(count, 1000, 0))
    expected = 2 * 1.96 * np.sqrt((1 + 1 / 3) / n)
    assert found.high - found.low == pytest.approx(expected, rel=0.12)
