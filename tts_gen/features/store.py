"""The feature store: ArrayRecord shards beside audio.json, stats.json, inventory.json and index.jsonl."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import Audio, UserError, from_dict
from tts_gen.features import record
from tts_gen.features.files import read_json, write_json_lines
from tts_gen.features.index import Entry, Index
from tts_gen.features.inventory import Inventory
from tts_gen.features.mixture import MIXTURE, Corpus, Mixture
from tts_gen.features.pooling import pool_energy
from tts_gen.features.remote import Shards, folder_of, is_address, mirror, relative
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
    contour: np.ndarray | None = None
    """[T] float32 natural log of Hz, NaN where a frame is unvoiced; None in stores prepared before it was kept"""
    energy: np.ndarray | None = None
    """[N] float32, as pooling.pool_energy; None for a sentence whose prosody has none"""
    speaker_embedding: np.ndarray | None = None
    """[E] float32 of length 1; None: the speaker's id is all that is known"""


class FeatureStore:
    """A finished store, read at random. Threads may share it; pickles small (it opens its shards again)."""

    embeddings = None
    """`features.embeddings.SpeakerEmbeddings` of its utterances"""

    def __init__(self, root: str | Path) -> None:
        """`root`: a folder, or an address of fsspec, whose files are fetched (remote.py). Raises UserError when it is
        not a store, or one that `tts-gen prepare` has not finished; remote.Unreachable."""
        self.home = root = str(root).removeprefix("file://")
        self.root = mirrored(root) if is_address(root) else Path(root)
        if not (self.root / INDEX).is_file():
            state = "an unfinished feature store" if (self.root / SHARDS).is_dir() else "not a feature store"
            raise UserError(f"{self.root} is {state} ({INDEX} is missing); run: tts-gen prepare MANIFEST {self.root}")
        self.audio = from_dict(Audio, read_json(self.root / AUDIO), str(self.root / AUDIO))
        self.stats = Stats.load(self.root / STATS)
        self.inventory = Inventory.load(self.root / INVENTORY)
        self.index = Index(self.root / INDEX, root)
        alone = Corpus(self.root.name, ".", 1.0, len(self.index), self.index.fingerprint)
        self.mixture = Mixture.load(self.root, root) if (self.root / MIXTURE).is_file() else Mixture((alone,))
        if sum(corpus.utterances for corpus in self.mixture.corpora) != len(self.index):
            raise UserError(f"{self.root / MIXTURE} is not of its {INDEX}; mix again, into a new folder")
        cache = self.root if is_address(root) else folder_of(self.root.name, self.index.fingerprint)
        lengths = self.index.shard_lengths
        self._records = RecordReader(self.root, lengths, Shards(root, cache, lengths))
        self._phoneme_id = {symbol: i for i, symbol in enumerate(self.inventory.phonemes)}

    def with_embeddings(self, embeddings) -> "FeatureStore":
        """This store, whose utterances have `embeddings` from now on."""
        other = copy.copy(self)
        other.embeddings = embeddings
        return other

    @property
    def fingerprint(self) -> str:
        """Of the index, which holds every record's checksum, and of a mixture's weights."""
        of_index, rates = self.index.fingerprint, self.mixture.rates
        return of_index if len(rates) == 1 else hashlib.sha256(f"{of_index} {rates}".encode()).hexdigest()

    def split(self, name: str) -> np.ndarray:
        """Positions in the index, ascending. Raises UserError listing the splits when `name` is not one of them."""
        if name not in self.index.splits:
            raise UserError(f"{self.root}: no split {name!r}; it has {', '.join(self.index.splits)}")
        return self.index.splits[name]

    def check_contour(self, u: Features) -> None:
        """Raises UserError where an utterance of this store lacks the f0 of frames."""
        if u.contour is None:
            raise UserError(f"{self.root} was prepared before the f0 of frames was kept, at least in part; prepare it "
                            "anew, in a new folder (and mix again, where it is mixed)")  # fmt: skip

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
            speaker_embedding=self.embeddings and self.embeddings.of(entry),
            **values,
        )


class RecordReader:
    """Checked access to the records of a store's shards by Entry."""

    def __init__(self, root: Path, lengths: Mapping[str, int], shards: Shards | None = None) -> None:
        """`lengths`: records of each shard; `shards`: where they are, if not all in `root`."""
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._shards = shards or Shards(root, root, lengths)
        starts = np.cumsum([0, *lengths.values()])[:-1].tolist()
        self._start = dict(zip(lengths, starts, strict=True))
        # Lengths in the paths keep the data source from opening every shard at once.
        self._source = ArrayRecordDataSource([f"{self._shards.paths[name]}[0:{n}]" for name, n in lengths.items()])

    def read(self, entry: Entry) -> dict:
        """As record.unpack. Raises UserError when the record cannot be read or its checksum differs."""
        return record.unpack(self.payload(entry))

    def payload(self, entry: Entry) -> bytes:
        """The record as it was packed; raises as `read` does."""
        try:
            self._shards.fetch(entry.shard)
            payload = self._source[self._start[entry.shard] + entry.position]
        except (RuntimeError, IndexError, ValueError, FileNotFoundError) as error:
            raise self._damaged(entry, str(error)) from error
        if record.checksum(payload) != entry.checksum:
            raise self._damaged(entry, f"checksum differs from {INDEX}")
        return payload

    def read_all(self, index: Sequence[Entry]) -> Iterator[tuple[Entry, dict]]:
        return ((entry, self.read(entry)) for entry in index)

    def _damaged(self, entry: Entry, why: str) -> UserError:
        shard = Path(self._shards.paths[entry.shard])
        remedy = f"run: tts-gen prepare MANIFEST {shard.parent.parent}"
        if self._shards.is_fetched(entry.shard):
            remedy = f"it will be fetched again from {self._shards.origins[entry.shard]}"
        return UserError(
            f"utterance {entry.id}: damaged record {entry.position} in {shard} ({why}); delete that file and {remedy}"
        )


def mirrored(address: str) -> Path:
    """A local folder with all of the store at an address but its shards. Raises as FeatureStore does."""
    try:
        return mirror(address, (INDEX, AUDIO, STATS, INVENTORY), (MIXTURE,))
    except FileNotFoundError as error:
        raise UserError(
            f"{address} is not a finished feature store ({error}); give the address of a folder that "
            "`tts-gen prepare` has finished and that was copied there whole"
        ) from error


def write_index(root: Path, index: Sequence[Entry]) -> None:
    """What Index reads; its presence marks a store as finished."""
    write_json_lines(root / INDEX, ({**asdict(e), "audio": relative(root, e.audio)} for e in index))
