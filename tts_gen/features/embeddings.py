"""Speaker embeddings made elsewhere (x-vectors, d-vectors), which stand for the table of speakers.

An .npz file holds a vector [E] for each key, an utterance's id or a speaker's name; an utterance's own goes before its
speaker's. Vectors are scaled to length 1. Zeros are no voice: what label dropout leaves, and what guidance goes away
from.
"""

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tts_gen.config import Data, UserError
from tts_gen.features.files import read_npz, replacing
from tts_gen.features.index import Entry
from tts_gen.features.store import FeatureStore

SPEAKERS = "speaker_embeddings.npy"
"""in a run directory"""
FINGERPRINT = "speaker_embeddings_sha256"
"""in its features.json"""
NAMED = 5
"""utterances that a message lists"""


@dataclass(frozen=True, eq=False)
class SpeakerEmbeddings:
    """Vectors of length 1 by utterance or speaker."""

    path: Path
    row: dict[str, int]
    """of a key in vectors"""
    vectors: np.ndarray
    """[keys, E] float32"""

    @classmethod
    def read(cls, path: str | Path) -> "SpeakerEmbeddings":
        """Raises UserError for what is no .npz file (pickled objects are not read), is empty, or holds anything but
        vectors of one length, naming the key."""
        path = Path(path)
        vectors = {key: unit(vector, f"{path}: {key}") for key, vector in read_npz(path).items()}
        if not vectors:
            raise UserError(f"{path}: holds no named vectors; write it by np.savez(FILE, **{{name: vector, ...}})")
        first, size = next((key, len(v)) for key, v in vectors.items())
        for key, vector in vectors.items():
            if len(vector) != size:
                raise UserError(f"{path}: {key} has {len(vector)} values, {first} has {size}; give all the same number")
        return cls(path, {key: i for i, key in enumerate(vectors)}, np.stack(list(vectors.values())))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of keys and vectors, in whatever order the file holds them."""
        digest = hashlib.sha256()
        for key in sorted(self.row):
            digest.update(f"{key}\n".encode() + self.vectors[self.row[key]].tobytes())
        return digest.hexdigest()

    def _row(self, entry: Entry) -> int | None:
        return self.row.get(entry.id, self.row.get(entry.speaker))

    def of(self, entry: Entry) -> np.ndarray:
        """[E]. Raises UserError where there is neither one of the utterance nor one of its speaker."""
        row = self._row(entry)
        if row is None:
            raise self._missing([entry], 1)
        return self.vectors[row]

    def check(self, store: FeatureStore, splits: Iterable[str]) -> None:
        """Raises UserError naming the first utterances of `splits` that have no vector."""
        positions = np.concatenate([store.split(split) for split in splits])
        if missing := [entry for p in positions if self._row(entry := store.index[p]) is None]:
            raise self._missing(missing, len(positions))

    def of_speakers(self, store: FeatureStore) -> np.ndarray:
        """[S, E] of the inventory's speakers: the mean of their training utterances', scaled to length 1; zeros for
        `unknown` where each of them has a speaker."""
        speakers = store.inventory.speakers
        total = np.zeros((len(speakers), self.vectors.shape[1]))
        for entry in (store.index[p] for p in store.split("train")):
            total[speakers.index(entry.speaker)] += self.of(entry)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)

    def _missing(self, entries: list[Entry], of: int) -> UserError:
        names = ", ".join(f"{e.id} ({e.speaker})" for e in entries[:NAMED])
        more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
        return UserError(
            f"{self.path}: no vector for {len(entries)} of {of} utterances, neither by id nor by speaker: "
            f"{names}{more}. Add them to the file"
        )


def unit(values: Any, where: str) -> np.ndarray:
    """`values` [E] as float32 of length 1. Raises UserError for what is no vector of finite numbers, and for zeros."""
    x = np.asarray(values)
    if x.dtype.kind not in "iuf":
        raise UserError(f"{where} is {x.dtype}; give numbers")
    if x.ndim != 1 or not x.size:
        raise UserError(f"{where} has shape {x.shape}; give one vector [E]")
    if bad := np.count_nonzero(~np.isfinite(x)):
        raise UserError(f"{where} holds {bad} values that are not finite; make it again, or leave it out")
    x = x.astype(np.float64)
    if not (largest := np.abs(x).max()):
        raise UserError(f"{where} is all zeros, which is no voice; make it again, or leave it out")
    x /= largest  # whose square may be no number
    return (x / np.linalg.norm(x)).astype(np.float32)


def write_speakers(run: Path, vectors: np.ndarray) -> None:
    """[S, E], of a run's speakers: what synthesis reads."""
    with replacing(run / SPEAKERS) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)


def read_speakers(run: Path, count: int) -> np.ndarray:
    """What `write_speakers` wrote for that many speakers. Raises UserError where it is not there, or damaged."""
    vectors = _load(run / SPEAKERS)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
        raise UserError(f"{run / SPEAKERS}: {vectors.dtype} {vectors.shape} are no vectors of {count} speakers; put it "
                        "back from a copy, or start the training again, which writes it")  # fmt: skip
    return vectors


def read_vector(path: str | Path) -> np.ndarray:
    """One voice [E], of length 1, of an .npy file. Raises UserError as `unit` does, and for a file of another kind."""
    return unit(_load(Path(path)), str(path))


def _load(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as .npy ({error})") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise UserError(f"{path}: holds several arrays; give one, as np.save(FILE, vector) writes it")
    return found


def open_store(data: Data) -> FeatureStore:
    """The store that `data` names, its utterances with the speaker embeddings that `data` names. Raises UserError."""
    store = FeatureStore(data.features)
    return store.with_embeddings(SpeakerEmbeddings.read(data.speaker_embeddings)) if data.speaker_embeddings else store
