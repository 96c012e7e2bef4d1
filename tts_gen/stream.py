"""The endless sequence in which a bucket's utterances are drawn, read anywhere."""

import bisect
import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True, eq=False)
class Stream:
    """Shuffled epochs, one after the other without gaps. Of n members with rate r, an epoch draws each at most once:
    in the first e epochs each comes floor(e r) or ceil(e r) times, all together floor(e r n) times."""

    seed: int
    bucket: int
    members: np.ndarray
    parts: tuple[tuple[int, Fraction], ...]
    """(members, rate in 0..1) of each corpus, in the order of `members`"""

    @functools.cached_property
    def per_epoch(self) -> Fraction:
        """Members drawn in an epoch, in the mean."""
        return sum((n * rate for n, rate in self.parts), Fraction())

    def __call__(self, first: int, n: int) -> np.ndarray:
        """Members drawn as entries first .. first + n."""
        found = []
        while n:
            epoch = self._epoch(first)
            start = first - self._start(epoch)
            found.append(self.members[_order(self, epoch)[start : start + n]])
            first, n = first + len(found[-1]), n - len(found[-1])
        return np.concatenate(found)

    def _epoch(self, entry: int) -> int:
        """The one that an entry belongs to."""
        # Rounding down puts the start of an epoch less than one entry a corpus before its mean.
        a, b = self.per_epoch.as_integer_ratio()
        epochs = range(entry * b // a, (entry + len(self.parts)) * b // a + 2)
        return epochs[bisect.bisect_right(epochs, entry, key=self._start) - 1]

    def _start(self, epoch: int) -> int:
        """Entries before an epoch."""
        return sum(epoch * n * rate.numerator // rate.denominator for n, rate in self.parts)

    def drawn(self, epoch: int) -> np.ndarray:
        """Places among the members that an epoch draws, ascending.

        With phases k / n, k = 0 .. n - 1, the sum of floor(e r + k / n) is floor(e r n) (Hermite's identity), which is
        why `_start` need not look at any epoch.
        """
        found, begin = [], 0
        for part, (n, rate) in enumerate(self.parts):
            a, b = rate.as_integer_ratio()
            if a == b:
                places = np.arange(n)
            else:
                phase = epoch * a % b * n + b * shuffled((self.seed, 3, self.bucket, part), n).astype(np.int64)
                places = np.flatnonzero((phase + a * n) // (b * n) > phase // (b * n))
            found.append(begin + places)
            begin += n
        return np.concatenate(found).astype(np.int32)


@functools.lru_cache(maxsize=16)
def _order(stream: Stream, epoch: int) -> np.ndarray:
    """The places that an epoch draws, in its order; the same for as many batches as it has."""
    places = stream.drawn(epoch)
    return places[shuffled((stream.seed, 1, stream.bucket, epoch), len(places))]


@functools.lru_cache(maxsize=16)
def shuffled(seed: tuple[int, ...], n: int) -> np.ndarray:
    """0 .. n - 1 in an order that `seed` says."""
    return np.random.default_rng(seed).permutation(np.arange(n, dtype=np.int32))
