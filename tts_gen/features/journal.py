"""What `prepare` has done so far: beside each shard a file of rows, whose appearance commits both.

A killed run loses the shards in work, nothing else. Rows hold what was measured; labels (speaker, style, split, group)
come from the manifest each time, so changing them costs no new alignment.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tts_gen.config import from_dict
from tts_gen.corpora import Drop, Utterance
from tts_gen.features.files import read_json_lines, write_json_lines
from tts_gen.features.store import SHARDS, Entry
from tts_gen.features.writer import entry, write_shard

SHARD, ROWS = ".array_record", ".rows.jsonl"


@dataclass(frozen=True)
class Row:
    """The outcome for one utterance: a record in the shard, or the reason why there is none."""

    id: str
    key: str
    seconds: float = 0.0
    """of audio, 0 where it could not be read"""
    reason: str = ""
    """empty where kept"""
    detail: str = ""
    position: int = 0
    n_phonemes: int = 0
    n_frames: int = 0
    checksum: int = 0
    shard: str = ""
    """stem of the shard's file name"""
    figures: dict[str, float] = field(default_factory=dict)
    """of the alignment (align.quality)"""

    def entry(self, utterance: Utterance) -> Entry:
        return entry(utterance, self.shard + SHARD, self.position, self.n_phonemes, self.n_frames, self.checksum)

    def drop(self) -> Drop:
        return Drop(self.id, self.reason, self.detail)


def key(utterance: Utterance, base: Path) -> str:
    """Changes when the features of the utterance may: its text, alignment, or a file's size or time of change."""
    values = [utterance.id, utterance.text, utterance.language, utterance.phonemes, utterance.durations]
    if utterance.frames_per_second is not None:
        values.append(utterance.frames_per_second)
    if utterance.alignment is not None:
        values.append(utterance.speaker)  # it may choose among tiers
    for path in (utterance.audio, utterance.alignment):
        # Relative, so that a corpus may be moved as a whole.
        values.append(None if path is None else [os.path.relpath(path, base), *_state(path)])
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int] | tuple[()]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns


def commit(directory: Path, shard: str, rows: list[Row], payloads: list[bytes]) -> None:
    """Writes the shard (where there is anything to keep), then its rows."""
    if payloads:
        write_shard(directory / SHARDS / (shard + SHARD), payloads)
    write_json_lines(directory / SHARDS / (shard + ROWS), (asdict(row) for row in rows))


def read(directory: Path, is_there: Callable[[Row], bool]) -> dict[str, Row]:
    """id -> its latest row. Of those kept, only what is still there."""
    rows = {}
    for path in sorted((directory / SHARDS).glob("*" + ROWS)):
        for values in read_json_lines(path):
            row = from_dict(Row, values, str(path))
            if row.reason or is_there(row):
                rows[row.id] = row
    return rows


def has_shard(directory: Path, row: Row) -> bool:
    return os.path.isfile(directory / SHARDS / (row.shard + SHARD))


def next_shard(directory: Path) -> int:
    """A number above those of all shards there have been."""
    return 1 + max((int(p.name.split(".")[0]) for p in (directory / SHARDS).glob("*" + ROWS)), default=-1)


def discard(directory: Path, used: set[str]) -> None:
    """Deletes shards that no row in use belongs to, and what killed runs left half written."""
    for path in (directory / SHARDS).iterdir():
        if path.suffix == ".tmp" or path.name.split(".")[0] not in used:
            path.unlink()
