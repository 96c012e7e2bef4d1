"""`tts-gen embed`: recordings to speaker embeddings [256], by the GE2E encoder of the resemblyzer wheel."""

import functools
import sys
import zipfile
from pathlib import Path

import numpy as np
from rich.console import Console

from tts_gen.config import UserError
from tts_gen.evaluation.perceptual import resampled
from tts_gen.evaluation.proxies import PROXIES, Missing, Model
from tts_gen.features import pool, sound
from tts_gen.features.embeddings import unit
from tts_gen.features.files import replacing
from tts_gen.features.index import Entry
from tts_gen.features.store import FeatureStore
from tts_gen.progress import progress


def embed(source: Path, out: Path, workers: int = 2) -> str:
    """Writes a feature store's utterances by their ids (.npz), or a recording's voice (.npy), and says what it wrote.
    Raises UserError for a name of another kind, for a recording that cannot be used, and without resemblyzer."""
    kind = ".npz" if source.is_dir() else ".npy"
    if out.suffix != kind:
        raise UserError(f"{out}: name a file that ends in {kind}")
    index = FeatureStore(source).index if source.is_dir() else ()
    if not source.is_dir():
        vector = _vector(source)
        with replacing(out) as temporary, temporary.open("wb") as file:
            np.save(file, vector)
        return f"{out}: a voice of {len(vector)} values"
    _model()
    with (
        replacing(out) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
        progress("embedded", len(index), "utterances", Console(file=sys.stderr)) as advance,
    ):
        for entry, vector in pool.run(_utterance, index, workers):
            if vector is None:
                raise UserError(f"{entry.audio}: the process that embedded it died; leave it out of the manifest")
            with archive.open(f"{entry.id}.npy", "w") as member:  # np.savez takes no utterance named "file"
                np.lib.format.write_array(member, vector, allow_pickle=False)
            advance(1)
    return f"{out}: {len(index)} utterances"


@functools.cache
def _model() -> Model:
    try:
        return PROXIES["speaker_similarity"].load()
    except Missing as error:
        raise UserError(f"resemblyzer, whose weights this needs, is {error}") from error


def _utterance(entry: Entry) -> np.ndarray:
    return _vector(Path(entry.audio))


def _vector(path: Path) -> np.ndarray:
    try:
        recording = sound.load(path)
        recording.check()
        return unit(_model()(resampled(recording.wave, recording.rate)), str(path))
    except sound.Unusable as error:
        raise UserError(f"{path}: {error.reason}: {error.detail}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
