"""The phonemes, speakers and styles of a corpus, in the order of their ids. Built from the corpus, never hard-coded."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import UserError, from_dict
from tts_gen.features.files import read_json, write_json
from tts_gen.text import PAUSE, Phoneme

UNKNOWN = "unknown"
"""First entry of speakers and of styles: trained by utterances without a label."""


@dataclass(frozen=True)
class Inventory:
    """Ids are positions in these tuples; speakers[0] == styles[0] == "unknown", phonemes[0] == PAUSE."""

    phonemes: tuple[str, ...]
    voiced: tuple[bool, ...]
    """one per phoneme: voiced in more than half of its occurrences in the training split"""
    speakers: tuple[str, ...] = (UNKNOWN,)
    styles: tuple[str, ...] = (UNKNOWN,)

    @classmethod
    def build(cls, counts: Counter, voiced: Counter, speakers: Iterable[str], styles: Iterable[str]) -> "Inventory":
        """From how often each symbol occurs, and occurs voiced, in training; labels sorted after "unknown"."""
        phonemes = (PAUSE, *sorted(set(counts) - {PAUSE}))
        return cls(
            phonemes,
            tuple(2 * voiced[p] > counts[p] for p in phonemes),
            (UNKNOWN, *sorted(set(speakers) - {UNKNOWN})),
            (UNKNOWN, *sorted(set(styles) - {UNKNOWN})),
        )

    def encode(self, phonemes: Sequence[Phoneme]) -> dict[str, np.ndarray]:
        """phoneme[N] int16; stress, edge, punctuation [N] int8. Raises UserError naming a phoneme that is not known."""
        return {
            "phoneme": self.phoneme_ids([p.symbol for p in phonemes]),
            "stress": np.array([p.stress for p in phonemes], np.int8),
            "edge": np.array([p.edge for p in phonemes], np.int8),
            "punctuation": np.array([p.punctuation for p in phonemes], np.int8),
        }

    def phoneme_ids(self, symbols: Sequence[str]) -> np.ndarray:
        """[N] int16. Raises UserError naming a phoneme that is not known."""
        return np.array([_position(self.phonemes, s, "phoneme") for s in symbols], np.int16)

    def decode(
        self, phoneme: np.ndarray, stress: np.ndarray, edge: np.ndarray, punctuation: np.ndarray
    ) -> list[Phoneme]:
        """Inverse of encode; all [N]."""
        columns = zip(phoneme, stress, edge, punctuation, strict=True)
        return [Phoneme(self.phonemes[p], int(s), int(e), int(m)) for p, s, e, m in columns]

    def phone_voiced(self, phoneme: np.ndarray) -> np.ndarray:
        """[...] bool: whether each phoneme id counts as voiced in synthesis (majority of the training data)."""
        return np.asarray(self.voiced)[phoneme]

    def speaker_id(self, name: str | None) -> int:
        """None means no label. Raises UserError listing the speakers when `name` is not one of them."""
        return 0 if name is None else _position(self.speakers, name, "speaker")

    def style_id(self, name: str | None) -> int:
        """None means no label. Raises UserError listing the styles when `name` is not one of them."""
        return 0 if name is None else _position(self.styles, name, "style")

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Inventory":
        return from_dict(cls, read_json(path), str(path))


def training_labels(names: Iterable[tuple[str | None, str]], kind: str) -> set[str]:
    """Labels of the training split, from (label, split) pairs; the others, which nothing trains, are logged."""
    pairs = {(name, split) for name, split in names if name is not None}
    trained = {name for name, split in pairs if split == "train"}
    if others := sorted({name for name, _ in pairs} - trained - {UNKNOWN}):
        logging.getLogger(__name__).warning(
            "%s %s: none in the training split, counted as %r", kind, ", ".join(others), UNKNOWN
        )
    return trained


def _position(names: tuple[str, ...], name: str, kind: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise UserError(f"unknown {kind} {name!r}; this corpus has {', '.join(names)}") from None
