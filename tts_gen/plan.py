"""Which utterances stand in which batch: a random-access plan over length buckets, so that a batch is a pure function
of (seed, step)."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tts_gen.config import Config, Data, UserError
from tts_gen.features.store import FeatureStore
from tts_gen.stream import Rounds, Stream, shuffled

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which utterances stand in which batch: `plan(step)` -> (bucket length, positions in the store's index).

    Buckets come in rounds; in each, a bucket has as many batches as its share of the corpus, in shuffled order. A
    bucket's utterances come in shuffled epochs, one after the other without gaps, so all are seen equally often; those
    of a mixture in the ratio of the weights of their corpora. The first batch of all is of the longest bucket.
    """

    seed: int
    members: dict[int, np.ndarray]
    """bucket length -> positions; a long utterance that is cropped stands there once for each crop that it fills"""
    rows: dict[int, int]
    streams: dict[int, Stream]
    """bucket length -> the order in which its members are drawn"""
    lengths: dict[int, float]
    """bucket length -> mean number of positions that a drawn sequence fills"""
    batches_per_round: dict[int, Fraction]
    """bucket length -> its batches in one round, about one epoch, in the mean"""

    @classmethod
    def build(cls, store: FeatureStore, config: Config, split: str) -> "Plan":
        """Raises UserError when the split is empty, or no bucket holds any of it."""
        positions = training_positions(store, config) if split == "train" else store.split(split)
        buckets = np.array(sorted(config.data.buckets))
        if len(bad := buckets[buckets % 4 > 0]):
            raise UserError(f"data.buckets: {bad[0]} is not a multiple of 4")
        if config.data.batch_size < 1:
            raise UserError(f"data.batch_size is {config.data.batch_size}: give the positions in a batch, at least 1")
        if config.task == "prosody":
            length = store.index.n_phonemes[positions]
            if len(long := positions[length > buckets[-1]]):
                log.warning(
                    "%d of %d %s utterances have more than %d phonemes and are left out (data.buckets): %s",
                    len(long), len(positions), split, buckets[-1], some_names(store, long),
                )  # fmt: skip
            positions, length = positions[length <= buckets[-1]], length[length <= buckets[-1]]
            times = np.ones_like(length)
        else:
            length = store.index.n_frames[positions]
            times = np.maximum(1, np.round(length / buckets[-1]).astype(int))
        if not len(positions):
            raise UserError(f"{store.root}: no {split} utterance fits data.buckets {tuple(map(int, buckets))}")
        bucket = buckets[np.minimum(np.searchsorted(buckets, length), len(buckets) - 1)]
        members = {int(b): np.repeat(positions[bucket == b], times[bucket == b]) for b in np.unique(bucket)}
        rows = {b: batch_rows(config.data, b) for b in members}
        longest = max(members)
        if split == "train" and rows[longest] * longest > config.data.batch_size:
            log.warning(
                "data.batch_size is %d, but %d sequences of %d positions (data.row_multiple, data.buckets) are %d: "
                "batches hold so many",
                config.data.batch_size, rows[longest], longest, rows[longest] * longest,
            )  # fmt: skip
        streams, lengths = {}, {}
        for b, of in members.items():
            parts = np.diff(np.searchsorted(of, store.mixture.ends), prepend=0).tolist()
            streams[b] = stream = Stream(config.train.seed, b, of, tuple(zip(parts, store.mixture.rates, strict=True)))
            filled = np.split(np.minimum(np.repeat(length[bucket == b], times[bucket == b]), b), np.cumsum(parts)[:-1])
            totals = [int(f.sum()) * rate for f, rate in zip(filled, store.mixture.rates, strict=True)]
            lengths[b] = float(sum(totals) / stream.epochs.total)
        batches = {b: s.epochs.total / rows[b] for b, s in streams.items()}
        if len(store.mixture.corpora) == 1:  # of a mixture, whole batches a round would be another ratio of corpora
            batches = {b: Fraction(max(1, round(n))) for b, n in batches.items()}
        return cls(config.train.seed, members, rows, streams, lengths, batches)

    @functools.cached_property
    def rounds(self) -> Rounds:
        """Of batches of each bucket."""
        return Rounds(tuple(self.batches_per_round.values()))

    @property
    def filled(self) -> float:
        """Share of the positions of all batches that are no padding (frames that data.max_phonemes cuts off count as
        if they were there)."""
        sequences = {b: float(n) * self.rows[b] for b, n in self.batches_per_round.items()}
        return sum(n * self.lengths[b] for b, n in sequences.items()) / sum(n * b for b, n in sequences.items())

    def __str__(self) -> str:
        rows = ", ".join(f"{n} of length {b}" for b, n in self.rows.items())
        batches, share = round(float(self.rounds.total), 1), f"{self.filled:.1%} of positions are not padding"
        return f"{batches:g} batches an epoch; sequences in a batch: {rows}; {share}"

    def round(self, number: int) -> np.ndarray:
        """The bucket of each batch of a round, in their order."""
        return _round(self, number)

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        number = self.rounds.holding(step)
        order, at = self.round(number), step - self.rounds.start(number)
        bucket = int(order[at])
        before = dict(zip(self.members, self.rounds.before(number), strict=True))[bucket]
        first = (before + int(np.count_nonzero(order[:at] == bucket))) * self.rows[bucket]
        return bucket, self.streams[bucket](first, self.rows[bucket])


@functools.lru_cache(maxsize=4)
def _round(plan: Plan, number: int) -> np.ndarray:
    """Kept, since it is the same for as many steps as it has batches."""
    counts = plan.rounds.counts(number)
    order = np.repeat(list(plan.members), counts)[shuffled((plan.seed, 0, number), sum(counts))]
    if number == 0:  # the longest bucket first: a lack of memory shows at once, and training starts on one program
        longest = np.argmax(order)
        order[[0, longest]] = order[[longest, 0]]
    return order


def batch_rows(data: Data, length: int) -> int:
    """Sequences in a batch of `data.batch_size` positions, a multiple of `data.row_multiple`."""
    return max(1, data.batch_size // length // data.row_multiple) * data.row_multiple


def training_positions(store: FeatureStore, config: Config) -> np.ndarray:
    """Positions in the index that a config trains on, ascending. Raises UserError where data.utterances asks for more
    than there are."""
    positions, n = store.split("train"), config.data.utterances
    if n > len(positions):
        raise UserError(f"data.utterances is {n}, but the training split of {store.root} has {len(positions)}")
    order = np.random.default_rng((config.train.seed, 1)).permutation(positions)
    return np.sort(order[: n or len(positions)])


def some_names(store: FeatureStore, positions: Sequence[int]) -> str:
    names = ", ".join(store.index[p].id for p in positions[:8])
    return names + (f" and {len(positions) - 8} more" if len(positions) > 8 else "")
