"""The utterances that are evaluated on, read one by one: in memory is what someone holds."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tts_gen.features.index import Entry
from tts_gen.features.store import Features, FeatureStore
from tts_gen.runs import Run


class Lazy(Sequence):
    """A sequence whose items are made each time that they are asked for."""

    def __init__(self, length: int, item: Callable[[int], Any]):
        self.length, self.item = length, item

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return map(self.item, range(self.length))

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < self.length:
            raise IndexError(i)
        return self.item(i)


@dataclass(frozen=True, eq=False)
class Split:
    """Utterances of one split, in the order of the store's index."""

    name: str
    store: FeatureStore
    positions: np.ndarray
    """[U] in the store's index"""

    @classmethod
    def read(cls, store: FeatureStore, name: str) -> "Split":
        """Raises UserError listing the splits when `name` is not one of them."""
        return cls(name, store, store.split(name))

    @property
    def entries(self) -> list[Entry]:
        return [self.store.index[p] for p in self.positions]

    @property
    def utterances(self) -> Sequence[Features]:
        return Lazy(len(self.positions), lambda i: self.store.read([self.positions[i]])[0])

    @property
    def mels(self) -> Sequence[np.ndarray]:
        """Of each utterance [T, M]."""
        return Lazy(len(self.positions), lambda i: self.store.read([self.positions[i]])[0].mel)

    @property
    def content(self) -> int:
        """A checksum of all that is known of the utterances."""
        return zlib.crc32(repr([(e.checksum, e.speaker, e.style) for e in self.entries]).encode())

    def read_by(self, run: Run) -> "Split":
        """These utterances with the speaker embeddings that `run` reads, if it reads any."""
        return self if run.embeddings is None else replace(self, store=self.store.with_embeddings(run.embeddings))

    def only(self, places: Sequence[int] | slice) -> "Split":
        return replace(self, positions=self.positions[places])
