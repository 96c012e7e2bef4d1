"""A job on every utterance of a manifest, in parallel, in a directory that remembers: what `prepare` and `align` share.

Started again, it does only what is missing. One bad file never ends the run.
"""

import importlib.metadata
import importlib.util
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance
from tts_gen.features import doubts, journal, pool
from tts_gen.features.files import read_json, write_json, write_json_lines
from tts_gen.features.journal import DIED, UNEXPECTED, Row
from tts_gen.features.sound import Recording, load
from tts_gen.features.unusable import Unusable
from tts_gen.progress import progress

SHARD_SIZES = (16, 512)
"""utterances; in between, a shard is 1/256 of the corpus. What a killed run loses is one shard for each worker"""
LONGEST = 61.0
"""seconds of a file that are read: a little more than anybody accepts, whatever its length"""


class Job(Protocol):
    """What is done to an utterance, and where its outcome goes. It is sent to other processes."""

    directory: Path

    def __call__(self, utterance: Utterance, recording: Recording) -> tuple[dict, bytes | None]:
        """Fields of the Row, and what goes into the shard. Raises Unusable."""

    def is_there(self, row: Row) -> bool:
        """Whether what a kept row stands for still exists."""


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

    shard: str
    utterances: tuple[Utterance, ...]
    keys: tuple[str, ...]
    job: Job


def work(
    what: str,
    job: Job,
    utterances: Sequence[Utterance],
    drops: Sequence[Drop],
    base: Path,
    workers: int,
    min_score: float | None,
) -> tuple[dict[str, Row], Report]:
    """Does what is missing; writes alignment.csv and drops.jsonl, shows the report. Returns id -> row, and the report.

    `base`: the folder that the utterances' files move with. With one worker everything runs in this process.
    Alignments whose deviation (align.quality) is below `min_score` are dropped, but done: another limit costs nothing.
    """
    start = time.monotonic()
    console = Console()
    journal.discard(job.directory)
    keys = {u.id: journal.key(u, base) for u in utterances}
    done = {i for i, row in journal.read(job.directory, keys, job.is_there).items() if row.final}
    todo = [u for u in utterances if u.id not in done]
    tasks = _tasks(todo, keys, _shard_size(len(utterances)), job)
    with progress(what, len(todo), "utterances", console) as advance:
        for n in _run(tasks, workers):
            advance(n)
    rows = journal.read(job.directory, keys, job.is_there)
    rows = doubts.judge({u.id: rows[u.id] for u in utterances}, utterances, min_score)
    doubts.write(job.directory / "alignment.csv", rows, utterances)
    dropped = [row for row in rows.values() if row.reason]
    kept = [row for row in rows.values() if not row.reason]
    report = Report(
        kept=len(kept),
        kept_minutes=sum(row.seconds for row in kept) / 60,
        dropped_minutes=sum(row.seconds for row in dropped) / 60,
        drops=(*drops, *(rows[u.id].drop(os.path.relpath(u.audio, base)) for u in utterances if rows[u.id].reason)),
        processed=len(todo),
        seconds=time.monotonic() - start,
    )
    write_json_lines(job.directory / "drops.jsonl", (asdict(drop) for drop in report.drops))
    report.show(console)
    return rows, report


def printable(text: str) -> str:
    """What a terminal would act on, or cannot show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_packages(needed: set[str]) -> None:
    """Otherwise each utterance would be dropped for what one installation mends."""
    if missing := sorted(name for name in needed if importlib.util.find_spec(name) is None):
        raise UserError(f"package {', '.join(missing)} is not installed; run: pip install 'tts-gen[align]'")


def check_settings(directory: Path, settings: dict) -> None:
    """Settings of the first run are written down, and hold for all that follow."""
    path = directory / "prepare.json"
    if not path.is_file():
        installed = importlib.metadata.packages_distributions()
        modules = ("tts_gen", "numpy", "soxr", "librosa", "pyworld", "pocketsphinx")
        names = {installed[module][0] for module in modules if module in installed}
        write_json(path, {**settings, "versions": {name: importlib.metadata.version(name) for name in sorted(names)}})
        return
    before = read_json(path)
    for name, value in settings.items():
        if before.get(name) != value:
            raise UserError(f"{path}: {name} was {before.get(name)} and is now {value}; use another directory")


def _shard_size(n_utterances: int) -> int:
    return min(max(n_utterances // 256, SHARD_SIZES[0]), SHARD_SIZES[1])


def _tasks(todo: Sequence[Utterance], keys: dict[str, str], size: int, job: Job) -> list[_Task]:
    parts = [tuple(todo[i : i + size]) for i in range(0, len(todo), size)]
    part_keys = [tuple(keys[u.id] for u in part) for part in parts]
    return [_Task(journal.shard_name(k), part, k, job) for part, k in zip(parts, part_keys, strict=True)]


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
        keys = dict(zip((u.id for u in task.utterances), task.keys, strict=True))
        for single, n in pool.run(_process, _tasks(task.utterances, keys, 1, task.job), 1):
            if n is None:
                [utterance], [key] = single.utterances, single.keys
                row = Row(utterance.id, key, reason=DIED, detail=str(utterance.audio), shard=single.shard)
                journal.commit(task.job.directory, single.shard, [row], [])
            yield 1


def _process(task: _Task) -> int:
    """Commits one shard. Runs in a worker."""
    rows, payloads = [], []
    for utterance, key in zip(task.utterances, task.keys, strict=True):
        seconds = 0.0
        try:
            recording = load(utterance.audio, most=LONGEST)
            seconds = recording.seconds
            fields, payload = task.job(utterance, recording)
        except Unusable as error:
            fields, payload = {"reason": error.reason, "detail": error.detail, "figures": error.figures}, None
        except Exception as error:  # a case not thought of: counted and shown, but not worth the run
            logging.getLogger(__name__).warning("utterance %s: unexpected error", utterance.id, exc_info=True)
            fields, payload = {"reason": UNEXPECTED, "detail": repr(error)}, None
        rows.append(Row(utterance.id, key, seconds, position=len(payloads), shard=task.shard, **fields))
        payloads += [] if payload is None else [payload]
    journal.commit(task.job.directory, task.shard, rows, payloads)
    return len(rows)
