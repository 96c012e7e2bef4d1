"""Rows for anyone's speech: two folders of recordings of equal names, compared by mels and by f0, frame by frame.

Every file is resampled to the project's rate; mels and f0 are those of `tts-gen prepare`. Where two files differ in
length by no more than a frame, frames are compared as they stand, else along the best warping of their mel cepstra
(mel_metrics.warping). GPE, VDE, FFE and RMSE are of all frames of all files together.
"""

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import Audio, UserError
from tts_gen.evaluation import mel_metrics, voicing
from tts_gen.evaluation.bootstrap import DRAWS, draws, interval
from tts_gen.evaluation.mel import mel_floor_rows, mel_rows
from tts_gen.evaluation.rows import make_row
from tts_gen.features import mel, pitch
from tts_gen.features.sound import Unusable, load

log = logging.getLogger(__name__)

CLOSE = 1
"""frames that two recordings of the same timing may differ by"""
F0 = {"gpe": voicing.gpe, "vde": voicing.vde, "ffe": voicing.ffe, "rmse_cents": voicing.rmse_cents}


@dataclass(frozen=True)
class Sound:
    mel: np.ndarray
    """[T, M]"""
    f0: np.ndarray
    """[T] Hz, 0 where unvoiced"""


def rows_of_folders(
    reference: Path, generated: Path, f0_method: pitch.Method = "dio", audio: Audio | None = None, seed: int = 0
) -> list[dict]:
    """Rows of `generated`, family the folder's name, and of the floor; `n` counts frames of the reference.

    Files that are in one folder only, or cannot be used, are left out, listed and counted in warnings. Raises UserError
    when none is left, or the f0 tracker is not installed."""
    if f0_method == "dio" and importlib.util.find_spec("pyworld") is None:
        raise UserError("--f0 dio needs pyworld, which the extra `align` installs; or give --f0 pyin")
    audio, names, pairs = audio or Audio(), [], []
    for name in _common(reference, generated):
        try:
            both = [_sound(folder / name, audio, f0_method) for folder in (generated, reference)]
            pairs.append(_fitted(*both))
            names.append(name)
        except Unusable as error:
            log.warning("left out: %s (%s)", name, f"{error.reason}: {error.detail}")
    if not pairs:
        raise UserError(f"{reference} and {generated}: no pair of recordings can be used, see above")
    mels, oracle = [g.mel for g, _ in pairs], [o.mel for _, o in pairs]
    aligned = all(len(g) == len(o) for g, o in zip(mels, oracle, strict=True))
    identity = {"task": "acoustic", "family": generated.name, "corpus": reference.name, "run": str(generated)}
    identity |= {"seed": seed, "samples": 1}
    rows = mel_rows(mels, oracle, names, identity, seed=seed, aligned=aligned)
    rows += _rows_by_frames(pairs, identity, aligned, seed)
    return rows + mel_floor_rows(oracle, names, identity | {"run": None}, seed)


def _common(reference: Path, generated: Path) -> list[str]:
    """Names of recordings that both folders have."""
    both = reference, generated
    found = {folder: {p.name for p in folder.iterdir() if p.suffix.lower() == ".wav"} for folder in both}
    for one, other in ((reference, generated), (generated, reference)):
        if lone := sorted(found[one] - found[other]):
            log.warning("left out: %d files that %s lacks: %s", len(lone), other, ", ".join(lone))
    common = sorted(found[reference] & found[generated])
    if not common:
        raise UserError(f"{reference} and {generated} have no .wav of the same name")
    return common


def _sound(path: Path, audio: Audio, f0_method: pitch.Method) -> Sound:
    import soxr

    try:
        recording = load(path)
        wave = soxr.resample(recording.wave, recording.rate, audio.sample_rate).astype(np.float32)
        return Sound(mel.log_mel(wave, audio), pitch.f0(wave, audio, f0_method))
    except Unusable as error:
        raise Unusable(error.reason, f"{path}: {error.detail}") from error
    except ValueError as error:
        raise Unusable("too short", f"{path}: {error}") from error


def _fitted(generated: Sound, oracle: Sound) -> tuple[Sound, Sound]:
    """Both cut to the shorter where they are of the same timing."""
    lengths = len(generated.mel), len(oracle.mel)
    if abs(lengths[0] - lengths[1]) > CLOSE:
        return generated, oracle
    return tuple(Sound(s.mel[: min(lengths)], s.f0[: min(lengths)]) for s in (generated, oracle))


def _rows_by_frames(pairs: list[tuple[Sound, Sound]], identity: dict, aligned: bool, seed: int) -> list[dict]:
    """Errors of f0, and the MCD by warping, which mel_rows leaves out where mels are aligned."""
    errors, distances = [], []
    for generated, oracle in pairs:
        left, right = mel_metrics.warping(mel_metrics.cepstra(generated.mel), mel_metrics.cepstra(oracle.mel))
        distance = mel_metrics.mcd_frames(generated.mel[left], oracle.mel[right])
        distances.append((distance.sum(), len(left)))
        if len(generated.mel) == len(oracle.mel):
            left = right = np.arange(len(oracle.mel))
        errors.append(voicing.errors(generated.f0[left], oracle.f0[right]))
    errors, weights = np.array(errors, float), draws(len(pairs), DRAWS, seed)
    n, why = sum(len(o.mel) for _, o in pairs), "no frame is voiced in both"
    found = {name: interval(measure, [errors], weights) for name, measure in F0.items()}
    rows = [make_row(identity, "f0", name, *estimate, n=n, why=why) for name, estimate in found.items()]
    if aligned:
        found = interval(lambda s: s[:, 0] / s[:, 1], [np.array(distances, float)], weights)
        rows.append(make_row(identity, "mel", "mcd_dtw", *found, n=n))
    return rows
