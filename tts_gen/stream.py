"""Sequences without an end, read anywhere: rounds of fractions of things, and the order in which a bucket's utterances
are drawn."""

import bisect
import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np


class Rounds:
    """Rounds, one after the other, with so many of each kind in a round as `amounts` says in the mean: in the first r
    rounds ceil(r * amount)."""

    def __init__(self, amounts: tuple[Fraction, ...]) -> None:
        self.amounts, self.total = amounts, sum(amounts, Fraction())

    def before(self, number: int) -> list[int]:
        """Of each kind in the rounds before this one."""
        return [-(-number * amount.numerator // amount.denominator) for amount in self.amounts]

    def start(self, number: int) -> int:
        """Of all kinds together in the rounds before this one."""
        return sum(self.before(number))

    def counts(self, number: int) -> list[int]:
        """Of each kind in this round."""
        return [after - before for after, before in zip(self.before(number + 1), self.before(number), strict=True)]

    def holding(self, entry: int) -> int:
        """The round that an entry of the whole sequence belongs to."""
        # Rounding up puts the start of a round less than one entry a kind after its mean.
        a, b = self.total.as_integer_ratio()
        numbers = range(max(0, (entry - len(self.amounts)) * b // a), entry * b // a + 1)
        return numbers[bisect.bisect_right(numbers, entry, key=self.start) - 1]


@dataclass(frozen=True, eq=False)
class Stream:
    """Shuffled epochs, one after the other without gaps. Of n members with rate r, an epoch draws each at most once:
    in the first e epochs each comes floor(e r) or ceil(e r) times, all together ceil(e r n) times."""

    seed: int
    bucket: int
    members: np.ndarray
    parts: tuple[tuple[int, Fraction], ...]
    """(members, rate in 0..1) of each corpus, in the order of `members`"""

    @functools.cached_property
    def epochs(self) -> Rounds:
        """Of so many entries of each corpus."""
        return Rounds(tuple(n * rate for n, rate in self.parts))

    def __call__(self, first: int, n: int) -> np.ndarray:
        """Members drawn as entries first .. first + n."""
        found = []
        while n:
            epoch = self.epochs.holding(first)
            start = first - self.epochs.start(epoch)
            found.append(self.members[_order(self, epoch)[start : start + n]])
            first, n = first + len(found[-1]), n - len(found[-1])
        return np.concatenate(found)

    def drawn(self, epoch: int) -> np.ndarray:
        """Places among the members that an epoch draws, ascending.

        In the first e epochs, member k of n comes ceil(e r - k / n) times, which makes ceil(e r n) together (Hermite's
        identity): where an epoch starts is known without a look at those before it.
        """
        found, begin = [], 0
        for part, (n, rate) in enumerate(self.parts):
            a, b = rate.as_integer_ratio()
            if a == b:
                places = np.arange(n)
            else:
                k = shuffled((self.seed, 3, self.bucket, part), n).astype(np.int64)
                before = epoch * a % b * n - b * k
                places = np.flatnonzero(-(before + a * n) // (b * n) < -before // (b * n))
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
