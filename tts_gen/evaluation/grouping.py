"""What the bootstrap resamples, numbered."""

from collections.abc import Sequence

import numpy as np

MOST = 512
"""Groups; more are put together at random into so many, so that neither memory nor time of an interval grows with their
number. Its expected width stays, since whole groups are still what is drawn; that width is then known to 3 %."""


def grouped(labels: Sequence) -> tuple[np.ndarray, int]:
    """The number [n] of the group that each label stands for, and how many groups there are."""
    names, index = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) <= MOST:
        return index, len(names)
    return (np.random.default_rng(0).permutation(len(names)) % MOST)[index], MOST
