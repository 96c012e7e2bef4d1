"""A job on every utterance of a manifest, in parallel, in a directory that remembers: what `prepare` and `align` share.

Started again, it does only what is missing. One bad file never ends the run.
"""

import importlib.metadata
import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from tts_gen.features.sound import MAX_SECONDS, Recording, Unusable, load
from tts_gen.progress import progress

SHARD_SIZES = (16, 512)
"""utterances; in between, a shard is 1/256 of the corpus. What a killed run loses is one shard for each worker"""


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


def printable(text: str) -> str:
    """What a terminal would act on, or cannot show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def work(what: str, job: Job, utterances: Sequence[Utterance], base: Path, workers: int) -> tuple[dict[str, Row], int]:
    """Does what is missing. Returns id -> row, and how many utterances were worked on now.

    `base`: the folder that the utterances' files move with. With one worker everything runs in this process.
    """
    journal.discard(job.directory)
    keys = {u.id: journal.key(u, base) for u in utterances}
    done = {i for i, row in journal.read(job.directory, keys, job.is_there).items() if row.final}
    todo = [u for u in utterances if u.id not in done]
    tasks = _tasks(todo, keys, _shard_size(len(utterances)), job)
    with progress(what, len(todo), "utterances", Console()) as advance:
        for n in _run(tasks, workers):
            advance(n)
    return journal.read(job.directory, keys, job.is_there), len(todo)


def conclude(
    directory: Path,
    utterances: Sequence[Utterance],
    rows: Mapping[str, Row],
    drops: Sequence[Drop],
    base: Path,
    processed: int,
    seconds: float,
) -> Report:
    """Writes alignment.csv and drops.jsonl (`drops`: those of the manifest), shows the report and returns it."""
    doubts.write(directory / "alignment.csv", rows, utterances)
    dropped = [u for u in utterances if rows[u.id].reason]
    report = Report(
        kept=len(utterances) - len(dropped),
        kept_minutes=sum(rows[u.id].seconds for u in utterances if not rows[u.id].reason) / 60,
        dropped_minutes=sum(rows[u.id].seconds for u in dropped) / 60,
        drops=(*drops, *(rows[u.id].drop(os.path.relpath(u.audio, base)) for u in dropped)),
        processed=processed,
        seconds=seconds,
    )
    write_json_lines(directory / "drops.jsonl", (asdict(drop) for drop in report.drops))
    report.show(Console())
    return report


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


def _tasks(todo: Sequence[Utterance], keys: Mapping[str, str], size: int, job: Job) -> list[_Task]:
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
        row, payload = _outcome(utterance, Row(utterance.id, key, shard=task.shard), task.job)
        rows.append(replace(row, position=len(payloads)))
        payloads += [payload] if payload else []
    journal.commit(task.job.directory, task.shard, rows, payloads)
    return len(rows)


def _outcome(utterance: Utterance, row: Row, job: Job) -> tuple[Row, bytes | None]:
    """`row` filled, and the payload where there is one."""
    try:
        # A little more than is accepted tells that it is too much.
        recording = load(utterance.audio, most=MAX_SECONDS + 1)
        row = replace(row, seconds=recording.seconds)
        fields, payload = job(utterance, recording)
    except Unusable as error:
        return replace(row, reason=error.reason, detail=error.detail, figures=error.figures), None
    except Exception as error:  # a case not thought of: counted and shown, but not worth the run
        logging.getLogger(__name__).warning("utterance %s: unexpected error", utterance.id, exc_info=True)
        return replace(row, reason=UNEXPECTED, detail=repr(error)), None
    return replace(row, **fields), payload
