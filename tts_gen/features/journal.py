"""What `prepare` has done so far: beside each shard a file of rows, whose appearance commits both.

A killed run loses the shards in work, nothing else. A shard is named after what it holds, so that the run after it, or
a worker that outlives its own, can but write the same file again. Rows hold what was measured; labels (speaker, style,
split, group) come from the manifest each time, so changing them costs no new alignment.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tts_gen.config import UserError, from_dict
from tts_gen.corpora import Drop, Utterance
from tts_gen.features.files import read_json_lines, write_json_lines
from tts_gen.features.remote import Shards
from tts_gen.features.store import SHARDS, Entry
from tts_gen.features.writer import entry, write_shard

SHARD, ROWS = ".array_record", ".rows.jsonl"
UNEXPECTED, DIED = "unexpected error", "worker died"
"""Drops whose cause may lie outside the utterance (memory, a package): every run tries them again."""


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
    phonemes: str = ""
    """the different symbols there are, between tabs"""
    level: float | None = None
    """dB, and the share of clipped samples, both as `sound.Recording` has them"""
    clipped: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """of the alignment (align.quality)"""
    shard: str = ""
    """stem of the shard's file name"""

    @property
    def final(self) -> bool:
        return self.reason not in (UNEXPECTED, DIED)

    def entry(self, utterance: Utterance) -> Entry:
        return entry(utterance, self.shard + SHARD, self.position, self.n_phonemes, self.n_frames, self.checksum)

    def drop(self, audio: str) -> Drop:
        """`audio`: its file, as the manifest has it."""
        return Drop(self.id, self.reason, f"{audio}: {self.detail}")


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
    except (OSError, ValueError):  # a name that no file can have
        return ()
    return stat.st_size, stat.st_mtime_ns


def shard_name(keys: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]


def commit(directory: Path, shard: str, rows: list[Row], payloads: list[bytes]) -> None:
    """Writes the shard (where there is anything to keep), then its rows. Raises UserError when it cannot be written."""
    path = directory / SHARDS / shard
    try:
        if payloads:
            write_shard(path.with_name(shard + SHARD), payloads)
        write_json_lines(path.with_name(shard + ROWS), (asdict(row) for row in rows))
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be written to: {error}; free space there, or mend its permissions, and start again: "
            "what is done is kept"
        ) from error


def read(directory: Path, keys: Mapping[str, str], is_there: Callable[[Row], bool]) -> dict[str, Row]:
    """id -> what became of it, for utterances that are as they were then (`keys`: id -> key now).

    Rows of what was kept but is no longer there are left out.
    """
    rows: dict[str, Row] = {}
    for path in sorted((directory / SHARDS).glob("*" + ROWS)):
        for values in read_json_lines(path):
            row = from_dict(Row, values, str(path))
            known = row.id in rows and rows[row.id].final
            if row.key == keys.get(row.id) and (row.reason or is_there(row)) and not known:
                rows[row.id] = row
    return rows


def figures(home: str | Path, shards: Iterable[str]) -> dict[tuple[str, int], dict[str, float]]:
    """(shard, position) -> what was measured, of the records of a store's shards that lie on this machine."""
    found = {}
    for shard, path in Shards(home, Path(home), shards).paths.items():
        path = Path(path.removesuffix(SHARD) + ROWS)
        rows = (from_dict(Row, values, str(path)) for values in (read_json_lines(path) if path.is_file() else ()))
        for row in rows:
            if not row.reason and row.level is not None:
                found[shard, row.position] = row.figures | {"level": row.level, "clipped": row.clipped}
    return found


def has_shard(directory: Path, row: Row) -> bool:
    return (directory / SHARDS / (row.shard + SHARD)).is_file()


def discard(directory: Path, used: set[str] | None = None) -> None:
    """Deletes what killed runs left half written and, where `used` is given, shards that are not among it."""
    for path in [*directory.glob("*.tmp"), *(directory / SHARDS).iterdir()]:
        if path.suffix == ".tmp" or (used is not None and path.name.split(".")[0] not in used):
            path.unlink(missing_ok=True)  # a killed run's worker may have been quicker
