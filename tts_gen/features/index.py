"""index.jsonl, one line an utterance, at any size: a line is parsed when it is asked for; what is needed of all
utterances at once lies in arrays."""

import hashlib
import json
import os
import typing
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import UserError, from_dict
from tts_gen.features.remote import resolved


@dataclass(frozen=True)
class Entry:
    """One line of index.jsonl: what can be known of an utterance without reading its features."""

    id: str
    n_phonemes: int
    n_frames: int
    speaker: str
    """a name of the inventory, "unknown" where there is none"""
    style: str
    split: str
    group: str
    text: str
    audio: str
    """the recording; relative to the store in the file, absolute in memory"""
    checksum: int
    shard: str
    position: int
    """of the record in its shard"""


TYPES = typing.get_type_hints(Entry)
KINDS = list(TYPES.values())


class Index(Sequence):
    """The entries of an index.jsonl, read at random. Threads may share it; pickles small (it opens its file again)."""

    n_phonemes: np.ndarray
    """[U] int32"""
    n_frames: np.ndarray
    """[U] int32"""
    splits: dict[str, np.ndarray]
    """name -> positions, ascending"""
    shard_lengths: dict[str, int]
    """file -> records"""
    fingerprint: str
    """SHA-256 of the file"""

    def __init__(self, path: Path, home: str | Path | None = None) -> None:
        """`home`: the store, if not the file's folder, whose recordings are named from there. Raises UserError when the
        file cannot be read, or names the line that is not an entry."""
        self.path, self.home = path, home or path.parent
        self._open()
        ends, digest, splits, self.shard_lengths = array("q", [0]), hashlib.sha256(), {}, {}
        columns = n_phonemes, n_frames, of_split = array("i"), array("i"), array("i")
        for number, line in enumerate(self._file, 1):
            row = self._parsed(line, number)
            n_phonemes.append(row["n_phonemes"])
            n_frames.append(row["n_frames"])
            of_split.append(splits.setdefault(row["split"], len(splits)))
            self.shard_lengths[row["shard"]] = max(self.shard_lengths.get(row["shard"], 0), row["position"] + 1)
            digest.update(line)
            ends.append(ends[-1] + len(line))
        self._ends, self.fingerprint = np.frombuffer(ends, np.int64), digest.hexdigest()
        self.n_phonemes, self.n_frames, codes = (np.frombuffer(column, np.int32) for column in columns)
        self.splits = {name: np.flatnonzero(codes == splits[name]) for name in sorted(splits)}

    def _open(self) -> None:
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error})") from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: int) -> Entry:
        i = range(len(self))[i]
        start, end = self._ends[i : i + 2].tolist()
        row = self._parsed(os.pread(self._file.fileno(), end - start, start), i + 1)
        return Entry(**row | {"audio": resolved(self.home, row["audio"])})

    def _parsed(self, line: bytes, number: int) -> dict:
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not valid JSON ({error}); delete it and prepare again") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object, found {row!r}; delete the file and prepare again")
        if [type(row.get(name)) for name in TYPES] != KINDS or len(row) != len(TYPES):
            from_dict(Entry, row, where)  # says what is wrong
        return row

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._open()
