"""Held-out utterances as wav files, a folder a system and equal names in each: what `tts-gen listen make` and `tts-gen
proxies` take."""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soxr

from tts_gen.config import UserError
from tts_gen.evaluation.compare import generated_mels
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import sayable
from tts_gen.evaluation.split import Split
from tts_gen.features.sound import Unusable, load
from tts_gen.vocoders import write_wav

log = logging.getLogger(__name__)
RECORDINGS, VOCODED = "recordings", "vocoded"


def write_wavs(
    c: Comparison, chosen: Mapping[str, float], vocoder: Callable[[np.ndarray], np.ndarray], count: int
) -> list[Path]:
    """OUT/wavs/SYSTEM/ID.wav, and OUT/wavs/texts.txt with a line `ID|text` for each, for `count` utterances of the
    reported split, the first of every group before the second of any. Systems: the recordings; their own mels through
    the vocoder; the mels of every acoustic and joint run at its temperature of `chosen`. All at the mel's sampling
    rate. Returns the folders. Raises UserError without such a run, or for a run named as one of the first two."""
    runs = [*c.of_task("acoustic"), *c.of_task("joint")]
    if not runs:
        raise UserError("--wavs needs acoustic or joint runs: prosody alone has no sound")
    if names := {run.path.name for run in runs} & {RECORDINGS, VOCODED}:
        raise UserError(f"--wavs: {', '.join(names)} is the name of the recordings' folder; give the run another")
    split = Split.read(c.store, c.split)
    if c.of_task("joint"):
        split = sayable(c.of_task("joint"), c.store, split)
    entries = [c.store.index[p] for p in split.positions]
    groups = [e.group for e in entries]
    rank = [groups[:i].count(group) for i, group in enumerate(groups)]
    places = sorted(range(len(entries)), key=lambda i: (rank[i], i))[:count]
    rate = c.store.audio.sample_rate

    def recording(i: int) -> np.ndarray:
        try:
            found = load(Path(entries[i].audio))
        except Unusable as error:
            raise UserError(f"--wavs: recording {entries[i].audio}: {error.reason}: {error.detail}") from error
        return soxr.resample(found.wave, found.rate, rate)

    systems: dict[str, Callable[[int], np.ndarray]] = {
        RECORDINGS: recording, VOCODED: lambda i: vocoder(split.utterances[i].mel),
    }  # fmt: skip
    for run in runs:
        mels = generated_mels(c, run, split, chosen.get(run.path.name))
        systems[run.path.name] = lambda i, mels=mels: vocoder(mels[i])
    names = {i: _safe(entries[i].id, i) for i in places}
    for name, wave in systems.items():
        shutil.rmtree(c.out / "wavs" / name, ignore_errors=True)  # of another temperature or number
        for i in places:
            write_wav(c.out / "wavs" / name / f"{names[i]}.wav", wave(i), rate)
        log.info("%s: %d wavs", c.out / "wavs" / name, len(places))
    texts = "".join(f"{names[i]}|{' '.join(entries[i].text.split())}\n" for i in places)
    (c.out / "wavs" / "texts.txt").write_text(texts, encoding="utf-8")
    return [c.out / "wavs" / name for name in systems]


def _safe(name: str, i: int) -> str:
    """An id may hold anything; a file name here holds letters, digits and few marks."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip(".")
    return name if safe == name else f"{safe}_{i}"
