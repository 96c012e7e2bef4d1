"""mixture.json: the corpora that a store is mixed of (`tts-gen mix`), and how often training draws each."""

import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from tts_gen.config import UserError, from_dict
from tts_gen.features.files import read_json, write_json
from tts_gen.features.remote import is_address, resolved, sha256_at

MIXTURE = "mixture.json"


@dataclass(frozen=True)
class Corpus:
    """One of a mixture, whose utterances stand one after the other in the index."""

    name: str
    store: str
    """the feature store, as it is seen from the mixture"""
    weight: float
    utterances: int
    index_sha256: str
    """of the store when it was mixed"""


@dataclass(frozen=True)
class Mixture:
    """Corpora in the order of the index. A store that is no mixture is one of a single corpus."""

    corpora: tuple[Corpus, ...]

    @classmethod
    def load(cls, root: Path, home: str | Path) -> "Mixture":
        """From the folder `root`, which lies at the path or address `home`, or was fetched from there. Raises UserError
        where a corpus is not as it was when it was mixed."""
        path = root / MIXTURE
        found = from_dict(cls, read_json(path), str(path))
        for corpus in found.corpora:
            store = resolved(home if is_address(home) else os.path.realpath(home), corpus.store)
            try:
                digest = sha256_at(f"{store}/index.jsonl")
            except FileNotFoundError as error:
                gone = f"{path}: {corpus.name} is not at {store} any more; put it back, or mix again"
                raise UserError(gone) from error
            if digest != corpus.index_sha256:
                raise UserError(f"{path}: {store} changed since it was mixed; mix again: tts-gen mix {root} ...")
        return found

    def save(self, root: Path) -> None:
        write_json(root / MIXTURE, asdict(self))

    @cached_property
    def rates(self) -> tuple[Fraction, ...]:
        """Of each corpus how often its training utterances are drawn in an epoch: 1 for the greatest weight, others as
        their weight to it."""
        weights = [Fraction(str(c.weight)) for c in self.corpora]
        return tuple((w / max(weights)).limit_denominator(FINEST) for w in weights)

    @cached_property
    def ends(self) -> np.ndarray:
        """[corpora] where each ends in the index."""
        return np.cumsum([c.utterances for c in self.corpora])

    def name(self, position: int) -> str:
        """Of the corpus that a position of the index belongs to."""
        return self.corpora[int(np.searchsorted(self.ends, position, side="right"))].name


FINEST = 10**6
"""rates are fractions of whole numbers up to it"""
