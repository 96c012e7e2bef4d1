"""The feature store: ArrayRecord shards beside audio.json, stats.json, inventory.json and index.jsonl."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import Audio, UserError, from_dict
from tts_gen.features import record
from tts_gen.features.files import read_json, write_json_lines
from tts_gen.features.index import Entry, Index
from tts_gen.features.inventory import Inventory
from tts_gen.features.pooling import pool_energy
from tts_gen.features.stats import Stats

SHARDS, INDEX, INVENTORY, STATS, AUDIO = "shards", "index.jsonl", "inventory.json", "stats.json", "audio.json"


@dataclass(frozen=True, eq=False)
class Features:
    """One utterance. N phonemes, T frames, M mel bins."""

    phoneme: np.ndarray
    """[N] int16 ids of the inventory"""
    stress: np.ndarray
    """[N] int8, 0..3"""
    edge: np.ndarray
    """[N] int8, bit 1 first and bit 2 last phoneme of a word"""
    punctuation: np.ndarray
    """[N] int8, mark after the phoneme's word"""
    duration: np.ndarray
    """[N] int32 frames, each >= 1, sum == T"""
    log_f0: np.ndarray
    """[N] float32 natural log of Hz, NaN where unvoiced"""
    voiced: np.ndarray
    """[N] bool"""
    mel: np.ndarray
    """[T, M] float32 log-mel"""
    speaker: int
    style: int
    energy: np.ndarray | None = None
    """[N] float32, as pooling.pool_energy; None for a sentence whose prosody has none"""


class FeatureStore:
    """A finished store, read at random. Threads may share it; pickles small (it opens its shards again)."""

    def __init__(self, root: str | Path) -> None:
        """Raises UserError when `root` is not a store, or one that `tts-gen prepare` has not finished."""
        self.root = Path(root)
        if not (self.root / INDEX).is_file():
            state = "an unfinished feature store" if (self.root / SHARDS).is_dir() else "not a feature store"
            raise UserError(f"{self.root} is {state} ({INDEX} is missing); run: tts-gen prepare MANIFEST {self.root}")
        self.audio = from_dict(Audio, read_json(self.root / AUDIO), str(self.root / AUDIO))
        self.stats = Stats.load(self.root / STATS)
        self.inventory = Inventory.load(self.root / INVENTORY)
        self.index = Index(self.root / INDEX)
        self._records = RecordReader(self.root, self.index.shard_lengths)
        self._phoneme_id = {symbol: i for i, symbol in enumerate(self.inventory.phonemes)}

    @property
    def fingerprint(self) -> str:
        """Of the index, which holds every record's checksum."""
        return self.index.fingerprint

    def split(self, name: str) -> np.ndarray:
        """Positions in the index, ascending. Raises UserError listing the splits when `name` is not one of them."""
        if name not in self.index.splits:
            raise UserError(f"{self.root}: no split {name!r}; it has {', '.join(self.index.splits)}")
        return self.index.splits[name]

    def read(self, positions: Sequence[int]) -> list[Features]:
        """Features at positions of the index. Raises UserError naming an utterance whose record is damaged."""
        return [self._features(self.index[i]) for i in positions]

    def _features(self, entry: Entry) -> Features:
        values = self._records.read(entry)
        phoneme = np.array([self._phoneme_id[s] for s in values.pop("symbols")], np.int16)
        return Features(
            phoneme=phoneme,
            voiced=~np.isnan(values["log_f0"]),
            speaker=self.inventory.speaker_id(entry.speaker),
            style=self.inventory.style_id(entry.style),
            energy=pool_energy(values["mel"], values["duration"]),
            **values,
        )


class RecordReader:
    """Checked access to the records of a store's shards by Entry."""

    def __init__(self, root: Path, lengths: Mapping[str, int]) -> None:
        """`lengths`: records of each shard."""
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.root = root
        starts = np.cumsum([0, *lengths.values()])[:-1].tolist()
        self._start = dict(zip(lengths, starts, strict=True))
        # Lengths in the paths keep the data source from opening every shard at once.
        self._source = ArrayRecordDataSource([f"{root / SHARDS / name}[0:{n}]" for name, n in lengths.items()])

    def read(self, entry: Entry) -> dict:
        """As record.unpack. Raises UserError when the record cannot be read or its checksum differs."""
        return record.unpack(self.payload(entry))

    def payload(self, entry: Entry) -> bytes:
        """The record as it was packed; raises as `read` does."""
        try:
            payload = self._source[self._start[entry.shard] + entry.position]
        except (RuntimeError, IndexError, ValueError) as error:
            raise self._damaged(entry, str(error)) from error
        if record.checksum(payload) != entry.checksum:
            raise self._damaged(entry, f"checksum differs from {INDEX}")
        return payload

    def read_all(self, index: Sequence[Entry]) -> Iterator[tuple[Entry, dict]]:
        return ((entry, self.read(entry)) for entry in index)

    def _damaged(self, entry: Entry, why: str) -> UserError:
        shard = self.root / SHARDS / entry.shard
        return UserError(
            f"utterance {entry.id}: damaged record {entry.position} in {shard} ({why}); "
            f"delete that file and run: tts-gen prepare MANIFEST {self.root}"
        )


def write_index(root: Path, index: Sequence[Entry]) -> None:
    """What Index reads; its presence marks a store as finished."""
    write_json_lines(root / INDEX, ({**asdict(e), "audio": os.path.relpath(e.audio, root)} for e in index))
